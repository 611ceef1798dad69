"""Norms that begin where a checkpoint's LayerNorms were: fitted to what these make of images."""

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from effiseg.base.schema import Norms
from effiseg.models.norms import norm_places
from effiseg.models.segformer import Segmenter

IMAGES = 32  # that are looked at
_SAMPLES = 128  # of each image, for each norm


def with_layer_norms(model: Segmenter, norms: Norms, fitted: Collection[str]) -> Norms:
    """The kinds of norms with a LayerNorm wherever one of `fitted`, names of modules of the network, stands."""
    names = {id(module): name for name, module in model.network.named_modules()}
    places = {
        place
        for place, _, holder, attribute in norm_places(model.network)
        if names[id(getattr(holder, attribute))] in fitted
    }
    return norms.model_copy(update=dict.fromkeys(places, "layernorm"))


@torch.no_grad()
def fit_norms(model: Segmenter, reference: Segmenter, images: Tensor, fitted: Collection[str]) -> None:
    """Fit norms of `model` to those in the same places of `reference`, a network that differs from it in them alone.

    Each norm is fitted by itself, to what its counterpart gets and gives. docs/weights.md has what this is worth.

    Args:
        images: uint8 (N, 3, H, W).
        fitted: names of modules of the network.
    """
    reference.eval()
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in fitted}
    theirs, ours = (dict(each.network.named_modules()) for each in (reference, model))
    hooks = [theirs[name].register_forward_hook(_noted(seen[name])) for name in fitted]
    for image in images.split(1):
        reference(image)
    for hook in hooks:
        hook.remove()
    for name, samples in seen.items():
        x, y = (torch.cat(each) for each in zip(*samples, strict=True))
        ours[name].fit(x, y)


def _noted(samples: list[tuple[Tensor, Tensor]]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    """A hook that adds what a norm gets and gives to `samples`."""

    def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, y = (each.flatten(0, -2) for each in (inputs[0], output))
        chosen = torch.linspace(0, len(x) - 1, min(len(x), _SAMPLES)).long()
        samples.append((x[chosen], y[chosen]))

    return note
