"""A tracking server that is not there, and one that goes away while a training runs."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.study import Study

TRAIN = ("train", "--experiment", "baseline", "--seed", "0")


@pytest.fixture
def server(study: Study, tmp_path: Path) -> Iterator[tuple[str, Path, subprocess.Popen[str]]]:
    """A server's address, its database and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = tmp_path / "server.db"
    options = ("--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--backend-store-uri", f"sqlite:///{store}")
    artifacts = ("--artifacts-destination", str(tmp_path / "artifacts"))
    process = Study(tmp_path).start(sys.executable, "-m", "mlflow", "server", *options, *artifacts)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", store, process
    finally:
        if process.poll() is None:
            _kill(process)


def test_an_unreachable_server_is_one_error_before_any_work(copy: Study) -> None:
    started = time.monotonic()
    done = copy.stage(*TRAIN, MLFLOW_TRACKING_URI="http://127.0.0.1:1")

    assert done.returncode == 1
    assert done.stderr.startswith("error: MLflow at http://127.0.0.1:1 cannot be used")
    assert done.stderr.count("\n") == 1
    assert "MLFLOW_TRACKING_URI" in done.stderr
    assert list((copy.folder / ".ckpt").glob("*/checkpoint-*")) == []
    assert time.monotonic() - started < 60


def test_a_server_that_dies_costs_a_warning_and_not_the_training(
    copy: Study, server: tuple[str, Path, subprocess.Popen[str]]
) -> None:
    address, store, process = server
    copy.edit({"train.epochs": 40})
    training = copy.start(sys.executable, "-m", "stages.train", *TRAIN[1:], MLFLOW_TRACKING_URI=address)
    try:
        _wait_for_checkpoint(copy, training)
        _kill(process)
        output, _ = training.communicate(timeout=180)
    finally:
        training.kill()

    assert training.returncode == 0, output
    assert output.count("warning: MLflow does not take what is logged") == 1
    assert copy.json("history/train/baseline-0.json")["steps"] == 80
    assert (copy.folder / "models/train/baseline-0/last/model.safetensors").is_file()
    assert len((copy.folder / "history/train/baseline-0.csv").read_text().splitlines()) == 41
    database = sqlite3.connect(store)
    assert database.execute("SELECT name, status FROM runs WHERE name = 'baseline-0'").fetchall() == [
        ("baseline-0", "RUNNING")
    ]
    database.close()


def _wait_for_checkpoint(study: Study, training: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if list((study.folder / ".ckpt").glob("*/checkpoint-*/COMPLETE")):
            return
        assert training.poll() is None, training.communicate()[0]
        time.sleep(0.05)
    raise AssertionError("no checkpoint after a minute")


def _kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
