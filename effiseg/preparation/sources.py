"""Raw data sets: which image belongs to which label, and reading one file of either kind.

Nothing here stops at the first bad file: `list_pairs` collects problems, `read_image` and `read_label` raise `BadFile`,
which `effiseg.data.prepare` collects.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from effiseg.base.errors import EffiSegError
from effiseg.data.labels import CAMVID, CITYSCAPES, GENERATED_CITIES, LabelSpace

Source = Literal["synthetic", "cityscapes", "camvid"]
SPLITS = ("train", "val")
_IMAGE_MODES = ("RGB", "RGBA", "L", "P")
_PNG_DEPTH_BYTE = 24  # the signature (8), the IHDR chunk's length and type (8), width (4) and height (4) come before it
_SHOWN_PROBLEMS = 20
_SHOWN = 8  # entries of a folder, or ids of a label, that one message lists


class BadFile(Exception):  # noqa: N818 - it is a finding, and becomes a `Problem`
    """A raw file that cannot be used; the text is 'what is wrong: what to do'."""


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
        name = f"{path.parent.name}/{match[1]}" if cities else match[1]
        if not name.isprintable():  # also covers names that are not UTF-8, which no index could hold
            problems.append(Problem(path, "its name holds unprintable characters: rename it"))
        elif name in found:
            problems.append(Problem(path, f"the same sample as {found[name].name}: remove one of the two"))
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


def read_image(path: Path) -> Image.Image:
    """Decode an 8-bit PNG or JPEG (RGB, RGBA, grey or palette) to RGB; transparency is dropped.

    Raises:
        BadFile: it cannot be read, is damaged, of another format, or of another mode.
    """
    image, depth = _decode(path, ("PNG", "JPEG"))
    if image.mode not in _IMAGE_MODES or depth > 8:
        raise BadFile(f"a {depth}-bit image of mode {image.mode}: save it as 8-bit RGB")
    image.info.pop("transparency", None)  # Pillow would warn that converting drops it
    return image.convert("RGB")


def read_label(path: Path, space: LabelSpace) -> NDArray[np.uint8]:
    """Decode a label, an 8-bit grey or a palette PNG of ids, to trainIds (H, W), uint8, `IGNORE_INDEX` for void.

    Raises:
        BadFile: it cannot be read, is damaged, no PNG, of another mode, or holds an id that `space` does not know.
    """
    image, depth = _decode(path, ("PNG",))
    # Pillow stretches grey of fewer than 8 bits to 0..255, so the ids would be lost
    if not (image.mode == "P" or (image.mode == "L" and depth == 8)):
        raise BadFile(f"a {depth}-bit PNG of mode {image.mode}: a label is 8-bit grey (or palette), one id per pixel")
    ids = np.asarray(image)
    train_ids = space.lookup()[ids]
    unknown = np.unique(ids[train_ids < 0])
    if unknown.size:
        shown = ", ".join(map(str, unknown[:_SHOWN])) + (", ..." if unknown.size > _SHOWN else "")
        allowed = f"{min(space.train_id_of)}..{max(space.train_id_of)}"
        raise BadFile(f"unknown label ids {shown}: ids of {space.name} are {allowed}; take the labels as published")
    return train_ids.astype(np.uint8)


def _decode(path: Path, formats: tuple[str, ...]) -> tuple[Image.Image, int]:
    """The decoded image in the file's own mode, and its bits per channel."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadFile(f"cannot be read ({error.strerror}): check its permissions, or where the link leads") from None
    if not data:
        raise BadFile("empty file (0 bytes): copy it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data), formats=formats) as image:
                image.verify()  # checksums, which decoding a PNG skips; the object is of no use afterwards
            image = Image.open(BytesIO(data), formats=formats)
            image.load()
    except UnidentifiedImageError:
        raise BadFile(f"not a {' or '.join(formats)} file, or its beginning is damaged: replace it") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadFile(f"more than {Image.MAX_IMAGE_PIXELS} pixels: replace it, this is no camera image") from None
    except Exception as error:  # on damaged files Pillow raises many kinds, SyntaxError and struct.error among them
        raise BadFile(f"truncated or damaged image ({type(error).__name__}: {error}): copy it again") from None
    return image, data[_PNG_DEPTH_BYTE] if image.format == "PNG" else 8
