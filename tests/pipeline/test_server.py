"""A tracking server that is not there, and one that goes away while a training runs."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.pipeline.study import Study

TRAIN = ("--experiment", "baseline", "--seed", "0")
EPOCHS = 40


@dataclass(frozen=True)
class Story:
    """A training whose server died.

    Attributes:
        status: with which the training ended.
        run: name and status of its MLflow run, as the dead server's database has them.
    """

    study: Study
    status: int
    output: str
    run: list[tuple[str, str]]


def tell_story(study: Study, folder: Path) -> Story:
    copy = study.copy(folder / "repository")
    copy.edit({"train": {"epochs": EPOCHS}})
    store = folder / "server.db"
    with _server(store, folder / "artifacts") as (address, server):
        training = copy.start(sys.executable, "-m", "stages.train", *TRAIN, MLFLOW_TRACKING_URI=address)
        try:
            _wait_for_checkpoint(copy, training)
            _kill(server)
            output, _ = training.communicate(timeout=180)
        finally:
            training.kill()
    with closing(sqlite3.connect(store)) as database:
        run = database.execute("SELECT name, status FROM runs WHERE name = 'baseline-0'").fetchall()
    return Story(copy, training.returncode, output, run)


def test_an_unreachable_server_is_one_error_before_any_work(copy: Study) -> None:
    done = copy.stage("train", *TRAIN, MLFLOW_TRACKING_URI="http://127.0.0.1:1")

    assert done.returncode == 1
    assert done.stderr.startswith("error: MLflow at http://127.0.0.1:1 cannot be used")
    assert done.stderr.count("\n") == 1
    assert "MLFLOW_TRACKING_URI" in done.stderr
    assert list((copy.folder / ".ckpt").glob("*/checkpoint-*")) == []


def test_a_training_outlives_its_server_with_one_warning(story: Story) -> None:
    assert story.status == 0, story.output
    assert story.output.count("warning: MLflow does not take what is logged") == 1
    assert "Traceback" not in story.output
    # it did begin there, and nobody told the server how it ended
    assert story.run == [("baseline-0", "RUNNING")]


def test_a_training_without_its_server_writes_everything(story: Story) -> None:
    record = story.study.json("runs/baseline-0/record.json")
    history = (story.study.folder / "runs/baseline-0/history.csv").read_text()

    assert record["epochs"] == EPOCHS
    assert len(history.splitlines()) == EPOCHS + 1
    assert (story.study.folder / "runs/baseline-0/model/last/model.safetensors").is_file()


def test_a_dead_server_does_not_hold_the_training_up(story: Story) -> None:
    # a call that fails costs seconds; at each of the 120 logs it would add minutes
    assert story.study.json("runs/baseline-0/record.json")["train_minutes"] < 1


@contextmanager
def _server(store: Path, artifacts: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server on a free port: its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ("--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    stores = ("--backend-store-uri", f"sqlite:///{store}", "--artifacts-destination", str(artifacts))
    server = Study(store.parent).start(sys.executable, "-m", "mlflow", "server", *place, *stores)
    try:
        _wait_for_port(port, server)
        yield f"http://127.0.0.1:{port}", server
    finally:
        if server.poll() is None:
            _kill(server)


def _wait_for_port(port: int, server: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, server.communicate()[0]
        time.sleep(0.1)
    raise AssertionError("the server does not listen after two minutes")


def _wait_for_checkpoint(study: Study, training: subprocess.Popen[str]) -> None:
    for _ in range(2400):
        if list((study.folder / ".ckpt").glob("*/checkpoint-*/COMPLETE")):
            return
        assert training.poll() is None, training.communicate()[0]
        time.sleep(0.05)
    raise AssertionError("no checkpoint after two minutes")


def _kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
