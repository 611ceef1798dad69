"""Checkpoints of trainings that have not ended yet."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from effiseg.base.errors import EffiSegError
from effiseg.base.files import repository
from effiseg.cli.owner import GRACE_SECONDS, OWNER
from effiseg.training import COMPLETE

CKPT = Path(".ckpt")
ORPHAN_SECONDS = 3 * GRACE_SECONDS


def checkpoint_folder(name: str, identity: str) -> Path:
    """Where the training `name` keeps its checkpoints.

    It lies in the repository, outside DVC's outputs (which DVC deletes before a stage runs), and bears the training's
    `identity`, so that a changed row never resumes from another's checkpoint.
    """
    return repository() / CKPT / f"{name}-{identity}"


@contextmanager
def checkpoints(name: str, identity: str, *, owner: bool = True) -> Iterator[Path]:
    """The folder in which the training `name` keeps its checkpoints; deleted when the block ends well.

    Args:
        owner: whether this process holds the lock and deletes the folder; one of several processes does.

    Raises:
        EffiSegError: another process trains the same thing now.
    """
    folder = checkpoint_folder(name, identity)
    folder.mkdir(parents=True, exist_ok=True)
    if not owner:
        yield folder
        return
    with exclusive(folder):
        try:
            yield folder
            shutil.rmtree(folder)
        finally:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()  # of a training that failed before it began


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """The lock of a training's checkpoints.

    Raises:
        EffiSegError: another process holds it.
    """
    folder.parent.mkdir(exist_ok=True)
    guard = FileLock(folder.with_suffix(".lock"))
    try:
        # on a cluster, the orphan of a worker that died holds the lock until it has noticed
        guard.acquire(timeout=ORPHAN_SECONDS if OWNER in os.environ else 0)
    except Timeout:
        name = folder.name.rpartition("-")[0]
        raise EffiSegError(
            f"{folder}: another process is training {name} (an orphan of a killed dvc, or a second run); "
            "wait for it or stop it, then run again"
        ) from None
    try:
        yield
    finally:
        guard.release()


def kept_checkpoint(folder: Path) -> tuple[int, dict[str, Path]]:
    """The step of the newest whole checkpoint in a training's folder, and the files by which it goes on elsewhere.

    These go by their names in a repository. Without such a checkpoint, the step is 0 and there are none.
    """
    steps = [int(mark.parent.name.split("-")[1]) for mark in folder.glob(f"checkpoint-*/{COMPLETE}")]
    if not steps:
        return 0, {}
    kept = [path for name in (f"checkpoint-{max(steps)}", "best") for path in sorted((folder / name).rglob("*"))]
    return max(steps), {f"{CKPT}/{path.relative_to(folder.parent)}": path for path in kept if path.is_file()}
