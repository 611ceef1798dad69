"""Encoders alone, in the layouts of other projects."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import SegformerForSemanticSegmentation

from effiseg.base.errors import EffiSegError
from effiseg.weights.files import read_tensors
from effiseg.weights.layouts import to_transformers
from effiseg.weights.partial import load_part
from tests.weights.networks import LABELS, original, tiny


def mmsegmentation(network: SegformerForSemanticSegmentation) -> dict[str, Tensor]:
    """The encoder as mmsegmentation names and shapes it, read off the modules one by one."""
    found: dict[str, Tensor] = {}

    def put(name: str, module: torch.nn.Module, *, as_convolution: bool = False) -> None:
        for key, value in module.state_dict().items():
            found[f"{name}.{key}"] = value[:, :, None, None] if as_convolution and key == "weight" else value.clone()

    for i, stage in enumerate(network.segformer.stages):
        put(f"layers.{i}.0.projection", stage.patch_embeddings.proj)
        put(f"layers.{i}.0.norm", stage.patch_embeddings.layer_norm)
        for b, block in enumerate(stage.blocks):
            at, attention = f"layers.{i}.1.{b}", block.attention
            put(f"{at}.norm1", block.layernorm_before)
            for key in ("weight", "bias"):
                parts = [getattr(part, key) for part in (attention.q_proj, attention.k_proj, attention.v_proj)]
                found[f"{at}.attn.attn.in_proj_{key}"] = torch.cat(parts)
            put(f"{at}.attn.attn.out_proj", attention.o_proj)
            if attention.sequence_reduction_ratio > 1:
                put(f"{at}.attn.sr", attention.sequence_reduction.sequence_reduction)
                put(f"{at}.attn.norm", attention.sequence_reduction.layer_norm)
            put(f"{at}.norm2", block.layernorm_after)
            put(f"{at}.ffn.layers.0", block.mlp.fc1, as_convolution=True)
            put(f"{at}.ffn.layers.1", block.mlp.dwconv.dwconv)
            put(f"{at}.ffn.layers.4", block.mlp.fc2, as_convolution=True)
        put(f"layers.{i}.2", stage.layer_norm)
    return {name: tensor.detach() for name, tensor in found.items()}


def encoder_of(layout: str, network: SegformerForSemanticSegmentation, folder: Path) -> dict[str, Tensor]:
    """The network's encoder as files of other projects hold it, with what else stands in them."""
    head = {name: tensor for name, tensor in original(network).items() if name.startswith("linear")}
    backbone = {name: tensor for name, tensor in original(network).items() if not name.startswith("linear")}
    if layout == "MiT with ImageNet's classifier":
        return backbone | {"head.weight": torch.ones(1000, 32), "head.bias": torch.ones(1000)}
    if layout == "mmsegmentation":
        theirs = {
            "decode_head.convs.0.conv.weight": torch.ones(1),
            "decode_head.conv_seg.weight": torch.ones(5, 16, 1, 1),
        }
        return {f"backbone.{name}": tensor for name, tensor in mmsegmentation(network).items()} | theirs
    if layout == "mmsegmentation's MiT":
        return mmsegmentation(network)
    if layout == "segmentation_models.pytorch":
        return {f"encoder.{name}": tensor for name, tensor in backbone.items()} | {
            "decoder.mlp_stage.0.linear.weight": torch.ones(1),
            "segmentation_head.0.weight": torch.ones(1),
        }
    if layout == "Lightning":
        return {f"model.encoder.{name}": tensor for name, tensor in (backbone | head).items()}
    network.segformer.save_pretrained(folder)
    return read_tensors(folder / "model.safetensors")


@pytest.mark.parametrize(
    "layout",
    [
        "MiT with ImageNet's classifier",
        "mmsegmentation",
        "mmsegmentation's MiT",
        "segmentation_models.pytorch",
        "Lightning",
        "transformers' model alone",
    ],
)
def test_the_encoder_of_every_layout_gives_the_sources_features(layout: str, tmp_path: Path) -> None:
    network, other = tiny(), tiny(seed=9)
    before = {name: tensor.clone() for name, tensor in other.decode_head.state_dict().items()}
    tensors = to_transformers(encoder_of(layout, network, tmp_path), num_labels=LABELS)
    load_part(other, tensors, part="encoder", classes=["x"] * LABELS, known_as=None, origin="here")
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = (each.segformer(pixels, output_hidden_states=True).hidden_states for each in (other, network))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.decode_head.state_dict().items())


def test_an_encoder_that_is_not_whole_is_refused() -> None:
    tensors = to_transformers(mmsegmentation(tiny()), num_labels=LABELS)
    del tensors["segformer.stages.1.blocks.1.mlp.fc1.weight"]
    with pytest.raises(EffiSegError, match=r"here: does not fit the model.*1 missing \(segformer\.stages\.1"):
        load_part(tiny(), tensors, part="encoder", classes=["x"] * LABELS, known_as=None, origin="here")
