"""Files in, pictures out: what `python -m effiseg predict` does once the model is open."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from glob import glob
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from effiseg.base.errors import EffiSegError
from effiseg.data.labels import LabelSpace
from effiseg.deployment.images import SUFFIXES, read_picture
from effiseg.deployment.pictures import label_file, overlay, side_by_side, write_png
from effiseg.deployment.predictor import Predictor
from effiseg.evaluation.metrics import confusion_matrix, scores
from effiseg.preparation.sources import BadFile, read_label

BATCH = 4  # pictures in one pass of the network
_AHEAD = BATCH  # pictures decoded before the network asks for them, and predicted before they are written
_THREADS = 2  # that decode and write
_SHOWN_PROBLEMS = 20
IMAGE_ENDING, LABEL_ENDING = "_leftImg8bit", "_gtFine_labelIds"  # of Cityscapes, where the rest names the sample

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Answer:
    """What a run over pictures found.

    Attributes:
        written: pictures predicted and written.
        problems: one line for each picture that could not be.
        confusion: (classes, classes), rows are the truth; of the pictures whose truth is known.
    """

    confusion: Tensor
    written: int = 0
    problems: list[str] = field(default_factory=list)


def list_pictures(targets: Sequence[str]) -> list[Path]:
    """The pictures that files, folders (not what is below) and patterns name, without repetition, in order.

    Raises:
        EffiSegError: one of them names no picture.
    """
    found: dict[Path, None] = {}
    for target in targets:
        path = Path(target)
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if _is_picture(file))
            wanted = f"a folder with pictures ({', '.join(SUFFIXES)})"
        elif path.exists():
            files = [path]
        else:
            # PTH207: Path.glob takes no absolute pattern
            files = sorted(Path(file) for file in glob(target, recursive=True) if Path(file).is_file())  # noqa: PTH207
            wanted = "a picture, a folder or a pattern that matches some"
        if not files:
            raise EffiSegError(f"{target}: no picture there, expected {wanted}; check the path")
        found.update(dict.fromkeys(files))
    return list(found)


def name_outputs(pictures: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Picture -> the overlay to write, <stem>.png below `out`.

    Raises:
        EffiSegError: `out` is a file, two pictures would be written to one file, or one over a picture that is read.
    """
    if out.exists() and not out.is_dir():
        raise EffiSegError(f"--out {out}: a file, expected a folder to write; choose another")
    outputs: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    read = {picture.resolve() for picture in pictures}
    for picture in pictures:
        target = out / f"{picture.stem}.png"
        if target in taken:
            raise EffiSegError(
                f"{picture} and {taken[target]}: both would be written to {target}; predict them apart, with another "
                "--out for each"
            )
        if target.resolve() in read:
            raise EffiSegError(f"--out {out}: {target} is one of the pictures to read; choose another folder")
        taken[target] = picture
        outputs[picture] = target
    return outputs


def find_truths(pictures: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Picture -> its label file, anywhere below `folder`: the same name, or <name>_gtFine_labelIds.png for
    <name>_leftImg8bit.png.

    Raises:
        EffiSegError: `folder` is no folder, or holds the label of none of the pictures.
    """
    if not folder.is_dir():
        raise EffiSegError(f"--truth {folder}: not a folder; give the one that holds the label files")
    labels = {file.stem.removesuffix(LABEL_ENDING): file for file in sorted(folder.rglob("*.png"))}
    names = {picture: picture.stem.removesuffix(IMAGE_ENDING) for picture in pictures}
    truths = {picture: labels[name] for picture, name in names.items() if name in labels}
    if not truths:
        raise EffiSegError(
            f"--truth {folder}: no label of any of the pictures; expected files named as they are, or "
            f"<name>{LABEL_ENDING}.png for <name>{IMAGE_ENDING}.png"
        )
    return truths


def predict(
    predictor: Predictor,
    outputs: Mapping[Path, Path],
    *,
    labels: bool = False,
    truths: Mapping[Path, Path] | None = None,
) -> Answer:
    """Predict every picture and write what is asked for; one that fails does not stop the others.

    Reading runs ahead of the network and writing behind it, both bounded, so that memory does not grow with
    the pictures.

    Args:
        outputs: picture -> file of its overlay, which is side by side with the truth where that is known.
        labels: whether to write <stem>_labelIds.png beside each overlay, with the data set's official ids.
        truths: picture -> label file.
    """
    space = predictor.card.space
    answer = Answer(torch.zeros(len(space.classes), len(space.classes), dtype=torch.int64))

    def write(job: _Job) -> Tensor:
        return _write(job, outputs[job.path], (truths or {}).get(job.path), space, labels)

    with (
        ThreadPoolExecutor(_THREADS) as pool,
        tqdm(total=len(outputs), desc="predict", unit="image", leave=False) as bar,
    ):
        for _, written in _ahead(pool, write, _predicted(pool, predictor, list(outputs), answer)):
            try:
                answer.confusion += written.result()
                answer.written += 1
            except EffiSegError as error:
                answer.problems.append(str(error))
            bar.update(answer.written + len(answer.problems) - bar.n)
    return answer


def miou(answer: Answer, classes: Sequence[str]) -> float:
    """Over the pictures whose truth is known; NaN without any."""
    return scores(answer.confusion, classes).miou


def one_line(problems: Sequence[str], total: int) -> str:
    """All problems of a run as one error line."""
    shown = [f"[{number}] {problem}" for number, problem in enumerate(problems[:_SHOWN_PROBLEMS], 1)]
    if len(problems) > _SHOWN_PROBLEMS:
        shown.append(f"and {len(problems) - _SHOWN_PROBLEMS} more")
    return f"{len(problems)} of {total} pictures could not be predicted, the others are written: {'; '.join(shown)}"


@dataclass(frozen=True)
class _Job:
    """A picture and its prediction, trainIds (H, W)."""

    path: Path
    picture: Image.Image
    found: NDArray[np.uint8]


def _is_picture(file: Path) -> bool:
    return file.is_file() and file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[tuple[Item, Future[Result]]]:
    """Each item with its result, in order; the pool works on those that follow meanwhile."""
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(work, item)))
        if len(waiting) > _AHEAD:
            yield waiting.popleft()
    yield from waiting


def _predicted(pool: ThreadPoolExecutor, predictor: Predictor, paths: Sequence[Path], answer: Answer) -> Iterator[_Job]:
    pictures = _readable(_ahead(pool, read_picture, paths), answer)
    while batch := list(islice(pictures, BATCH)):
        maps = predictor([picture for _, picture in batch])
        for (path, picture), found in zip(batch, maps, strict=True):
            yield _Job(path, picture, found)


def _readable(
    pictures: Iterable[tuple[Path, Future[Image.Image]]], answer: Answer
) -> Iterator[tuple[Path, Image.Image]]:
    for path, picture in pictures:
        try:
            yield path, picture.result()
        except EffiSegError as error:
            answer.problems.append(str(error))


def _write(job: _Job, target: Path, truth: Path | None, space: LabelSpace, labels: bool) -> Tensor:
    """Write one picture's files; gives its confusion matrix, of zeros without a truth."""
    classes = len(space.classes)
    confusion = torch.zeros(classes, classes, dtype=torch.int64)
    if truth is None:
        sheet = overlay(job.picture, job.found, space)
    else:
        expected = _read_truth(truth, job.found.shape, space)
        confusion = confusion_matrix(torch.from_numpy(job.found), torch.from_numpy(expected), classes)
        sheet = side_by_side([(job.picture, job.found, expected)], space)
    write_png(sheet, target)
    if labels:
        write_png(label_file(job.found, space), target.with_name(f"{target.stem}_labelIds.png"))
    return confusion


def _read_truth(path: Path, shape: tuple[int, ...], space: LabelSpace) -> NDArray[np.uint8]:
    try:
        truth = read_label(path, space)
    except BadFile as error:
        raise EffiSegError(f"{path}: {error}") from None
    if truth.shape != shape:
        raise EffiSegError(f"{path}: {truth.shape[1]}x{truth.shape[0]}, but its picture is {shape[1]}x{shape[0]}")
    return truth
