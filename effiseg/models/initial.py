"""What weights are before any training: `model.draw`, a function for each way in `FIRST_WEIGHTS`.

transformers draws every linear layer and every convolution of SegFormer from N(0, 0.02). The original MiT does so with
its linear layers alone; its convolutions are drawn by their fan-out, which for the 3x3 depthwise convolution of each
Mix-FFN is 0.47 and not 0.02. With transformers' draw that branch of every block is all but dead at first.
"""

from collections.abc import Callable
from math import sqrt

from torch import nn
from transformers.models.segformer.modeling_segformer import SegformerDecodeHead

LINEAR_STD = 0.02


def draw_like_mit(module: nn.Module) -> None:
    """Draw all that is within `module` as the original SegFormer does (Xie et al. 2021); torch's global generator.

    Linear layers: truncated normal, 0.02. Convolutions: N(0, sqrt(2 / fan_out)), fan_out = kernel area * outputs /
    groups. Biases: 0. Norms stay as they are built: 1 and 0. In a decode head, the projections and the classifier are
    torch's own defaults, uniform in +-1 / sqrt(fan_in), biases too; only the fusing convolution follows its fan-out.
    """
    defaults = [layer for head in module.modules() if isinstance(head, SegformerDecodeHead) for layer in _plain(head)]
    for layer in module.modules():
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            continue
        if any(layer is each for each in defaults):
            layer.reset_parameters()
            continue
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=LINEAR_STD)
        else:
            height, width = layer.kernel_size
            nn.init.normal_(layer.weight, std=sqrt(2 / (height * width * layer.out_channels / layer.groups)))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _plain(head: SegformerDecodeHead) -> list[nn.Module]:
    return [*(projection.proj for projection in head.linear_projections), head.classifier]


FIRST_WEIGHTS: dict[str, Callable[[nn.Module], None]] = {
    "mit": draw_like_mit,
    "transformers": lambda module: None,  # what transformers and torch built has been drawn so
}
