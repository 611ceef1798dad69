"""A data set of the Hugging Face Hub as files: images and labels as they are stored, byte for byte."""

import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from effiseg.base.errors import EffiSegError
from effiseg.base.files import whole_folder
from effiseg.intake.init import init

_SPLITS = {"train": "train", "training": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
_LABELS = re.compile(r"label|mask|annot|seg|target", re.IGNORECASE)
_SUFFIXES = {"JPEG": "jpg", "TIFF": "tif"}  # others are their format's name


def fetch(name: str, revision: str, folder: Path, *, image: str = "", label: str = "") -> list[str]:
    """Write a data set of images and masks into a new folder, with a first dataset.yaml.

    Args:
        name: owner/name on the Hub, or a folder of the same form (parquet files).
        revision: the commit of the Hub's, 40 hex digits.
        image, label: columns; those that hold pictures, where they are not given.

    Returns:
        What was found, in lines for people.

    Raises:
        EffiSegError: `datasets` is not installed, the data set cannot be read or has no such columns, the revision is
            no commit, or the folder exists.
    """
    is_local = Path(name).is_dir()
    if not is_local and not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise EffiSegError(
            f"--revision '{revision}': expected a commit of 40 hex digits, since a branch moves on; the page of {name} "
            "shows it under 'Files'"
        )
    if folder.exists():
        raise EffiSegError(f"{folder}: exists already; name a new folder")
    try:
        import datasets
    except ModuleNotFoundError:
        raise EffiSegError("datasets is not installed; run `make setup-huggingface`") from None
    try:
        # streamed: nothing is kept in a cache, and memory does not grow with the data set
        loaded = datasets.load_dataset(name, revision=None if is_local else revision, streaming=True)
        first = next(iter(loaded.values()))
        columns = _columns(first.features or first._resolve_features().features, image, label)
        with whole_folder(folder) as partial:
            for split, rows in loaded.items():
                plain = rows.select_columns(list(columns))
                for column in columns:
                    plain = plain.cast_column(column, datasets.Image(decode=False))
                _write(plain, columns, partial / _split(str(split)))
    except EffiSegError:
        raise
    except Exception as error:  # the library raises many kinds
        reason = " ".join(str(error).split())[:300]
        raise EffiSegError(f"{name}: cannot be read ({reason}); check name and revision") from None
    lines = init(folder)
    _note(folder / "dataset.yaml", name, revision, is_local=is_local)
    return lines


def _columns(features: Mapping[str, Any], image: str, label: str) -> tuple[str, str]:
    pictures = [name for name, kind in features.items() if type(kind).__name__ == "Image"]
    label = label or next((name for name in pictures if _LABELS.search(name)), "")
    image = image or next((name for name in pictures if name != label), "")
    if not {image, label} <= set(pictures) or image == label:
        raise EffiSegError(
            "columns: looked for an image and its label among those that hold pictures "
            f"({', '.join(pictures) or 'none'} of {', '.join(features)}); name them with --image and --label"
        )
    return image, label


def _split(name: str) -> str:
    if name not in _SPLITS:
        raise EffiSegError(f"split '{name}' is unknown; splits are {', '.join(_SPLITS)}")
    return _SPLITS[name]


def _write(rows: Any, columns: tuple[str, str], folder: Path) -> None:
    taken: set[str] = set()
    for index, row in enumerate(tqdm(rows, desc=folder.name, unit="pair", disable=None)):
        contents = [_content(row[column], column, index) for column in columns]
        given = Path(row[columns[0]].get("path") or "").stem
        name = given if given and given not in taken else f"{index:06d}"
        taken.add(name)
        for kind, content in zip(("images", "labels"), contents, strict=True):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            (folder / kind / f"{name}.{_suffix(content)}").write_bytes(content)


def _content(value: Mapping[str, Any] | None, column: str, index: int) -> bytes:
    if value and value.get("bytes"):
        return bytes(value["bytes"])
    if value and value.get("path") and Path(value["path"]).is_file():
        return Path(value["path"]).read_bytes()
    raise EffiSegError(f"row {index}: no picture in column {column}")


def _suffix(content: bytes) -> str:
    try:
        with Image.open(BytesIO(content)) as picture:
            kind = picture.format or "png"
    except Exception:  # damaged: `data check` tells
        return "png"
    return _SUFFIXES.get(kind, kind.lower())


def _note(file: Path, name: str, revision: str, *, is_local: bool) -> None:
    origin = name if is_local else f"https://huggingface.co/datasets/{name}/tree/{revision}"
    text = file.read_text(encoding="utf-8").replace("homepage: ''", f"homepage: '{origin}'", 1)
    file.write_text(text, encoding="utf-8", newline="\n")
