"""The deployed form of a trained model: the same logits, with everything folded that is linear.

Maps are channels-last throughout, (N, H, W, C), so that tokens and pixels are one tensor and nothing is rearranged.
Folding is done in float64 and rounded once, to the trained model's own type.
"""

import copy
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.segformer.modeling_segformer import (
    SegformerLayer,
    SegformerOverlapPatchEmbeddings,
    SegformerSequenceReduction,
    SegformerStage,
)

from effiseg.models.embedding import BottleneckPatchEmbedding
from effiseg.models.folding import Affine, behind, conv, core_of, doubled, linear, output_gain, scaled, whole
from effiseg.models.head import ExactDecodeHead, sum_upsampled
from effiseg.models.norms import Parts, take_apart
from effiseg.models.outputs import Outputs
from effiseg.models.segformer import Segmenter


class Deployed(nn.Module):
    """A `Segmenter` for inference alone, made by `deploy`: no gradients, no dropout, fewer and larger operations."""

    mean: Tensor

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        # the division by the deviation goes into the first convolution; its zero padding is of the normalised image, so
        # the mean cannot
        self.register_buffer("mean", model.mean.clone(), persistent=False)
        self.channels = model.channels
        gain = 1 / model.std.double().flatten()
        gains, self.stages = [], nn.ModuleList()
        for stage in model.network.segformer.stages:
            output = take_apart(stage.layer_norm)
            self.stages.append(_Stage(stage, gain, output))
            gain = output_gain(output)
            gains.append(gain)
        self.head = _Head(model.network.decode_head, gains).to(model.network.dtype)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """RGB pixels 0..255, uint8 or float, (N, 3, H, W) -> logits (N, classes, H/4, W/4)."""
        logits: Tensor = self.head([output for _, output in self._stages(images)])
        return logits

    def outputs(self, images: Tensor, *, with_logits: bool = True) -> Outputs:
        """What `Segmenter.outputs` gives: logits, stage outputs and patch embeddings of the trained model."""
        result, outputs = Outputs(), list[Tensor]()
        for stage, (embedding, output) in zip(self.stages, self._stages(images), strict=True):
            result.embeddings.append(embedding.flatten(1, 2))
            result.features.append(stage.scaled(output))  # type: ignore[operator]  # a ModuleList tells no type
            outputs.append(output)
        if with_logits:
            result.logits = self.head(outputs)
        return result

    def _stages(self, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Stage by stage patch embedding (N, h, w, D) and output (N, D, h, w), which may lack its norm's scale."""
        x = images - self.mean
        for stage in self.stages:
            embedding, output = stage(x)
            x = output.permute(0, 3, 1, 2)
            yield embedding, x


def deploy(model: Segmenter | Deployed) -> Deployed:
    """The deployed form of a trained model of any norms, which stays as it is; logits are equal but for rounding.

    Folded: stage projection, fuse block and batch norm into one 1x1 convolution per stage; each norm's per-channel
    scale and shift into the linear layers behind it (all there is of a DyL) or before it; keys' and values' layers
    into one; the division by the input's deviation into the first convolution. Dropout and stochastic depth go. A
    deployed form is returned as it is.

    Raises:
        TypeError: it is no model of this package.
    """
    if isinstance(model, Deployed):
        return model
    if not isinstance(model, Segmenter):
        raise TypeError(
            f"found {type(model).__name__}, expected a model from build_student, build_model or load_model of effiseg"
        )
    return Deployed(model)


class _Stage(nn.Module):
    """One encoder stage.

    What follows its output norm is the next stage's convolution, padded with zeros, where a shift cannot fold. So an
    affine norm, scale * x + shift, is taken as scale * (x + shift / scale): the sum goes into the bias of the last
    block, and what is left is a scale, which leaves the padding's zeros as they are and folds into the convolution and
    into the head. Any other norm stays.

    Args:
        gain: what each input channel is yet to be multiplied by, float64.
        norm: the output norm.
    """

    scale: Tensor

    def __init__(self, stage: SegformerStage, gain: Tensor, norm: Parts) -> None:
        super().__init__()
        dtype = stage.layer_norm.weight.dtype
        # piece by piece: the whole network in float64 would be twice as large as the trained one
        self.embed = _PatchEmbedding(stage.patch_embeddings, gain).to(dtype)
        blocks = [Block(block) for block in stage.blocks]
        self.is_folded = isinstance(norm.core, nn.Identity)
        if self.is_folded:
            last = blocks[-1].narrow
            last.bias = nn.Parameter(last.bias.detach() + norm.shift.detach().double() / output_gain(norm))
        self.norm = norm.core if self.is_folded else whole(stage.layer_norm)
        self.blocks = nn.Sequential(*(block.to(dtype) for block in blocks))
        self.register_buffer("scale", output_gain(norm).to(dtype), persistent=False)

    def scaled(self, output: Tensor) -> Tensor:
        """The stage's output (N, D, h, w) with the scale that was folded into what follows."""
        return output * self.scale[:, None, None] if self.is_folded else output

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) -> patch embedding and stage output, both (N, h, w, D)."""
        embedding = self.embed(x)
        return embedding, self.norm(self.blocks(embedding))


class _PatchEmbedding(nn.Module):
    """Convolution, or a bottleneck of three, and norm: (N, C, H, W) -> (N, h, w, D)."""

    def __init__(self, embeddings: SegformerOverlapPatchEmbeddings, gain: Tensor) -> None:
        super().__init__()
        proj = embeddings.proj
        before: list[nn.Module] = []
        if isinstance(proj, BottleneckPatchEmbedding):
            weight, bias = doubled(proj.reduce)
            before = [conv(weight * gain[:, None, None], bias, proj.reduce), copy.deepcopy(proj.activation)]
            before += [conv(*doubled(proj.conv), proj.conv), copy.deepcopy(proj.activation)]
            proj, gain = proj.expand, torch.ones_like(gain[:1])
        weight, bias = doubled(proj)
        weight = weight * gain[:, None, None]
        self.norm: nn.Module
        norm = take_apart(embeddings.layer_norm)
        if isinstance(norm.core, nn.Identity):
            weight, bias = scaled(weight, bias, norm.scale)
            self.norm, bias = norm.core, bias + norm.shift.detach()
        elif norm.inner is not None:
            weight, bias = scaled(weight, bias, norm.inner)
            self.norm = nn.Sequential(norm.core, Affine(norm.scale, norm.shift))
        else:
            self.norm = whole(embeddings.layer_norm)
        self.convolve = nn.Sequential(*before, conv(weight, bias, proj))

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.norm(self.convolve(x).permute(0, 2, 3, 1))
        return embedding


class Block(nn.Module):
    """A transformer block on (N, H, W, C)."""

    def __init__(self, block: SegformerLayer) -> None:
        super().__init__()
        attention, mlp = block.attention, block.mlp
        self.heads = attention.num_attention_heads
        norm = take_apart(block.layernorm_before)
        self.before_attention = core_of(norm)
        self.query = linear(*behind(norm, attention.q_proj))
        self.reduction: nn.Module = nn.Identity()
        if attention.sequence_reduction_ratio > 1:
            self.reduction = _Reduction(attention.sequence_reduction, norm)
            norm = take_apart(attention.sequence_reduction.layer_norm)
        key, value = behind(norm, attention.k_proj), behind(norm, attention.v_proj)
        self.key_value = linear(*(torch.cat(pair) for pair in zip(key, value, strict=True)))
        self.output = linear(*doubled(attention.o_proj))
        norm = take_apart(block.layernorm_after)
        self.before_mlp = core_of(norm)
        self.widen = linear(*behind(norm, mlp.fc1))
        self.mix = conv(*doubled(mlp.dwconv.dwconv), mlp.dwconv.dwconv)
        self.activation = copy.deepcopy(mlp.activation_fn)
        self.narrow = linear(*doubled(mlp.fc2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attend(self.before_attention(x))
        wide = self.widen(self.before_mlp(x)).permute(0, 3, 1, 2)
        narrow: Tensor = self.narrow(self.activation(self.mix(wide).permute(0, 2, 3, 1)))
        return x + narrow

    def _attend(self, x: Tensor) -> Tensor:
        count, height, width, channels = x.shape
        query = self.query(x).view(count, height * width, self.heads, -1).transpose(1, 2)
        pairs = self.key_value(self.reduction(x)).view(count, -1, 2, self.heads, channels // self.heads)
        key, value = pairs.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        output: Tensor = self.output(mixed.transpose(1, 2).reshape(count, height, width, channels))
        return output


class _Reduction(nn.Module):
    """The keys' and values' grid: a strided convolution, unpadded so that a shift folds, and the rest of its norm."""

    def __init__(self, reduction: SegformerSequenceReduction, before: Parts) -> None:
        super().__init__()
        norm = take_apart(reduction.layer_norm)
        weight, bias = behind(before, reduction.sequence_reduction)
        if norm.inner is not None:
            weight, bias = scaled(weight, bias, norm.inner)
        self.conv, self.core = conv(weight, bias, reduction.sequence_reduction), norm.core

    def forward(self, x: Tensor) -> Tensor:
        reduced: Tensor = self.core(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return reduced


class _Head(nn.Module):
    """One 1x1 convolution per stage, upsampling, sum, classifier."""

    def __init__(self, head: ExactDecodeHead, gains: Sequence[Tensor]) -> None:
        """Args: gains: what each stage's channels are yet to be multiplied by."""
        super().__init__()
        norm = head.batch_norm
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        shift = norm.bias.double() - scale * norm.running_mean.double()
        blocks = [scale[:, None] * block.double() for block in head.fuse_blocks()]
        pairs = [(block, *doubled(stage.proj)) for block, stage in zip(blocks, head.linear_projections, strict=True)]
        # the coarsest stage, where pixels are fewest, carries the whole sum of biases
        biases = [torch.zeros_like(shift) for _ in pairs]
        biases[-1] = shift + torch.stack([block @ bias for block, _, bias in pairs]).sum(dim=0)
        self.projections = nn.ModuleList(
            conv(
                (block @ weight * gain)[:, :, None, None],
                bias,
                nn.Conv2d(weight.shape[1], len(block), 1, device="meta"),
            )
            for (block, weight, _), bias, gain in zip(pairs, biases, gains, strict=True)
        )
        self.classifier = conv(*doubled(head.classifier), head.classifier)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Stage maps (N, C_i, H_i, W_i), finest first -> logits (N, classes, H_1, W_1), contiguous."""
        branches = [project(feature) for project, feature in zip(self.projections, features, strict=True)]
        logits: Tensor = self.classifier(F.relu_(sum_upsampled(branches)))
        return logits.contiguous()
