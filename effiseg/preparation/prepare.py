"""Raw data set -> prepared folder: every file is decoded, checked and resized once, in parallel."""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effiseg.base.errors import EffiSegError
from effiseg.base.files import whole_folder
from effiseg.base.schema import Data, label_type
from effiseg.data.dataset import DataSet
from effiseg.data.fit import Fit, fit_label, fit_picture
from effiseg.data.images import BadFile
from effiseg.data.index import IMAGES_FILE, INDEX_FILE, LABELS_FILE, Index, SplitIndex
from effiseg.data.label_files import size_of
from effiseg.data.labels import LabelSpace, computed_weights
from effiseg.preparation.pairs import Pair, read_pair
from effiseg.preparation.problems import Problem, unusable
from effiseg.preparation.rows import Rows
from effiseg.preparation.sources import Listing, list_pairs, refuse_missing_weights, true_dataset
from effiseg.preparation.workers import cores, in_processes

Size = tuple[int, int]

MUCH_VOID = 0.5  # of all pixels; Cityscapes' own labels have 0.12, CamVid's 0.03


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
class _Role:
    """What was found of all pairs of a role: pixels per trainId and of void, last, and the rows' hashes."""

    counts: NDArray[np.int64]
    digests: list[str] = field(default_factory=list)


def prepare(settings: Data, out: Path, *, workers: int | None = None) -> None:
    """Check and convert the data set below `settings.root` into the folder `out`, to be read by `Prepared.open`.

    Images become (3, H, W) uint8 at `settings.size` (bilinear, antialiased), labels trainIds (nearest), at that size
    for what is learned and at their own resolution for what is scored; `settings.fit` says how a picture of another
    shape is brought there. `out` appears whole or not at all; what stood there is replaced at the end.

    Args:
        workers: processes; all cores by default, 1 works in this process.

    Raises:
        EffiSegError: the data set is not usable (all its problems on one line), or `out` cannot be written.
    """
    listing, root = list_pairs(settings), Path(settings.root)
    dataset = listing.dataset
    refuse_missing_weights(settings, dataset)
    if not listing.pairs:
        nothing = Problem(root, "no image with a label in the splits that are used: look at the table's patterns")
        raise unusable(settings, listing.problems or [nothing])
    with _replacing(out, root) as folder:
        problems, sizes = list(listing.problems), list[Size]()
        try:
            work, sizes = _reserve(folder, listing, settings)
        except BadFile:  # of a label that is to be scored; told below
            work = _Work(dataset.space, (settings.size[0], settings.size[1]), settings.fit, {})
        found = _convert_all(work, listing, workers, problems)
        problems += _void_alone(root, found, complete=not problems)
        if problems:
            raise unusable(settings, problems)
        index = _index(settings, listing, found, sizes)
        (folder / INDEX_FILE).write_text(index.model_dump_json(indent=1) + "\n", encoding="utf-8")
    _warn_of_void(root, index)


# --- the folder -------------------------------------------------------------------------------------------------------


@contextmanager
def _replacing(out: Path, root: Path) -> Iterator[Path]:
    """Give an empty folder beside `out`; move it there when the block succeeds, else leave `out` as it was."""
    out = out.resolve()  # a link stays a link, and the data lands beside what it points to
    _check_replaceable(out, root)
    try:
        with whole_folder(out) as folder:
            yield folder
    except OSError as error:
        reason = error.strerror or error
        raise EffiSegError(f"{out}: cannot be written ({reason}): free space there, or check permissions") from error


def _check_replaceable(out: Path, root: Path) -> None:
    """Only a prepared folder is a build product; anything else may be all that somebody has."""
    is_empty = out.is_dir() and not any(out.iterdir())
    if out.exists() and not is_empty and not (out / INDEX_FILE).exists():
        raise EffiSegError(f"{out}: exists and is no prepared data set: delete it, or write somewhere else")
    if root.resolve().is_relative_to(out):
        raise EffiSegError(f"{out}: would replace the raw data below it ({root}): write somewhere else")


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


# --- conversion -------------------------------------------------------------------------------------------------------


def _convert_all(work: _Work, listing: Listing, workers: int | None, problems: list[Problem]) -> dict[str, _Role]:
    """Fill the arrays; what is wrong goes to `problems`."""
    jobs = ((role, index, pair) for role, pairs in listing.pairs.items() for index, pair in enumerate(pairs))
    count = sum(map(len, listing.pairs.values()))
    results = in_processes(partial(_convert, work), jobs, count, workers=workers, desc="prepare")
    found = {}
    for role, pairs in listing.pairs.items():
        found[role] = _Role(np.zeros(len(work.space.classes) + 1, dtype=np.int64))
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


# --- the whole data set -----------------------------------------------------------------------------------------------


def _void_alone(root: Path, found: dict[str, _Role], *, complete: bool) -> Iterator[Problem]:
    """Roles with nothing in them; where pairs are `complete`, also roles without any."""
    uses: dict[str, str] = {"train": "learned", "val": "scored"}
    for role, use in uses.items():
        if role in found and found[role].digests and not found[role].counts[:-1].any():
            yield Problem(root, f"every pixel of the {role} labels is void: nothing can be {use}; check the labels")
        elif role not in found and complete:
            yield Problem(root, f"nothing can be {use}: no split of it has pairs")


def _warn_of_void(root: Path, index: Index) -> None:
    """Labels of another encoding may hold known ids alone, most of which then mean void."""
    question = "is that so?"
    if index.space.by_id:
        question = f"are these the ids that {index.space.name} publishes (Cityscapes: labelIds, not labelTrainIds)?"
    if len(index.space.classes) == 1:
        print(
            f"warning: data.root {root}: one class and nothing beside it, so that every answer is right; make the "
            "background a class too",
            file=sys.stderr,
        )
    for name, split in index.splits.items():
        share = split.void_pixels / (split.void_pixels + sum(split.pixel_counts))
        if share > MUCH_VOID:
            print(
                f"warning: data.root {root}: {share:.0%} of all pixels of the {name} labels are void and count "
                f"nowhere; {question}",
                file=sys.stderr,
            )


def _index(settings: Data, listing: Listing, found: dict[str, _Role], sizes: Sequence[Size]) -> Index:
    origins = {"train": settings.train_on, "val": settings.train_on if settings.held_out else [settings.score_on]}
    splits = {
        role: _split_index(origins[role], pairs, found[role].counts.tolist()) for role, pairs in listing.pairs.items()
    }
    size, space = (settings.size[0], settings.size[1]), listing.dataset.space
    counted = {
        role: {"names": split.names, "pixel_counts": split.pixel_counts, "void_pixels": split.void_pixels}
        for role, split in splits.items()
    }
    hashes = {role: each.digests for role, each in found.items()}
    shapes = sizes[0] if len(sizes) == 1 else sizes
    content = [space.classes, space.colours, space.ignore_index, size, shapes, counted, hashes]
    known = _true(listing)
    published = listing.dataset.published_weights
    weights = published if settings.class_weights == "paper" else computed_weights(splits["train"].pixel_counts)
    return Index(
        format=3,
        title=known.title,
        digest=hashlib.sha256(json.dumps(content).encode()).hexdigest(),
        table=listing.dataset.fingerprint,
        space=LabelSpace(name=known.name, entries=space.entries, void=space.void),
        size=size,
        fit=settings.fit,
        label_sizes=list(sizes),
        class_weights=list(weights),
        generated=known.generated,
        paper=known.paper,
        splits=splits,
    )


def _true(listing: Listing) -> DataSet:
    return true_dataset(listing.dataset, (pair.name for pairs in listing.pairs.values() for pair in pairs))


def _split_index(splits: Sequence[str], pairs: Sequence[Pair], counts: list[int]) -> SplitIndex:
    return SplitIndex(
        splits=tuple(splits),
        names=tuple(pair.name for pair in pairs),
        groups=tuple(pair.group for pair in pairs),
        pixel_counts=counts[:-1],
        void_pixels=counts[-1],
    )
