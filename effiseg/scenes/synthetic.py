"""The embedded data set: procedural street scenes in the folder layout of Cityscapes."""

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from effiseg.base.errors import EffiSegError
from effiseg.base.files import whole_folder
from effiseg.scenes import render_scene

__all__ = ["render_scene", "synthesize"]

# made-up; no city is in two splits. The table `synthetic` knows the scenes by them, wherever they lie
CITIES = {
    "train": ("aldermoor", "birkenhalde", "carrowfeld", "dornwick"),
    "val": ("eschenmark", "farnhollow"),
}
_FRAME = 19  # Cityscapes labels the 20th frame of every snippet
_MIN_HEIGHT = 32  # below it, nothing can be recognised
_IMAGE_COMPRESSION = 1  # the noise hardly compresses; higher levels only take longer


@dataclass(frozen=True)
class _Job:
    """One scene to render."""

    seed: tuple[int, int, int]
    height: int
    image: Path
    label: Path


def synthesize(root: Path, *, train: int, val: int, height: int, seed: int, workers: int | None = None) -> None:
    """Write a data set of procedural street scenes to the folder `root`, all of it or nothing.

    Every scene is drawn from `seed`, its split and its number, so that the files are the same for any `workers`.

    Args:
        root: folder to make; it may exist if it is empty.
        train: number of training scenes.
        val: number of validation scenes.
        height: of the images; they are twice as wide.
        seed: of the whole set.
        workers: number of processes; by default one per processor, and 1 renders in this process.

    Raises:
        EffiSegError: `root` exists and is not an empty folder, or a number is out of range.
    """
    _check_numbers(train=train, val=val, height=height, seed=seed, workers=workers)
    root = root.resolve()
    _check_free(root)
    with whole_folder(root) as folder:
        jobs = [
            job
            for split, count in (("train", train), ("val", val))
            for job in _jobs(folder, split, count, height, seed)
        ]
        for parent in {path.parent for job in jobs for path in (job.image, job.label)}:
            parent.mkdir(parents=True, exist_ok=True)
        _run(jobs, workers or os.cpu_count() or 1)
        _check_free(root)  # something may have been put there meanwhile


def _check_numbers(*, train: int, val: int, height: int, seed: int, workers: int | None) -> None:
    limits = {"train": (train, 0), "val": (val, 0), "height": (height, _MIN_HEIGHT), "seed": (seed, 0)}
    if workers is not None:
        limits["workers"] = (workers, 1)
    for name, (value, least) in limits.items():
        if value < least:
            raise EffiSegError(f"synthetic data: {name} is {value}, but must be at least {least}; change that setting.")


def _check_free(root: Path) -> None:
    if not root.exists():
        return
    found = "a file"
    if root.is_dir():
        entries = sorted(path.name for path in root.iterdir())
        if not entries:
            return
        found = f"a folder with {len(entries)} entries ({', '.join(entries[:3])}{', ...' if len(entries) > 3 else ''})"
    raise EffiSegError(
        f"{root}: found {found}, but synthetic data need a new or an empty folder and never overwrite anything; "
        "move it away, or name another folder."
    )


def _jobs(folder: Path, split: str, count: int, height: int, seed: int) -> list[_Job]:
    cities = CITIES[split]
    split_number = list(CITIES).index(split)
    jobs = []
    for index in range(count):
        city, sequence = cities[index % len(cities)], index // len(cities)
        stem = f"{city}_{sequence:06d}_{_FRAME:06d}"
        image = folder / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png"
        label = folder / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png"
        jobs.append(_Job((seed, split_number, index), height, image, label))
    return jobs


def _run(jobs: Sequence[_Job], workers: int) -> None:
    progress = partial(tqdm, total=len(jobs), desc="synthetic scenes", unit="scene")
    if workers == 1:
        for job in progress(jobs):
            _render(job)
        return
    pool = ProcessPoolExecutor(workers)
    try:
        for _ in progress(pool.map(_render, jobs, chunksize=8)):
            pass
    finally:
        # nobody may write into the folder any more when it is removed
        pool.shutdown(wait=True, cancel_futures=True)


def _render(job: _Job) -> None:
    image, label = render_scene(job.seed, job.height)
    Image.fromarray(image).save(job.image, compress_level=_IMAGE_COMPRESSION)
    Image.fromarray(label).save(job.label)
