"""Places in the repository, and files written whole."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from effiseg.errors import EffiSegError
from effiseg.pipeline.owner import GRACE_SECONDS, OWNER

GENERATED = Path("data/synthetic")
PREPARED = Path("prepared")
TEACHER = Path("models/teacher/last")
FLOORS = Path("results/floors.json")
CLASS_DISTRIBUTION = Path("results/class_distribution.png")
GRAPHS = Path(".cache/graphs")  # in the repository: exported networks without their weights
ORPHAN_SECONDS = 3 * GRACE_SECONDS


def repository() -> Path:
    """The repository that owns checkpoints, locks and the tracking database.

    `dvc exp run --temp` and the queue run stages in a temporary copy and tell the repository in DVC_ROOT.
    """
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def run_name(experiment: str, seed: int) -> str:
    """The name of one row with one seed, as dvc.yaml has it."""
    return f"{experiment}-{seed}"


def write_text(path: Path, text: str) -> None:
    """Write a file whole: under a temporary name, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole; NaN becomes null, as JSON has no NaN."""
    write_text(path, json.dumps(_without_nan(content), indent=2) + "\n")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; it replaces `path` when the block ends well and vanishes when it does not."""
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def code_digest() -> str:
    """Digest of the package's own source, part of what a checkpoint belongs to."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return digest.hexdigest()


@contextmanager
def checkpoints(name: str, belongs_to: dict[str, Any], *, owner: bool = True) -> Iterator[Path]:
    """The folder in which the training `name` keeps its checkpoints; deleted when the block ends well.

    It lies in the repository, outside DVC's outputs (which DVC deletes before a stage runs), and is named after all
    that the weights depend on, so that a changed row never resumes from another's checkpoint.

    Args:
        owner: whether this process holds the lock and deletes the folder; one of several processes does.

    Raises:
        EffiSegError: another process trains the same thing now.
    """
    key = json.dumps({**belongs_to, "code": code_digest()}, sort_keys=True)
    folder = repository() / ".ckpt" / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
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


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and value != value else value
