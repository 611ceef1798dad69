"""Checkpoints of trainings that have not ended yet."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from effiseg.base.errors import EffiSegError
from effiseg.base.files import repository
from effiseg.cli.owner import GRACE_SECONDS, OWNER

ROOMS = ("base", "data", "models", "weights", "losses", "training", "evaluation")  # whose code shapes the weights
ORPHAN_SECONDS = 3 * GRACE_SECONDS


def identity(settings: dict[str, Any]) -> str:
    """What a training is known by: a digest of all that its weights follow from, the code of `ROOMS` included."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in sorted(path for room in ROOMS for path in (package / room).rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def checkpoints(name: str, identity: str, *, owner: bool = True) -> Iterator[Path]:
    """The folder in which the training `name` keeps its checkpoints; deleted when the block ends well.

    It lies in the repository, outside DVC's outputs (which DVC deletes before a stage runs), and bears the training's
    `identity`, so that a changed row never resumes from another's checkpoint.

    Args:
        owner: whether this process holds the lock and deletes the folder; one of several processes does.

    Raises:
        EffiSegError: another process trains the same thing now.
    """
    folder = repository() / ".ckpt" / f"{name}-{identity}"
    folder.mkdir(parents=True, exist_ok=True)
    if not owner:
        yield folder
        return
    guard = FileLock(folder.with_suffix(".lock"))
    try:
        # on a cluster, the orphan of a worker that died holds the lock until it has noticed
        guard.acquire(timeout=ORPHAN_SECONDS if OWNER in os.environ else 0)
    except Timeout:
        raise EffiSegError(
            f"{folder}: another process is training {name} (an orphan of a killed dvc, or a second run); "
            "wait for it or stop it, then run again"
        ) from None
    try:
        yield folder
        shutil.rmtree(folder)
    finally:
        guard.release()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # of a training that failed before it began
