"""Patterns for a folder of images and labels, guessed from names and contents."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from os.path import commonpath
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from effiseg.base.errors import EffiSegError
from effiseg.data.images import SUFFIXES
from effiseg.data.patterns import Pattern

_LABEL_WORDS = re.compile(r"label|mask|annot|seg|truth|target|(^|[^a-z])(gt|l|p)([^a-z]|$)|gtfine", re.IGNORECASE)
_OTHER_WORDS = re.compile(r"colou?r|instance|inst_|depth|disparity|preview|overlay", re.IGNORECASE)
_AS_WORD = r"(?:^|[^a-z])(?:{})(?:set|annot|images|labels|masks)?(?:[^a-z]|$)"
_SPLITS = {
    "train": re.compile(_AS_WORD.format("train(?:ing)?(?!_extra)"), re.IGNORECASE),
    "val": re.compile(_AS_WORD.format("val|valid|validation|dev"), re.IGNORECASE),
    "test": re.compile(_AS_WORD.format("test|testing"), re.IGNORECASE),
}
_MOST_TOKENS = 3  # at a name's end that may tell an image from its label
_FEW_COLOURS = 0.02  # share of distinct colours among the pixels of a label
_LOOKED_AT = 8  # files whose content decides
_MOST_OF_A_SAMPLE = 12  # files: image, label, previews
_MOST_RELATIONS = 100


@dataclass(frozen=True)
class Kind:
    """What distinguishes images, or labels: the folder at one place of their path, and the end of their names."""

    folder: str
    ending: str
    lossy: bool


@dataclass(frozen=True)
class Found:
    """Patterns of one split, and its pairs (image, label), relative to the folder."""

    images: str
    labels: str
    pairs: tuple[tuple[str, str], ...]


def find_splits(root: Path) -> dict[str, Found]:
    """The splits below `root`, by name; a folder without any is `train`. Empty where nothing pairs."""
    files = sorted(_pictures(root))
    pairs: list[tuple[str, str]] = []
    while files:
        more = _best_relation(root, files)
        if not more:
            break
        covered = {_split_of(image) for image, _ in pairs}
        pairs += [pair for pair in more if _split_of(pair[0]) not in covered]  # other labels of a split are rivals
        taken = {file for pair in more for file in pair}
        stems = {_without_ending(file) for file in taken}
        files = [file for file in files if file not in taken and _without_ending(file) not in stems]
    by_split: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for image, label in pairs:
        by_split[_split_of(image)].append((image, label))
    if by_split and "train" not in by_split:
        by_split["train"] = by_split.pop(max(by_split, key=lambda split: len(by_split[split])))
    found_splits: dict[str, Found] = {
        split: _patterns(by_split[split]) for split in ("train", "val", "test") if split in by_split
    }
    for split, found_split in found_splits.items():
        _refuse_unsaid(split, found_split)
    return found_splits


def _refuse_unsaid(split: str, found: Found) -> None:
    """Whether the patterns give the pairs that were found, and no others."""
    images, labels = Pattern.model_validate(found.images), Pattern.model_validate(found.labels)
    for image, label in found.pairs:
        if (
            found.images == found.labels
            or images.name_in(image) is None
            or images.name_in(image) != labels.name_in(label)
        ):
            raise EffiSegError(
                f"{split}: {image} and {label} look like a pair, but no pattern holds all pairs; put images and labels "
                "into folders of their own, or write dataset.yaml by hand: docs/datasets.md"
            )


def _pictures(root: Path) -> Iterator[str]:
    for path in root.rglob("*"):
        relative = path.relative_to(root)
        if path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in relative.parts):
            yield relative.as_posix()


def _split_of(image: str) -> str:
    parts = PurePosixPath(image).parts[:-1]
    for part in reversed(parts):  # the deepest folder decides
        for split, pattern in _SPLITS.items():
            if pattern.search(part):
                return split
    return "train"


def _without_ending(file: str) -> tuple[str, str]:
    """A sample's place: its folder and its name without what tells kinds of files apart."""
    path = PurePosixPath(file)
    return path.parent.as_posix(), re.split(r"[_.-](?=[A-Za-z])", path.stem)[0]


def _keys(file: str) -> Iterator[tuple[tuple[int, tuple[str, ...], str], Kind]]:
    """What an image and its label may have in common, with what then distinguishes this file."""
    path = PurePosixPath(file)
    lossy = path.suffix.lower() in (".jpg", ".jpeg")
    for name, ending in _cut(path.stem):
        folders = path.parts[:-1]
        yield (-1, folders, name), Kind("", ending, lossy)
        for place in range(len(folders)):
            yield (place, (*folders[:place], *folders[place + 1 :]), name), Kind(folders[place], ending, lossy)
        yield (-2, (_split_of(file),), name), Kind("/".join(folders), ending, lossy)
    yield (-3, path.parts[:-1], ""), Kind("", f"/{path.stem}", lossy)  # a folder for each sample


def _cut(stem: str) -> Iterator[tuple[str, str]]:
    """A name with nothing, or up to some words, taken off its end: (sample, ending)."""
    yield stem, ""
    places = [match.start() for match in re.finditer(r"[_.-]", stem)]
    for place in places[-_MOST_TOKENS:]:
        if place:
            yield stem[:place], stem[place:]


def _best_relation(root: Path, files: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of the two kinds that match most files; of equal ones, the likeliest image and label."""
    places: dict[tuple[int, tuple[str, ...], str], list[tuple[Kind, str]]] = defaultdict(list)
    for file in files:
        for key, kind in _keys(file):
            places[key].append((kind, file))
    relations: dict[tuple[int, Kind, Kind], dict[str, str]] = defaultdict(dict)
    for (place, _, _), members in places.items():
        if len(members) > _MOST_OF_A_SAMPLE:  # a name that says nothing
            continue
        for (one, first), (other, second) in combinations(members, 2):
            if first == second or (one.folder, one.ending) == (other.folder, other.ending):
                continue
            for image, label, a, b in ((first, second, one, other), (second, first, other, one)):
                if not b.lossy or a.lossy:
                    relations[(place, a, b)].setdefault(image, label)
    if not relations:
        return []
    looks: dict[str, float] = {}

    def rank(relation: tuple[int, Kind, Kind]) -> tuple[float, ...]:
        place, image, label = relation
        found = relations[relation]
        likely = _likelihood(root, found, image, label, looks)
        return likely * len(found), -len(image.ending) - len(label.ending), place

    # a relation of images and labels holds for many files; the others need no look into files
    likely = sorted(relations, key=lambda relation: (-len(relations[relation]), repr(relation)))[:_MOST_RELATIONS]
    best = max(likely, key=rank)
    return sorted(relations[best].items()) if rank(best)[0] > 0 else []


def _likelihood(root: Path, pairs: dict[str, str], image: Kind, label: Kind, looks: dict[str, float]) -> float:
    """How far two kinds look like images and their labels; at most 0 where they do not."""
    words = 0.0
    for kind, sign in ((label, 1.0), (image, -1.0)):
        text = f"{kind.folder} {kind.ending}"
        words += sign * bool(_LABEL_WORDS.search(text)) - 0.75 * bool(_OTHER_WORDS.search(text))
    chosen = list(pairs.items())[:: max(1, len(pairs) // _LOOKED_AT)][:_LOOKED_AT]
    seen = [_few_colours(root / b, looks) - _few_colours(root / a, looks) for a, b in chosen]
    alike = [_same_shape(root / a, root / b) for a, b in chosen]
    return (words + 2 * float(np.mean(seen))) * float(np.mean(alike))


def _few_colours(path: Path, looks: dict[str, float]) -> float:
    """1 for a file of few colours in large areas, as labels are; 0 for a photograph."""
    if str(path) not in looks:
        try:
            with Image.open(path) as image:
                lossy = image.format == "JPEG"
                plain = {"RGB": 0.0, "RGBA": 0.0, "CMYK": 0.0, "L": 0.6}.get(image.mode, 0.9)
                pixels = np.asarray(image.convert("RGB"), dtype=np.int64) @ np.array([65536, 256, 1])
        except Exception:  # damaged: `data check` tells
            looks[str(path)] = 0.5
            return 0.5
        colours = len(np.unique(pixels))
        few = colours <= max(2, _FEW_COLOURS * pixels.size)
        # of one value alone are masks of what is seen at all
        looks[str(path)] = 0.0 if lossy else 0.2 if colours == 1 else max(float(few), plain)
    return looks[str(path)]


def _same_shape(image: Path, label: Path) -> bool:
    try:
        with Image.open(image) as one, Image.open(label) as other:
            return sorted(one.size) == sorted(other.size)  # EXIF data may turn an image
    except Exception:  # as above
        return True


def _patterns(pairs: Sequence[tuple[str, str]]) -> Found:
    """The narrowest patterns that hold a split's pairs."""
    images, labels = ([PurePosixPath(pair[side]) for pair in pairs] for side in (0, 1))
    stems = [{path.stem for path in side} for side in (images, labels)]
    if all(len(stem) == 1 for stem in stems) and all(a.parent == b.parent for a, b in zip(images, labels, strict=True)):
        above = commonpath([str(path.parent.parent) for path in images])
        folder = "/".join(filter(None, ("" if above == "." else above, "{name}")))
        first, second = (
            f"{folder}/{next(iter(stem))}.{_suffixes(side)}" for stem, side in zip(stems, (images, labels), strict=True)
        )
        return Found(first, second, tuple(pairs))
    ends = Counter(
        (image.stem[len(name) :], label.stem[len(name) :])
        for image, label in zip(images, labels, strict=True)
        if (name := _common_start(image.stem, label.stem))
    )
    image_end, label_end = ends.most_common(1)[0][0] if ends else ("", "")
    if nested := _nested(images, labels):
        files = [f"{{name}}{end}.{_suffixes(side)}" for end, side in ((image_end, images), (label_end, labels))]
        first, second = (f"{folder}/{file}" for folder, file in zip(nested, files, strict=True))
        return Found(first, second, tuple(pairs))
    # as deep as all files of each kind have in common, and as far as both go on alike
    below = min(_shared_tail(image, label) for image, label in zip(images, labels, strict=True))
    shared = [commonpath([str(path.parent) for path in side]) if len(side) > 0 else "" for side in (images, labels)]
    depth = max(
        min(below, len(side[0].parts) - 1 - len(PurePosixPath(common).parts))
        for side, common in zip((images, labels), shared, strict=True)
    )
    folders = []
    for side, common in zip((images, labels), shared, strict=True):
        parts = PurePosixPath(common).parts
        folders.append("/".join(parts[: len(side[0].parts) - 1 - depth]))
    patterns = [
        "/".join(filter(None, (folder, f"{{name}}{end}.{_suffixes(side)}")))
        for folder, end, side in zip(folders, (image_end, label_end), (images, labels), strict=True)
    ]
    return Found(patterns[0], patterns[1], tuple(pairs))


def _nested(images: Sequence[PurePosixPath], labels: Sequence[PurePosixPath]) -> tuple[str, str] | None:
    """Folders of images and labels that lie within those of a name, as in `{folder}/rgb` and `{folder}/labels`."""
    places = {
        tuple(i for i, (a, b) in enumerate(zip(image.parts[:-1], label.parts[:-1], strict=False)) if a != b)
        for image, label in zip(images, labels, strict=True)
        if len(image.parts) == len(label.parts)
    }
    if len(places) != 1 or any(len(a.parts) != len(b.parts) for a, b in zip(images, labels, strict=True)):
        return None
    (place,) = places
    if len(place) != 1 or not place[0]:
        return None
    above = {image.parts[: place[0]] for image in images}
    kinds = [{path.parts[place[0] : -1] for path in side} for side in (images, labels)]
    if len(above) == 1 or any(len(kind) != 1 for kind in kinds):
        return None
    fixed = []
    for parts in zip(*above, strict=True):
        if len(set(parts)) > 1:
            break
        fixed.append(parts[0])
    first, second = ("/".join((*fixed, "{folder}", *next(iter(kind)))) for kind in kinds)
    return first, second


def _common_start(first: str, second: str) -> str:
    """The sample's name: as far as two names agree, at a border of words."""
    for name, _ in sorted(_cut(first), key=lambda cut: len(cut[1])):
        if any(name == other for other, _ in _cut(second)):
            return name
    return ""


def _shared_tail(image: PurePosixPath, label: PurePosixPath) -> int:
    """How many folders above two files are alike."""
    count = 0
    for one, other in zip(reversed(image.parts[:-1]), reversed(label.parts[:-1]), strict=False):
        if one != other:
            break
        count += 1
    return count


def _suffixes(paths: Sequence[PurePosixPath]) -> str:
    found = sorted({path.suffix[1:].lower() for path in paths})
    return found[0] if len(found) == 1 else f"{{{','.join(found)}}}"
