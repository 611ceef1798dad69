"""Predictions as pictures: overlays with a legend, label files, and side by side with the truth."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from effiseg.base.errors import EffiSegError
from effiseg.base.files import whole_file
from effiseg.base.fonts import text_font
from effiseg.data.labels import Colour, LabelSpace

_OPACITY = 0.6  # of the colours over the picture
_GAP = 8  # pixels around what stands in a legend, and between tiles
_TEXT = 14  # pixels of the legend's letters
_NARROWEST = 360  # pixels of a legend; a narrower picture stands above its left part


def coloured(classes: NDArray[Any], colours: Sequence[Colour]) -> Image.Image:
    """trainIds (H, W) as RGB in the data set's colours; what is no class is black."""
    palette = np.array([*colours, (0, 0, 0)], dtype=np.uint8)
    return Image.fromarray(palette[classes.clip(max=len(colours))])


def overlay(picture: Image.Image, classes: NDArray[Any], space: LabelSpace) -> Image.Image:
    """The colours of trainIds (H, W) laid over a picture (H, W), with a legend of the classes found below."""
    blended = Image.blend(picture, coloured(classes, space.colours), _OPACITY)
    return _above_legend([[blended]], [classes], space)


def side_by_side(rows: Sequence[tuple[Image.Image, NDArray[Any], NDArray[Any]]], space: LabelSpace) -> Image.Image:
    """A line for each picture with its prediction and its truth, both trainIds (H, W), and one legend below."""
    tiles = [
        [picture, coloured(found, space.colours), coloured(truth, space.colours)] for picture, found, truth in rows
    ]
    return _above_legend(tiles, [classes for _, found, truth in rows for classes in (found, truth)], space)


def write_png(image: Image.Image, path: Path) -> None:
    """Write a PNG whole or not at all.

    Raises:
        EffiSegError: it cannot be written.
    """
    buffer = BytesIO()
    image.save(buffer, "PNG")
    try:
        with whole_file(path) as partial:
            partial.write_bytes(buffer.getvalue())
    except OSError as error:
        raise EffiSegError(
            f"{path}: cannot be written ({error.strerror}); free space, or choose another folder"
        ) from None


def _above_legend(rows: list[list[Image.Image]], maps: list[NDArray[Any]], space: LabelSpace) -> Image.Image:
    found = sorted(set().union(*(np.unique(each).tolist() for each in maps)) & set(range(len(space.classes))))
    across = max(sum(tile.width + _GAP for tile in tiles) - _GAP for tiles in rows)
    legend = _legend([space.classes[i] for i in found], [space.colours[i] for i in found], max(across, _NARROWEST))
    down = sum(tiles[0].height + _GAP for tiles in rows) - _GAP
    sheet = Image.new("RGB", (legend.width, down + legend.height), "white")
    top = 0
    for tiles in rows:
        left = 0
        for tile in tiles:
            sheet.paste(tile, (left, top))
            left += tile.width + _GAP
        top += tiles[0].height + _GAP
    sheet.paste(legend, (0, down))
    return sheet


def _legend(names: list[str], colours: list[Colour], width: int) -> Image.Image:
    font = text_font(_TEXT)
    sizes = [_TEXT + _GAP // 2 + int(font.getlength(name)) + 2 * _GAP for name in names]
    places, left, line = [], _GAP, 0
    for size in sizes:
        if left + size > width and left > _GAP:
            left, line = _GAP, line + 1
        places.append((left, _GAP + line * (_TEXT + _GAP)))
        left += size
    sheet = Image.new("RGB", (width, 2 * _GAP + (line + 1) * (_TEXT + _GAP) - _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for name, colour, (x, y) in zip(names, colours, places, strict=True):
        draw.rectangle((x, y, x + _TEXT, y + _TEXT), fill=colour)
        draw.text((x + _TEXT + _GAP // 2, y + _TEXT // 2), name, fill="black", font=font, anchor="lm")
    return sheet
