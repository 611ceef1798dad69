"""What is random in a training step, drawn for each sample from a seed of its own: the same on whatever process."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Draws(NamedTuple):
    """The random numbers of N samples.

    Attributes:
        augment: uniform in 0..1, (N, any), for the augmentation.
        paths: likewise (N, 2 * blocks), by which each block's two branches are dropped.
        kept: bool (N, C, h, w), what the head's dropout leaves.
    """

    augment: Tensor
    paths: Tensor
    kept: Tensor


def draw_uniform(seeds: Sequence[int], count: int, device: torch.device) -> Tensor:
    """`count` uniform numbers for each seed, (N, count): drawn on the host, alike for every device."""
    rows = [torch.rand(count, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows).to(device, non_blocking=True)


def draw_kept(seeds: Sequence[int], shape: tuple[int, int, int], rate: float, device: torch.device) -> Tensor:
    """Masks (N, C, h, w), channels-last, of maps of `shape` (C, h, w), each value False with probability `rate`.

    Of 16 random bits for each value, which is several times faster than `bernoulli_`.
    """
    channels, height, width = shape
    values = channels * height * width
    bits = torch.empty(len(seeds), -(-values // 4), dtype=torch.int64, device=device)
    generator = torch.Generator(device)  # a seed is the host's: nothing waits
    for row, seed in zip(bits, seeds, strict=True):
        row.random_(-(2**63), None, generator=generator.manual_seed(seed + 1))  # + 1: not the uniform draws' bits
    kept = bits.view(torch.int16)[:, :values] >= round(rate * 2**16) - 2**15
    return kept.view(-1, height, width, channels).permute(0, 3, 1, 2)


def drop(x: Tensor, kept: Tensor, rate: float) -> Tensor:
    """`x` where `kept`, scaled so that its expectation stays, and 0 elsewhere; `kept` broadcasts to x."""
    return (x * kept.to(x.dtype)).mul_(1 / (1 - rate))
