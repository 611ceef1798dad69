"""Training images that a training leaves out, to tell by them when it has learned enough."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effiseg.base.errors import EffiSegError
from effiseg.data.prepared import Split


@dataclass(frozen=True, eq=False)
class Part(Split):
    """Some samples of a split; only `len`, `read` and `frame` know of the choice."""

    chosen: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.chosen)

    def read(self, indices: Sequence[int]) -> tuple[NDArray[np.uint8], Any]:
        return super().read([self.chosen[index] for index in indices])

    def frame(self, index: int) -> tuple[int, int]:
        return super().frame(self.chosen[index])


def part_of(split: Split, chosen: Sequence[int]) -> Part:
    """The samples of `split` with these indices."""
    return Part(split.images, split.labels, split.names, split.groups, split.fit, chosen)


def hold_out(split: Split, share: float) -> tuple[list[int], list[int]]:
    """Indices that are learned and indices that are held out: the last `share` of each group's frames.

    Neighbouring frames show the same street, so that frames drawn here and there would be known by heart; where samples
    stand alone, the last of the split are held out.

    Raises:
        EffiSegError: one of the two would be empty.
    """
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(split.names):
        group, _ = split.groups[index] if split.groups else (name, 0)
        groups.setdefault(group, []).append(index)
    if len(groups) == len(split):
        groups = {"": list(range(len(split)))}
    held: set[int] = set()
    for members in groups.values():
        members.sort(key=lambda index: split.groups[index][1] if split.groups else index)
        held |= set(members[len(members) - math.floor(share * len(members) + 0.5) :])
    if not 0 < len(held) < len(split):
        raise EffiSegError(
            f"train.early_stop.share: {share:g} of {len(split)} training images in {len(groups)} groups holds "
            f"{len(held)} out; some must be held out and some learned: choose another share, or patience 0"
        )
    return [index for index in range(len(split)) if index not in held], sorted(held)
