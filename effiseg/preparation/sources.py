"""Raw data sets: which image belongs to which label.

Nothing here opens a file or stops at the first problem: `list_pairs` collects all.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from effiseg.base.errors import EffiSegError
from effiseg.data.labels import CAMVID, CITYSCAPES, GENERATED_CITIES, LabelSpace

Source = Literal["synthetic", "cityscapes", "camvid"]
SPLITS = ("train", "val")
_SHOWN_PROBLEMS = 20
_LINKED = (
    "a link to a folder, behind which DVC sees no change: mount the folder here or copy it, or set data.root to a "
    "folder without such links"
)
_SHOWN = 8  # entries of a folder that one message lists


class Problem(NamedTuple):
    """One thing to mend in a data set: the file or folder, and 'what is wrong: what to do'."""

    path: Path
    text: str


@dataclass(frozen=True)
class Pair:
    """An image and its label. `name` is unique within the split: `city/base` in Cityscapes, the stem in CamVid."""

    name: str
    image: Path
    label: Path


@dataclass
class Listing:
    """What a data set's folders hold: pairs per split (sorted, no empty splits), and what is wrong with the rest."""

    space: LabelSpace
    pairs: dict[str, list[Pair]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class _Kind(NamedTuple):
    """Where images, or labels, stand below the root; `{split}` and `{name}` are filled in."""

    folder: str
    pattern: re.Pattern[str]  # of a file's name; its first group is the sample's name
    file: str  # for messages: the path of one sample's file


class _Layout(NamedTuple):
    space: LabelSpace
    images: _Kind
    labels: _Kind
    cities: bool  # files stand one folder deeper, by city
    origin: str


_CITYSCAPES = _Layout(
    space=CITYSCAPES,
    images=_Kind(
        "leftImg8bit/{split}",
        re.compile(r"(.+)_leftImg8bit\.png", re.DOTALL),
        "leftImg8bit/{split}/{name}_leftImg8bit.png",
    ),
    labels=_Kind(
        "gtFine/{split}",
        re.compile(r"(.+)_gtFine_labelIds\.png", re.DOTALL),
        "gtFine/{split}/{name}_gtFine_labelIds.png",
    ),
    cities=True,
    origin="unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip there",
)
_ANY_IMAGE = re.compile(r"(.+)\.(?:png|jpe?g)", re.IGNORECASE | re.DOTALL)
_CAMVID = _Layout(
    space=CAMVID,
    images=_Kind("{split}", _ANY_IMAGE, "{split}/{name}.png or .jpg"),
    labels=_Kind("{split}annot", _ANY_IMAGE, "{split}annot/{name}.png"),
    cities=False,
    origin="take CamVid in the SegNet form, with train, trainannot, val and valannot",
)
_SYNTHETIC = _CITYSCAPES._replace(origin="generate the data set with the synthesize stage")
_LAYOUTS: dict[Source, _Layout] = {"synthetic": _SYNTHETIC, "cityscapes": _CITYSCAPES, "camvid": _CAMVID}


def list_pairs(source: Source, root: Path, held_out: Sequence[str] = ()) -> Listing:
    """Match the images and labels of both splits by name; files of other kinds are passed over. Opens no file.

    Args:
        held_out: training samples whose names begin with one of these make the val split, in place of the data set's
            own. Neighbouring frames of a drive look alike: name whole drives (CamVid) or cities (Cityscapes).

    Raises:
        EffiSegError: no training sample begins with one of `held_out`, or all do.
    """
    layout = _LAYOUTS[source]
    listing = Listing(layout.space)
    folders = [root / kind.folder.format(split=s) for kind in (layout.images, layout.labels) for s in SPLITS]
    try:
        missing = [folder for folder in folders if not folder.is_dir()]
        if missing:
            listing.problems.append(Problem(root, _missing(root, missing, layout)))
    except OSError as error:
        listing.problems.append(Problem(root, f"cannot be read ({error.strerror}): check its permissions"))
        return listing
    listing.problems += [Problem(link, _LINKED) for link in _links(root, folders, layout)]
    for split in SPLITS:
        _list_split(split, root, layout, missing, listing)
    if held_out and listing.pairs:
        listing.pairs = _hold_out(listing.pairs.get("train", []), held_out)
    return listing


def _hold_out(samples: list[Pair], prefixes: Sequence[str]) -> dict[str, list[Pair]]:
    names = ", ".join(pair.name for pair in samples[:3])
    for prefix in prefixes:
        if not any(pair.name.startswith(prefix) for pair in samples):
            raise EffiSegError(f"data.held_out: no training sample begins with '{prefix}'; the first ones are {names}")
    parts: dict[str, list[Pair]] = {"train": [], "val": []}
    for pair in samples:
        parts["val" if pair.name.startswith(tuple(prefixes)) else "train"].append(pair)
    if not parts["train"]:
        raise EffiSegError(f"data.held_out: all {len(samples)} training samples begin with {', '.join(prefixes)}")
    return parts


def _missing(root: Path, folders: list[Path], layout: _Layout) -> str:
    if not root.exists():
        return f"no such folder: correct data.root, or {layout.origin}"
    if not root.is_dir():
        return "not a folder: data.root is the folder that holds the data set"
    entries = [entry.name for entry in _visible(root)]
    more = ", ..." if len(entries) > _SHOWN else ""
    here = f"it holds {', '.join(entries[:_SHOWN])}{more}" if entries else "it is empty"
    looked_for = ", ".join(str(folder.relative_to(root)) for folder in folders)
    return f"no folder {looked_for} ({here}): correct data.root, or {layout.origin}"


def _links(root: Path, folders: Sequence[Path], layout: _Layout) -> list[Path]:
    """Folders of the data set that are links; `root` itself may be one."""
    above = {folder.parent for folder in folders} - {root}
    cities = [entry for folder in folders if layout.cities and folder.is_dir() for entry in _visible(folder)]
    return sorted(path for path in {*above, *folders, *cities} if path.is_symlink() and path.is_dir())


def _list_split(split: str, root: Path, layout: _Layout, missing: list[Path], listing: Listing) -> None:
    """Add one split's pairs and problems to `listing`."""
    image_folder = root / layout.images.folder.format(split=split)
    label_folder = root / layout.labels.folder.format(split=split)
    if image_folder in missing or label_folder in missing:
        return
    images = _find(image_folder, layout.images.pattern, layout.cities, listing.problems)
    labels = _find(label_folder, layout.labels.pattern, layout.cities, listing.problems)
    if not images and not labels:
        expected = layout.images.file.format(split=split, name="<city>/<name>" if layout.cities else "<name>")
        listing.problems.append(Problem(image_folder, f"no images (expected {expected}): {layout.origin}"))
    for name in sorted(images.keys() - labels.keys()):
        wanted = layout.labels.file.format(split=split, name=name)
        listing.problems.append(Problem(images[name], f"its label {wanted} is missing: add it, or remove the image"))
    for name in sorted(labels.keys() - images.keys()):
        wanted = layout.images.file.format(split=split, name=name)
        listing.problems.append(Problem(labels[name], f"its image {wanted} is missing: add it, or remove the label"))
    pairs = [Pair(name, images[name], labels[name]) for name in sorted(images.keys() & labels.keys())]
    if pairs:
        listing.pairs[split] = pairs


def _find(folder: Path, pattern: re.Pattern[str], cities: bool, problems: list[Problem]) -> dict[str, Path]:
    """The files below `folder` whose name matches, by sample name."""
    found: dict[str, Path] = {}
    for path in _files(folder, cities, problems):
        match = pattern.fullmatch(path.name)
        if match is None:
            continue
        # composed: file systems differ in how they write an umlaut, and an image's may not be its label's
        name = unicodedata.normalize("NFC", f"{path.parent.name}/{match[1]}" if cities else match[1])
        if not path.exists():
            problems.append(Problem(path, "a link that leads nowhere: restore what it points to"))
        elif not name.isprintable():  # also covers names that are not UTF-8, which no index could hold
            problems.append(Problem(path, "its name holds unprintable characters: rename it"))
        elif name in found:
            other = found[name].name
            alike = unicodedata.normalize("NFC", other) == unicodedata.normalize("NFC", path.name)
            told = f"{other!a}, written otherwise than {path.name!a}" if alike else other
            problems.append(Problem(path, f"the same sample as {told}: remove one of the two"))
        else:
            found[name] = path
    return found


def _files(folder: Path, cities: bool, problems: list[Problem]) -> Iterator[Path]:
    """Entries of `folder`, or of the city folders in it."""
    try:
        entries = _visible(folder)
        if not cities:
            yield from entries
            return
        for entry in entries:
            if entry.is_dir():
                yield from _files(entry, False, problems)
            elif not entry.exists():
                problems.append(Problem(entry, "a link that leads nowhere: restore what it points to"))
    except OSError as error:
        problems.append(Problem(folder, f"cannot be read ({error.strerror}): check its permissions"))


def _visible(folder: Path) -> list[Path]:
    """Sorted entries without hidden ones: .DS_Store and the ._ twins that macOS makes are no data."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def true_source(source: Source, names: Sequence[str]) -> str:
    """`synthetic` for generated scenes that are read as Cityscapes, so that no report takes them for the real thing."""
    generated = {city for cities in GENERATED_CITIES.values() for city in cities}
    found = {name.split("/")[0] for name in names}
    return "synthetic" if source == "cityscapes" and found & generated else source


def unusable(source: Source, root: Path, problems: Sequence[Problem]) -> EffiSegError:
    """All problems of a data set as one error of one line."""
    entries = [f"[{number}] {_described(problem, root)}" for number, problem in enumerate(problems, 1)]
    if len(entries) > _SHOWN_PROBLEMS:
        entries[_SHOWN_PROBLEMS:] = [f"and {len(entries) - _SHOWN_PROBLEMS} more"]
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    return EffiSegError(f"data.root {root} (source {source}): {count}: {'; '.join(entries)}")


def _described(problem: Problem, root: Path) -> str:
    path = str(problem.path.relative_to(root))
    where = "" if problem.path == root else f"{path if path.isprintable() else ascii(path)}: "
    return where + " ".join(problem.text.split())
