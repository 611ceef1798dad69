"""Pairs of files -> rows of arrays: each is decoded, checked and resized once, in parallel."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effiseg.base.schema import Data, label_type
from effiseg.data.fit import Fit, fit_label, fit_picture
from effiseg.data.images import BadFile
from effiseg.data.index import IMAGES_FILE, LABELS_FILE
from effiseg.data.label_files import size_of
from effiseg.data.labels import LabelSpace
from effiseg.preparation.pairs import Pair, read_pair
from effiseg.preparation.problems import Problem
from effiseg.preparation.rows import Rows
from effiseg.preparation.sources import Listing
from effiseg.preparation.workers import cores, in_processes

Size = tuple[int, int]


@dataclass(frozen=True)
class _Place:
    """Where the rows of a role go; `own_size`: labels stay as large as they are."""

    images: Rows
    labels: Rows
    own_size: bool


@dataclass(frozen=True)
class _Work:
    """What all pairs have in common."""

    space: LabelSpace
    size: Size
    fit: Fit
    places: dict[str, _Place]


@dataclass(frozen=True)
class _Converted:
    """What a worker found: problems, or pixels per trainId and of void, last, and a hash of the two rows."""

    problems: tuple[Problem, ...] = ()
    counts: NDArray[np.int64] | None = None
    digest: str = ""


@dataclass
class Role:
    """What was found of all pairs of a role: pixels per trainId and of void, last, and the rows' hashes."""

    counts: NDArray[np.int64]
    digests: list[str] = field(default_factory=list)


def convert(
    folder: Path, listing: Listing, settings: Data, *, workers: int | None
) -> tuple[dict[str, Role], list[Size], list[Problem]]:
    """Write the arrays of each role of `listing` into its folder below `folder`.

    Returns:
        What was found by role, the sizes of the labels that are scored (one where all are alike), and all problems, the
        listing's first; where there are any, what was written is of no use.
    """
    problems, sizes = list(listing.problems), list[Size]()
    try:
        work, sizes = _reserve(folder, listing, settings)
    except BadFile:  # of a label that is to be scored; told below
        work = _Work(listing.dataset.space, (settings.size[0], settings.size[1]), settings.fit, {})
    return _convert_all(work, listing, workers, problems), sizes, problems


def _reserve(folder: Path, listing: Listing, settings: Data) -> tuple[_Work, list[Size]]:
    """The array files, empty, and the sizes of the labels that are scored: one where all are alike."""
    size, space = (settings.size[0], settings.size[1]), listing.dataset.space
    places: dict[str, _Place] = {}
    with ThreadPoolExecutor(cores()) as pool:
        sizes = list(pool.map(lambda pair: size_of(pair.label), listing.pairs.get("val", [])))
    sizes = sizes[:1] if len(set(sizes)) == 1 else sizes
    for role, pairs in listing.pairs.items():
        own, dtype = role == "val", label_type(len(space.classes))
        images = Rows.create(folder / role / IMAGES_FILE, [(3, *size)], len(pairs))
        labels = Rows.create(folder / role / LABELS_FILE, sizes if own else [size], len(pairs), dtype)
        places[role] = _Place(images, labels, own)
    return _Work(space, size, settings.fit, places), sizes


def _convert_all(work: _Work, listing: Listing, workers: int | None, problems: list[Problem]) -> dict[str, Role]:
    """Fill the arrays; what is wrong goes to `problems`."""
    jobs = ((role, index, pair) for role, pairs in listing.pairs.items() for index, pair in enumerate(pairs))
    count = sum(map(len, listing.pairs.values()))
    results = in_processes(partial(_convert, work), jobs, count, workers=workers, desc="prepare")
    found = {}
    for role, pairs in listing.pairs.items():
        found[role] = Role(np.zeros(len(work.space.classes) + 1, dtype=np.int64))
        for result in islice(results, len(pairs)):
            problems += result.problems
            if result.counts is not None:
                found[role].counts += result.counts
                found[role].digests.append(result.digest)
    return found


def _convert(work: _Work, job: tuple[str, int, Pair]) -> _Converted:
    """Read, check, resize and write one pair; what is wrong with the files comes back as a value."""
    role, index, pair = job
    image, label, problems = read_pair(pair, work.space)
    if image is None or label is None:
        return _Converted(problems)
    if role not in work.places:
        return _Converted()
    void, place = work.space.ignore_index, work.places[role]
    image_row = fit_picture(image, work.size, work.fit).transpose(2, 0, 1)
    label_row = label if place.own_size else fit_label(label, work.size, work.fit, void)
    place.images.write(index, image_row)
    place.labels.write(index, label_row)
    counts = np.bincount(label.ravel(), minlength=void + 1)
    hashed = hashlib.sha256(image_row.tobytes() + label_row.tobytes()).hexdigest()
    return _Converted((), np.append(counts[: len(work.space.classes)], counts[void]), hashed)
