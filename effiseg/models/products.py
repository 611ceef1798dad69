"""Matrix products of a linear layer on a CPU, by whichever of torch's two libraries is fast on it.

In float32 torch calls MKL, which takes the widest vectors of Intel's own CPUs alone: on an AMD EPYC with AVX-512 it is
far behind oneDNN, which torch brings along too and uses for convolutions (`linear_layer` of benchmarks/results.csv). So
on any other maker's x86 CPU the products go to oneDNN, forwards and backwards; elsewhere they stay where torch sends
them.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Linear(nn.Linear):
    """A linear layer whose products go through `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution that is computed by `pointwise`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return pointwise(maps, self.weight.flatten(1), self.bias)


def swap_linears(module: nn.Module) -> None:
    """Make every plain linear layer within `module` a `Linear`: the same parameters under the same names."""
    for layer in module.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = Linear


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b over the last axis: `F.linear` to rounding.

    Args:
        x: (..., C). weight: (D, C). bias: (D,).
    """
    if not _by_onednn(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in (x, weight, bias)):
        product: Tensor = _Linear.apply(x.reshape(-1, x.shape[-1]).contiguous(), weight, bias)
        return product.view(*x.shape[:-1], len(weight))
    return _product(x, weight, bias)


def pointwise(maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 1x1 convolution of maps (N, C, H, W) by a weight (D, C), a matrix product where the maps are channels-last."""
    return linear(maps.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


class _Linear(torch.autograd.Function):
    """The product of rows (M, C), and its gradients: g W, gᵀ x and the sum of g."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (x, weight), slope = ctx.saved_tensors, slope.contiguous()
        to_x, to_weight, to_bias = ctx.needs_input_grad
        return (
            _product(slope, weight.T) if to_x else None,
            _outer(slope, x) if to_weight else None,
            slope.sum(dim=0) if to_bias else None,
        )


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """leftᵀ right, of (M, D) and (M, C). The first factor of a product is copied transposed: the narrower one."""
    if left.shape[1] <= right.shape[1]:
        return _product(left.T, right.T)
    return _product(right.T, left.T).T


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if not (weight.is_contiguous() or weight.T.is_contiguous()):
        weight = weight.contiguous()  # of any other strides oneDNN makes a loop a hundred times slower
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    # exporters, compilers and autocast know torch's own operations alone
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0  # of nothing it knows no product
        and prefers_onednn()
        and not torch.is_autocast_enabled("cpu")
    )


@cache
def prefers_onednn() -> bool:
    """Whether this machine's matrix products are oneDNN's: an x86 CPU that is not Intel's, where torch calls MKL."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    # an older torch, as machines without DVC may have, does not tell
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    return "intel" not in str(torch.cpu.get_capabilities().get("cpu_name", "intel")).lower()
