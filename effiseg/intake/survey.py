"""What label files hold, before anybody says what it means."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effiseg.base.errors import EffiSegError
from effiseg.data.images import BadFile
from effiseg.data.label_files import open_label, raw_values
from effiseg.data.labels import MOST_ID, packed, packed_colour, unpacked
from effiseg.preparation.workers import in_processes

MOST_VALUES = 1000  # beyond which a file holds no classes
_RARE = 0.002  # of all pixels: below, a colour may be of an edge
_MANY = 20  # colours, or ids, before anything is suspected
_MOST_OF_THEM = 0.7
_ASIDE = 6  # of 255, that a blend may lie beside the line between two colours
_FEW_FILES = 5


@dataclass(frozen=True)
class Held:
    """What one label file holds: ids, or packed RGB colours, with their pixels; or what is wrong with it."""

    pixels: dict[int, int] = field(default_factory=dict)
    coloured: bool = False
    palette: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    problem: str = ""
    grey: bool = False  # RGB whose channels are equal: ids or colours


@dataclass
class Survey:
    """What all label files hold.

    Attributes:
        pixels: of each id, or packed RGB colour.
        files: that hold it.
        palette: the colour of an id in files with a palette.
        problems: file -> what is wrong with it.
    """

    coloured: bool
    pixels: Counter[int]
    files: Counter[int]
    palette: dict[int, tuple[int, int, int]]
    problems: dict[Path, str]


def survey(paths: Sequence[Path], *, workers: int | None = None) -> Survey:
    """Look into label files. Whether they hold ids or colours, most of them decide; palettes that differ from file to
    file count by colour.

    Raises:
        EffiSegError: none can be read, or what they hold are blends of few colours.
    """
    held = dict(zip(paths, in_processes(look, paths, len(paths), workers=workers, desc="labels"), strict=True))
    sound = {path: each for path, each in held.items() if not each.problem}
    problems = {path: each.problem for path, each in held.items() if each.problem}
    if not sound:
        path, problem = next(iter(problems.items()))
        raise EffiSegError(f"{path}: {problem}; so are all {len(problems)} label files")
    if _palettes_differ(sound.values()):
        sound = {path: _by_colour(each) for path, each in sound.items()}
    coloured = 2 * sum(each.coloured or each.grey for each in sound.values()) > len(sound)
    coloured = coloured and any(each.coloured for each in sound.values())
    if coloured:
        sound = {path: _as_colours(each) if each.grey else each for path, each in sound.items()}
    found = Survey(coloured, Counter(), Counter(), {}, problems)
    for path, each in sound.items():
        if each.coloured != coloured:
            kinds = ("RGB colours", "ids") if each.coloured else ("ids", "RGB colours")
            problems[path] = f"holds {kinds[0]}, but most label files hold {kinds[1]}: save it as they are"
            continue
        found.pixels.update(each.pixels)
        found.files.update(each.pixels.keys())
        found.palette.update(each.palette)
    _refuse_blends(found, len(sound))
    return found


def look(path: Path) -> Held:
    """What a file holds."""
    try:
        image, data = open_label(path)
        values = raw_values(image, data)
    except BadFile as error:
        return Held(problem=str(error))
    coloured = values.ndim == 3
    if coloured:
        values = packed(values)
    found, counts = np.unique(values, return_counts=True)
    ids, pixels = [int(value) for value in found], [int(count) for count in counts]
    if len(ids) > MOST_VALUES:
        what = "colours" if coloured else "ids"
        return Held(problem=f"{len(ids)} different {what}: no label of classes (a photograph? instance ids?)")
    if not coloured and not 0 <= ids[0] <= ids[-1] <= MOST_ID:
        return Held(problem=f"ids from {ids[0]} to {ids[-1]}: at most {MOST_ID}, the largest of 16 bits, can be read")
    palette = {}
    if image.mode == "P" and (flat := image.getpalette("RGB")):
        palette = {i: (flat[3 * i], flat[3 * i + 1], flat[3 * i + 2]) for i in ids if 3 * i + 2 < len(flat)}
    grey = image.mode.startswith("RGB") and not coloured
    return Held(dict(zip(ids, pixels, strict=True)), coloured, palette, grey=grey)


def _as_colours(held: Held) -> Held:
    return Held({packed_colour((value, value, value)): count for value, count in held.pixels.items()}, coloured=True)


def _palettes_differ(held: Iterable[Held]) -> bool:
    """Whether an index has one colour in one file and another in another, as programs that save few colours do."""
    known: dict[int, tuple[int, int, int]] = {}
    return any(known.setdefault(index, colour) != colour for each in held for index, colour in each.palette.items())


def _by_colour(held: Held) -> Held:
    if not held.palette:
        return held
    pixels: Counter[int] = Counter()
    for index, count in held.pixels.items():
        pixels[packed_colour(held.palette[index])] += count
    return Held(dict(pixels), coloured=True)


def _refuse_blends(found: Survey, files: int) -> None:
    """Colours between others are of edges that were drawn smooth; ids of one file each are instances."""
    alone = sum(found.files[value] == 1 for value in found.pixels)
    if not found.coloured:
        _refuse_soft(found)
        if files > _FEW_FILES and alone > max(_MANY, _MOST_OF_THEM * len(found.pixels)):
            raise EffiSegError(
                f"labels: {alone} of {len(found.pixels)} ids stand in one file alone, as instance ids do; take the "
                "label files of classes"
            )
        return
    total = sum(found.pixels.values())
    rare = [value for value, count in found.pixels.items() if count < _RARE * total]
    if len(rare) < _MANY:
        return
    main = np.array([unpacked(value) for value in found.pixels if value not in set(rare)], dtype=np.float64)
    between = sum(_is_between(np.array(unpacked(value), dtype=np.float64), main) for value in rare)
    if len(main) > 1 and between > _MOST_OF_THEM * len(rare):
        raise EffiSegError(
            f"labels: {len(rare)} of {len(found.pixels)} colours are rare, and {between} of them blends of two others: "
            "the masks were saved with smooth edges, scaled, or compressed with loss; save them again with hard edges "
            "(no antialiasing, nearest neighbour) as PNG"
        )


def _refuse_soft(found: Survey) -> None:
    """Masks of two values whose edges were drawn smooth: all others lie between these, and cover little."""
    (low, first), (high, second) = (
        sorted(found.pixels.most_common(2)) if len(found.pixels) > _MANY // 2 else ((0, 0), (0, 0))
    )
    between = sum(low < value < high for value in found.pixels)
    if high - low > 100 and between >= len(found.pixels) - 2 and first + second > 0.8 * sum(found.pixels.values()):
        raise EffiSegError(
            f"labels: {between} of {len(found.pixels)} ids lie between {low} and {high}, and cover little: the masks "
            "were saved with smooth edges, scaled, or compressed with loss; save them again with hard edges (no "
            "antialiasing, nearest neighbour) as PNG"
        )


def _is_between(colour: NDArray[np.float64], main: NDArray[np.float64]) -> bool:
    """Whether a colour lies on the line between two others."""
    starts, ends = main[:, None], main[None]
    lines = ends - starts
    lengths = (lines**2).sum(axis=2)
    places = ((colour - starts) * lines).sum(axis=2) / np.where(lengths > 0, lengths, 1)
    aside = np.abs(starts + places[..., None].clip(0, 1) * lines - colour).max(axis=2)
    return bool((aside[lengths > 0] <= _ASIDE).any())
