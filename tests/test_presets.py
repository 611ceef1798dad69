"""Presets: what they change in params.yaml, and what they leave alone."""

import re
from pathlib import Path

import pytest

from effiseg.base.config import load_config, merge, read_yaml
from effiseg.base.errors import EffiSegError
from effiseg.base.origins import refuse_unpinned
from effiseg.presets import PRESETS, apply_preset, preset_names

DATA = ("camvid", "cityscapes")
STUDIES = ("all", "default", "distillation", "faults", "losses", "norms", "starts")
FROM_WEIGHTS = ("camvid_mit", "cityscapes_mit", "finetune")
NAMES = tuple(sorted((*DATA, *STUDIES, *FROM_WEIGHTS, "camvid_study", "mine", "teacher")))


def comments(path: Path) -> list[str]:
    return [line.partition("#")[2] for line in path.read_text().splitlines() if "#" in line]


def test_the_presets_are_those_in_the_folder():
    assert tuple(preset_names()) == NAMES
    assert {path.name for path in PRESETS.iterdir()} == {f"{name}.yaml" for name in NAMES}


# --- what changes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DATA)
def test_the_result_is_the_shipped_content_with_the_differences_laid_over(params: Path, name: str):
    shipped, differences = read_yaml(params), read_yaml(PRESETS / f"{name}.yaml")
    expected = merge(shipped, differences)
    apply_preset(name, params=params)
    assert read_yaml(params) == expected
    config = load_config(params)
    assert config.data.source == name
    teacher = config.row("teacher")
    # as long as its rows; a B2 wants a learning rate of its own
    assert teacher.train.model_copy(update={"optimizer": config.train.optimizer}) == config.train
    assert teacher.train.optimizer.lr == 6e-4
    assert (teacher.start, teacher.model.variant) == (config.row("baseline").start, "b2")


@pytest.mark.parametrize("name", NAMES)
def test_comments_order_and_layout_stay(params: Path, own: Path, name: str):
    before, lines = comments(params), params.read_text().splitlines()
    apply_preset(name, str(own) if name == "mine" else None, params)
    after = params.read_text().splitlines()
    assert comments(params) == before
    assert len(before) > 40
    new = {"      repo", "      revision"} if name in FROM_WEIGHTS else set()  # of the teacher
    keys = [line.partition(":")[0] for line in after]
    if name == "camvid_study":  # whose rows are its own, below all others
        keys = keys[: keys.index("  best")]
    assert [key for key in keys if key not in new] == [line.partition(":")[0] for line in lines]


@pytest.mark.parametrize("name", DATA)
def test_each_change_is_reported_with_old_and_new_value(params: Path, name: str):
    old = params.read_text().splitlines()
    changes = apply_preset(name, params=params)
    new = params.read_text().splitlines()
    assert f"data.source: synthetic -> {name}" in changes
    assert f"train.optimizer.lr: 0.004 -> {'0.0015' if name == 'camvid' else '0.0006'}" in changes
    assert "experiments.teacher.start.source: file -> drawn" in changes
    assert "experiments.teacher.train.optimizer.lr: 0.0015 -> 0.0006" in changes
    assert len(changes) == len(set(changes))
    # a line of the file per change, but for two that share the line of the teacher's `train`
    assert sum(a != b for a, b in zip(old, new, strict=True)) == len(changes) - 1
    assert not any("weight_decay" in change for change in changes)  # is so already


def test_lists_are_replaced_whole(params: Path):
    changes = apply_preset("cityscapes", params=params)
    assert "data.size: [64, 128] -> [512, 1024]" in changes
    assert "study.seeds: [0] -> [42]" in changes
    assert load_config(params).train.augment.scale == [0.5, 2.0]


def test_the_root_is_set_when_given_and_kept_when_not(params: Path):
    apply_preset("cityscapes", params=params)
    assert load_config(params).data.root == "data/synthetic"
    assert apply_preset("cityscapes", root="/data/my # cities: all", params=params) == [
        "data.root: data/synthetic -> /data/my # cities: all"
    ]
    assert load_config(params).data.root == "/data/my # cities: all"
    apply_preset("camvid", params=params)
    assert load_config(params).data.root == "/data/my # cities: all"


@pytest.mark.parametrize("name", NAMES)
def test_a_second_time_changes_nothing(params: Path, own: Path, name: str):
    apply_preset(name, root=str(own), params=params)
    once = params.read_bytes()
    assert apply_preset(name, root=str(own), params=params) == []
    assert params.read_bytes() == once


def test_one_preset_after_the_other_leaves_the_second_ones_settings(params: Path):
    apply_preset("cityscapes", params=params)
    apply_preset("camvid", params=params)
    config = load_config(params)
    assert (config.data.source, config.data.class_weights, config.data.size) == ("camvid", "computed", [192, 256])
    assert (config.train.epochs, config.train.augment.crop) == (60, [192, 256])


@pytest.mark.parametrize("name", [*DATA, *FROM_WEIGHTS])
def test_a_recipe_leaves_nothing_of_the_one_before_it(params: Path, tmp_path: Path, name: str):
    other = tmp_path / "other.yaml"
    other.write_bytes(params.read_bytes())
    apply_preset("camvid", params=other)  # for data that all of them know
    apply_preset("cityscapes_mit", params=params)
    apply_preset("camvid", params=params)
    apply_preset("cityscapes_mit", params=params)
    for path in (params, other):
        apply_preset(name, params=path)
    trains = [load_config(path).train.model_dump(exclude={"augment", "batch_size"}) for path in (params, other)]
    assert trains[0] == trains[1]


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("weights", FROM_WEIGHTS)
def test_a_preset_that_starts_from_weights_is_taken_back_by_one_that_does_not(
    params: Path, tmp_path: Path, weights: str, name: str
):
    other = tmp_path / "other.yaml"
    other.write_bytes(params.read_bytes())
    apply_preset(weights, params=params)
    started = load_config(params)
    for row in ("baseline", "kd", "teacher"):
        start = started.row(row).start
        assert (start.source, start.part, len(start.revision)) == ("huggingface", "encoder", 40)
        refuse_unpinned(started.row(row))
    assert started.row("teacher").start.repo != started.row("baseline").start.repo
    assert started.row("teacher").train.steps(1000) == started.row("baseline").train.steps(1000)
    for path in (params, other):
        apply_preset(name, params=path)
    rows = [[load_config(path).row(row).used() for row in ("baseline", "kd", "teacher")] for path in (params, other)]
    assert rows[0] == rows[1]


# --- studies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_preset_says_which_rows_run_and_nothing_else(params: Path, name: str):
    shipped, differences = read_yaml(params), read_yaml(PRESETS / f"{name}.yaml")
    assert set(differences) == {"study"}
    assert set(differences["study"]) == {"experiments", "distillation", "continued"}
    apply_preset(name, params=params)
    assert read_yaml(params) == shipped | {"study": shipped["study"] | differences["study"]}
    study = load_config(params).study
    assert [*study.experiments, *study.distillation].count("baseline") == 1  # all others are compared with it


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("name", STUDIES)
def test_study_and_data_presets_combine_in_either_order(params: Path, tmp_path: Path, name: str, data: str):
    other = tmp_path / "other.yaml"
    other.write_bytes(params.read_bytes())
    for path, presets in ((params, (data, name)), (other, (name, data))):
        for preset in presets:
            apply_preset(preset, params=path)
    config = load_config(params)
    assert load_config(other) == config
    assert config.data.source == data
    rows = read_yaml(PRESETS / f"{name}.yaml")["study"]
    assert (config.study.experiments, config.study.distillation) == (rows["experiments"], rows["distillation"])


def rows_of(name: str) -> list[str]:
    study = read_yaml(PRESETS / f"{name}.yaml")["study"]
    return [*study["experiments"], *study["distillation"], *study["continued"]]


def test_every_row_is_in_all_and_in_a_group(params: Path):
    shipped = read_yaml(params)
    rows = set(shipped["experiments"]) - set(shipped["study"]["teachers"])
    assert sorted(rows_of("all")) == sorted(rows)
    assert {row for name in STUDIES if name != "all" for row in rows_of(name)} == rows


def test_default_is_what_params_yaml_ships_with(params: Path):
    assert apply_preset("default", params=params) == []
    apply_preset("all", params=params)
    shipped = [f"study.{key}: " for key in ("experiments", "distillation", "continued")]
    assert [change.partition("[")[0] for change in apply_preset("default", params=params)] == shipped


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_preset_takes_a_root_too(params: Path, name: str):
    changes = apply_preset(name, root="/data/mine", params=params)
    assert changes[-1] == "data.root: data/synthetic -> /data/mine"
    config = load_config(params)
    assert (config.data.root, config.data.source) == ("/data/mine", "synthetic")
    assert [*config.study.experiments, *config.study.distillation, *config.study.continued] == rows_of(name)
    assert_refused(params, name, r": data\.root: ", root="")


# --- the teacher ------------------------------------------------------------------------------------------------------


def test_the_teacher_preset_trains_the_teacher_as_long_as_the_rows_and_changes_nothing_else(params: Path):
    shipped, before = read_yaml(params), load_config(params)
    assert (before.row("teacher").start.source, before.row("teacher").train.epochs) == ("file", 0)
    assert len(apply_preset("teacher", params=params)) == 4
    config = load_config(params)
    teacher = config.row("teacher")
    assert teacher.start == config.start
    assert teacher.start.source == "drawn"
    assert teacher.train.epochs == config.train.epochs
    assert teacher.train.optimizer == before.row("teacher").train.optimizer
    assert teacher.model == before.row("teacher").model
    after = read_yaml(params)
    for content in (shipped, after):
        del content["experiments"]["teacher"]
    assert after == shipped


# --- what is refused --------------------------------------------------------------------------------------------------


def assert_refused(params: Path, name: str, match: str, root: str | None = None) -> None:
    before = params.read_bytes()
    with pytest.raises(EffiSegError, match=match) as caught:
        apply_preset(name, root=root, params=params)
    assert len(str(caught.value).splitlines()) == 1
    assert "partial" not in str(caught.value)
    assert params.read_bytes() == before
    assert list(params.parent.iterdir()) == [params]


@pytest.mark.parametrize("name", ["kitti", "", "cityscapes.yaml", "../params", "../presets/camvid"])
def test_an_unknown_preset_is_told_with_those_that_there_are(params: Path, name: str):
    assert_refused(params, name, rf"there is none of that name; presets are: {', '.join(NAMES)}$")


def test_a_result_that_would_be_invalid_is_told_and_not_written(params: Path):
    assert_refused(params, "camvid", r"params\.yaml is unchanged, .*'camvid'.*: data\.root: ", root="")
    row = "\n  wide:\n    train: {augment: {crop: [64, 512]}}\n"
    params.write_text(params.read_text().replace("size: [64, 128] ", "size: [64, 512] ") + row)
    load_config(params)
    assert_refused(params, "camvid", r"unchanged, .*: train\.augment\.crop: \[64, 512\] \(row 'wide'\)")


def test_a_file_that_is_invalid_already_is_told_and_left_alone(params: Path):
    params.write_text(params.read_text().replace("\n  epochs: 7 ", "\n  epochs: many "))
    assert_refused(params, "camvid", r"params\.yaml: train\.epochs: ")


def test_a_missing_file_is_told(tmp_path: Path):
    with pytest.raises(EffiSegError, match="not found; run from the repository root"):
        apply_preset("camvid", params=tmp_path / "params.yaml")


# --- the command ------------------------------------------------------------------------------------------------------


def test_a_link_stays_a_link(params: Path):
    params.rename(params.with_name("real.yaml"))
    params.symlink_to("real.yaml")
    apply_preset("cityscapes", params=params)
    assert params.is_symlink() and load_config(params.with_name("real.yaml")).data.source == "cityscapes"


def test_a_row_of_the_camvid_study_with_a_number_is_the_row_without_it_for_so_many_epochs(params: Path):
    apply_preset("camvid_study", params=params)
    config = load_config(params)
    lengths = [match for match in (re.fullmatch(r"(\w+)_(15|30|120)", name) for name, _ in config.runs()) if match]
    assert len({match[0] for match in lengths}) == 18
    for match in lengths:
        short, row = config.row(match[0]).used(), config.row(match[1]).used()
        assert short["train"].pop("epochs") == int(match[2])
        assert row["train"].pop("epochs") == 60
        assert short == row, match[0]
