"""A first dataset.yaml for a folder of images and labels, to be completed by who knows them."""

import colorsys
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

from effiseg.base.errors import EffiSegError
from effiseg.base.files import whole_file
from effiseg.data.dataset import FILE, open_dataset
from effiseg.data.images import SUFFIXES
from effiseg.data.labels import unpacked
from effiseg.data.patterns import Pattern, group_regex
from effiseg.intake.names import named_colours, named_ids
from effiseg.intake.pairing import Found, find_splits
from effiseg.intake.survey import Survey, survey

_VOID_ID = 255
_EVERY = 5  # a fifth of the groups is scored where no split says so


def init(folder: Path, *, workers: int | None = None) -> list[str]:
    """Write `folder`/dataset.yaml: the splits that were found, and a class for each value that the labels hold.

    Returns:
        What was found, in lines for people.

    Raises:
        EffiSegError: the folder is missing or has a dataset.yaml, no image has a label, or no label can be read.
    """
    file = folder / FILE
    if not folder.is_dir():
        raise EffiSegError(f"{folder}: not a folder; name the one that holds images and labels")
    if file.exists():
        raise EffiSegError(f"{file}: exists already; complete it, or move it away")
    splits = find_splits(folder)
    if not splits:
        raise EffiSegError(
            f"{folder}: no images with labels of the same name; expected pairs like images/a.jpg and masks/a.png, or "
            f"a.jpg and a_mask.png, ending in {', '.join(SUFFIXES)}. If yours are named otherwise, write {FILE} by "
            "hand: docs/datasets.md"
        )
    labels = [folder / label for found in splits.values() for _, label in found.pairs]
    held, groups = survey(labels, workers=workers), _groups(splits)
    with whole_file(file) as partial:
        partial.write_text(_yaml(folder, splits, groups, held), encoding="utf-8", newline="\n")
        open_dataset(str(partial))
    lines = [f"{split}: {len(found.pairs)} pairs, {found.images} and {found.labels}" for split, found in splits.items()]
    lines.append(f"groups: {groups[0]}, as names suggest" if groups else "groups: none, each pair stands alone")
    if "val" not in splits:
        lines.append(f"val: every {_EVERY}th group of train, for want of a split of its own")
    what = "colours" if held.coloured else "ids"
    lines.append(f"labels: {len(held.pixels)} {what} in {len(labels) - len(held.problems)} files")
    if void := _void(held):
        lines.append(f"void: the id {void[0]}, as is usual; make it a class if it is one")
    if len(held.pixels) - len(void) == 1:
        lines.append("one class alone: where there is a background, it must be a class too, or every answer is right")
    if held.problems:
        path, problem = next(iter(held.problems.items()))
        lines.append(f"{len(held.problems)} label files cannot be used, as {path}: {problem}")
    return lines


def _yaml(folder: Path, splits: Mapping[str, Found], groups: list[str], held: Survey) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", _plain(folder.resolve().name)).strip("-._") or "mine"
    lines = [
        "# Complete it: names and colours of the classes, what is void, how samples group. docs/datasets.md tells what",
        "# each key may hold; `python -m effiseg data check FOLDER` tells whether it fits the files.",
        f"name: {name}",
        f"title: {_quoted(folder.resolve().name)}",
        "homepage: ''",
        "licence: ''",
        "citation: ''",
        "# how names tell a drive, patient or sequence and its frame, as in ['{group}_{frame}']",
        f"groups: {groups}",
        "splits:",
    ]
    for split, found in splits.items():
        lines += [f"  {split}:", f"    images: {_quoted(found.images)}", f"    labels: {_quoted(found.labels)}"]
    if "val" not in splits:
        lines.append(f"  val: {{part_of: train, every: {_EVERY}}}  # for want of a split of its own")
    return "\n".join([*lines, *_classes(folder, held)]) + "\n"


def _classes(folder: Path, held: Survey) -> Iterator[str]:
    values = sorted(held.pixels)
    void = _void(held)
    classes = [value for value in values if value not in void] or values
    total = sum(held.pixels.values())
    of_colour, of_id = named_colours(folder), {} if held.coloured else named_ids(folder, classes)
    taken: set[str] = set()
    yield "classes:"
    for index, value in enumerate(classes):
        colour = unpacked(value) if held.coloured else held.palette.get(value) or _colour(index, len(classes))
        name = of_id.get(value) or of_colour.get(colour) or f"class {index}"
        name = name if name not in taken else f"{name} {index}"
        taken.add(name)
        told = "" if held.coloured else f", ids: [{value}]"
        share = f"{held.pixels[value] / total:.2%} of pixels, in {held.files[value]} files"
        yield f"  - {{name: {_quoted(name)}, colour: [{', '.join(map(str, colour))}]{told}}}  # {share}"
    yield f"void: {{{'colours' if held.coloured else 'ids'}: {void}}}"


def _groups(splits: Mapping[str, Found]) -> list[str]:
    """A template that puts names into groups, some of them of several samples; none where there is no such."""
    names = [
        Pattern.model_validate(found.images).name_in(image) or ""
        for found in splits.values()
        for image, _ in found.pairs
    ]
    for template in ("{group}_{frame}", "{group}-{frame}", "{group}/{frame}", "{group}/*"):
        matches = [group_regex(template).fullmatch(name) for name in names]
        groups = {match["group"] for match in matches if match}
        if all(matches) and 1 < len(groups) <= len(names) / 2:
            return [template]
    return []


def _void(held: Survey) -> list[int]:
    """255 beside other ids, which are small."""
    values = sorted(held.pixels)
    others = values[:-1]
    usual = not held.coloured and values[-1] == _VOID_ID and len(others) > 1 and others[-1] < _VOID_ID - 1
    usual = usual and others[-1] - others[0] == len(others) - 1  # 0, 128, 255 are three shades
    return [_VOID_ID] if usual else []


def _plain(text: str) -> str:
    """Letters as ASCII has them: ä as ae, é as e."""
    for letter, plain in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss")):
        text = text.replace(letter, plain).replace(letter.upper(), plain.capitalize())
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def _colour(index: int, count: int) -> tuple[int, int, int]:
    """Colours that differ, of any number."""
    red, green, blue = colorsys.hsv_to_rgb(index / count, 0.6 + 0.4 * (index % 2), 0.95 - 0.35 * (index % 3) / 2)
    return round(255 * red), round(255 * green), round(255 * blue)


def _quoted(text: str) -> str:
    """As YAML takes any text."""
    return "'" + text.replace("'", "''") + "'"
