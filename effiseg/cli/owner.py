"""A stage ends with whoever started it.

An orphan would go on writing the checkpoints of a training that was started again elsewhere.
"""

import fcntl
import os
import signal
import threading
import time
from pathlib import Path

OWNER = "EFFISEG_OWNER"  # a file that whoever started this stage keeps locked while it lives
GRACE_SECONDS = 10.0  # for an orphan's files and MLflow run, before it is ended whatever it does


def end_with_owner() -> None:
    """Watch the owner from a thread, where there is one."""
    if OWNER in os.environ:
        threading.Thread(target=_die_with, args=(Path(os.environ[OWNER]),), daemon=True).start()


def _die_with(owner: Path) -> None:
    """End this process when the owner's lock is released, which the system does however the owner ended."""
    with owner.open(encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(143)
