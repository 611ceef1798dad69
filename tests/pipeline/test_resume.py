"""A training that is killed goes on from its last whole checkpoint, to the same weights as one that was left alone."""

import hashlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.pipeline.study import Study

LONG = {"train.epochs": 40}
TRAIN = ("repro", "--single-item", "train@baseline-0")
WEIGHTS = "runs/baseline-0/model/last/model.safetensors"
HISTORY = "runs/baseline-0/history.csv"


@dataclass(frozen=True)
class Story:
    """One training that was killed with SIGKILL, lost its newest checkpoint, was ended with SIGTERM, and then finished.

    Attributes:
        refused: a second trainer, started while the first one lived.
        steps: newest whole checkpoint at each end; after the SIGKILL, the one before it, since the newest was damaged.
        starts: the step at which each start began.
        statuses: of the MLflow run, after each end.
        run_ids: of the MLflow runs named like the training.
    """

    broken: Study
    unbroken: Study
    refused: subprocess.CompletedProcess[str]
    steps: list[int]
    starts: list[int]
    statuses: list[str]
    run_ids: set[str]


def tell_story(study: Study, folder: Path) -> Story:
    unbroken, broken = (study.copy(folder / name) for name in ("unbroken", "broken"))
    earlier = _runs(broken)
    steps, statuses, logs = [], [], []
    for copy in (unbroken, broken):
        copy.edit(LONG)
        copy.dvc("repro", "rows")
    with _dvc(unbroken) as whole:
        with _dvc(broken) as first:
            _wait_for_checkpoints(broken, first, after=0)
            _signal(first, signal.SIGSTOP)  # it holds its lock, and cannot end before the second one comes
            refused = broken.stage("train", "--experiment", "baseline", "--seed", "0")
            _signal(first, signal.SIGKILL)
            logs.append(_end(first))
            newest, before = _whole_checkpoints(broken)
            (newest / "COMPLETE").unlink()
            steps.append(_step(before))
            with (broken.folder / "effiseg/report/words.py").open("a") as code:
                code.write("# an edit elsewhere takes no checkpoint away\n")
            statuses += _runs(broken, earlier).values()
        with _dvc(broken) as second:
            _wait_for_checkpoints(broken, second, after=_step(newest))
            for process in psutil.Process(second.pid).children(recursive=True):
                if process.name().startswith("python"):
                    process.send_signal(signal.SIGTERM)
            logs.append(_end(second))
            steps.append(_step(_whole_checkpoints(broken)[0]))
            statuses += _runs(broken, earlier).values()
        logs.append(broken.dvc(*TRAIN).stderr)
        runs = _runs(broken, earlier)
        statuses += runs.values()
        assert whole.wait(120) == 0
    return Story(broken, unbroken, refused, steps, [_first_step(log) for log in logs], statuses, set(runs))


def test_a_killed_training_resumes_instead_of_starting_again(story: Story) -> None:
    assert story.starts == [0, *story.steps]
    assert 0 < story.steps[0] < story.steps[1]


def test_a_damaged_checkpoint_is_passed_over(story: Story) -> None:
    # the newest one had lost its mark of completeness when the second start came
    assert story.starts[1] == story.steps[0]


def test_a_resumed_training_ends_with_the_same_weights_bit_for_bit(story: Story) -> None:
    assert _sha256(story.broken.folder / WEIGHTS) == _sha256(story.unbroken.folder / WEIGHTS)
    best = WEIGHTS.replace("last", "best")
    assert _sha256(story.broken.folder / best) == _sha256(story.unbroken.folder / best)


def test_a_resumed_training_writes_the_same_history(story: Story) -> None:
    assert (story.broken.folder / HISTORY).read_text() == (story.unbroken.folder / HISTORY).read_text()


def test_a_resumed_training_goes_on_in_its_mlflow_run(story: Story) -> None:
    assert len(story.run_ids) == 1
    # SIGKILL leaves no time to say so
    assert story.statuses == ["RUNNING", "KILLED", "FINISHED"]


def test_a_finished_training_leaves_no_checkpoints(story: Story) -> None:
    assert list((story.broken.folder / ".ckpt").glob("*/")) == []
    assert list((story.broken.folder / "runs/baseline-0").glob(".*.partial")) == []


def test_a_second_trainer_is_refused(story: Story) -> None:
    assert story.refused.returncode == 1
    assert story.refused.stderr.startswith("error: ")
    assert "another process is training baseline-0" in story.refused.stderr
    assert story.refused.stderr.count("\n") == 1


@contextmanager
def _dvc(study: Study) -> Iterator[subprocess.Popen[str]]:
    """`dvc repro` of the training in a process group of its own, which is killed if it is still there at the end."""
    process = study.start("python", "-m", "dvc", *TRAIN)
    try:
        yield process
    finally:
        if process.poll() is None:
            _signal(process, signal.SIGKILL)
            process.wait()


def _signal(process: subprocess.Popen[str], number: int) -> None:
    os.killpg(process.pid, number)


def _end(process: subprocess.Popen[str]) -> str:
    """Wait for a process that was stopped, and return what it printed."""
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    return output


def _whole_checkpoints(study: Study) -> list[Path]:
    """Newest first."""
    marks = (study.folder / ".ckpt").glob("baseline-0-*/checkpoint-*/COMPLETE")
    return sorted((mark.parent for mark in marks), key=_step, reverse=True)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def _wait_for_checkpoints(study: Study, process: subprocess.Popen[str], *, after: int) -> None:
    """Until two whole checkpoints exist, the newest of them beyond the step `after`."""
    for _ in range(1200):
        found = _whole_checkpoints(study)
        if len(found) > 1 and _step(found[0]) > after:
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError(f"no checkpoint beyond step {after} after a minute")


def _first_step(log: str) -> int:
    """Where the progress bar began."""
    match = re.search(r"\| (\d+)/\d+ \[", log)
    assert match, log
    return int(match[1])


def _runs(study: Study, earlier: dict[str, str] | None = None) -> dict[str, str]:
    """MLflow run id -> status, of the runs of the training that are not among `earlier`."""
    runs = dict(study.query("SELECT run_uuid, status FROM runs WHERE name = 'baseline-0'"))
    return {run: status for run, status in runs.items() if run not in (earlier or {})}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
