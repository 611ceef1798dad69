"""SegFormer's decode head, computed in the cheapest of several equal orders."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.segformer.modeling_segformer import SegformerDecodeHead

from effiseg.base.device import full_precision
from effiseg.models.products import pointwise
from effiseg.models.upsample import upsample


class ExactDecodeHead(SegformerDecodeHead):
    """The same function of the same parameters as transformers' head, with a fraction of the multiply-adds.

    The published order is: project each stage, upsample to 1/4, concatenate, fuse by a 1x1 convolution. A 1x1
    convolution and bilinear upsampling are both linear and act on different axes, so they commute: each stage's block
    of the fuse weight may be applied at the stage's own size, and the results upsampled and summed. There projection
    and fuse block follow each other directly, so their weights are multiplied first, which costs next to nothing, and
    each pixel passes one narrow convolution instead of two. Autograd takes the product apart again.
    """

    def forward(self, encoder_hidden_states: list[Tensor], kept: Tensor | None = None, **_: object) -> Tensor:
        """Stage maps (N, C_i, H_i, W_i), finest first -> logits (N, classes, H_1, W_1), contiguous.

        Args:
            kept: what dropout leaves, bool (N, D, H_1, W_1); in training, drawn here if not given.
        """
        weights, bias = self._composed()
        # the biases meet in one sum anyway: the coarsest stage, where pixels are fewest, carries all of them
        biases = [None] * (len(weights) - 1) + [bias]
        stages = zip(encoder_hidden_states, weights, biases, strict=True)
        x = self.batch_norm(sum_upsampled([pointwise(stage_map, weight, bias) for stage_map, weight, bias in stages]))
        classifier = self.classifier.weight.flatten(1)
        if kept is None:
            x = self.dropout(F.relu_(x))
        else:  # relu(x) * kept = relu(x * kept), in place of what nobody needs; the few weights take the scale
            x = F.relu_(x.mul_(kept.to(x.dtype)))
            classifier = classifier / (1 - self.dropout.p)
        # a softmax over the channels of a channels-last map is several times slower
        return pointwise(x, classifier, self.classifier.bias).contiguous()

    def fuse_blocks(self) -> list[Tensor]:
        """The part (D, D) of the fuse weight that each stage meets, finest first."""
        # the published order concatenates coarsest first
        return list(self.linear_fuse.weight.flatten(1).chunk(len(self.linear_projections), dim=1)[::-1])

    def _composed(self) -> tuple[list[Tensor], Tensor]:
        """Each stage's projection and fuse block as one weight (D, C_i), and the sum of their biases (D,)."""
        # rounding the product once is as close as rounding each factor
        with full_precision(self.linear_fuse.weight.device):
            projections = [projection.proj for projection in self.linear_projections]
            pairs = list(zip(self.fuse_blocks(), projections, strict=True))
            weights = [block @ projection.weight for block, projection in pairs]
            return weights, torch.stack([block @ projection.bias for block, projection in pairs]).sum(dim=0)


def sum_upsampled(branches: Sequence[Tensor]) -> Tensor:
    """Stage maps (N, D, H_i, W_i), finest first, upsampled bilinearly to the first one's size and summed in place."""
    size = branches[0].shape[2:]
    total: Tensor | None = None
    for branch in reversed(branches):
        if branch.shape[2:] != size:
            branch = _upsampled(branch, (size[0], size[1]))
        total = branch if total is None else total.add_(branch)
    assert total is not None
    return total


def _upsampled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if maps.is_cuda and torch.is_grad_enabled():
        return upsample(maps.contiguous(), size)  # the same digits every time
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
