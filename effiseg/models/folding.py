"""Layers with what is linear before or behind them folded in; all of it in float64, to be rounded once."""

import copy

import torch
from torch import Tensor, nn

from effiseg.models.norms import Parts, take_apart
from effiseg.models.products import Linear

_TINY = 1e-12


class Flat(Linear):
    """A linear layer over the last axis, as one matrix product, which lets ONNX Runtime add the bias in passing."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, -2)).view(*x.shape[:-1], self.out_features)


class Affine(nn.Module):
    """scale * x + shift over the last axis."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.scale, self.shift = (nn.Parameter(value.detach().clone()) for value in (scale, shift))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, x, self.scale)


class Scaled(nn.Module):
    """core(inner * x), where nothing before it can absorb `inner`."""

    def __init__(self, inner: Tensor, core: nn.Module) -> None:
        super().__init__()
        self.inner, self.core = nn.Parameter(inner.detach().clone()), core

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.core(self.inner * x)
        return output


def output_gain(norm: Parts) -> Tensor:
    """The scale of a stage's output norm that what follows multiplies by, float64; 1 where the norm stays whole."""
    if not isinstance(norm.core, nn.Identity):
        return torch.ones(1, dtype=torch.float64, device=norm.scale.device)
    scale = norm.scale.detach().double()
    return scale.where(scale != 0, _TINY)  # a channel of scale 0 is its shift alone


def whole(norm: nn.Module) -> nn.Module:
    """A norm that no neighbour absorbs."""
    if isinstance(norm, nn.LayerNorm):  # one fused operation as it is
        return copy.deepcopy(norm)
    parts = take_apart(norm)
    return nn.Sequential(core_of(parts), Affine(parts.scale, parts.shift))


def core_of(norm: Parts) -> nn.Module:
    """What remains of a norm whose scale and shift fold into the layer behind it."""
    return norm.core if norm.inner is None else Scaled(norm.inner, norm.core)


def doubled(layer: nn.Linear | nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Copies of weight (out, in, ...) and bias (out,) in float64."""
    assert layer.bias is not None
    weight, bias = (value.detach().to(torch.float64, copy=True) for value in (layer.weight, layer.bias))
    return weight, bias


def behind(norm: Parts, layer: nn.Linear | nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of layer(scale * x + shift); a convolution must be unpadded."""
    weight, bias = doubled(layer)
    scale, shift = (value.detach().double().view(-1, *[1] * (weight.ndim - 2)) for value in (norm.scale, norm.shift))
    return weight * scale, bias + (weight * shift).flatten(1).sum(dim=1)


def scaled(weight: Tensor, bias: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of scale * layer(x); `scale` is a scalar or (out,)."""
    scale = scale.detach().double()
    return weight * scale.view(-1, *[1] * (weight.ndim - 1)), bias * scale


def linear(weight: Tensor, bias: Tensor) -> Flat:
    layer = Flat(weight.shape[1], weight.shape[0], device="meta")
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer


def conv(weight: Tensor, bias: Tensor, like: nn.Conv2d) -> nn.Conv2d:
    """A convolution of the shape of `like`, its weight channels-last as its input is."""
    layer = nn.Conv2d(
        like.in_channels, like.out_channels, like.kernel_size, like.stride, like.padding,  # type: ignore[arg-type]
        groups=like.groups, device="meta",
    )  # fmt: skip
    layer.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
    layer.bias = nn.Parameter(bias)
    return layer
