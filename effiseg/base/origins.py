"""Where a row's first weights come from, and which bytes those are: what a run follows from besides its settings."""

import hashlib
from pathlib import Path
from typing import Any

from effiseg.base.errors import EffiSegError
from effiseg.base.schema import Row

CHECKPOINT_NAMES = ("model.safetensors", "pytorch_model.bin")  # what transformers' save_pretrained writes


def digest(path: Path) -> str:
    """The file's SHA-256 as 64 lower-case hex digits, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_file(start_path: str) -> Path:
    """The file of weights that `start.path` names: itself, or that of a folder that transformers wrote.

    Raises:
        EffiSegError: it is not there.
    """
    path = Path(start_path)
    if path.is_dir():
        path = next((path / name for name in CHECKPOINT_NAMES if (path / name).is_file()), path)
    if not path.is_file():
        found = "" if path.exists() else "not there, so "
        raise EffiSegError(
            f"start.path: {path} is {found}neither a checkpoint nor a folder with {' or '.join(CHECKPOINT_NAMES)}; "
            "give an absolute path"
        )
    return path


def used(row: Row) -> dict[str, Any]:
    """`row.used()`, where a file of weights always stands with its digest: the file may be replaced.

    Raises:
        EffiSegError: the file is not there.
    """
    settings = row.used()
    if row.start.source == "file" and not row.start.sha256:
        settings["start"]["sha256"] = digest(weights_file(row.start.path))
    return settings
