"""Several processes train one row."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.pipeline.study import Study, ran

LAUNCHER = "torchrun --standalone --nproc-per-node 2"


@dataclass(frozen=True)
class Story:
    """Two processes in `study` through DVC, and by hand with a batch that does not divide between them.

    Attributes:
        runs: statuses of the MLflow runs of the training, the first one by a single process.
    """

    study: Study
    log: str
    runs: list[str]
    refused: subprocess.CompletedProcess[str]


def tell_story(study: Study, folder: Path) -> Story:
    copy = study.copy(folder / "repository")
    copy.edit({"study": {"launcher": LAUNCHER}})
    log = copy.dvc("repro", "--single-item", "train@baseline-0").stdout
    runs = [status for (status,) in copy.query("SELECT status FROM runs WHERE name = 'baseline-0'")]

    other = study.copy(folder / "other")
    other.edit({"train": {"batch_size": 5}})
    training = ("-m", "stages.train", "--experiment", "baseline", "--seed", "0")
    return Story(copy, log, runs, other.run(*LAUNCHER.split(), *training, check=False))


def test_two_processes_train_one_row_through_dvc(story: Story) -> None:
    folder = story.study.folder / "runs/baseline-0/model"
    record = story.study.json("runs/baseline-0/record.json")

    assert ran(story.log) == ["train@baseline-0"]
    assert (record["processes"], record["steps"], record["epochs"]) == (2, 4, 2)
    assert all((folder / which / "model.safetensors").is_file() for which in ("last", "best"))
    assert len((story.study.folder / "runs/baseline-0/history.csv").read_text().splitlines()) == 3
    assert list((story.study.folder / ".ckpt").glob("*/")) == []


def test_two_processes_make_one_mlflow_run(story: Story) -> None:
    assert story.runs == ["FINISHED", "FINISHED"]


def test_a_batch_that_does_not_divide_among_processes_is_an_error(story: Story) -> None:
    message = "error: train.batch_size: 5 does not divide among 2 processes and 1 accumulation steps"

    assert story.refused.returncode != 0
    assert story.refused.stderr.count(message) == 1
