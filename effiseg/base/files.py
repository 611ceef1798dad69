"""Files and folders that are there whole or not at all, and the repository that they belong to."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def repository() -> Path:
    """The repository that owns checkpoints, locks and the tracking database.

    `dvc exp run --temp` and the queue run stages in a temporary copy and tell the repository in DVC_ROOT.
    """
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


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


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and value != value else value
