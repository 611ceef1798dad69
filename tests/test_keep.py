"""Finished runs of several folders as one study."""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from effiseg.base.config import load_config
from effiseg.base.errors import EffiSegError
from effiseg.base.files import write_json
from effiseg.keep import keep
from effiseg.report.build import build_report
from effiseg.runs.identity import identity_of
from effiseg.runs.places import Place
from tests.pipeline.study import environment
from tests.report.conftest import REPOSITORY, Study, make_study  # noqa: F401  # a fixture

SEEDS = [0, 1, 2]


@pytest.fixture
def whole(make_study: Any) -> Path:  # noqa: F811
    """A folder with all runs of three seeds, as a study leaves it."""
    study: Study = make_study(study={"seeds": SEEDS, "experiments": ["baseline", "tanh"], "distillation": ["kd"]})
    write_params(study.root, study.config.model_dump(mode="json"))
    for name, _ in (*study.config.teachers(), *study.config.runs()):
        write_json(study.root / f"rows/{name}.json", study.config.row(name).used())
        for seed in SEEDS:
            scores = Place(name, seed, study.root).scores
            if scores.is_dir():
                for file in ("confusion.csv", "images.npz", "norms.npz"):
                    (scores / file).touch()
    return study.root


def write_params(root: Path, content: dict[str, Any]) -> None:
    YAML().dump(content, root / "params.yaml")


def without(root: Path, folder: Path, seeds: list[int]) -> Path:
    """A copy in which these seeds have not run and are not of the study, though rows and teacher are."""
    shutil.copytree(root, folder)
    content = load_config(root / "params.yaml").model_dump(mode="json")
    content["study"]["seeds"] = [seed for seed in SEEDS if seed not in seeds]
    write_params(folder, content)
    for seed in seeds:
        for row in ("baseline", "tanh", "kd"):
            shutil.rmtree(folder / f"runs/{row}-{seed}")
    return folder


def kept(folder: Path, *roots: Path) -> Path:
    for root in roots:
        keep(load_config(root / "params.yaml"), root, folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_halves_make_the_report_of_the_whole_byte_for_byte(whole: Path, tmp_path_factory) -> None:
    scratch = tmp_path_factory.mktemp("kept")
    halves = without(whole, scratch / "a", [2]), without(whole, scratch / "b", [0, 1])
    all_at_once, one_by_one = kept(scratch / "whole", whole), kept(scratch / "merged", *halves)
    for folder in (all_at_once, one_by_one):
        build_report(load_config(folder / "params.yaml"), folder, folder)
    assert files(all_at_once) == files(one_by_one)
    names = files(one_by_one)
    assert {"index.html", "summary.csv", "comparison.md", "figures/gains.png", "runs/kd-2/scores/images.npz"} <= set(
        names
    )
    assert not [name for name in names if name.endswith((".safetensors", ".zip", ".npy")) or "panels" in name]
    assert str(whole).encode() not in b"".join(names.values())


@pytest.mark.slow
def test_kept_tables_are_those_of_the_folder(whole: Path, tmp_path_factory) -> None:
    folder = kept(tmp_path_factory.mktemp("kept") / "all", whole)
    config = load_config(whole / "params.yaml")
    build_report(config, whole, whole / "reports")
    build_report(load_config(folder / "params.yaml"), folder, folder)
    for table in ("summary.csv", "classes.csv", "comparison.csv", "lengths.csv"):
        assert (folder / table).read_bytes() == (whole / "reports" / table).read_bytes()


def test_a_run_that_is_missing_is_shown_as_missing(whole: Path, tmp_path_factory) -> None:
    shutil.rmtree(whole / "runs/tanh-1")
    folder = kept(tmp_path_factory.mktemp("kept") / "all", whole)
    build_report(load_config(folder / "params.yaml"), folder, folder)
    (line,) = [each for each in (folder / "summary.csv").read_text().splitlines() if each.startswith("tanh,")]
    assert line.split(",")[-2:] == ["1", "val"]
    page = re.sub("<[^>]+>", "", (folder / "index.html").read_text())
    assert "Seeds without a result: tanh (seed 1)" in page


def test_what_is_kept_already_is_not_added_again(whole: Path, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("kept") / "all"
    config = load_config(whole / "params.yaml")
    assert len(keep(config, whole, folder)) == 10
    before = files(folder)
    assert keep(config, whole, folder) == []
    assert files(folder) == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"train": {"epochs": 9}},
            r"params\.yaml: train\.epochs is 7, and here 9; runs of one study have the same data",
        ),
        ({"data": {"score_on": "test"}}, r"data\.score_on is val, and here test"),
        ({"experiments": {"tanh": {"model": {"alpha_init": 0.25}}}}, r"experiments\.tanh\.model\.\w+ is "),
    ],
)
def test_other_settings_are_refused_and_nothing_changes(whole: Path, tmp_path_factory, change: dict, told: str) -> None:
    scratch = tmp_path_factory.mktemp("kept")
    folder, other = kept(scratch / "all", without(whole, scratch / "a", [2])), without(whole, scratch / "b", [0, 1])
    content = load_config(other / "params.yaml").model_dump(mode="json")
    for section, values in change.items():
        content[section] |= values
    write_params(other, content)
    assert_refused(other, folder, told)


def test_a_row_that_used_other_settings_is_refused(whole: Path, tmp_path_factory) -> None:
    scratch = tmp_path_factory.mktemp("kept")
    folder, other = kept(scratch / "all", without(whole, scratch / "a", [2])), without(whole, scratch / "b", [0, 1])
    (other / "rows/tanh.json").write_text("{}")
    assert_refused(
        other, folder, r"rows/tanh\.json: the row 'tanh' was kept with other settings than rows/tanh\.json has"
    )


def test_the_same_run_with_other_weights_is_refused(whole: Path, tmp_path_factory) -> None:
    folder = kept(tmp_path_factory.mktemp("kept") / "all", whole)
    Study(whole, load_config(whole / "params.yaml")).change("runs/kd-1/record.json", weights_digest="f" * 64)
    assert_refused(
        whole, folder, r"runs/kd-1/record\.json: kd-1 is kept already, with other weights .* to keep this one"
    )


def test_other_data_and_no_run_at_all_are_refused(whole: Path, tmp_path_factory) -> None:
    scratch = tmp_path_factory.mktemp("kept")
    folder = kept(scratch / "all", without(whole, scratch / "a", [2]))
    Study(whole, load_config(whole / "params.yaml")).change("prepared/index.json", digest="a" * 64)
    assert_refused(whole, folder, r"index\.json: data digest is \w+, and here aaaaaaaaaaaa")
    shutil.rmtree(whole / "runs")
    assert_refused(whole, folder, "no run of the study is finished; run `dvc repro` first")


def test_a_kept_study_is_kept_again_as_it_was(whole: Path, tmp_path_factory) -> None:
    scratch = tmp_path_factory.mktemp("kept")
    for profile in whole.glob("runs/*/profile.json"):
        profile.unlink()  # as on a machine without DVC
    parts = {"a": [2], "b": [0, 1]}
    halves = [kept(scratch / name, without(whole, scratch / f"of {name}", parts[name])) for name in parts]
    merged = kept(scratch / "merged", *halves)
    assert files(merged) == files(kept(scratch / "at once", whole))
    build_report(load_config(merged / "params.yaml"), merged, merged)
    assert "No row was profiled" in (merged / "comparison.md").read_text()


def test_what_is_profiled_later_is_added(whole: Path, tmp_path_factory) -> None:
    scratch = tmp_path_factory.mktemp("kept")
    before = shutil.copytree(whole, scratch / "before")
    (before / "runs/kd-1/profile.json").unlink()
    folder, config = kept(scratch / "all", before), load_config(whole / "params.yaml")
    assert keep(config, whole, folder) == ["kd-1"]
    assert files(folder) == files(kept(scratch / "at once", whole))
    assert keep(config, whole, folder) == []


def test_only_the_named_runs_are_kept_and_none_begins_a_study(whole: Path, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("kept") / "all"
    config = load_config(whole / "params.yaml")
    assert keep(config, whole, folder, []) == []
    assert load_config(folder / "params.yaml").runs() == config.runs()
    assert keep(config, whole, folder, ["kd-1", "tanh-0", "of another study-0"]) == ["tanh-0", "kd-1"]


def test_whatever_cuts_it_off_leaves_a_study_that_is_gone_on_with(
    whole: Path, tmp_path_factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path_factory.mktemp("kept")
    folder, config = scratch / "all", load_config(whole / "params.yaml")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", cut_off_at("kd-0/history.csv", shutil.copyfile))
        with pytest.raises(KeyboardInterrupt):
            keep(config, whole, folder)
    build_report(load_config(folder / "params.yaml"), folder, folder)
    (line,) = [each for each in (folder / "summary.csv").read_text().splitlines() if each.startswith("kd,")]
    assert line.endswith(",0 1 2,val")
    assert keep(config, whole, folder) == ["kd-0", "kd-1", "kd-2"]
    names = files(kept(scratch / "at once", whole))
    assert {name: content for name, content in files(folder).items() if name in names} == names


def cut_off_at(name: str, copyfile: Any) -> Any:
    def copy(source: Path, target: Path) -> None:
        if str(source).endswith(name):
            raise KeyboardInterrupt
        copyfile(source, target)

    return copy


def test_the_folder_itself_and_one_without_floors_are_refused(whole: Path, tmp_path_factory) -> None:
    assert_refused(
        whole, whole / "runs" / "..", r"runs/\.\.: is to be filled, and is what .*--root\); name two folders"
    )
    (whole / "floors.json").unlink()
    assert_refused(whole, tmp_path_factory.mktemp("kept") / "all", r"floors\.json: not found, and a kept study has it")


def test_settings_that_were_edited_after_the_training_are_refused(whole: Path, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("kept") / "all"
    content = load_config(whole / "params.yaml").model_dump(mode="json")
    content["train"]["epochs"] = 9
    write_params(whole, content)
    told = r"rows/baseline\.json: baseline\.train\.epochs is 7, and 9 in .*params\.yaml, which was edited since; take"
    assert_refused(whole, folder, told)
    (whole / "rows/baseline.json").unlink()
    assert_refused(whole, folder, r"rows/baseline\.json: not found, though .*params\.yaml has the row; run `dvc repro`")


def test_weights_of_other_settings_are_refused_where_they_lie(whole: Path, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("kept") / "all"
    config = load_config(whole / "params.yaml")
    place = Place("kd", 1, whole)
    place.model.mkdir()
    told = r"runs/kd-1/record\.json: trained with other settings than .*params\.yaml has, .*; train kd-1 again"
    assert_refused(whole, folder, told)
    stage = {"deps": [locked(whole, "rows/kd.json")], "outs": [locked(whole, "runs/kd-1/record.json")]}
    YAML().dump({"stages": {"distill@kd-1": stage}}, whole / "dvc.lock")
    keep(config, whole, folder, ["kd-1"])  # DVC takes it as of these settings: the code has changed since
    study = Study(whole, config)
    record = study.read("runs/kd-1/record.json")
    digests = {key: record[key] for key in ("data_digest", "teacher_digest", "start_digest")}
    study.change("runs/kd-1/record.json", identity="f" * 16)  # of no settings, and not what DVC has seen
    assert_refused(whole, folder, told)
    study.change("runs/kd-1/record.json", identity=identity_of(config, config.row("kd"), 1, digests))
    keep(config, whole, folder, ["kd-1"])


def locked(root: Path, name: str) -> dict[str, str]:
    return {"path": name, "hash": "md5", "md5": hashlib.md5((root / name).read_bytes()).hexdigest()}


def test_a_student_of_a_teacher_that_was_trained_since_is_refused(whole: Path, tmp_path_factory) -> None:
    study = Study(whole, load_config(whole / "params.yaml"))
    study.change("runs/teacher-0/record.json", weights_digest="e" * 64)
    assert_refused(
        whole,
        tmp_path_factory.mktemp("kept") / "all",
        r"runs/kd-0/record\.json: teacher_digest is \w{12}, and e{12} in .*: teacher-0 has been trained since",
    )


def assert_refused(root: Path, folder: Path, told: str) -> None:
    before = files(folder)
    with pytest.raises(EffiSegError, match=told):
        keep(load_config(root / "params.yaml"), root, folder)
    assert files(folder) == before


def test_the_commands(whole: Path, tmp_path_factory) -> None:
    folder, merged = (tmp_path_factory.mktemp("kept") / name for name in ("all", "merged"))
    for arguments, told in (
        (["keep", str(folder)], f"{folder}: kept teacher-0, "),
        (["keep", str(merged), "--root", str(folder)], f"{merged}: kept teacher-0, "),
        (["report", str(folder)], "index.html"),
    ):
        ran = subprocess.run(
            [sys.executable, "-m", "effiseg", *arguments],
            cwd=whole,
            env=environment(PYTHONPATH=str(REPOSITORY)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        assert told in ran.stdout
    assert (folder / "index.html").is_file()
