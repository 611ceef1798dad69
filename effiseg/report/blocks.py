"""Which validation images an interval draws together.

Neighbouring frames of a recording are hardly more than one look at a street: taken for independent samples, they make
every interval too narrow. Where there are many recordings, whole ones are drawn, and the interval speaks of new
recordings. Where there are few, each is cut into blocks of neighbouring frames, so long that what happens in one says
little about the next (Carlstein 1986), and the interval speaks of these recordings alone. Images that are no frames of
one recording are drawn one by one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Population = Literal["images", "this recording", "these recordings", "new recordings"]

MANY = 20  # recordings of equal length from which on whole ones are drawn
_RUN = 5  # autocorrelations in a row that must be within chance; the rule's own number below 10^25 images


def recordings(groups: Sequence[tuple[str, int]]) -> list[list[int]]:
    """For each group (drive, city, sequence) the places of its samples, frame by frame; in the order of their first
    samples.

    Args:
        groups: of each sample its group and its frame there.
    """
    places: dict[str, list[tuple[int, int]]] = {}
    for place, (group, frame) in enumerate(groups):
        places.setdefault(group, []).append((frame, place))
    return [[place for _, place in sorted(frames)] for frames in places.values()]


@dataclass(frozen=True)
class Recordings:
    """The validation images by recording: their places in the split, frame by frame."""

    frames: list[list[int]]

    @property
    def population(self) -> Population:
        """What an interval over these images speaks of."""
        lengths = np.array([len(frames) for frames in self.frames])
        if lengths.max() == 1:
            return "images"
        # Kish's effective number: a long recording among short ones counts for more than one of many
        if lengths.sum() ** 2 / (lengths**2).sum() >= MANY:
            return "new recordings"
        return "this recording" if len(lengths) == 1 else "these recordings"

    def blocks(self, influences: Floats) -> NDArray[np.intp]:
        """The block that each image belongs to, counted from 0: (images,).

        Blocks have one length in the whole study, since all rows are scored on the same resamples: the longest that any
        difference asks for. Too long a block costs some width, too short a one gives false verdicts.

        Args:
            influences: (images, differences), what each image adds to each difference that gets an interval; those
                that are not finite do not count.
        """
        length = len(influences)
        if self.population in ("this recording", "these recordings"):
            known = influences[:, np.isfinite(influences).all(axis=0)]
            length = max((self.block_length(series) for series in known.T), default=1)
        belongs, count = np.empty(len(influences), np.intp), 0
        for frames in self.frames:
            for block in np.array_split(frames, max(1, len(frames) // length)):
                belongs[block] = count
                count += 1
        return belongs

    def block_length(self, series: Floats) -> int:
        """How many neighbouring frames belong together where the mean of `series` (images,) is of interest.

        The automatic rule for circular blocks of Politis & White (2004), corrected by Patton, Politis & White (2009):
        b = (2 G² / D)^(1/3) n^(1/3), G = Σ λ(k/M) |k| R(k), D = 4/3 (Σ λ(k/M) R(k))², sums over lags of both signs,
        R the autocovariance, λ(t) = 1 up to |t| = 1/2 and from there linear to 0 at 1, M twice the first lag from which
        on correlations are within chance; at most 3 √n and n / 3. Here no lag reaches from one recording into another.
        """
        centred = series - series.mean()
        parts = [centred[frames] for frames in self.frames if len(frames) > 1]
        images = sum(map(len, parts))
        lags = np.arange(min(math.ceil(math.sqrt(images)) + _RUN, images - 1) + 1)
        covariance = np.array([sum(part[lag:] @ part[: max(len(part) - lag, 0)] for part in parts) for lag in lags])
        if covariance[0] == 0:
            return 1
        within = np.abs(covariance) < 2 * math.sqrt(math.log10(images) / images) * covariance[0]
        first = next((lag for lag in lags[1:-_RUN] if within[lag : lag + _RUN].all()), lags[-1])
        weighted = np.clip(2 - 2 * lags / min(2 * first, lags[-1]), 0, 1) * covariance
        both_sides = covariance[0] + 2 * weighted[1:].sum()
        best = (1.5 * (2 * (lags * weighted).sum() / both_sides) ** 2 * images) ** (1 / 3)
        return max(1, min(math.ceil(best), math.isqrt(9 * images), images // 3))
