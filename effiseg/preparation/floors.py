"""What a network must beat before it has learned anything: two answers that need no network."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from effiseg.base.schema import ignore_index
from effiseg.data.fit import in_corner
from effiseg.data.prepared import Prepared
from effiseg.evaluation.evaluate import Evaluation
from effiseg.evaluation.metrics import confusion_matrix

COLOUR_BITS = 4  # 16 levels per channel


def largest_class(data: Prepared) -> Evaluation:
    """Always answer the class with the most training pixels."""
    answer = int(np.argmax(data.pixel_counts["train"]))
    return _evaluate(data, (np.full(data.size, answer) for _ in range(len(data.val))))


def colour_lookup(data: Prepared) -> Evaluation:
    """Answer, for each pixel, the class that its colour (16 levels per channel) had most often in training.

    What this reaches can be had without shape or context.
    """
    counts = np.zeros((2 ** (3 * COLOUR_BITS), data.num_classes), dtype=np.int64)
    for image, labels in zip(data.train.images, data.train.labels, strict=True):
        valid = labels != ignore_index(data.num_classes)
        flat = _colour_bin(image)[valid] * data.num_classes + labels[valid]
        counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape)
    unseen = np.argmax(counts.sum(axis=0))
    table = np.where(counts.any(axis=1), counts.argmax(axis=1), unseen)
    return _evaluate(data, (table[_colour_bin(image)] for image in data.val.images))


FLOORS = {"largest_class": largest_class, "colour_lookup": colour_lookup}


def _colour_bin(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    red, green, blue = (image >> (8 - COLOUR_BITS)).astype(np.int64)
    return (red << (2 * COLOUR_BITS)) + (green << COLOUR_BITS) + blue


def _evaluate(data: Prepared, predictions: Iterator[NDArray[np.int64]]) -> Evaluation:
    """Score class maps of the training size against the full-resolution labels (nearest neighbour)."""
    classes = data.num_classes
    images = torch.zeros(len(data.val), classes, classes, dtype=torch.int64)
    quarter = torch.zeros_like(images[0])
    small, void = (data.size[0] // 4, data.size[1] // 4), ignore_index(classes)
    for index, (image, prediction) in enumerate(zip(images, predictions, strict=True)):
        label, frame = data.val.labels[index], data.val.frame(index)
        height, width = label.shape
        image += _counted(_nearest(prediction, frame)[:height, :width], label, classes)
        quarter += _counted(_nearest(prediction, small), _nearest(in_corner(label, frame, void), small), classes)
    return Evaluation(images, quarter, data.classes)


def _counted(predicted: NDArray[np.generic], actual: NDArray[np.generic], classes: int) -> torch.Tensor:
    return confusion_matrix(torch.from_numpy(predicted), torch.from_numpy(np.array(actual)), classes)


def _nearest(array: NDArray[np.generic], size: tuple[int, ...]) -> NDArray[np.generic]:
    rows, columns = (np.arange(new) * old // new for new, old in zip(size, array.shape, strict=True))
    return array[rows[:, None], columns]
