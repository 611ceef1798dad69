"""What a network's weights are before any training: `model.draw`, one function for each way in `DRAWS`.

transformers draws every linear layer and every convolution of SegFormer from N(0, 0.02). The original MiT does so with
its linear layers alone; its convolutions are drawn by their fan-out, which for the 3x3 depthwise convolution of each
Mix-FFN is 0.47 and not 0.02. With transformers' draw that branch of every block is all but dead at first.
"""

from collections.abc import Callable
from math import sqrt

from torch import nn
from transformers import SegformerForSemanticSegmentation
from transformers.models.segformer.modeling_segformer import SegformerDecodeHead

LINEAR_STD = 0.02


def draw_like_mit(module: nn.Module) -> None:
    """Draw all linear layers and convolutions within `module` as MiT does (Xie et al. 2021); torch's global generator.

    Linear: truncated normal, 0.02. Convolution: N(0, sqrt(2 / fan_out)), fan_out = kernel area * outputs / groups.
    Biases are 0. Norms are left alone: every one of them begins as 1 and 0 anyway.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=LINEAR_STD)
        elif isinstance(layer, nn.Conv2d):
            height, width = layer.kernel_size
            nn.init.normal_(layer.weight, std=sqrt(2 / (height * width * layer.out_channels / layer.groups)))
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def draw_head(head: SegformerDecodeHead) -> None:
    """Draw the decode head as the original does: torch's own defaults, but the fusing convolution by its fan-out."""
    for layer in (*(projection.proj for projection in head.linear_projections), head.classifier):
        layer.reset_parameters()
    draw_like_mit(head.linear_fuse)


def _mit(network: SegformerForSemanticSegmentation) -> None:
    draw_like_mit(network.segformer)
    draw_head(network.decode_head)


DRAWS: dict[str, Callable[[SegformerForSemanticSegmentation], None]] = {
    "mit": _mit,
    "transformers": lambda network: None,  # a network that transformers made has it already
}
