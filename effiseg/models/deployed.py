"""The deployed form of a trained model: the same logits, with everything folded that is linear.

Maps are channels-last throughout, (N, H, W, C), so that tokens and pixels are one tensor and nothing is rearranged.
Folding is done in float64 and rounded once, to the trained model's own type.
"""

import copy

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
        self.stages = nn.ModuleList()
        for stage in model.network.segformer.stages:
            self.stages.append(_Stage(stage, gain))
            gain = torch.ones_like(gain[:1])
        self.head = _Head(model.network.decode_head).to(model.network.dtype)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """RGB pixels 0..255, uint8 or float, (N, 3, H, W) -> logits (N, classes, H/4, W/4)."""
        logits = self.outputs(images).logits
        assert logits is not None
        return logits

    def outputs(self, images: Tensor, *, with_logits: bool = True) -> Outputs:
        """What `Segmenter.outputs` gives: logits, stage outputs and patch embeddings of the trained model."""
        result = Outputs()
        x = images - self.mean
        for stage in self.stages:
            embedding, output = stage(x)
            result.embeddings.append(embedding.flatten(1, 2))
            x = output.permute(0, 3, 1, 2)
            result.features.append(x)
        if with_logits:
            result.logits = self.head(result.features)
        return result


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
    """One encoder stage; the norm at its output stays, since it feeds a zero-padded convolution, where a shift cannot
    fold."""

    def __init__(self, stage: SegformerStage, gain: Tensor) -> None:
        super().__init__()
        dtype = stage.layer_norm.weight.dtype
        # piece by piece: the whole network in float64 would be twice as large as the trained one
        self.embed = _PatchEmbedding(stage.patch_embeddings, gain).to(dtype)
        self.blocks = nn.Sequential(*(_Block(block).to(dtype) for block in stage.blocks))
        self.norm = _whole(stage.layer_norm)

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
            weight, bias = _double(proj.reduce)
            before = [_conv(weight * gain[:, None, None], bias, proj.reduce), copy.deepcopy(proj.activation)]
            before += [_conv(*_double(proj.conv), proj.conv), copy.deepcopy(proj.activation)]
            proj, gain = proj.expand, torch.ones_like(gain[:1])
        weight, bias = _double(proj)
        weight = weight * gain[:, None, None]
        self.norm: nn.Module
        norm = take_apart(embeddings.layer_norm)
        if isinstance(norm.core, nn.Identity):
            weight, bias = _scaled(weight, bias, norm.scale)
            self.norm, bias = norm.core, bias + norm.shift.detach()
        elif norm.inner is not None:
            weight, bias = _scaled(weight, bias, norm.inner)
            self.norm = nn.Sequential(norm.core, _Affine(norm.scale, norm.shift))
        else:
            self.norm = _whole(embeddings.layer_norm)
        self.convolve = nn.Sequential(*before, _conv(weight, bias, proj))

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.norm(self.convolve(x).permute(0, 2, 3, 1))
        return embedding


class _Block(nn.Module):
    """A transformer block on (N, H, W, C)."""

    def __init__(self, block: SegformerLayer) -> None:
        super().__init__()
        attention, mlp = block.attention, block.mlp
        self.heads = attention.num_attention_heads
        norm = take_apart(block.layernorm_before)
        self.before_attention = _core(norm)
        self.query = _linear(*_behind(norm, attention.q_proj))
        self.reduction: nn.Module = nn.Identity()
        if attention.sequence_reduction_ratio > 1:
            self.reduction = _Reduction(attention.sequence_reduction, norm)
            norm = take_apart(attention.sequence_reduction.layer_norm)
        key, value = _behind(norm, attention.k_proj), _behind(norm, attention.v_proj)
        self.key_value = _linear(*(torch.cat(pair) for pair in zip(key, value, strict=True)))
        self.output = _linear(*_double(attention.o_proj))
        norm = take_apart(block.layernorm_after)
        self.before_mlp = _core(norm)
        self.widen = _linear(*_behind(norm, mlp.fc1))
        self.mix = _conv(*_double(mlp.dwconv.dwconv), mlp.dwconv.dwconv)
        self.activation = copy.deepcopy(mlp.activation_fn)
        self.narrow = _linear(*_double(mlp.fc2))

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
        weight, bias = _behind(before, reduction.sequence_reduction)
        if norm.inner is not None:
            weight, bias = _scaled(weight, bias, norm.inner)
        self.conv, self.core = _conv(weight, bias, reduction.sequence_reduction), norm.core

    def forward(self, x: Tensor) -> Tensor:
        reduced: Tensor = self.core(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return reduced


class _Head(nn.Module):
    """One 1x1 convolution per stage, upsampling, sum, classifier."""

    def __init__(self, head: ExactDecodeHead) -> None:
        super().__init__()
        norm = head.batch_norm
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        shift = norm.bias.double() - scale * norm.running_mean.double()
        blocks = [scale[:, None] * block.double() for block in head.fuse_blocks()]
        pairs = [(block, *_double(stage.proj)) for block, stage in zip(blocks, head.linear_projections, strict=True)]
        # the coarsest stage, where pixels are fewest, carries the whole sum of biases
        biases = [torch.zeros_like(shift) for _ in pairs]
        biases[-1] = shift + torch.stack([block @ bias for block, _, bias in pairs]).sum(dim=0)
        self.projections = nn.ModuleList(
            _conv((block @ weight)[:, :, None, None], bias, nn.Conv2d(weight.shape[1], len(block), 1, device="meta"))
            for (block, weight, _), bias in zip(pairs, biases, strict=True)
        )
        self.classifier = _conv(*_double(head.classifier), head.classifier)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Stage maps (N, C_i, H_i, W_i), finest first -> logits (N, classes, H_1, W_1), contiguous."""
        branches = [project(feature) for project, feature in zip(self.projections, features, strict=True)]
        logits: Tensor = self.classifier(F.relu_(sum_upsampled(branches)))
        return logits.contiguous()


class _Linear(nn.Linear):
    """A linear layer over the last axis, as one matrix product, which lets ONNX Runtime add the bias in passing."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, -2)).view(*x.shape[:-1], self.out_features)


class _Affine(nn.Module):
    """scale * x + shift over the last axis."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.scale, self.shift = (nn.Parameter(value.detach().clone()) for value in (scale, shift))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, x, self.scale)


class _Scaled(nn.Module):
    """core(inner * x), where nothing before it can absorb `inner`."""

    def __init__(self, inner: Tensor, core: nn.Module) -> None:
        super().__init__()
        self.inner, self.core = nn.Parameter(inner.detach().clone()), core

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.core(self.inner * x)
        return output


def _whole(norm: nn.Module) -> nn.Module:
    """A norm that no neighbour absorbs."""
    if isinstance(norm, nn.LayerNorm):  # one fused operation as it is
        return copy.deepcopy(norm)
    parts = take_apart(norm)
    return nn.Sequential(_core(parts), _Affine(parts.scale, parts.shift))


def _core(norm: Parts) -> nn.Module:
    """What remains of a norm whose scale and shift fold into the layer behind it."""
    return norm.core if norm.inner is None else _Scaled(norm.inner, norm.core)


def _double(layer: nn.Linear | nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Copies of weight (out, in, ...) and bias (out,) in float64."""
    assert layer.bias is not None
    weight, bias = (value.detach().to(torch.float64, copy=True) for value in (layer.weight, layer.bias))
    return weight, bias


def _behind(norm: Parts, layer: nn.Linear | nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of layer(scale * x + shift); a convolution must be unpadded."""
    weight, bias = _double(layer)
    scale, shift = (value.detach().double().view(-1, *[1] * (weight.ndim - 2)) for value in (norm.scale, norm.shift))
    return weight * scale, bias + (weight * shift).flatten(1).sum(dim=1)


def _scaled(weight: Tensor, bias: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of scale * layer(x); `scale` is a scalar or (out,)."""
    scale = scale.detach().double()
    return weight * scale.view(-1, *[1] * (weight.ndim - 1)), bias * scale


def _linear(weight: Tensor, bias: Tensor) -> _Linear:
    layer = _Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer


def _conv(weight: Tensor, bias: Tensor, like: nn.Conv2d) -> nn.Conv2d:
    """A convolution of the shape of `like`, its weight channels-last as its input is."""
    layer = nn.Conv2d(
        like.in_channels, like.out_channels, like.kernel_size, like.stride, like.padding,  # type: ignore[arg-type]
        groups=like.groups, device="meta",
    )  # fmt: skip
    layer.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
    layer.bias = nn.Parameter(bias)
    return layer
