"""Sums over all processes that share a batch, as a loss over the whole of it needs them."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def total(x: Tensor) -> Tensor:
    """The sum of `x` over all processes, which all must call; with one process, `x` itself.

    Differentiable: the gradient is that of the processes' losses summed up, so that the mean of their gradients, which
    DistributedDataParallel takes, is that of the mean loss.
    """
    return x if processes() == 1 else _reduced(x)


def average(x: Tensor) -> Tensor:
    """The mean of `x` over all processes, whose shares of a batch are equal; as `total`."""
    return x if processes() == 1 else _reduced(x) / processes()


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        result = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(result)
        return result

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return _AllReduce.forward(None, gradient)


@torch.compiler.disable
def _reduced(x: Tensor) -> Tensor:
    result: Tensor = _AllReduce.apply(x)
    return result
