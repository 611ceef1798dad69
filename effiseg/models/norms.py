"""What may stand in place of LayerNorm, and where.

A new norm is one class, with `forward`, `parts` and `fit`, and one line in `NORMS`.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import SegformerForSemanticSegmentation

from effiseg.base.schema import Norms


class Parts(NamedTuple):
    """A norm taken apart into what neighbouring layers can absorb: scale * core(inner * x) + shift.

    `inner` is a scalar, `scale` and `shift` are (channels,). A core of `nn.Identity` leaves nothing to compute.
    """

    core: nn.Module
    scale: Tensor
    shift: Tensor
    inner: Tensor | None = None  # None: 1


class DyT(nn.Module):
    """Dynamic Tanh (Zhu et al. 2025, arXiv 2503.10622): gamma * tanh(alpha * x) + beta.

    Shape: (..., channels) -> the same. alpha is one scalar, gamma and beta are per channel; all are learned.
    """

    def __init__(self, channels: int, alpha_init: float) -> None:
        super().__init__()
        self.alpha_init = alpha_init
        self.alpha = nn.Parameter(torch.full((1,), alpha_init))
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.alpha * x) * self.weight + self.bias

    def parts(self) -> Parts:
        return Parts(nn.Tanh(), self.weight, self.bias, inner=self.alpha[0])

    def fit(self, x: Tensor, y: Tensor) -> None:
        """Make of `x` what comes closest to `y`, both (samples, channels): see `_fit_squashed`."""
        _fit_squashed(self, torch.tanh, x, y)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, alpha_init={self.alpha_init}"


class DyL(nn.Module):
    """Dynamic Linear: gamma * (alpha * x) + beta, all three per channel and learned.

    Shape: (..., channels) -> the same. Affine, so that it folds into a linear layer that follows it.
    """

    def __init__(self, channels: int, alpha_init: float) -> None:
        super().__init__()
        self.alpha_init = alpha_init
        self.alpha = nn.Parameter(torch.full((channels,), alpha_init))
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, x, self.alpha * self.weight)

    def parts(self) -> Parts:
        return Parts(nn.Identity(), self.alpha * self.weight, self.bias)

    @torch.no_grad()
    def fit(self, x: Tensor, y: Tensor) -> None:
        """Make of `x` what comes closest to `y`, both (samples, channels): each channel's line of least squares."""
        slope, shift, _ = _line(x, y)
        self.alpha.fill_(1 / x.std())
        self.weight.copy_(slope / self.alpha)
        self.bias.copy_(shift)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, alpha_init={self.alpha_init}"


class Derf(nn.Module):
    """Dynamic erf (arXiv 2512.10938): gamma * erf(alpha * x + s) + beta.

    Shape: (..., channels) -> the same. alpha and s are scalars, gamma and beta are per channel; all are learned.
    """

    def __init__(self, channels: int, alpha_init: float) -> None:
        super().__init__()
        self.alpha_init = alpha_init
        self.alpha = nn.Parameter(torch.full((1,), alpha_init))
        self.shift = nn.Parameter(torch.zeros(1))
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.erf(self.alpha * x + self.shift) * self.weight + self.bias

    def parts(self) -> Parts:
        return Parts(_ShiftedErf(self.shift), self.weight, self.bias, inner=self.alpha[0])

    def fit(self, x: Tensor, y: Tensor) -> None:
        """Make of `x` what comes closest to `y`, both (samples, channels): see `_fit_squashed`; s stays as it is."""
        _fit_squashed(self, lambda inner: torch.erf(inner + self.shift), x, y)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, alpha_init={self.alpha_init}"


class _ShiftedErf(nn.Module):
    """erf(x + shift)."""

    def __init__(self, shift: Tensor) -> None:
        super().__init__()
        self.shift = nn.Parameter(shift.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return torch.erf(x + self.shift)


class BatchNorm(nn.BatchNorm2d):
    """Batch norm (Ioffe & Szegedy 2015, arXiv 1502.03167) over the channels of tokens.

    Shape: (..., channels) -> the same. In training a channel's mean and variance are those of all tokens of the batch,
    in evaluation the running ones, so that then it is affine, as DyL is.
    """

    def __init__(self, channels: int, alpha_init: float) -> None:  # one signature for all `NORMS`
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        # each token an image of one pixel: as one image whose channels stand last, torch 2.13's gradient is wrong
        return super().forward(x.reshape(-1, x.shape[-1])[:, :, None, None])[:, :, 0, 0].view_as(x)

    def parts(self) -> Parts:
        assert self.running_mean is not None and self.running_var is not None
        scale = self.weight.double() / (self.running_var.double() + self.eps).sqrt()
        return Parts(nn.Identity(), scale, self.bias.double() - scale * self.running_mean.double())

    @torch.no_grad()
    def fit(self, x: Tensor, y: Tensor) -> None:
        """Make of `x` what comes closest to `y`, both (samples, channels): each channel's line of least squares."""
        assert self.running_mean is not None and self.running_var is not None
        slope, shift, _ = _line(x, y)
        self.running_mean.copy_(x.mean(dim=0))
        self.running_var.copy_(x.var(dim=0))
        self.weight.copy_(slope * (self.running_var + self.eps).sqrt())
        self.bias.copy_(shift + slope * self.running_mean)


# `layernorm` is what SegFormer has
NORMS: dict[str, type[nn.Module]] = {"dyt": DyT, "dyl": DyL, "derf": Derf, "batchnorm": BatchNorm}


_STEEPNESS = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)  # of alpha, by the standard deviation of what comes in


@torch.no_grad()
def _fit_squashed(norm: DyT | Derf, squash: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> None:
    """Fit gamma * squash(alpha * x) + beta: alpha is the best of a few, gamma and beta each channel's least squares."""
    tried = [(alpha, *_line(squash(alpha * x), y)) for alpha in torch.tensor(_STEEPNESS) / x.std()]
    alpha, slope, shift, _ = min(tried, key=lambda each: each[3])
    norm.alpha.fill_(alpha)
    norm.weight.copy_(slope)
    norm.bias.copy_(shift)


def _line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
    """Slope and shift, (channels,), of the line that fits y to x best, and the mean squared error that is left."""
    centred = x - x.mean(dim=0)
    slope = (centred * y).mean(dim=0) / centred.square().mean(dim=0).clamp_min(1e-12)
    shift = y.mean(dim=0) - slope * x.mean(dim=0)
    return slope, shift, float((slope * x + shift - y).square().mean())


def take_apart(norm: nn.Module) -> Parts:
    """The parts of a LayerNorm or of one of `NORMS`, whose classes have a method `parts`."""
    if isinstance(norm, nn.LayerNorm):
        core = nn.LayerNorm(norm.normalized_shape, norm.eps, elementwise_affine=False)
        return Parts(core, norm.weight, norm.bias)
    parts: Parts = norm.parts()  # type: ignore[operator]  # nn.Module's attributes have no types
    return parts


def norm_places(network: SegformerForSemanticSegmentation) -> Iterator[tuple[str, str, nn.Module, str]]:
    """Every norm of the encoder as (place, name, module that holds it, attribute).

    B0 has 30: 4 at patch_embedding, 16 at block, 6 at sequence_reduction, 4 at stage_output.
    """
    for i, stage in enumerate(network.segformer.stages):
        yield "patch_embedding", f"stage{i + 1}.patch_embedding", stage.patch_embeddings, "layer_norm"
        for j, block in enumerate(stage.blocks):
            yield "block", f"stage{i + 1}.block{j + 1}.before_attention", block, "layernorm_before"
            if block.attention.sequence_reduction_ratio > 1:
                reduction = block.attention.sequence_reduction
                yield "sequence_reduction", f"stage{i + 1}.block{j + 1}.sequence_reduction", reduction, "layer_norm"
            yield "block", f"stage{i + 1}.block{j + 1}.before_mlp", block, "layernorm_after"
        yield "stage_output", f"stage{i + 1}.output", stage, "layer_norm"


def swap_norms(network: SegformerForSemanticSegmentation, norms: Norms, alpha_init: float) -> None:
    """Put the norms that `norms` names in place of the LayerNorms of a freshly built network."""
    for place, _, holder, attribute in norm_places(network):
        chosen = getattr(norms, place)
        if chosen != "layernorm":
            (channels,) = getattr(holder, attribute).normalized_shape
            setattr(holder, attribute, NORMS[chosen](channels, alpha_init))
