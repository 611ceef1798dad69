"""params.yaml: what loads, what is refused, and how each mistake is told."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML

from effiseg.config import Config, load_config, merge, read_yaml
from effiseg.errors import EffiSegError
from effiseg.schema import DISTILLATION_TERMS

REPOSITORY = Path(__file__).parent.parent
SHIPPED = REPOSITORY / "params.yaml"
PRESETS = sorted(REPOSITORY.glob("presets/*.yaml"))
CONTENT: dict[str, Any] = read_yaml(SHIPPED)
TEXT = SHIPPED.read_text()


def edited(changes: dict[str, Any]) -> dict[str, Any]:
    """The shipped content with values put at dotted key paths; `...` removes the key."""
    content = copy.deepcopy(CONTENT)
    for path, value in changes.items():
        *parents, last = path.split(".")
        section = content
        for key in parents:
            section = section.setdefault(key, {})
        if value is ...:
            del section[last]
        else:
            section[last] = value
    return content


def dump(content: dict[str, Any], path: Path) -> None:
    yaml = YAML(typ="safe", pure=True)
    yaml.sort_base_mapping_type_on_output = False
    yaml.dump(content, path)


@pytest.fixture
def load(tmp_path):
    """Loads what is given as a params.yaml: text, bytes, or content to be dumped."""

    def run(content: Any) -> Config:
        path = tmp_path / "params.yaml"
        if isinstance(content, str | bytes):
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        else:
            dump(content, path)
        return load_config(path)

    return run


@pytest.fixture
def refused(load, tmp_path):
    """Asserts that loading fails with one readable line that holds the fragments, and returns it."""

    def run(content: Any, *fragments: str) -> str:
        with pytest.raises(EffiSegError) as caught:
            load(content)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / 'params.yaml'}: ")
        assert len(message.splitlines()) == 1
        assert len(message) < 700
        for fragment in fragments:
            assert fragment in message, message
        return message

    return run


# --- what is shipped --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [SHIPPED, *PRESETS], ids=lambda path: path.name)
def test_shipped_files_load_and_every_row_and_the_teacher_are_complete(path):
    config = load_config(path)
    assert {config.row(name).name for name in config.experiments} == set(config.experiments)
    assert config.runs()
    config.teacher_row()


def test_the_shipped_rows_say_what_the_paper_says(shipped):
    weights = {name: shipped.row(name).loss.weights.active() for name in shipped.experiments}
    cross_entropy, dice_focal, distilled = {"weighted_ce": 1.0}, {"dice": 0.5, "focal": 0.5}, {"cskd": 1.0, "pekd": 1.0}
    assert weights == {
        "baseline": cross_entropy,
        "tanh": cross_entropy,
        "tanh_linear": cross_entropy,
        "kd": cross_entropy | distilled,
        "dice_focal": dice_focal,
        "combined": dice_focal | distilled,
    }
    assert shipped.loss.focal.gamma == 2
    assert (shipped.loss.cskd.lambda_m, shipped.loss.cskd.lambda_s) == (1.0, 0.5)
    assert shipped.loss.cskd.stage_weights == [1, 1, 1, 1]
    assert shipped.loss.pekd.stage_weights == [0.1, 0.1, 0.5, 1.0]


def test_without_a_path_params_yaml_of_the_working_directory_is_read(monkeypatch, tmp_path, shipped):
    monkeypatch.chdir(REPOSITORY)
    assert load_config() == shipped
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EffiSegError, match=r"^params\.yaml: not found"):
        load_config()


# --- keys -------------------------------------------------------------------------------------------------------------


def sections_of(kind: type[BaseModel], path: str = "") -> list[tuple[str, type[BaseModel]]]:
    found = [(path, kind)]
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += sections_of(field.annotation, f"{path}.{name}".lstrip("."))
    return found


SECTIONS = sections_of(Config)
KEYS = [f"{path}.{name}".lstrip(".") for path, kind in SECTIONS for name in kind.model_fields]


@pytest.mark.parametrize(("path", "kind"), SECTIONS, ids=[path or "top" for path, _ in SECTIONS])
def test_an_unknown_key_of_any_section_is_named_beside_the_allowed_ones(refused, path, kind):
    key = f"{path}.typo".lstrip(".")
    refused(edited({key: 1}), f" {key}: unknown key; allowed here: {', '.join(kind.model_fields)}")


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("experiments.kd.typo", "model, loss and train"),
        ("experiments.kd.name", "model, loss and train"),
        ("experiments.kd.data", "model, loss and train"),
        ("experiments.kd.model.typo", "variant, norms"),
        ("experiments.kd.model.norms.typo", "patch_embedding, block"),
        ("experiments.kd.loss.weights.typo", "weighted_ce, dice, focal, kl, cskd, pekd"),
        ("experiments.kd.train.optimizer.typo", "lr, weight_decay"),
        ("teacher.overrides.typo", "epochs, batch_size"),
        ("teacher.overrides.train", "epochs, batch_size"),
        ("teacher.overrides.augment.typo", "flip, scale, crop, colour"),
    ],
)
def test_an_unknown_key_of_a_row_or_an_override_is_named_beside_the_allowed_ones(refused, key, allowed):
    refused(edited({key: {}}), f" {key}: unknown key", allowed)


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key_is_named(refused, key):
    refused(edited({key: ...}), f" {key}: missing")


@pytest.mark.parametrize("value", [None, [None], {"a": {1, 2}}], ids=["null", "list", "mapping"])
@pytest.mark.parametrize("key", [key for key in KEYS if key != "teacher.overrides"])
def test_what_cannot_be_any_value_is_refused_at_every_key(refused, key, value):
    refused(edited({key: value}), f" {key}")


@pytest.mark.parametrize("key", [1, 1.5, None, True])
def test_a_key_that_is_no_text_is_refused_wherever_it_stands(refused, key):
    refused({**CONTENT, key: 1}, "should be")
    refused(edited({"experiments": {**CONTENT["experiments"], key: {}}}), "should be")
    for path in ("data", "experiments.kd", "experiments.kd.model", "teacher.overrides", "loss.weights"):
        parent = CONTENT
        for part in path.split("."):
            parent = parent.get(part, {})
        refused(edited({path: {**parent, key: 1}}), f" {path}.", "should be")


# --- values -----------------------------------------------------------------------------------------------------------

NAN, INF = math.nan, math.inf
WRONG = [
    ("data.source", "imagenet", "'synthetic', 'cityscapes' or 'camvid'"),
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
    ("model.variant", "b1", "'b0' or 'b2'"),
    ("model.norms.block", "batchnorm", "'layernorm', 'dyt' or 'dyl'"),
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
    ("loss.weights", dict.fromkeys(CONTENT["loss"]["weights"], 0.0), "every weight is 0"),
    ("loss.dice.smooth", 0, "greater than 0"),
    ("loss.focal.gamma", -1, "greater than or equal to 0"),
    ("loss.kl.temperature", 0, "greater than 0"),
    ("loss.cskd.stage_weights", [1, 1, 1], "at least 4 items"),
    ("loss.pekd.stage_weights", [1, 1, 1, -1], "greater than or equal to 0"),
    ("train.epochs", 0, "greater than 0"),
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
    ("teacher.source", "drive", "'train', 'huggingface', 'gdrive', 'url' or 'file'"),
    ("teacher.variant", "b5", "'b0' or 'b2'"),
    ("teacher.overrides", [1], "valid dictionary"),
    ("teacher.revision", 1, "valid string"),
    ("teacher.min_miou", 1, "less than 1"),
    ("teacher.min_miou", NAN, "1"),
    ("teacher.std", [1, 1, INF], "finite"),
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
    ("experiments.kd.model.norms.block", "dyx", "'layernorm', 'dyt' or 'dyl'"),
    ("experiments.kd.train.epochs", 0, "greater than 0"),
    ("experiments.kd.train.optimizer.betas", [0.9], "at least 2 items"),
    ("experiments.kd.train.accumulation", 3, "not a multiple of accumulation 3"),
    ("teacher.overrides.epochs", 0, "greater than 0"),
    ("teacher.overrides.epochs", "many", "valid integer"),
    ("teacher.overrides.optimizer", None, "valid dictionary"),
    ("teacher.overrides.optimizer", {"lr": -1}, "greater than 0"),
]


@pytest.mark.parametrize(("key", "value", "allowed"), WRONG, ids=lambda part: str(part)[:40])
def test_a_wrong_value_is_told_with_its_key_and_what_is_allowed(refused, key, value, allowed):
    named = key if "accumulation" not in key else key.removesuffix(".accumulation")
    named = named if "augment.scale" not in key or value[0] == 0 else "train.augment"
    refused(edited({key: value}), f" {named}", allowed)


def test_the_found_value_is_told_but_not_at_full_length(refused):
    refused(edited({"model.variant": "b1"}), "(found 'b1')")
    refused(edited({"data": ["x" * 1000] * 10}), "data: ", "(found [")


def test_several_mistakes_are_told_at_once(refused):
    refused(edited({"model.variant": "b1", "train.epochs": 0}), "model.variant", "train.epochs")


def test_the_papers_class_weights_are_refused_with_camvid(refused, load):
    load(edited({"data.class_weights": "paper"}))
    refused(edited({"data.class_weights": "paper", "data.source": "camvid"}), "data: ", "'paper'", "'computed'")


@pytest.mark.parametrize(
    ("source", "key"), [("huggingface", "repo"), ("gdrive", "gdrive_id"), ("url", "url"), ("file", "path")]
)
def test_a_teacher_source_without_its_key_is_refused_and_with_it_loads(refused, load, source, key):
    refused(edited({"teacher.source": source, f"teacher.{key}": ""}), f"'{source}'", f"teacher.{key}")
    assert load(edited({"teacher.source": source, f"teacher.{key}": "something"})).teacher.source == source


@pytest.mark.parametrize("sha256", ["abc", "g" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", " " + "a" * 63, 1])
def test_a_malformed_sha256_is_refused(refused, sha256):
    refused(edited({"teacher.sha256": sha256}), "teacher.sha256")


@pytest.mark.parametrize("sha256", ["", "a" * 64, "0123456789abcdefABCDEF" + "0" * 42])
def test_a_well_formed_or_empty_sha256_loads(load, sha256):
    assert load(edited({"teacher.sha256": sha256})).teacher.sha256 == sha256


@pytest.mark.parametrize(
    ("key", "row"),
    [
        ("train.augment.crop", "baseline"),
        ("experiments.kd.train", "kd"),
        ("teacher.overrides", "teacher"),
    ],
)
def test_a_crop_larger_than_the_data_is_refused_with_the_row_that_has_it(refused, key, row):
    section = {"augment": {"crop": [128, 192]}}
    value = [128, 192] if key.endswith("crop") else section
    refused(edited({key: value}), "train.augment.crop", "[128, 192]", f"'{row}'", "data.size [96, 192]")


@pytest.mark.parametrize("written", ["1e-4", "1E-4", "1.0e-4", "0.0001", "1.e-4"])
def test_scientific_notation_without_a_point_is_a_number(load, written):
    assert load(TEXT.replace("lr: 1.0e-3", f"lr: {written}")).train.optimizer.lr == 1e-4


def test_whole_numbers_serve_where_numbers_are_asked(load):
    config = load(edited({"teacher.mean": [0, 0, 0], "teacher.std": [1, 1, 1], "loss.weights.dice": 1}))
    assert config.teacher.model().mean == [0.0, 0.0, 0.0]
    assert config.loss.weights.active() == {"weighted_ce": 1.0, "dice": 1.0}


# --- rows and the study -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.b", "1st", "-x", "", "a b", "ä", "a/b", "a\n", "kd\nkd", "a@b"])
def test_a_row_name_that_dvc_could_not_address_is_refused(refused, name):
    refused(edited({"experiments": {**CONTENT["experiments"], name: {}}}), "experiments.", "row's name is letters")


def test_a_row_cannot_take_the_teachers_name(refused):
    refused(edited({"experiments.teacher": {}}), "experiments.teacher", "another")


def test_an_unlisted_row_is_checked_too(refused):
    refused(edited({"experiments.spare": {"model": {"variant": "b9"}}}), "experiments.spare.model.variant", "'b0'")


@pytest.mark.parametrize("key", ["experiments", "distillation"])
def test_an_unknown_row_in_the_study_is_refused_beside_the_known_ones(refused, key):
    names = [*CONTENT["study"][key], "nobody"]
    refused(edited({f"study.{key}": names}), f"study.{key}", "'nobody'", ", ".join(CONTENT["experiments"]))


def test_a_distillation_row_among_the_experiments_is_refused(refused):
    changes = {"study.experiments": ["baseline", "kd"], "study.distillation": ["combined"]}
    refused(edited(changes), "study.experiments", "'kd'", "cskd, pekd", "study.distillation")


def test_a_plain_row_among_the_distillations_is_refused(refused):
    changes = {"study.experiments": ["baseline"], "study.distillation": ["kd", "tanh"]}
    refused(edited(changes), "study.distillation", "'tanh'", "kl, cskd, pekd", "study.experiments")


@pytest.mark.parametrize("row", ["tanh", "kd"])
def test_a_row_in_both_lists_is_refused(refused, row):
    changes = {f"study.{key}": [*CONTENT["study"][key], row] for key in ("experiments", "distillation")}
    refused(edited(changes), "study.", f"'{row}'")


@pytest.mark.parametrize(
    ("key", "value"),
    [("experiments", ["tanh", "baseline", "tanh"]), ("distillation", ["kd", "kd"]), ("seeds", [0, 1, 0])],
)
def test_what_is_listed_twice_is_refused(refused, key, value):
    refused(edited({f"study.{key}": value}), f"study.{key}", "listed twice", str(value[0]))


def test_an_empty_study_is_refused_and_one_empty_list_is_not(refused, load):
    refused(edited({"study.experiments": [], "study.distillation": []}), "study.experiments", "study.distillation")
    assert load(edited({"study.experiments": []})).runs() == [("kd", 0), ("combined", 0)]
    load(edited({"study.distillation": []}))


@pytest.mark.parametrize("launcher", ["torchrun --nproc-per-node 2", "accelerate launch --num_processes 2"])
def test_launchers_of_several_words_load(load, launcher):
    assert load(edited({"study.launcher": launcher})).study.launcher == launcher


@pytest.mark.parametrize("term", DISTILLATION_TERMS)
def test_each_distillation_term_makes_a_row_need_the_teacher(load, term):
    config = load(edited({"experiments.new": {"loss": {"weights": {term: 0.1}}}, "study.distillation": ["new"]}))
    assert config.row("new").loss.needs_teacher
    assert not config.row("baseline").loss.needs_teacher


def test_runs_stand_in_the_order_of_the_rows_with_all_seeds_each(load):
    config = load(edited({"study.experiments": ["dice_focal", "baseline"], "study.seeds": [3, 1]}))
    order = ["baseline", "kd", "dice_focal", "combined"]
    assert config.runs() == [(name, seed) for name in order for seed in (3, 1)]


def test_the_stage_of_a_row_is_told_by_its_list(shipped):
    assert [shipped.stage_of(name) for name in ("baseline", "kd", "dice_focal", "combined")] == [
        "train",
        "distill",
        "train",
        "distill",
    ]


def test_asking_for_an_unknown_row_names_the_rows(shipped):
    with pytest.raises(EffiSegError, match="no row 'nobody'; rows are: baseline, tanh"):
        shipped.row("nobody")


# --- merging ----------------------------------------------------------------------------------------------------------


def test_a_row_is_the_base_but_for_what_it_says(shipped):
    base, row = shipped.row("baseline"), shipped.row("tanh")
    assert (base.model, base.loss, base.train) == (shipped.model, shipped.loss, shipped.train)
    assert row.model.norms.patch_embedding == "dyt"
    assert row.model.norms.block == base.model.norms.block
    assert row.model.model_dump(exclude={"norms"}) == base.model.model_dump(exclude={"norms"})
    assert (row.loss, row.train) == (base.loss, base.train)


def test_a_change_of_the_base_reaches_every_row_that_does_not_overrule_it(load):
    row = {"train": {"optimizer": {"lr": 0.5}}}
    config = load(edited({"train.optimizer.lr": 0.25, "train.optimizer.eps": 0.125, "experiments.own": row}))
    assert config.row("kd").train.optimizer.lr == 0.25
    assert config.row("own").train.optimizer.lr == 0.5
    assert config.row("own").train.optimizer.eps == 0.125


def test_mappings_merge_key_by_key_and_all_else_is_replaced():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 2, "e": {"f": 1}}
    assert merge(base, {"a": {"c": [3]}, "d": {"x": 1}, "e": 5, "new": 6}) == {
        "a": {"b": 1, "c": [3]},
        "d": {"x": 1},
        "e": 5,
        "new": 6,
    }


TREES = st.recursive(
    st.integers() | st.lists(st.integers()),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=8,
)
MAPPINGS = st.dictionaries(st.sampled_from("abc"), TREES)


@given(MAPPINGS, MAPPINGS)
def test_merging_changes_neither_side_and_the_second_wins(base, differences):
    before = copy.deepcopy((base, differences))
    merged = merge(base, differences)
    assert (base, differences) == before
    assert merge(merged, differences) == merged
    assert merge(base, {}) == base
    assert merge({}, differences) == differences
    assert merged.keys() == base.keys() | differences.keys()


# --- the teacher ------------------------------------------------------------------------------------------------------


def test_the_teacher_trains_as_the_baseline_but_for_its_overrides(shipped, load):
    row = shipped.teacher_row()
    assert row.train.epochs == CONTENT["teacher"]["overrides"]["epochs"]
    assert row.train.model_dump(exclude={"epochs"}) == shipped.train.model_dump(exclude={"epochs"})
    assert row.model.variant == "b2"
    assert set(row.model.norms.model_dump().values()) == {"layernorm"}
    deep = load(edited({"teacher.overrides": {"optimizer": {"lr": 0.5}}})).teacher_row().train
    assert deep.optimizer.lr == 0.5
    assert deep.optimizer.betas == shipped.train.optimizer.betas


def test_the_teacher_has_plain_norms_and_its_own_normalisation(load):
    changes = {"model.norms.block": "dyl", "teacher.mean": [0.0, 0.5, 1.0], "teacher.std": [1.0, 2.0, 3.0]}
    model = load(edited(changes)).teacher_row().model
    assert set(model.norms.model_dump().values()) == {"layernorm"}
    assert (model.mean, model.std) == ([0.0, 0.5, 1.0], [1.0, 2.0, 3.0])


def distilling_base(own: float) -> dict[str, Any]:
    study = {"study.experiments": [], "study.distillation": ["baseline"]}
    return edited({"loss.weights.kl": 1.0, "loss.weights.weighted_ce": own, **study})


def test_the_teacher_learns_from_labels_alone_even_when_the_base_distils(load, refused):
    row = load(distilling_base(own=1.0)).teacher_row()
    assert row.loss.weights.active() == {"weighted_ce": 1.0}
    assert not row.loss.needs_teacher
    refused(distilling_base(own=0.0), "teacher", "labels alone", "loss.weights")


# --- frozen -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["data", "data.root", "model.norms.block", "train.optimizer.lr", "study.seeds", "experiments"]
)
def test_no_attribute_can_be_set(shipped, path):
    *parents, last = path.split(".")
    section = shipped
    for name in parents:
        section = getattr(section, name)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(section, last, getattr(section, last))


def test_a_row_cannot_be_changed_and_shares_nothing_with_the_configuration(load):
    config = load(CONTENT)
    row = config.row("kd")
    with pytest.raises(ValidationError, match="frozen"):
        row.train.epochs = 1
    row.train.optimizer.betas[0] = 0.0
    row.loss.weights.active()["kl"] = 1.0
    assert config.row("kd").train.optimizer.betas == CONTENT["train"]["optimizer"]["betas"]


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_told_with_what_to_do(tmp_path):
    with pytest.raises(EffiSegError, match=r"nowhere\.yaml: not found; run from the repository root"):
        load_config(tmp_path / "nowhere.yaml")


def test_a_directory_in_place_of_the_file_is_told(tmp_path):
    with pytest.raises(EffiSegError, match="directory"):
        load_config(tmp_path)


def test_a_file_in_place_of_its_directory_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EffiSegError, match="cannot be read"):
        load_config(tmp_path / "file" / "params.yaml")


@pytest.mark.parametrize("content", ["", "# nothing\n", "- 1\n", "text", "1", "null", "--- |\n text\n", "!!set {a, b}"])
def test_a_file_without_a_mapping_is_told(refused, content):
    refused(content, "expected a mapping of sections")


NOT_YAML = {
    "binary": bytes(range(256)),
    "zeros": b"\0\0\0\0",
    "latin-1": TEXT.encode() + b"# \xe9\n",
    "tab": "data:\n\tsource: camvid\n",
    "unclosed": "data: [1, 2",
    "unknown alias": "data: *nothing",
    "two documents": TEXT + "\n---\ndata: {}\n",
    "duplicate section": TEXT + "\ndata: {}\n",
    "duplicate key": TEXT.replace("  variant: b0", "  variant: b0\n  variant: b2", 1),
    "unknown tag": "data: !thing {}",
    "python tag": "data: !!python/object/apply:os.getcwd []",
    "int tag": "data: !!int abc",
    "float tag": "data: !!float abc",
    "bool tag": "data: !!bool abc",
    "timestamp tag": "data: !!timestamp abc",
    "binary tag": 'data: !!binary "é"',
    "impossible date": "data: 2001-99-99",
    "mapping as key": "? {a: b}\n: 1\n",
    "merge of a number": TEXT + "\n  new: {<<: 1}\n",
    "bad directive": "%YAML x\n---\n" + TEXT,
    "too deep": "[" * 1500,
    "too many digits": "data: 1" + "0" * 5000,
}


@pytest.mark.parametrize("content", NOT_YAML.values(), ids=NOT_YAML)
def test_what_is_not_yaml_is_told_in_one_line(refused, content):
    refused(content, "not valid YAML")


ODD_BUT_YAML = {
    "recursive list": "data: &a [*a]",
    "recursive row": TEXT + "\n  new: &a {model: *a}\n",
    "recursive override": TEXT.replace("{epochs: 14}", "&a {optimizer: *a}"),
    "list as key": TEXT + "\n  ? [a, b]\n  : {}\n",
    "date as value": TEXT.replace("root: data/synthetic", "root: 2001-01-01"),
    "line break in a key": TEXT + '\n"a\\nb": 1\n',
    "line break in a row": TEXT + '\n  "a\\nb": {}\n',
    "line break in the study": TEXT.replace("[kd, combined]", '["k\\nd"]'),
    "line break in a value": TEXT.replace("variant: b0", 'variant: "b\\n0"'),
    "other line break in a key": TEXT + '\n"a\\Lb\\Nc": 1\n',
    "null section": TEXT.replace("\nprofile:\n", "\nprofile:\nx:\n"),
    "exponential aliases": "a: &a [x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{key}: &{key} [{', '.join([f'*{last}'] * 8)}]\n" for last, key in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "data: *i\n",
}


@pytest.mark.parametrize("content", ODD_BUT_YAML.values(), ids=ODD_BUT_YAML)
def test_odd_yaml_is_refused_in_one_short_line(refused, content):
    refused(content)


@pytest.mark.parametrize(
    "content",
    [TEXT.replace("\n", "\r\n"), b"\xef\xbb\xbf" + TEXT.encode(), "%YAML 1.2\n---\n" + TEXT, TEXT + "...\n"],
    ids=["crlf", "byte order mark", "directive", "end mark"],
)
def test_harmless_variations_of_the_file_load(load, content):
    load(content)


def test_anchors_and_merge_keys_serve_in_rows(load):
    row = "\n  again: {model: &m {norms: &n {patch_embedding: dyt}}}\n  more: {model: {norms: {<<: *n, block: dyl}}}\n"
    norms = load(TEXT + row).row("more").model.norms
    assert (norms.patch_embedding, norms.block) == ("dyt", "dyl")


PIECES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@given(key=st.sampled_from([*KEYS, *(f"experiments.{name}" for name in CONTENT["experiments"])]), value=PIECES)
def test_any_value_anywhere_loads_or_is_refused_in_one_line(tmp_path_factory, key, value):
    path = tmp_path_factory.mktemp("any") / "params.yaml"
    dump(edited({key: value}), path)
    try:
        load_config(path)
    except EffiSegError as error:
        assert "\n" not in str(error)


@given(st.binary(max_size=60) | st.text(alphabet="{}[]:-?!&*|>'\"%@` \n\tab1.~", max_size=40).map(str.encode))
def test_any_bytes_are_refused_in_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(EffiSegError) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
