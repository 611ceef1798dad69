"""The stage scripts by hand: what they make, and what they refuse."""

import re
from pathlib import Path

import pytest
import yaml

from tests.pipeline.study import Study, ran

# the commands of dvc.lock in one process, without DVC's environment
RUN_ALL = """
import json, runpy, sys
for command in COMMANDS:
    sys.argv = command[2:]
    runpy.run_module(command[2], run_name="__main__", alter_sys=True)
print(json.dumps("done"))
"""
BASELINE = ("train", "--experiment", "baseline", "--seed", "0")


@pytest.mark.slow
def test_stages_by_hand_make_what_dvc_made(copy: Study) -> None:
    lock = yaml.safe_load((copy.folder / "dvc.lock").read_text())["stages"]
    commands = [stage["cmd"].split() for stage in lock.values()]
    assert {tuple(command[:2]) for command in commands} == {("python", "-m")}
    changing = re.compile(r"runs/.*/(profile|deployment|record)\.json|predictions|reports")  # speeds and durations

    copy.python(RUN_ALL.replace("COMMANDS", repr(commands)))

    difference = yaml.safe_load(copy.dvc("status", "--json").stdout)
    changed = [out for stage in difference.values() for part in stage for out in part.get("changed outs", {})]
    assert [out for out in changed if not changing.match(out)] == []
    assert [out for out in changed if changing.match(out)] != []


@pytest.mark.parametrize(
    ("changes", "command", "message"),
    [
        ({"train": {"epochs": -1}}, BASELINE, "params.yaml: train.epochs: "),
        ({"train": {"epoch": 1}}, ("prepare",), "params.yaml: train.epoch: unknown key"),
        ({}, ("evaluate", "--experiment", "nope", "--seed", "0"), "experiments: there is no row 'nope'"),
        pytest.param(
            {"study.experiments": ["baseline", "kd"]},
            ("report",),
            "params.yaml: study.experiments: row 'kd'",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"study.experiments": ["nope"]},
            ("synthesize",),
            "params.yaml: study.experiments: there is no row 'nope'",
            marks=pytest.mark.slow,
        ),
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
    copy.edit({"train": {"epochs": -1}})

    done = copy.stage("synthesize", EFFISEG_DEBUG="1")

    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert "EffiSegError: params.yaml: train.epochs" in done.stderr


def test_dvc_names_an_unknown_row(copy: Study) -> None:
    copy.edit({"study.experiments": ["nope"]})

    done = copy.dvc("repro", check=False)

    assert done.returncode != 0
    assert ran(done.stdout) == ["rows"]
    assert "error: params.yaml: study.experiments: there is no row 'nope'; rows are: teacher, baseline" in done.stderr


def test_dvc_shows_the_error_line_of_a_stage(copy: Study) -> None:
    copy.edit({"synthesize.val": 5, "study.experiments": ["nope"]})

    done = copy.dvc("repro", check=False)

    assert done.returncode != 0
    assert ran(done.stdout) == ["synthesize"]
    assert "error: params.yaml: study.experiments: there is no row 'nope'; rows are: teacher, baseline" in done.stderr


def test_nothing_learns_from_a_weak_teacher(copy: Study) -> None:
    copy.edit({"study.min_teacher_miou": 0.99})

    done = copy.dvc("repro", "distill@kd-0", check=False)

    assert done.returncode != 0
    assert ran(done.stdout) == ["rows", "evaluate_teachers@teacher-0"]
    assert "error: study.min_teacher_miou: the teacher 'teacher' (drawn) reaches mIoU 0.0" in done.stderr
    assert not (copy.folder / "runs/teacher-0/metrics.json").exists()


def _listing(study: Study) -> dict[Path, int]:
    """Every file with the time of its last change, but for Python's bytecode and the log of all stages."""
    files = (path for path in study.folder.rglob("*") if not {"__pycache__", "logs"} & set(path.parts))
    return {path: path.stat().st_mtime_ns for path in files if path.is_file()}
