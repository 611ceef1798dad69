"""Finished runs of several folders as one study."""

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


def assert_refused(root: Path, folder: Path, told: str) -> None:
    before = files(folder)
    with pytest.raises(EffiSegError, match=told):
        keep(load_config(root / "params.yaml"), root, folder)
    assert files(folder) == before


def test_the_commands(whole: Path, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("kept") / "all"
    for arguments, told in (
        (["keep", str(folder)], f"{folder}: kept teacher-0, "),
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
