"""How sure a difference is: intervals from the paired bootstrap over images and the spread over seeds.

Two things make a measured gain uncertain: the validation images are a sample, and so are the trainings. Images are
resampled, the same ones for both rows and all seeds, and both rows are scored anew on them; images that belong together
are drawn together (`effiseg.report.blocks`). Seeds are too few to resample (3 drawn from 3 understate their spread), so
that theirs enters by Student's t: each replicate is moved by t times the standard error of the mean over seeds, with
one degree of freedom less than there are seeds. The interval holds the middle 95 % of the replicates.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit  # quantiles; scipy.stats would take half a second to import

RESAMPLES = 4000
CONFIDENCE = 0.95

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Row minus baseline, a fraction, with its 95 % interval; NaN where there is nothing to compare.

    Attributes:
        seeds: how many pairs of trainings it is the mean of; with one, the interval is over images alone.
    """

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def verdict(self) -> str:
        """What the interval says: better, worse, or not distinguishable; one seed says nothing about a method."""
        if not self.seeds or math.isnan(self.mean):
            return "no comparison"
        if self.seeds == 1:
            return "one seed"
        return "better" if self.low > 0 else "worse" if self.high < 0 else "not distinguishable"


def regions(confusion: NDArray[np.integer]) -> Floats:
    """Confusion matrices (..., C, C), rows the truth -> hits, labelled and predicted pixels (..., 3, C)."""
    counts = confusion.astype(np.float64)
    return np.stack([np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1), counts.sum(axis=-2)], axis=-2)


def ious(counts: Floats) -> Floats:
    """`regions` summed over images (..., 3, C) -> mIoU and the IoU of each class (..., 1 + C).

    NaN for a class without a labelled pixel, which the mean leaves out.
    """
    hits, labelled, predicted = (counts[..., i, :] for i in range(3))
    with np.errstate(invalid="ignore"):
        iou = np.where(labelled > 0, hits / (labelled + predicted - hits), np.nan)
    present = ~np.isnan(iou)
    mean = np.where(present, iou, 0).sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)
    return np.concatenate([np.where(present.any(axis=-1), mean, np.nan)[..., None], iou], axis=-1)


def influences(counts: Floats) -> Floats:
    """What each image adds to the mIoU and to each class's IoU: the score less the one without it, (images, 1 + C).

    The bootstrap's differences vary, to first order, as the mean of these does (the jackknife of Tukey 1958).

    Args:
        counts: `regions` of each image (images, 3, C).
    """
    total = counts.sum(axis=0)
    return ious(total) - ious(total - counts)


class Bootstrap:
    """Resamples of the validation images, drawn once, so that every row is scored on the same ones.

    Attributes:
        blocks: the block of each image (images,), counted from 0: images of one block are drawn together.
        widening: of the replicates around what was observed. A handful of blocks spreads less than what it was drawn
            from, and its mean follows Student's t (Hesterberg 2015, "What Teachers Should Know About the Bootstrap").
    """

    def __init__(self, blocks: NDArray[np.intp]) -> None:
        generator = np.random.default_rng(0)
        self.blocks = blocks
        count = int(blocks.max()) + 1
        self.weights = generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(np.float64)
        self.widening = 1.0
        if count < len(blocks):
            upper = (1 + CONFIDENCE) / 2
            self.widening = math.sqrt(count / (count - 1)) * stdtrit(count - 1, upper) / ndtri(upper)
        # evenly spread over (0, 1) and shuffled: their t values have no chance error of their own
        self.levels = generator.permutation((np.arange(RESAMPLES) + 0.5) / RESAMPLES)

    def replicate(self, counts: Floats) -> tuple[Floats, Floats]:
        """One training's mIoU and IoUs on all images (1 + C,) and on each resample (R, 1 + C).

        Args:
            counts: `regions` of each image (images, 3, C).
        """
        drawn = np.zeros((self.weights.shape[1], *counts.shape[1:]))
        np.add.at(drawn, self.blocks, counts)
        resampled = (self.weights @ drawn.reshape(len(drawn), -1)).reshape(-1, *counts.shape[1:])
        return ious(counts.sum(axis=0)), ious(resampled)

    def differences(
        self, row: Mapping[int, tuple[Floats, Floats]], baseline: Mapping[int, tuple[Floats, Floats]], classes: int
    ) -> list[Difference]:
        """Row minus baseline over the seeds that both have: of the mIoU, then of each class's IoU.

        Args:
            row, baseline: seed -> what `replicate` gave.
        """
        seeds = sorted(row.keys() & baseline.keys())
        if not seeds:
            return [Difference(math.nan, math.nan, math.nan, 0)] * (1 + classes)
        observed = np.stack([row[seed][0] - baseline[seed][0] for seed in seeds])
        replicates = np.mean([row[seed][1] - baseline[seed][1] for seed in seeds], axis=0)
        if self.widening > 1:
            mean = observed.mean(axis=0)
            replicates = mean + self.widening * (replicates - mean)
        if len(seeds) > 1:
            error = observed.std(axis=0, ddof=1) / math.sqrt(len(seeds))
            replicates = replicates + stdtrit(len(seeds) - 1, self.levels)[:, None] * error
        return [
            Difference(mean, *_middle(column), seeds=len(seeds))
            for mean, column in zip(observed.mean(axis=0).tolist(), replicates.T, strict=True)
        ]


def _middle(replicates: Floats) -> tuple[float, float]:
    """The ends of the interval; resamples without a pixel of the class do not count."""
    held = replicates[~np.isnan(replicates)]
    if not held.size:
        return math.nan, math.nan
    low, high = np.quantile(held, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
