"""Weight selection: a small network starts from a choice of a larger one's weights (Xu et al., arXiv 2311.18823)."""

from collections.abc import Mapping

import torch
from torch import Tensor


def select(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of every tensor that the smaller network has too, its shape's worth of elements, evenly spaced on each axis.

    Layers are chosen by their names: the first blocks of each stage. SegFormer's widths divide each other, and channels
    that are joined (the heads of an attention, the stages in the decode head) stand one after the other, so that what
    belongs together is chosen alike everywhere. Values are not rescaled. What is smaller than the network's own stays
    as it is, and does not fit.

    Args:
        tensors: a checkpoint's, under the network's names.
        own: the network's.
    """
    return {name: _evenly(tensors[name], own[name].shape) for name in own if name in tensors}


def _evenly(tensor: Tensor, shape: torch.Size) -> Tensor:
    if len(tensor.shape) != len(shape) or any(have < want for have, want in zip(tensor.shape, shape, strict=True)):
        return tensor
    for axis, (have, want) in enumerate(zip(tensor.shape, shape, strict=True)):
        tensor = tensor.index_select(axis, torch.arange(want) * have // want)
    return tensor
