"""Which positions of a batch show the images: zoomed out, augmentation pads them, and padding teaches nothing.

`inside` is a bool mask that broadcasts against what is compared. None, where all is inside, costs nothing; a mask that
leaves all in gives the same bits.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from effiseg.losses.processes import average


def on_grids(inside: Tensor | None, maps: Sequence[Tensor]) -> list[Tensor | None]:
    """The pixels' mask (N, 1, H, W) on the grid of each map (N, C, h, w): what is more than half image is inside."""
    if inside is None:
        return [None] * len(maps)
    return [F.interpolate(inside.float(), size=each.shape[2:], mode="area") > 0.5 for each in maps]


def only(x: Tensor, inside: Tensor | None, outside: float = 0.0) -> Tensor:
    """`x` inside, and elsewhere a constant, through which no gradient passes."""
    return x if inside is None else x.where(inside, outside)


def share(inside: Tensor | None) -> Tensor | float:
    """The share that is inside, over all processes. A mean of what is 0 outside, divided by it, is the mean inside."""
    # clamped: with nothing inside the mean is 0 too
    return 1.0 if inside is None else average(inside.float().mean()).clamp_min(1e-6)


def mean(x: Tensor, inside: Tensor | None) -> Tensor:
    """The mean of `x` over what is inside; over processes, the mean of their results is that."""
    return only(x, inside).mean() / share(inside)
