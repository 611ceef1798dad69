"""Raw data set -> prepared folder: every file is decoded, checked and resized once, in parallel."""

import hashlib
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from effiseg.base.errors import EffiSegError
from effiseg.base.files import whole_folder
from effiseg.data.images import BadFile, read_image, read_label
from effiseg.data.labels import IGNORE_INDEX, PAPER_WEIGHTS, LabelSpace, computed_weights
from effiseg.data.prepared import IMAGES_FILE, INDEX_FILE, LABELS_FILE, Index, Rows, SplitIndex
from effiseg.preparation.sources import Listing, Pair, Problem, Source, list_pairs, true_source, unusable

Size = tuple[int, int]

_MUCH_VOID = 0.5  # of all pixels; Cityscapes' own labels have 0.12, CamVid's 0.03


@dataclass(frozen=True)
class _Job:
    """One pair, and the row of the two arrays that it fills."""

    pair: Pair
    space: LabelSpace
    index: int
    images: Rows
    labels: Rows


@dataclass(frozen=True)
class _Converted:
    """What a worker found: problems, or pixels per trainId and void at the raw `size`, and a hash of the two rows."""

    problems: tuple[Problem, ...] = ()
    size: Size | None = None
    counts: Sequence[int] = ()
    void: int = 0
    digest: str = ""


def prepare(
    source: Source,
    root: Path,
    out: Path,
    *,
    size: Size,
    held_out: Sequence[str] = (),
    class_weights: Literal["computed", "paper"] = "computed",
    workers: int | None = None,
) -> None:
    """Check and convert the data set below `root` into the folder `out`, to be read by `Prepared.open`.

    Images become (3, H, W) uint8 at `size` (bilinear, antialiased), labels uint8 trainIds (nearest), at `size` for
    train and at full resolution for val. `out` appears whole or not at all; what stood there is replaced at the end.

    Args:
        size: training (height, width).
        held_out: training samples whose names begin with one of these make the val split; the data set's own val split
            is left out.
        class_weights: `computed` is 1 / ln(1.10 + share of the class among the non-void training pixels).
        workers: processes; all cores by default, 1 works in this process.

    Raises:
        EffiSegError: the data set is not usable (all its problems on one line), or `out` cannot be written.
    """
    if class_weights == "paper" and source == "camvid":
        raise EffiSegError("data.class_weights: 'paper' is the table of Cityscapes; use 'computed' with camvid")
    listing = list_pairs(source, root, held_out)
    if not listing.pairs:
        raise unusable(source, root, listing.problems)
    with _replacing(out, root) as folder:
        converted = _convert_all(folder, listing, size, workers)
        problems = [*listing.problems, *_problems(root, listing, converted)]
        if problems:
            raise unusable(source, root, problems)
        index = _index(source, listing, size, converted, class_weights)
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


# --- conversion -------------------------------------------------------------------------------------------------------


def _convert_all(folder: Path, listing: Listing, size: Size, workers: int | None) -> dict[str, list[_Converted]]:
    """Fill the arrays below `folder`; per split one result for each pair, in order."""
    jobs: list[_Job] = []
    for split, pairs in listing.pairs.items():
        label_size = size if split == "train" else _first_size(pairs, listing.space, default=size)
        images = Rows.create(folder / split / IMAGES_FILE, len(pairs), (3, *size))
        labels = Rows.create(folder / split / LABELS_FILE, len(pairs), label_size)
        jobs += [_Job(pair, listing.space, index, images, labels) for index, pair in enumerate(pairs)]
    results = iter(_run(jobs, workers))
    return {split: list(islice(results, len(pairs))) for split, pairs in listing.pairs.items()}


def _first_size(pairs: Sequence[Pair], space: LabelSpace, default: Size) -> Size:
    """The size of the first sound label; whether the others agree shows when all are read."""
    for pair in pairs:
        try:
            height, width = read_label(pair.label, space).shape
        except BadFile:
            continue
        return height, width
    return default


def _run(jobs: Sequence[_Job], workers: int | None) -> list[_Converted]:
    workers = min(workers or _cores(), len(jobs))
    if workers == 1:
        return list(_bar(map(_convert, jobs), len(jobs)))
    pool = ProcessPoolExecutor(workers, initializer=_start_worker)
    try:
        return list(_bar(pool.map(_convert, jobs), len(jobs)))
    except BrokenProcessPool:
        raise EffiSegError(
            "a worker process was killed, most likely for want of memory: close other programs and prepare again"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _bar(results: Iterator[_Converted], total: int) -> Iterable[_Converted]:
    # on a terminal only: elsewhere an error is the one line on stderr
    return tqdm(results, total=total, desc="prepare", unit="pair", disable=None)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent ends the pool
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Workers whose parent was killed would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _convert(job: _Job) -> _Converted:
    """Read, check, resize and write one pair; what is wrong with the files comes back as a value."""
    problems: list[Problem] = []
    try:
        image = read_image(job.pair.image)
    except BadFile as error:
        problems.append(Problem(job.pair.image, str(error)))
    try:
        label = read_label(job.pair.label, job.space)
    except BadFile as error:
        problems.append(Problem(job.pair.label, str(error)))
    if problems:
        return _Converted(tuple(problems))
    size = (image.height, image.width)
    if label.shape != size:
        text = f"{_shown(label.shape)}, but its image, upright, is {_shown(size)}: take both from the same release"
        return _Converted((Problem(job.pair.label, text),), size)
    image_row = _resized(image, job.images.shape[1:], Image.Resampling.BILINEAR).transpose(2, 0, 1)
    label_row = _resized(Image.fromarray(label), job.labels.shape, Image.Resampling.NEAREST)
    job.images.write(job.index, image_row)
    job.labels.write(job.index, label_row)
    counts = np.bincount(label.ravel(), minlength=IGNORE_INDEX + 1).tolist()
    digest = hashlib.sha256(image_row.tobytes() + label_row.tobytes()).hexdigest()
    return _Converted((), size, counts[: len(job.space.classes)], counts[IGNORE_INDEX], digest)


def _resized(image: Image.Image, shape: tuple[int, ...], resample: Image.Resampling) -> NDArray[np.uint8]:
    return np.asarray(image.resize((shape[1], shape[0]), resample))


# --- the whole data set -----------------------------------------------------------------------------------------------


def _problems(root: Path, listing: Listing, converted: dict[str, list[_Converted]]) -> Iterator[Problem]:
    """What the workers found, and what only all results together show."""
    for split, results in converted.items():
        for result in results:
            yield from result.problems
        yield from _odd_sizes(split, listing.pairs[split], results)
    for split, use in (("train", "learned"), ("val", "scored")):
        sound = [result.counts for result in converted.get(split, []) if not result.problems]
        if sound and not np.any(sound):
            yield Problem(root, f"every pixel of the {split} labels is void: nothing can be {use}; check the labels")


def _odd_sizes(split: str, pairs: Sequence[Pair], results: Sequence[_Converted]) -> Iterator[Problem]:
    sizes = Counter(result.size for result in results if result.size)
    for usual, count in sizes.most_common(1):
        for pair, result in zip(pairs, results, strict=True):
            if result.size and result.size != usual:
                text = f"{_shown(result.size)}, but {count} of {len(pairs)} {split} images are {_shown(usual)}"
                yield Problem(pair.image, f"{text}: a split has one size; resize this file, or remove it")


def _shown(size: tuple[int, ...]) -> str:
    return f"{size[0]}x{size[1]} (height x width)"


def _warn_of_void(root: Path, index: Index) -> None:
    """Labels of another encoding may hold known ids alone, most of which then mean void."""
    for name, split in index.splits.items():
        share = split.void_pixels / (split.void_pixels + sum(split.pixel_counts))
        if share > _MUCH_VOID:
            print(
                f"warning: data.root {root}: {share:.0%} of all pixels of the {name} labels are void and count "
                f"nowhere; are these the ids that {index.source} publishes (Cityscapes: labelIds, not labelTrainIds)?",
                file=sys.stderr,
            )


def _index(
    source: Source,
    listing: Listing,
    size: Size,
    converted: dict[str, list[_Converted]],
    class_weights: Literal["computed", "paper"],
) -> Index:
    splits = {split: _split_index(pairs, converted[split]) for split, pairs in listing.pairs.items()}
    (full_size,) = {result.size for result in converted["val"] if result.size}
    counted = {split: entry.model_dump() for split, entry in splits.items()}
    hashes = {split: [result.digest for result in results] for split, results in converted.items()}
    space = listing.space
    content = [space.classes, space.colours, IGNORE_INDEX, size, full_size, counted, hashes]
    weights = PAPER_WEIGHTS if class_weights == "paper" else computed_weights(splits["train"].pixel_counts)
    return Index(
        format=2,
        source=true_source(source, [name for split in splits.values() for name in split.names]),
        digest=hashlib.sha256(json.dumps(content).encode()).hexdigest(),
        classes=space.classes,
        colours=space.colours,
        ignore_index=IGNORE_INDEX,
        size=size,
        full_size=full_size,
        class_weights=list(weights),
        splits=splits,
    )


def _split_index(pairs: Sequence[Pair], results: Sequence[_Converted]) -> SplitIndex:
    return SplitIndex(
        names=tuple(pair.name for pair in pairs),
        pixel_counts=np.sum([result.counts for result in results], axis=0).tolist(),
        void_pixels=sum(result.void for result in results),
    )
