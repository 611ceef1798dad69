"""A look at a whole data set: all that is wrong with it, and the statistics that people ask for."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from effiseg.data.dataset import DataSet, Share, SplitFiles
from effiseg.data.labels import LabelSpace
from effiseg.intake.survey import look
from effiseg.preparation.pairs import Pair, read_pair
from effiseg.preparation.prepare import MUCH_VOID
from effiseg.preparation.problems import Problem
from effiseg.preparation.sources import list_splits
from effiseg.preparation.workers import in_processes

_GRID = 64  # pixels a side at which edges of image and label are laid over each other
_FARTHEST = 8  # of these pixels, that a label is looked for aside
_CLEARLY = 1.6  # times as well do edges agree elsewhere, before a label counts as shifted


@dataclass(frozen=True)
class Look:
    """What one pair holds.

    Attributes:
        size: of both, (height, width).
        counts: pixels per trainId, and of void, last.
        content: hash of the decoded image.
        shift: (down, right) in percent of the sides by which the label's edges fit the image's clearly better.
        palette: of a label with a palette whose indices count, the colour of each that it holds.
        problems: what is wrong with the files; nothing else is known then.
    """

    size: tuple[int, int] = (0, 0)
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    content: str = ""
    shift: tuple[int, int] = (0, 0)
    palette: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


@dataclass
class SplitStatistics:
    """What a split holds.

    Attributes:
        pairs: that are sound.
        unusable: pairs with problems.
        pixels, images: per class, and of void, last: pixels, and images that hold it.
    """

    pairs: list[Pair]
    groups: int
    sizes: Counter[tuple[int, int]]
    pixels: NDArray[np.int64]
    images: NDArray[np.int64]
    unusable: int = 0


@dataclass
class Inspection:
    """What was found: problems must be mended, remarks are for people to judge."""

    dataset: DataSet
    splits: dict[str, SplitStatistics]
    problems: list[Problem]
    remarks: list[Problem]


def inspect(dataset: DataSet, root: Path, *, workers: int | None = None) -> Inspection:
    """Look at every pair of every split.

    Args:
        workers: processes; all cores by default.
    """
    absent = [split for split, files in dataset.splits.items() if _is_absent(root, files)]
    splits = [split for split in dataset.splits if split not in absent] or list(dataset.splits)
    listing = list_splits(dataset, root, splits)
    jobs = ((split, pair) for split in splits for pair in listing.pairs.get(split, []))
    count = sum(map(len, listing.pairs.values()))
    looks = in_processes(partial(_look, dataset.space), jobs, count, workers=workers, desc="check")
    found = Inspection(dataset, {}, list(listing.problems), [])
    if len(splits) < len(dataset.splits):
        found.remarks += [Problem(root, f"the split {split} is not there") for split in absent]
    contents: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    shifted: list[Problem] = []
    palettes: dict[int, dict[tuple[int, ...], Path]] = defaultdict(dict)
    classes = len(dataset.space.classes)
    for split in splits:
        pairs = listing.pairs.get(split, [])
        zero = np.zeros(classes + 1, np.int64)
        statistics = SplitStatistics([], 0, Counter(), zero.copy(), zero.copy())
        for pair in pairs:
            seen = next(looks)
            found.problems += seen.problems
            if seen.problems:
                statistics.unusable += 1
                continue
            statistics.pairs.append(pair)
            statistics.sizes[seen.size] += 1
            statistics.pixels += seen.counts
            statistics.images += seen.counts > 0
            contents[seen.content].append((split, pair.image))
            found.remarks += _of_one_class(pair, seen, dataset.space)
            for index, colour in seen.palette.items():
                palettes[index].setdefault(colour, pair.label)
            if any(seen.shift):
                shifted.append(_shifted(pair, seen))
        statistics.groups = len({pair.group[0] for pair in statistics.pairs})
        found.splits[split] = statistics
    for _ in looks:  # ends the bar
        pass
    if not listing.problems:
        found.problems += _of_splits(root, found.splits)
    found.remarks += [*_of_groups(root, found), *_of_palettes(palettes), *shifted]
    for places in contents.values():
        _tell_twins(places, found)
    return found


def _is_absent(root: Path, files: SplitFiles | Share) -> bool:
    """Whether neither images nor labels of a split are there: many have no copy of, say, test."""
    if isinstance(files, Share):
        return False
    return not any((root / pattern.folder).is_dir() for pattern in (files.images, files.labels))


def _look(space: LabelSpace, job: tuple[str, Pair]) -> Look:
    _, pair = job
    image, label, problems = read_pair(pair, space)
    if image is None or label is None:
        return Look(problems=problems)
    counts = np.bincount(label.ravel(), minlength=space.ignore_index + 1)
    kept = np.append(counts[: len(space.classes)], counts[space.ignore_index])
    content = hashlib.sha256(image.tobytes() + repr(image.size).encode()).hexdigest()
    with Image.open(pair.label) as opened:
        palette = look(pair.label).palette if space.by_id and opened.mode == "P" else {}
    return Look((image.height, image.width), kept, content, shift_of(image, label), palette)


def shift_of(image: Image.Image, label: NDArray[np.generic]) -> tuple[int, int]:
    """(down, right), in percent of the sides: where a label's edges fit its image's clearly better than in place.

    Both are laid over each other as edges on a small grid, by their cross-correlation; (0, 0) where they fit in place.
    """
    grey = np.asarray(image.convert("L").resize((_GRID, _GRID), Image.Resampling.BOX), dtype=np.float64)
    small = np.asarray(Image.fromarray(label.astype(np.int32)).resize((4 * _GRID, 4 * _GRID), Image.Resampling.NEAREST))
    edges = (small[1:, :-1] != small[:-1, :-1]) | (small[:-1, 1:] != small[:-1, :-1])
    borders = np.pad(edges, ((0, 1), (0, 1))).reshape(_GRID, 4, _GRID, 4).mean(axis=(1, 3))
    slopes = np.hypot(*np.gradient(grey))
    pictured, drawn = (_standard(each) for each in (slopes, borders))
    scores = np.fft.ifft2(np.fft.fft2(pictured) * np.conj(np.fft.fft2(drawn))).real / _GRID**2
    near = range(-_FARTHEST, _FARTHEST + 1)
    window = scores[np.ix_(near, near)]
    down, right = np.unravel_index(window.argmax(), window.shape)
    place = window[_FARTHEST - 1 : _FARTHEST + 2, _FARTHEST - 1 : _FARTHEST + 2].max()
    best = window.max()
    if best < 0.2 or best < _CLEARLY * max(place, 0.0):
        return 0, 0
    return round(100 * (down - _FARTHEST) / _GRID), round(100 * (right - _FARTHEST) / _GRID)


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    deviation = values.std()
    return (values - values.mean()) / deviation if deviation > 0 else np.zeros_like(values)


def _shifted(pair: Pair, seen: Look) -> Problem:
    down, right = seen.shift
    places = [f"{abs(down)} % further {'down' if down > 0 else 'up'}"] if down else []
    places += [f"{abs(right)} % to the {'right' if right > 0 else 'left'}"] if right else []
    text = f"its edges fit the image's better {' and '.join(places)}: look whether it is shifted, or of another image"
    return Problem(pair.label, text)


def _of_one_class(pair: Pair, seen: Look, space: LabelSpace) -> Iterator[Problem]:
    held = np.flatnonzero(seen.counts[:-1])
    if not held.size:
        yield Problem(pair.label, "void alone: nothing is learned or scored by it")
    elif held.size == 1 and len(space.classes) > 1:
        yield Problem(pair.label, f"one class alone, {space.classes[held[0]]}: look whether the label is complete")


def _of_groups(root: Path, found: Inspection) -> Iterator[Problem]:
    """Templates that fit no name, groups that stand in two splits, and splits that are not there."""
    if "val" not in found.dataset.splits:
        yield Problem(root, "no split val: add `val: {part_of: train, every: 5}` to splits, or set data.score_on")
    if len(found.dataset.classes) == 1:
        yield Problem(
            root, "one class and nothing beside it, so that every answer is right: make the background a class"
        )
    for split, each in found.splits.items():
        void = each.pixels[-1] / max(1, each.pixels.sum())
        if void > MUCH_VOID and each.pixels[:-1].any():
            yield Problem(root, f"{void:.0%} of all pixels of {split} are void and count nowhere: is that so?")
    parted = any(isinstance(files, Share) for files in found.dataset.splits.values())
    if parted and not found.dataset.groups:
        yield Problem(
            root, "no `groups`: pictures of one patient, drive or sequence may stand in both parts of a split"
        )
    if not found.dataset.groups:
        return
    pairs = [(split, pair) for split, each in found.splits.items() for pair in each.pairs]
    alone = [pair for _, pair in pairs if pair.group[0] == pair.name]
    if alone:
        text = f"{len(alone)} of {len(pairs)} names fit no template of `groups`, such as {alone[0].name}"
        yield Problem(root, f"{text}: each of them stands alone")
    places: dict[str, set[str]] = defaultdict(set)
    for split, pair in pairs:
        places[pair.group[0]].add(split)
    for group, splits in places.items():
        if len(splits) > 1:
            told = f"the group {group} stands in {' and '.join(sorted(splits))}"
            yield Problem(root, f"{told}: where its frames look alike, scores show what was learned by heart")


def _of_palettes(palettes: Mapping[int, Mapping[tuple[int, ...], Path]]) -> Iterator[Problem]:
    for index, colours in palettes.items():
        if len(colours) > 1:
            (one, first), (other, second) = list(colours.items())[:2]
            text = f"index {index} is {list(one)} in its palette and {list(other)} in that of {first.name}"
            yield Problem(second, f"{text}: where the colours mean the classes, give these `colours` and no `ids`")
            return


def _of_splits(root: Path, splits: Mapping[str, SplitStatistics]) -> Iterator[Problem]:
    for split, statistics in splits.items():
        if not statistics.pairs and not statistics.unusable:
            yield Problem(root, f"the split {split} has no pairs: nothing can be learned or scored by it")
        if statistics.pairs and not statistics.pixels[:-1].any() and split != "test":
            yield Problem(root, f"every pixel of the {split} labels is void: nothing can be learned or scored")


def _tell_twins(places: list[tuple[str, Path]], found: Inspection) -> None:
    """The same image under several names: in two splits, scores show what was learned by heart."""
    splits = {split for split, _ in places}
    (split, first), *others = places
    for other_split, path in others:
        if len(splits) > 1 and other_split != split:
            text = f"the same picture as {first.name} of {split}, in {other_split}: remove it from one of the two"
            found.problems.append(Problem(path, text))
        elif other_split == split:
            found.remarks.append(Problem(path, f"the same picture as {first.name}, twice in {split}"))
