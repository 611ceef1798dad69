"""What label files hold, before anybody says what it means."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from effiseg.base.errors import EffiSegError
from effiseg.data.images import BadFile
from effiseg.data.label_files import open_label, raw_values
from effiseg.preparation.workers import in_processes

MOST_VALUES = 1000  # beyond which a file holds no classes


@dataclass(frozen=True)
class Held:
    """What one label file holds: ids, or packed RGB colours, with their pixels; or what is wrong with it."""

    pixels: dict[int, int] = field(default_factory=dict)
    coloured: bool = False
    palette: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    problem: str = ""


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
    """Look into label files. Whether they hold ids or colours, most of them decide.

    Raises:
        EffiSegError: none can be read.
    """
    held = dict(zip(paths, in_processes(look, paths, workers=workers, desc="labels"), strict=True))
    sound = {path: each for path, each in held.items() if not each.problem}
    problems = {path: each.problem for path, each in held.items() if each.problem}
    if not sound:
        path, problem = next(iter(problems.items()))
        raise EffiSegError(f"{path}: {problem}; so are all {len(problems)} label files")
    coloured = 2 * sum(each.coloured for each in sound.values()) > len(sound)
    found = Survey(coloured, Counter(), Counter(), {}, problems)
    for path, each in sound.items():
        if each.coloured != coloured:
            kinds = ("RGB colours", "ids") if each.coloured else ("ids", "RGB colours")
            problems[path] = f"holds {kinds[0]}, but most label files hold {kinds[1]}: save it as they are"
            continue
        found.pixels.update(each.pixels)
        found.files.update(each.pixels.keys())
        found.palette.update(each.palette)
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
        values = values.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    found, counts = np.unique(values, return_counts=True)
    if len(found) > MOST_VALUES:
        what = "colours" if coloured else "ids"
        return Held(problem=f"{len(found)} different {what}: no label of classes (a photograph? instance ids?)")
    palette = {}
    if image.mode == "P" and (flat := image.getpalette("RGB")):
        palette = {int(i): tuple(flat[3 * i : 3 * i + 3]) for i in found if 3 * i + 2 < len(flat)}
    pixels = dict(zip(map(int, found), map(int, counts), strict=True))
    return Held(pixels, coloured, palette)  # type: ignore[arg-type]


def unpacked(packed: int) -> tuple[int, int, int]:
    """The RGB colour of a packed number."""
    return packed >> 16, packed >> 8 & 255, packed & 255


def named_colours(files: Iterable[Path]) -> dict[tuple[int, int, int], str]:
    """Names of colours from the lists that come with data sets: lines of three numbers and a name, in either order."""
    names: dict[tuple[int, int, int], str] = {}
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        for line in lines:
            words = [word.strip() for word in line.replace(",", " ").replace("\t", " ").split(" ") if word.strip()]
            numbers = [int(word) for word in words if word.isdigit()]
            name = " ".join(word for word in words if not word.isdigit())
            if len(numbers) == 3 and max(numbers) < 256 and name:
                names.setdefault((numbers[0], numbers[1], numbers[2]), name)
    return names
