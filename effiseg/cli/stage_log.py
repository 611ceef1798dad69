"""logs/stages.csv in the repository: when each stage began, how long it took and how it ended, run after run."""

import csv
import fcntl
import os
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from effiseg.base.files import repository

STARTED = "EFFISEG_STARTED"  # when this process began, in seconds since the epoch; stages/__init__.py sets it
STAGE_LOG = Path("logs/stages.csv")
HEADER = "started,stage,seconds,status\n"


def log_stage(status: object) -> None:
    """Append this stage's line; a process that is no stage has none, and a log that cannot be written is left out."""
    if STARTED not in os.environ:
        return
    started = float(os.environ[STARTED])
    stage = os.environ.get("DVC_STAGE") or Path(sys.argv[0]).stem
    begun = datetime.fromtimestamp(started).isoformat(timespec="seconds")
    with suppress(OSError):
        _append(f"{begun},{stage},{time.time() - started:.1f},{status}\n")


def stage_times(since: str = "") -> list[tuple[float, str]]:
    """Seconds and name of every logged stage that began at `since` or later (as the file tells time), longest first."""
    path = repository() / STAGE_LOG
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["started"] >= since]
    return sorted(((float(line["seconds"]), line["stage"]) for line in lines), reverse=True)


def _append(line: str) -> None:
    path = repository() / STAGE_LOG
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # of stages that end together one writes the header
        file.write(line if os.fstat(file.fileno()).st_size else HEADER + line)
