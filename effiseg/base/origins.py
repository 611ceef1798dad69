"""Where a row's first weights come from, and which bytes those are."""

import hashlib
import json
import re
from pathlib import Path

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


def refuse_unpinned(row: Row) -> None:
    """Whether every change of what the row's weights come from makes a stage stale: DVC looks into weights/ alone.

    Raises:
        EffiSegError: they are in a file elsewhere, or at an address, and nothing pins them.
    """
    start = row.start
    commit = start.source == "huggingface" and re.fullmatch(r"[0-9a-f]{40}", start.revision)
    if not start.is_fetched or start.sha256 or commit:
        return
    if start.source == "file":
        file = weights_file(start.path)
        if file.resolve().is_relative_to(Path("weights").resolve()):
            return
        cure = f"keep it in weights/, or set start.sha256: {digest(file)}"
    else:
        cure = "set start.sha256 to what `sha256sum` tells of the file"
        cure += ", or start.revision to a commit hash" if start.source == "huggingface" else ""
    raise EffiSegError(
        f"start.{start.key}: {getattr(start, start.key)} (row '{row.name}') may be replaced, and no stage would "
        f"notice; {cure}"
    )


def classes_of(weights: Path) -> list[str] | None:
    """The class names that a checkpoint's folder tells in config.json; None where it tells none."""
    try:
        names = json.loads((weights.parent / "config.json").read_text(encoding="utf-8"))["id2label"]
        found = [str(names[str(index)]) for index in range(len(names))]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if all(name == f"LABEL_{index}" for index, name in enumerate(found)) else found
