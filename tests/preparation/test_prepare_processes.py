"""Preparing in several processes: workers that fail or are killed, Ctrl-C, and a killed parent."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from effiseg.preparation import pairs
from effiseg.preparation.rows import Rows

needs_fork = pytest.mark.skipif(
    multiprocessing.get_start_method() != "fork", reason="workers inherit the patch by fork"
)


@needs_fork
def test_a_killed_worker_is_an_error(refused, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pairs, "read_label", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    assert "a worker process was killed" in refused(workers=2)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=needs_fork)])
def test_a_disk_that_fills_up_while_writing(out: Path, refused, monkeypatch: pytest.MonkeyPatch, workers: int):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Rows, "write", full)
    message = refused(workers=workers)
    assert message.startswith(f"{out}: cannot be written (No space left on device): free space there")


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=needs_fork)])
def test_an_unexpected_exception_comes_through_and_leaves_nothing(
    prepared, beside_out, monkeypatch: pytest.MonkeyPatch, workers: int
):
    def fail(_: Path) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(pairs, "read_image", fail)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        prepared(workers=workers)
    assert beside_out() == []


SLOW = """
import os, signal, sys, time
from pathlib import Path
from effiseg.preparation import pairs, prepare
from tests.settings import data_settings
def slow(path):
    (Path(sys.argv[2]).parent / f"worker{os.getpid()}").touch()
    time.sleep(0.2)
    return read(path)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
read, pairs.read_image = pairs.read_image, slow
prepare.prepare(data_settings("cityscapes", Path(sys.argv[1]), (8, 16)), Path(sys.argv[2]), workers=2)
"""


@contextmanager
def slow_run(repository: Path, root: Path, out: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own, both of whose workers are in the midst of preparing."""
    command = [sys.executable, "-c", SLOW, str(root), str(out)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=repository, stderr=pipe, text=True, start_new_session=True) as process:
        wait_until(lambda: len(workers_seen(out)) == 2)
        yield process


def workers_seen(out: Path) -> list[Path]:
    return sorted(out.parent.glob("worker*"))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@needs_fork
def test_ctrl_c_leaves_nothing_behind(repository: Path, raw, out: Path, beside_out):
    with slow_run(repository, raw.root, out) as process:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to parent and workers alike
        _, stderr = process.communicate(timeout=30)  # waits until nobody, worker or parent, holds the pipe
    assert process.returncode != 0
    assert stderr.count("Traceback") == 1  # the parent's own
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert len(beside_out()) == len(workers_seen(out))


@needs_fork
def test_workers_end_when_their_parent_is_killed(repository: Path, raw, out: Path, prepared, beside_out):
    with slow_run(repository, raw.root, out) as process:
        process.kill()
        process.communicate(timeout=30)  # waits until nobody, worker or parent, holds the pipe
    assert not out.exists()
    assert prepared().digest
    assert beside_out()[0] == "prepared"  # and no hidden ones, which would sort before it
