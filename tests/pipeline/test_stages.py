"""The stage scripts by hand: what they make, what they refuse, and several processes."""

import re
from pathlib import Path

import pytest
import yaml

from tests.pipeline.study import Study

# the commands of dvc.lock in one process, without DVC's environment
RUN_ALL = """
import json, runpy, sys
for command in COMMANDS:
    sys.argv = command[2:]
    runpy.run_module(command[2], run_name="__main__", alter_sys=True)
print(json.dumps("done"))
"""
BASELINE = ("train", "--experiment", "baseline", "--seed", "0")
LAUNCHER = "torchrun --standalone --nproc-per-node 2"


def test_stages_by_hand_make_what_dvc_made(copy: Study) -> None:
    lock = yaml.safe_load((copy.folder / "dvc.lock").read_text())["stages"]
    commands = [stage["cmd"].split() for stage in lock.values()]
    assert {tuple(command[:2]) for command in commands} == {("python", "-m")}
    changing = re.compile(r"profiles/|history/.*json|reports")  # speeds and durations

    copy.python(RUN_ALL.replace("COMMANDS", repr(commands)))

    difference = yaml.safe_load(copy.dvc("status", "--json").stdout)
    changed = [out for stage in difference.values() for part in stage for out in part.get("changed outs", {})]
    assert [out for out in changed if not changing.match(out)] == []
    assert [out for out in changed if changing.match(out)] != []


@pytest.mark.parametrize(
    ("changes", "command", "message"),
    [
        ({"train": {"epochs": 0}}, BASELINE, "params.yaml: train.epochs: "),
        ({"train": {"epoch": 1}}, ("prepare",), "params.yaml: train.epoch: unknown key"),
        ({}, ("evaluate", "--experiment", "nope", "--seed", "0"), "experiments: there is no row 'nope'; rows are: base"),
        ({"study.experiments": ["baseline", "kd"]}, ("report",), "params.yaml: study.experiments: row 'kd' has a distil"),
        ({"study.experiments": ["nope"]}, ("synthesize",), "params.yaml: study.experiments: there is no row 'nope'"),
    ],
)
def test_wrong_parameters_are_one_error_line(
    changes: dict, command: tuple[str, ...], message: str, copy: Study
) -> None:
    copy.edit(changes)
    before = _listing(copy)

    done = copy.stage(*command)

    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1
    assert _listing(copy) == before


def test_missing_data_is_one_error_line(copy: Study) -> None:
    (copy.folder / "prepared").rename(copy.folder / "elsewhere")
    before = _listing(copy)

    done = copy.stage(*BASELINE)

    assert done.returncode == 1
    assert done.stderr.startswith("error: prepared")
    assert done.stderr.count("\n") == 1
    assert _listing(copy) == before


def test_debugging_shows_the_traceback(copy: Study) -> None:
    copy.edit({"train": {"epochs": 0}})

    done = copy.stage("synthesize", EFFISEG_DEBUG="1")

    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert "EffiSegError: params.yaml: train.epochs" in done.stderr


def test_dvc_shows_the_error_of_an_unknown_row(copy: Study) -> None:
    copy.edit({"study.experiments": ["nope"]})

    done = copy.dvc("repro", check=False)

    assert done.returncode != 0
    assert "error: params.yaml: study.experiments: there is no row 'nope'" in done.stdout + done.stderr


def test_two_processes_train_one_row_through_dvc(copy: Study) -> None:
    copy.edit({"study": {"launcher": LAUNCHER}})
    before = copy.query("SELECT count(*) FROM runs WHERE name = 'baseline-0'")[0][0]

    assert copy.repro("--single-item", "train@baseline-0") == ["train@baseline-0"]

    record = copy.json("history/train/baseline-0.json")
    assert (record["processes"], record["steps"], record["epochs"]) == (2, 4, 2)
    for which in ("last", "best"):
        assert (copy.folder / "models/train/baseline-0" / which / "model.safetensors").is_file()
    runs = copy.query("SELECT status FROM runs WHERE name = 'baseline-0'")
    assert runs == [("FINISHED",)] * (before + 1)
    assert list((copy.folder / ".ckpt").glob("*/")) == []


def test_a_batch_that_does_not_divide_among_processes_is_an_error(copy: Study) -> None:
    copy.edit({"train": {"batch_size": 5}})

    done = copy.run(*LAUNCHER.split(), "-m", "stages.train", *BASELINE[1:], check=False)

    assert done.returncode != 0
    message = "error: train.batch_size: 5 does not divide among 2 processes and 1 accumulation steps; use a multiple of 2"
    assert done.stderr.count(message) == 1


def _listing(study: Study) -> dict[Path, int]:
    """Every file with the time of its last change, but for Python's bytecode."""
    files = (path for path in study.folder.rglob("*") if "__pycache__" not in path.parts)
    return {path: path.stat().st_mtime_ns for path in files if path.is_file()}
