"""Values of params.yaml: which are refused, with which words, and which serve."""

import math

import pytest

from effiseg.base.objective import LossWeights

NAN, INF = math.nan, math.inf
WRONG = [
    ("data.source", "", "at least 1 character"),
    ("data.fit", "crop", "'squash' or 'pad'"),
    ("data.train_on", [], "at least 1 item"),
    ("data.train_on", ["training"], "'train', 'val' or 'test'"),
    ("data.score_on", "all", "'train', 'val' or 'test'"),
    ("data.root", 5, "valid string"),
    ("data.root", "", "at least 1 character"),
    ("data.size", [96], "at least 2 items"),
    ("data.size", [96, 192, 3], "at most 2 items"),
    ("data.size", [96, 190], "multiple of 32"),
    ("data.size", [96, 0], "greater than or equal to 32"),
    ("data.size", [96.0, 192], "valid integer"),
    ("data.size", "96x192", "valid list"),
    ("data.class_weights", "none", "'computed' or 'paper'"),
    ("synthesize.train", 0, "greater than 0"),
    ("synthesize.val", -1, "greater than 0"),
    ("synthesize.height", 33, "multiple of 2"),
    ("synthesize.height", 4096, "less than or equal to 2048"),
    ("synthesize.seed", -1, "greater than or equal to 0"),
    ("synthesize.seed", 2**32, "less than 4294967296"),
    ("model.variant", "b6", "'b0', 'b1', 'b2', 'b3', 'b4' or 'b5'"),
    ("model.norms.block", "groupnorm", "'layernorm', 'dyt', 'dyl', 'derf' or 'batchnorm'"),
    ("model.norms", "dyt", "valid dictionary"),
    ("model.alpha_init", 0, "greater than 0"),
    ("model.alpha_init", NAN, "finite"),
    ("model.mean", [0.5, 0.5], "at least 3 items"),
    ("model.mean", [0.5, 0.5, 127], "less than or equal to 1"),
    ("model.mean", [0.5, 0.5, NAN], "1"),
    ("model.std", [0.5, 0.5, 0], "greater than 0"),
    ("loss.resolution", "half", "'label' or 'quarter'"),
    ("loss.weights.kl", -0.1, "greater than or equal to 0"),
    ("loss.weights.kl", NAN, "finite"),
    ("loss.weights.kl", INF, "finite"),
    ("loss.weights.kl", "1.0", "valid number"),
    ("loss.weights.kl", True, "valid number"),
    ("loss.weights", dict.fromkeys(LossWeights.model_fields, 0.0), "every weight is 0"),
    ("loss.dice.smooth", 0, "greater than 0"),
    ("loss.focal.gamma", -1, "greater than or equal to 0"),
    ("loss.tversky.alpha", -0.1, "greater than or equal to 0"),
    ("loss.tversky.beta", INF, "finite"),
    ("loss.tversky.smooth", 0, "greater than 0"),
    ("loss.focal_tversky.gamma", 0.9, "greater than or equal to 1"),
    ("loss.focal_tversky.gamma", INF, "finite"),
    ("loss.kl.temperature", 0, "greater than 0"),
    ("loss.cwd.temperature", 0, "greater than 0"),
    ("loss.dist.temperature", -1, "greater than 0"),
    ("loss.dist.beta", -1, "greater than or equal to 0"),
    ("loss.dist.gamma", NAN, "finite"),
    ("loss.cskd.stage_weights", [1, 1, 1], "at least 4 items"),
    ("loss.pekd.stage_weights", [1, 1, 1, -1], "greater than or equal to 0"),
    ("loss.feature_mse.stage_weights", [1] * 5, "at most 4 items"),
    ("train.epochs", -1, "greater than or equal to 0"),
    ("train.epochs", 1.0, "valid integer"),
    ("train.epochs", True, "valid integer"),
    ("train.epochs", "12", "valid integer"),
    ("train.batch_size", 0, "greater than 0"),
    ("train.accumulation", 3, "not a multiple of accumulation 3"),
    ("train.precision", "fp8", "'fp32', 'bf16' or 'fp16'"),
    ("train.compile", "yes", "valid boolean"),
    ("train.compile", 1, "valid boolean"),
    ("train.optimizer.lr", 0, "greater than 0"),
    ("train.optimizer.lr", INF, "finite"),
    ("train.optimizer.lr", NAN, "finite"),
    ("train.optimizer.lr", 10**400, "valid number"),
    ("train.optimizer.weight_decay", -1, "greater than or equal to 0"),
    ("train.optimizer.betas", [0.9, 1.0], "less than 1"),
    ("train.optimizer.betas", [NAN, 0.9], "1"),
    ("train.optimizer.eps", 0.0, "greater than 0"),
    ("train.optimizer.grad_clip", -1, "greater than or equal to 0"),
    ("train.schedule.warmup_ratio", 1, "less than 1"),
    ("train.schedule.warmup_ratio", NAN, "1"),
    ("train.schedule.power", 0, "greater than 0"),
    ("train.augment.flip", 1.5, "less than or equal to 1"),
    ("train.augment.flip", NAN, "1"),
    ("train.augment.scale", [2.0, 1.0], "[lowest, highest]"),
    ("train.augment.scale", [0, 1.0], "greater than 0"),
    ("train.augment.crop", [90, 192], "multiple of 32"),
    ("train.augment.colour", 1, "less than 1"),
    ("start.source", "drive", "'drawn', 'huggingface', 'gdrive', 'url', 'file' or 'run'"),
    ("start.revision", 1, "valid string"),
    ("start.path", None, "valid string"),
    ("study.teachers", "teacher", "valid list"),
    ("study.assistant", ["kd"], "valid string"),
    ("study.assisted", "kd", "valid list"),
    ("study.min_teacher_miou", 1, "less than 1"),
    ("study.min_teacher_miou", NAN, "1"),
    ("study.experiments", "baseline", "valid list"),
    ("study.seeds", [], "at least 1 item"),
    ("study.seeds", [0.5], "valid integer"),
    ("study.launcher", "", "at least 1 character"),
    ("profile.size", [512, 1000], "multiple of 32"),
    ("profile.repeats", 0, "greater than 0"),
    ("report.panels", 17, "less than or equal to 16"),
    ("experiments", [1], "valid dictionary"),
    ("experiments.kd", None, "valid dictionary"),
    ("experiments.kd", [1], "valid dictionary"),
    ("experiments.kd.model", None, "valid dictionary"),
    ("experiments.kd.loss", [1], "valid dictionary"),
    ("experiments.kd.model.norms", "dyt", "valid dictionary"),
    ("experiments.kd.model.norms.block", "dyx", "'layernorm', 'dyt', 'dyl', 'derf' or 'batchnorm'"),
    ("experiments.kd.train.epochs", -1, "greater than or equal to 0"),
    ("experiments.kd.train.optimizer.betas", [0.9], "at least 2 items"),
    ("experiments.kd.train.accumulation", 3, "not a multiple of accumulation 3"),
    ("experiments.teacher.model.variant", "b6", "'b0', 'b1', 'b2', 'b3', 'b4' or 'b5'"),
    ("experiments.teacher.model.std", [1, 1, INF], "finite"),
    ("experiments.teacher.start.source", "train", "'drawn', 'huggingface', 'gdrive', 'url', 'file' or 'run'"),
    ("experiments.teacher.start", [1], "valid dictionary"),
    ("experiments.teacher.train", [1], "valid dictionary"),
    ("experiments.teacher.train.epochs", "many", "valid integer"),
    ("experiments.teacher.train.optimizer", None, "valid dictionary"),
    ("experiments.teacher.train.optimizer", {"lr": -1}, "greater than 0"),
]


@pytest.mark.parametrize(("key", "value", "allowed"), WRONG, ids=lambda part: str(part)[:40])
def test_a_wrong_value_is_told_with_its_key_and_what_is_allowed(refused, edited, key, value, allowed):
    named = key if "accumulation" not in key else key.removesuffix(".accumulation")
    named = named if "augment.scale" not in key or value[0] == 0 else "train.augment"
    refused(edited({key: value}), f" {named}", allowed)


def test_the_found_value_is_told_but_not_at_full_length(refused, edited):
    refused(edited({"model.variant": "b6"}), "(found 'b6')")
    refused(edited({"data": ["x" * 1000] * 10}), "data: ", "(found [")


def test_several_mistakes_are_told_at_once(refused, edited):
    refused(edited({"model.variant": "b6", "train.epochs": -1}), "model.variant", "train.epochs")


@pytest.mark.parametrize(
    ("splits", "told"),
    [(["train", "train"], "names a split twice"), (["train", "val"], "score_on 'val' is also trained on")],
)
def test_splits_that_overlap_are_refused(refused, edited, splits, told):
    refused(edited({"data.train_on": splits}), "data: ", told)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"final_on": ["test", "test"]}, "final_on ['test', 'test'] names a split twice"),
        ({"final_on": ["val"]}, "final_on names 'val', which score_on scores already; take it out"),
        ({"final_on": ["train"]}, "final_on 'train' is also trained on"),
        ({"final_on": ["test"], "held_out": ["x"]}, "held_out ['x'] is for tuning, and final_on ['test'] for when"),
    ],
)
def test_a_final_split_is_one_that_nothing_else_uses(refused, edited, changes, told):
    refused(edited({f"data.{key}": value for key, value in changes.items()}), "data: ", told)


def test_what_is_scored_may_be_learned_where_it_is_meant_or_held_out(load, edited):
    both = {"data.train_on": ["train", "val"]}
    assert "which it was trained on" in load(edited({**both, "data.allow_overlap": True})).data.validation
    assert load(edited({**both, "data.held_out": ["x"]})).data.validation == "trained on train + val; held out: x"
    assert load(edited({**both, "data.score_on": "test"})).data.validation == "trained on train + val; scored on test"


@pytest.mark.parametrize(
    ("source", "key"), [("huggingface", "repo"), ("gdrive", "gdrive_id"), ("url", "url"), ("file", "path")]
)
@pytest.mark.parametrize("section", ["start", "experiments.teacher.start"])
def test_a_source_of_weights_without_its_key_is_refused_and_with_it_loads(refused, load, edited, section, source, key):
    source_line, key_line = {f"{section}.source": source}, f"{section}.{key}"
    refused(edited(source_line | {key_line: ""}), f" {section}: source '{source}' needs start.{key}, which is empty")
    start = load(edited(source_line | {key_line: "something"})).row("teacher" if "." in section else "baseline").start
    assert (start.source, getattr(start, key)) == (source, "something")


def test_a_row_of_no_epochs_needs_weights_from_somewhere(refused, load, edited):
    told = "train.epochs 0 leaves the row untrained, and start.source is 'drawn'; set train.epochs above 0"
    refused(edited({"experiments.teacher.start.source": "drawn"}), "experiments.teacher: ", told)
    refused(edited({"experiments.tanh.train": {"epochs": 0}}), "experiments.tanh: ", told)
    row = {"start": {"source": "file", "path": "x"}}
    assert load(edited({"experiments.tanh": row | {"train": {"epochs": 0}}})).row("tanh").train.epochs == 0
    assert load(edited({"experiments.tanh": row})).row("tanh").train.epochs > 0  # trained on from there
    refused(edited({"train.epochs": 0}), "experiments.baseline: ", told)


@pytest.mark.parametrize("sha256", ["abc", "g" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", " " + "a" * 63, 1])
def test_a_malformed_sha256_is_refused(refused, edited, sha256):
    for section in ("start", "experiments.teacher.start"):
        refused(edited({f"{section}.sha256": sha256}), f" {section}.sha256")


@pytest.mark.parametrize("sha256", ["", "a" * 64, "0123456789abcdefABCDEF" + "0" * 42])
def test_a_well_formed_or_empty_sha256_loads(load, edited, sha256):
    config = load(edited({"start.sha256": sha256, "experiments.teacher.start.sha256": sha256}))
    assert config.start.sha256 == config.row("teacher").start.sha256 == sha256


@pytest.mark.parametrize(
    ("key", "row"),
    [
        ("train.augment.crop", "teacher"),  # the first row
        ("experiments.kd.train", "kd"),
        ("experiments.teacher.train", "teacher"),
    ],
)
def test_a_crop_larger_than_the_data_is_refused_with_the_row_that_has_it(refused, shipped_content, edited, key, row):
    section = {"augment": {"crop": [128, 192]}}
    value = [128, 192] if key.endswith("crop") else section
    refused(
        edited({key: value}),
        "train.augment.crop",
        "[128, 192]",
        f"'{row}'",
        f"data.size {shipped_content['data']['size']}",
    )


@pytest.mark.parametrize("written", ["1e-4", "1E-4", "1.0e-4", "0.0001", "1.e-4"])
def test_scientific_notation_without_a_point_is_a_number(load, repository, written):
    text = (repository / "params.yaml").read_text()
    assert load(text.replace("lr: 4.0e-3", f"lr: {written}")).train.optimizer.lr == 1e-4


def test_whole_numbers_serve_where_numbers_are_asked(load, edited):
    config = load(edited({"model.mean": [0, 0, 0], "model.std": [1, 1, 1], "loss.weights.dice": 1}))
    assert config.row("teacher").model.mean == [0.0, 0.0, 0.0]
    assert config.loss.weights.active() == {"weighted_ce": 1.0, "dice": 1.0}
