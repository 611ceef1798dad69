"""What surrounds a stage on a worker: its log, the file by which it knows that its worker lives, and its progress.

It travels by value, like the worker.
"""

import fcntl
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from effiseg.cluster.carried import Carried

SECONDS = 1.0  # between two looks at a stage
BEGIN = "=== "  # the line of a log with which a try begins


@contextmanager
def printed_to(log: Path, title: str, *, add: bool) -> Iterator[None]:
    """Everything that this process and its children print goes into a file, below a title.

    Args:
        add: to the end of what is there, instead of in its place.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    kept = [os.dup(1), os.dup(2)]
    with log.open("ab" if add else "wb") as file:
        file.write(f"{BEGIN}{title}\n".encode())
        file.flush()
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in zip((1, 2), kept, strict=True):
            os.dup2(old, number)
            os.close(old)


@contextmanager
def alive(checkout: Path) -> Iterator[Path]:
    """A file that stays locked while this process lives, however it ends: stages end when it is not."""
    path = checkout / ".dvc/tmp/alive"
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield path


@contextmanager
def watched(checkout: Path, tell: Callable[[dict[str, Any]], None], carried: Carried | None) -> Iterator[Path]:
    """A file into which the stage may write how far it is; `tell` hears of it, and checkpoints are sent on."""
    path, ended = checkout / ".dvc/tmp/progress.json", threading.Event()
    path.unlink(missing_ok=True)

    def look() -> None:
        told = ""
        while not ended.wait(SECONDS):
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            if text != told:
                tell(json.loads(text))
            told = text
            if carried:
                carried.send()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield path
    finally:
        ended.set()
        thread.join()


def last_error(log: Path) -> str:
    """The last line of a log's last try that says why the stage failed, or an empty text."""
    found = [line for line in _last_try(log).splitlines() if line.startswith("error: ")]
    return found[-1].removeprefix("error: ") if found else ""


def was_killed(error: str, log: Path) -> bool:
    """Whether a signal ended the stage, or one of the processes that a launcher started for it.

    Args:
        error: what DVC says of the stage's command and its status.
    """
    status = re.search(r"exited with (-?\d+)", error)
    if status and (int(status[1]) < 0 or int(status[1]) in (137, 143)):
        return True
    # torchrun itself ends with status 1, and stops with SIGTERM the processes that had not failed
    return re.search(r"Root Cause \(first observed failure\):\s[^=]*?exitcode +: -\d", _last_try(log)) is not None


def _last_try(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace").rpartition(f"\n{BEGIN}")[2] if log.exists() else ""
