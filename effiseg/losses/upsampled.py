"""Cross-entropy of upsampled logits that are never held upsampled: on a CPU, forwards and backwards in one pass.

Logits at the labels' size are the largest tensor of a step, sixteen times the network's own, and a loss by itself reads
and writes it some ten times. Here a band of lines goes from the network's logits to their gradient while it is in the
processor's cache.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from effiseg.base.device import full_precision
from effiseg.models.upsample import bilinear_weights

BAND = 2**19  # values of the upsampled logits at a time: 2 MB, and work enough for some threads


def upsampled_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """sum over pixels of w * -log p_y, where p is the softmax of the bilinearly upsampled logits.

    Args:
        logits: float32 or float64 (N, C, h, w), contiguous. labels: int64 (N, H, W), each a class.
        weights: of each pixel, of the logits' type (N, H, W), 0 where nothing counts.
    """
    total: Tensor = _CrossEntropy.apply(logits, labels, weights)
    return total


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        size = labels.shape[1:]
        across = bilinear_weights(logits.shape[3], size[1], logits.dtype, logits.device)
        total, gradient = logits.new_zeros(()), torch.zeros_like(logits)
        with full_precision(logits.device):
            for lines, rows, down in _bands(logits, size):
                p = (down @ (logits[:, :, rows] @ across.T)).log_softmax(dim=1)
                index, weight = labels[:, None, lines], weights[:, None, lines]
                total -= (p.gather(1, index) * weight).sum()
                # of each pixel: w (p - 1 at its label)
                slope = p.exp_().mul_(weight).scatter_add_(1, index, -weight)
                gradient[:, :, rows] += down.T @ slope @ across
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * slope, None, None


def _bands(logits: Tensor, size: torch.Size) -> Iterator[tuple[slice, slice, Tensor]]:
    """Bands of the upsampled lines, the logits' rows that each comes from, and what each row adds to each line."""
    count, classes, height, _ = logits.shape
    weights = bilinear_weights(height, size[0], logits.dtype, logits.device)
    lines = max(1, BAND // (count * classes * size[1]))
    for top in range(0, size[0], lines):
        bottom = min(top + lines, size[0])
        # a line's centre lies between two rows' centres
        first, last = (((2 * line + 1) * height - size[0]) // (2 * size[0]) for line in (top, bottom - 1))
        rows = slice(max(first, 0), last + 2)
        yield slice(top, bottom), rows, weights[top:bottom, rows]
