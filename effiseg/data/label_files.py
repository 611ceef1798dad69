"""Label files as people have them: ids of 1 to 16 bits, palettes, RGB and RGBA colours.

What is wrong with a file is raised as `BadFile`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base

from effiseg.base.schema import label_type
from effiseg.data.images import BadFile, open_image, read_bytes
from effiseg.data.labels import MOST_ID, UNKNOWN, LabelSpace, packed, unpacked

FORMATS = ("PNG", "TIFF", "BMP", "WEBP")
SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".webp")
_PNG_DEPTH_BYTE = 24  # the signature (8), the IHDR chunk's length and type (8), width (4) and height (4) come before it
_SHOWN = 8  # ids of a label that one message lists
_SHOWN_COLOURS = 3
_LOSSY = "changes labels as it compresses, along every edge: save labels as PNG"


def read_label(path: Path, space: LabelSpace) -> NDArray[np.uint8] | NDArray[np.int16]:
    """Decode a label file to trainIds (H, W) of `label_type`, `space.ignore_index` for void.

    Grey values, of 1 to 16 bits, are ids: a picture of 1 bit holds 0 and 1. A palette's indices are ids where the
    classes have ids, else its colours count. RGB colours are those of the classes; RGB pictures that are grey may
    hold ids, and transparency is dropped.

    Raises:
        BadFile: it cannot be read, is damaged, of another kind, compressed with loss, to be turned, or holds ids or
            colours that `space` does not know.
    """
    values = _values(*open_label(path), space)
    found = _of_ids(values, space) if values.ndim == 2 else _of_colours(values, space)
    return found.astype(label_type(len(space.classes)))


def label_image(train_ids: NDArray[np.generic], space: LabelSpace) -> Image.Image:
    """trainIds (H, W), all of them classes, as a label file of the data set's own: its ids, or its colours.

    Grey of 8 bits, of 16 where an id needs them, or RGB.
    """
    if not space.by_id:
        return Image.fromarray(np.array([colours[0] for colours in space.label_colours], dtype=np.uint8)[train_ids])
    ids = np.array([entry.ids[0] for entry in space.entries])
    return Image.fromarray(ids.astype(np.uint8 if ids.max() < 256 else np.uint16)[train_ids])


def open_label(path: Path) -> tuple[Image.Image, bytes]:
    """A label file's picture in its own mode, and its bytes; raises `BadFile` where no label can be read of them."""
    data = read_bytes(path)
    if data.startswith(b"\xff\xd8"):
        raise BadFile(f"JPEG {_LOSSY}")
    image = open_image(data, FORMATS)
    if image.info.get("compression") == "jpeg" or (image.format == "WEBP" and b"VP8 " in data[:64]):
        raise BadFile(f"this kind of {image.format} {_LOSSY}")
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise BadFile(f"{pages} pages, and a label has one: save the one that is meant")
    orientation = image.getexif().get(Base.Orientation, 1)
    if orientation != 1:
        raise BadFile(f"its EXIF data turn it (orientation {orientation}): save the label upright, without EXIF data")
    return image, data


def raw_values(image: Image.Image, data: bytes) -> NDArray[Any]:
    """Ids (H, W), or RGB colours (H, W, 3), of a label file's picture, whatever they mean. Raises `BadFile`."""
    mode = image.mode
    if mode in ("RGB", "RGBA", "RGBX"):
        colours = np.asarray(image)[..., :3]
        # ids that a program wrote to all three channels
        return colours[..., 0] if (colours == colours[..., :1]).all() else colours
    if mode not in ("1", "L", "LA", "P", "PA", "I", "I;16", "I;16B", "I;16L"):
        raise BadFile(f"a picture of mode {mode}, expected ids (grey or palette) or RGB colours: save the label as PNG")
    ids = np.asarray(image)
    if ids.ndim == 3:  # the other channel is transparency
        ids = ids[..., 0]
    if mode == "L" and image.format == "PNG":
        # Pillow stretches grey of fewer than 8 bits to 0..255
        ids = ids // (255 // (2 ** min(data[_PNG_DEPTH_BYTE], 8) - 1))
    return ids


def _values(image: Image.Image, data: bytes, space: LabelSpace) -> NDArray[Any]:
    """Ids (H, W), or RGB colours (H, W, 3), as the data set has them."""
    if image.mode in ("P", "PA") and not space.by_id:
        return np.asarray(image.convert("RGB"))
    values = raw_values(image, data)
    if image.mode.startswith("RGB") and space.by_colour:
        return np.asarray(image)[..., :3]
    if values.ndim == 3:
        raise BadFile(
            "in colours, but the classes have ids alone: give each class its `colours`, or take the label ids"
        )
    if space.by_id:
        return values
    if image.mode not in ("1", "L", "LA"):
        raise BadFile("of 16 bits, but the classes have colours alone: give each class its `ids`, or take RGB labels")
    grey = values.astype(np.uint8) * (255 if image.mode == "1" else 1)
    return np.repeat(grey[..., None], 3, axis=2)


def _of_ids(ids: NDArray[Any], space: LabelSpace) -> NDArray[np.int32]:
    if ids.dtype != np.uint8:
        ids = ids.astype(np.int64)
        if ids.min() < 0 or ids.max() > MOST_ID:
            raise BadFile(
                f"ids from {ids.min()} to {ids.max()}: at most {MOST_ID}, the largest of 16 bits, can be read"
            )
    train_ids = space.of_id[ids]
    unknown = np.unique(ids[train_ids == UNKNOWN])
    if unknown.size:
        allowed = np.flatnonzero(space.of_id != UNKNOWN)
        raise BadFile(
            f"unknown label ids {_listed(unknown.tolist())}: ids of {space.name} are {_ranges(allowed.tolist())}; "
            "take the labels as published, or add the ids to its table (void, or a class)"
        )
    return train_ids


def _of_colours(colours: NDArray[np.generic], space: LabelSpace) -> NDArray[np.int32]:
    numbers = packed(colours)
    keys, train_ids = space.of_colour
    places = np.searchsorted(keys, numbers).clip(max=len(keys) - 1)
    known = keys[places] == numbers
    found = np.where(known, train_ids[places], space.ignore_index if space.void.rest else UNKNOWN)
    if not known.all() and not space.void.rest:
        raise BadFile(_unknown_colours(numbers[~known], space))
    return found.astype(np.int32)


def _unknown_colours(numbers: NDArray[np.int32], space: LabelSpace) -> str:
    values, counts = np.unique(numbers, return_counts=True)
    told = []
    for place in np.argsort(-counts, kind="stable")[:_SHOWN_COLOURS]:
        colour = np.array(unpacked(int(values[place])))
        name, nearest = min(
            (
                (name, each)
                for name, colours in zip(space.classes, space.label_colours, strict=True)
                for each in colours
            ),
            key=lambda pair: float(((colour - np.array(pair[1])) ** 2).sum()),
        )
        told.append(f"{_rgb(colour)} in {counts[place]} pixels (nearest: {name} {_rgb(nearest)})")
    more = f", and {len(values) - len(told)} more" if len(values) > len(told) else ""
    return (
        f"{len(values)} colour{'s' if len(values) > 1 else ''} that {space.name} does not have: {', '.join(told)}{more}"
        "; add them to its table (void, or a class), or correct the label"
    )


def _rgb(colour: Sequence[int] | NDArray[np.generic]) -> str:
    return f"[{', '.join(str(int(value)) for value in colour)}]"


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:_SHOWN])) + (", ..." if len(values) > _SHOWN else "")


def _ranges(values: Sequence[int]) -> str:
    """Sorted numbers as runs: 0..18, 255."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1][1:] = [value]
        else:
            runs.append([value])
    return ", ".join("..".join(map(str, run)) for run in runs[:_SHOWN]) + (", ..." if len(runs) > _SHOWN else "")


def size_of(path: Path) -> tuple[int, int]:
    """Height and width of a label, from its first bytes alone; raises `BadFile` when these cannot be read."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.height, image.width
    except Exception as error:  # on damaged files Pillow raises many kinds
        raise BadFile(f"not a {', '.join(FORMATS)} file, or its beginning is damaged: replace it") from error
