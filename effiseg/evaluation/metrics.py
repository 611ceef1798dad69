"""Segmentation scores from one streaming confusion matrix."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from effiseg.base.schema import IGNORE_INDEX, ignore_index


def confusion_matrix(predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Count pixels by (true class, predicted class); ignored pixels are left out.

    Args:
        predictions: trainIds of any integer type and shape.
        labels: trainIds and the classes' `ignore_index`, same shape.

    Returns:
        (classes, classes) int64, rows are the truth.

    Raises:
        ValueError: the shapes differ, or a label is no trainId of these classes.
    """
    if predictions.shape != labels.shape:
        raise ValueError(f"predictions of shape {tuple(predictions.shape)}, labels of shape {tuple(labels.shape)}")
    # ignored pixels are counted too, in rows of their own that are cut off: faster than to select the others first
    void = ignore_index(classes)
    rows = labels.flatten().to(torch.int32, copy=True)
    if void > IGNORE_INDEX:  # so many rows would stand empty between
        rows[rows == void] = void = classes
    counts = torch.bincount(rows.mul_(classes).add_(predictions.flatten()), minlength=(void + 1) * classes)
    if counts[classes**2 : void * classes].any() or len(counts) > (void + 1) * classes:
        raise ValueError(f"labels hold other ids than 0 to {classes - 1} and {ignore_index(classes)}")
    return counts[: classes**2].reshape(classes, classes)


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says.

    Attributes:
        miou: mean IoU over the classes that occur in the labels.
        miou_official: as Cityscapes' evaluator takes the mean: a class that only the predictions hold counts as 0.
        pixel_accuracy: share of valid pixels predicted right.
        iou: IoU per class name; NaN for a class that does not occur in the labels.
    """

    miou: float
    miou_official: float
    pixel_accuracy: float
    iou: dict[str, float]

    @property
    def absent(self) -> list[str]:
        """Classes that the labels do not hold and that the mean leaves out."""
        return [name for name, value in self.iou.items() if math.isnan(value)]


def scores(confusion: Tensor, classes: Sequence[str]) -> Scores:
    """IoU = TP / (TP + FP + FN) per class, as the Cityscapes protocol has it, in float64.

    A class that the labels do not hold is NaN whatever was predicted: every row's mean is over the same classes. The
    official mean differs from it where a network finds such a class.
    """
    counts = confusion.double().cpu()
    hits, actual, predicted = counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)
    official = hits / (actual + predicted - hits)  # NaN for a class that neither holds
    iou = torch.where(actual > 0, official, math.nan)
    return Scores(
        miou=iou.nanmean().item(),
        miou_official=official.nanmean().item(),
        pixel_accuracy=(hits.sum() / actual.sum()).item(),
        iou=dict(zip(classes, iou.tolist(), strict=True)),
    )
