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

    `dvc exp run --temp`, the queue and the workers of a cluster run stages in copies below its .dvc, and tell it in
    DVC_ROOT; a DVC_ROOT of anything else was inherited by accident, as from a stage of a repository around this one.
    """
    here = Path.cwd()
    owner = Path(os.environ.get("DVC_ROOT") or here).resolve()
    return owner if here.is_relative_to(owner / ".dvc") else here


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write beside `path`; it becomes `path` when the block ends well and vanishes when it does not."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill beside `path`; it becomes `path` when the block ends well and vanishes when it does not.

    Until then, what was at `path` stays; the next call tidies up what a killed one left.
    """
    partial, old = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.old")
    is_first = not path.parent.exists()
    _tidy(path, partial, old)
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            path.rename(old)
        partial.rename(path)
    finally:
        _tidy(path, partial, old)
        if is_first and not any(path.parent.iterdir()):
            path.parent.rmdir()


def write_text(path: Path, text: str) -> None:
    """Write a file whole, in UTF-8; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole; NaN becomes null, as JSON has no NaN."""
    write_text(path, json.dumps(_without_nan(content), indent=2) + "\n")


def _tidy(path: Path, partial: Path, old: Path) -> None:
    if old.exists() and not path.exists():  # stopped between the two renames
        old.rename(path)
    for folder in (partial, old):
        shutil.rmtree(folder, ignore_errors=True)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and value != value else value
