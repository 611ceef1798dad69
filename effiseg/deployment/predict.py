"""Files in, pictures out: what `python -m effiseg predict` does once the model is open."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from effiseg.base.errors import EffiSegError
from effiseg.data.images import BadFile, read_image
from effiseg.data.label_files import label_image, read_label
from effiseg.data.labels import LabelSpace
from effiseg.deployment.pictures import overlay, side_by_side, write_png
from effiseg.deployment.predictor import Predictor
from effiseg.deployment.targets import Target
from effiseg.evaluation.metrics import confusion_matrix, scores

BATCH = 4  # pictures in one pass of the network
_AHEAD = BATCH  # pictures decoded before the network asks for them, and predicted before they are written
_THREADS = 2  # that decode and write
_SHOWN_PROBLEMS = 20

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Answer:
    """What a run over pictures found.

    Attributes:
        confusion: (classes, classes), rows are the truth; of the pictures that are scored.
        written: pictures predicted and written.
        scored: pictures among them whose truth is known.
        problems: one line for each picture that could not be predicted or written.
        bad_truths: one line for each truth that could not be used; its picture is predicted and written without.
    """

    confusion: Tensor
    written: int = 0
    scored: int = 0
    problems: list[str] = field(default_factory=list)
    bad_truths: list[str] = field(default_factory=list)


def predict(
    predictor: Predictor,
    space: LabelSpace,
    outputs: Mapping[Path, Target],
    truths: Mapping[Path, Path] | None = None,
) -> Answer:
    """Predict every picture and write what is asked for; one that fails does not stop the others.

    Reading runs ahead of the network and writing behind it, both bounded, so that memory does not grow with
    the pictures.

    Args:
        space: of the predictions.
        outputs: picture -> files of its overlay, which is side by side with the truth where that is known, and of its
            label file, with the data set's own ids or colours.
        truths: picture -> label file.
    """
    answer = Answer(torch.zeros(len(space.classes), len(space.classes), dtype=torch.int64))

    def write(job: _Job) -> tuple[Tensor | None, str]:
        return _write(job, outputs[job.path], (truths or {}).get(job.path), space)

    with (
        ThreadPoolExecutor(_THREADS) as pool,
        tqdm(total=len(outputs), desc="predict", unit="image", leave=False) as bar,
    ):
        for _, written in _ahead(pool, write, _predicted(pool, predictor, list(outputs), answer)):
            try:
                confusion, bad_truth = written.result()
            except EffiSegError as error:
                answer.problems.append(str(error))
            else:
                answer.written += 1
                answer.bad_truths += [bad_truth] if bad_truth else []
                if confusion is not None:
                    answer.confusion += confusion
                    answer.scored += 1
            bar.update(answer.written + len(answer.problems) - bar.n)
    return answer


def told_miou(answer: Answer, classes: Sequence[str]) -> str:
    """The mIoU over the scored pictures, in words."""
    over = f"over the {answer.scored} picture{'s' if answer.scored != 1 else ''} whose truth is known"
    if not answer.written:
        return "no mIoU: no picture could be predicted"
    if not answer.confusion.any():
        return f"no mIoU: nothing but void in the truth {over}" if answer.scored else "no mIoU: no truth could be used"
    found = scores(answer.confusion, classes)
    official = f" ({100 * found.miou_official:.2f} as Cityscapes' evaluator counts classes that no truth holds)"
    return f"mIoU {100 * found.miou:.2f} {over}{official if found.miou_official != found.miou else ''}"


def told_problems(answer: Answer, total: int) -> str:
    """All problems of a run as one error line; empty without any."""
    parts = []
    if answer.problems:
        others = "the others are written" if answer.written else "none is written"
        parts.append(
            f"{len(answer.problems)} of {total} pictures could not be predicted, {others}: {_listed(answer.problems)}"
        )
    if answer.bad_truths:
        parts.append(
            f"{len(answer.bad_truths)} of {answer.written} written pictures are not scored, for want of a usable "
            f"truth: {_listed(answer.bad_truths)}"
        )
    return "; ".join(parts)


@dataclass(frozen=True)
class _Job:
    """A picture and its prediction, trainIds (H, W)."""

    path: Path
    picture: Image.Image
    found: NDArray[Any]


def _listed(problems: Sequence[str]) -> str:
    shown = [f"[{number}] {problem}" for number, problem in enumerate(problems[:_SHOWN_PROBLEMS], 1)]
    if len(problems) > _SHOWN_PROBLEMS:
        shown.append(f"and {len(problems) - _SHOWN_PROBLEMS} more")
    return "; ".join(shown)


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
    pictures = _readable(_ahead(pool, read_image, paths), answer)
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
        except BadFile as error:
            answer.problems.append(f"{path}: {error}")


def _write(job: _Job, target: Target, truth: Path | None, space: LabelSpace) -> tuple[Tensor | None, str]:
    """Write one picture's files; gives its confusion matrix, None without a truth, and what is wrong with the truth."""
    confusion, bad_truth = None, ""
    sheet = overlay(job.picture, job.found, space)
    if truth is not None:
        try:
            expected = _read_truth(truth, job.found.shape, space)
        except BadFile as error:
            bad_truth = f"{truth}: {error}"
        else:
            confusion = confusion_matrix(torch.from_numpy(job.found), torch.from_numpy(expected), len(space.classes))
            sheet = side_by_side([(job.picture, job.found, expected)], space)
    write_png(sheet, target.overlay)
    if target.label is not None:
        write_png(label_image(job.found, space), target.label)
    return confusion, bad_truth


def _read_truth(path: Path, shape: tuple[int, ...], space: LabelSpace) -> NDArray[Any]:
    truth = read_label(path, space)
    if truth.shape != shape:
        raise BadFile(f"{truth.shape[1]}x{truth.shape[0]}, but its picture, upright, is {shape[1]}x{shape[0]}")
    return truth
