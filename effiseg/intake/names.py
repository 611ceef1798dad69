"""Names of classes from the lists that come with data sets and that tools write."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

Colour = tuple[int, int, int]

_LISTS = re.compile(r"_?(class(es)?|class_names|labels?|names|codes)\.(txt|csv)", re.IGNORECASE)


def named_colours(folder: Path) -> dict[Colour, str]:
    """Colour -> name: lines of three numbers and a name in either order, as `0 128 192 Bicyclist` and, as CVAT writes
    them, `Bicyclist:0,128,192::`.
    """
    names: dict[Colour, str] = {}
    for file in sorted((*folder.glob("*.txt"), *folder.glob("*.csv"))):
        for line in _lines(file):
            words = [word for word in re.split(r"[,\t :;]+", line) if word]
            numbers = [int(word) for word in words if word.isdecimal()]
            name = " ".join(word for word in words if not word.isdecimal())
            if len(numbers) == 3 and max(numbers) < 256 and name and not name.startswith("#"):
                names.setdefault((numbers[0], numbers[1], numbers[2]), name)
    return names


def named_ids(folder: Path, ids: Sequence[int]) -> dict[int, str]:
    """Id -> name: of classes.txt and its like, the names line by line from 0, or `0, background` as Roboflow writes."""
    for file in sorted(path for path in folder.iterdir() if _LISTS.fullmatch(path.name)):
        lines = [line.strip() for line in _lines(file) if line.strip()]
        pairs = [re.fullmatch(r"(\d+)\s*[,;:\t ]\s*(\D.*)", line) for line in lines]
        numbered = {int(match[1]): match[2].strip() for match in pairs if match}
        if set(ids) <= numbered.keys():
            return numbered
        if ids and max(ids) < len(lines) and not any(re.search(r"\d+[, \t]+\d+[, \t]+\d+", line) for line in lines):
            return dict(enumerate(lines))
    return {}


def _lines(file: Path) -> Iterator[str]:
    try:
        yield from file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return
