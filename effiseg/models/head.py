"""SegFormer's decode head, computed in the cheaper of two equal orders."""

import torch.nn.functional as F
from torch import Tensor
from transformers.models.segformer.modeling_segformer import SegformerDecodeHead


class ExactDecodeHead(SegformerDecodeHead):
    """The same function of the same parameters as transformers' head, with fewer multiply-adds.

    The published order is: project each stage, upsample to 1/4, concatenate, fuse by a 1x1 convolution. A 1x1
    convolution and bilinear upsampling are both linear and act on different axes, so they commute: each stage's block
    of the fuse weight is applied at the stage's own size, and the results are upsampled and summed.
    """

    def forward(self, encoder_hidden_states: list[Tensor], **_: object) -> Tensor:
        """Stage maps (N, C_i, H_i, W_i), finest first -> logits (N, classes, H_1, W_1)."""
        size = encoder_hidden_states[0].shape[2:]
        # the published order concatenates coarsest first
        fuse_blocks = self.linear_fuse.weight.chunk(len(encoder_hidden_states), dim=1)[::-1]
        stages = zip(encoder_hidden_states, self.linear_projections, fuse_blocks, strict=True)
        fused: Tensor | float = 0.0
        for stage_map, projection, fuse_block in stages:
            weight, bias = projection.proj.weight[:, :, None, None], projection.proj.bias
            branch = F.conv2d(F.conv2d(stage_map, weight, bias), fuse_block)
            if branch.shape[2:] != size:
                branch = F.interpolate(branch, size=size, mode="bilinear", align_corners=False)
            fused = fused + branch
        return self.classifier(self.dropout(self.activation(self.batch_norm(fused))))
