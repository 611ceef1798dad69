"""Tensors under foreign names: the original layout is written here by hand, apart from the table under test."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from effiseg.base.errors import EffiSegError
from effiseg.weights.files import read_tensors
from effiseg.weights.layouts import load_strictly, to_transformers
from effiseg.weights.partial import load_part

LABELS = 5
CLASSIFIER = "decode_head.classifier.weight"
COUNTER = "decode_head.batch_norm.num_batches_tracked"


def tiny(seed: int = 0, **changes: Any) -> SegformerForSemanticSegmentation:
    settings = {
        "num_labels": LABELS,
        "depths": [1, 2, 1, 1],
        "hidden_sizes": [8, 16, 24, 32],
        "num_attention_heads": [1, 2, 4, 8],
        "decoder_hidden_size": 16,
        "mlp_ratios": [2, 2, 2, 2],
    }
    torch.manual_seed(seed)
    network = SegformerForSemanticSegmentation(SegformerConfig(**settings | changes))
    with torch.no_grad():  # biases start at 0 and norms at 1: a mix-up of those would go unseen
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand_like(tensor))
    return network.eval()


def logits(network: SegformerForSemanticSegmentation) -> Tensor:
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return network(pixels).logits


def original(network: SegformerForSemanticSegmentation, norm: str = "bn") -> dict[str, Tensor]:
    """The network's tensors as NVIDIA's SegFormer names them, read off its modules one by one."""
    found: dict[str, Tensor] = {}

    def put(name: str, module: torch.nn.Module) -> None:
        found.update({f"{name}.{key}": value.clone() for key, value in module.state_dict().items()})

    for n, stage in enumerate(network.segformer.stages, start=1):
        put(f"patch_embed{n}.proj", stage.patch_embeddings.proj)
        put(f"patch_embed{n}.norm", stage.patch_embeddings.layer_norm)
        for b, block in enumerate(stage.blocks):
            at = f"block{n}.{b}"
            attention = block.attention
            put(f"{at}.norm1", block.layernorm_before)
            put(f"{at}.attn.q", attention.q_proj)
            for key in ("weight", "bias"):
                found[f"{at}.attn.kv.{key}"] = torch.cat(
                    [getattr(attention.k_proj, key), getattr(attention.v_proj, key)]
                )
            put(f"{at}.attn.proj", attention.o_proj)
            if attention.sequence_reduction_ratio > 1:
                put(f"{at}.attn.sr", attention.sequence_reduction.sequence_reduction)
                put(f"{at}.attn.norm", attention.sequence_reduction.layer_norm)
            put(f"{at}.norm2", block.layernorm_after)
            put(f"{at}.mlp.fc1", block.mlp.fc1)
            put(f"{at}.mlp.dwconv.dwconv", block.mlp.dwconv.dwconv)
            put(f"{at}.mlp.fc2", block.mlp.fc2)
        put(f"norm{n}", stage.layer_norm)
        put(f"linear_c{n}.proj", network.decode_head.linear_projections[n - 1].proj)
    put("linear_fuse.conv", network.decode_head.linear_fuse)
    put(f"linear_fuse.{norm}", network.decode_head.batch_norm)
    put("linear_pred", network.decode_head.classifier)
    return {name: tensor.detach() for name, tensor in found.items()}


def assert_same_function(tensors: dict[str, Tensor], source: SegformerForSemanticSegmentation) -> None:
    other = tiny(seed=9)
    assert not torch.equal(logits(other), logits(source))
    load_strictly(other, to_transformers(tensors, num_labels=LABELS), "here")
    assert torch.equal(logits(other), logits(source))


@pytest.mark.parametrize("norm", ["bn", "norm"])
@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "_orig_mod.module.student.", "teacher.ema.", "model.net.encoder."],
)
def test_original_names_behind_any_wrapper_give_the_same_function(prefix: str, norm: str) -> None:
    network = tiny()
    assert_same_function({prefix + name: tensor for name, tensor in original(network, norm).items()}, network)


def test_backbone_and_head_apart_with_unused_classifiers() -> None:
    network = tiny()
    tensors = {
        ("decode_head." if name.startswith("linear") else "backbone.") + name: tensor
        for name, tensor in original(network).items()
    }
    tensors |= {
        "decode_head.conv_seg.weight": torch.ones(LABELS, 16, 1, 1),
        "decode_head.conv_seg.bias": torch.ones(LABELS),
    }
    tensors |= {"backbone.head.weight": torch.ones(1000, 32), "backbone.head.bias": torch.ones(1000)}
    assert_same_function(tensors, network)


@pytest.mark.parametrize("prefix", ["", "module.", "teacher._orig_mod."])
def test_transformers_names_in_memory(prefix: str) -> None:
    network = tiny()
    assert_same_function({prefix + name: tensor for name, tensor in network.state_dict().items()}, network)


def test_transformers_names_on_disk(tmp_path: Path) -> None:
    network = tiny()
    network.save_pretrained(tmp_path)
    tensors = read_tensors(tmp_path / "model.safetensors")
    assert any(name.startswith("segformer.encoder.block.") for name in tensors)  # transformers writes its older names
    assert_same_function(tensors, network)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_sizes": [32, 64, 160, 256], "depths": [2, 2, 2, 2], "decoder_hidden_size": 256},
        {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 4, 6, 3], "decoder_hidden_size": 768},
    ],
    ids=["b0", "b2"],
)
def test_every_name_of_the_published_sizes_is_understood(changes: dict[str, Any], tmp_path: Path) -> None:
    with torch.device("meta"):
        network = SegformerForSemanticSegmentation(
            SegformerConfig(num_labels=19, num_attention_heads=[1, 2, 5, 8], mlp_ratios=[4, 4, 4, 4], **changes)
        )
    network.to_empty(device="cpu")
    own = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    network.load_state_dict(own)
    network.save_pretrained(tmp_path)
    for layout in (own, read_tensors(tmp_path / "model.safetensors"), original(network)):
        converted = to_transformers(layout, num_labels=19)
        assert {name: t.shape for name, t in converted.items()} == {name: t.shape for name, t in own.items()}


def test_parameters_of_other_norms_keep_their_place() -> None:
    found = to_transformers({"segformer.encoder.block.2.11.layer_norm_1.alpha": torch.ones(1)}, num_labels=LABELS)
    assert list(found) == ["segformer.stages.2.blocks.11.layernorm_before.alpha"]


def test_void_output_is_cut_and_other_counts_stay() -> None:
    network = tiny(num_labels=LABELS + 1)
    converted = to_transformers(original(network), num_labels=LABELS)
    student = tiny(seed=3)
    load_strictly(student, converted, "here")
    assert torch.equal(logits(student), logits(network)[:, :LABELS])
    with pytest.raises(
        EffiSegError, match=r"2 misshaped .*classifier.weight: found \[8, 16, 1, 1\] float32, expected \[5,"
    ):
        load_strictly(student, to_transformers(original(tiny(num_labels=8)), num_labels=LABELS), "here")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_becomes_float32_and_integers_stay(kind: torch.dtype) -> None:
    tensors = {name: t.to(kind) if t.is_floating_point() else t for name, t in original(tiny()).items()}
    converted = to_transformers(tensors, num_labels=LABELS)
    assert converted.pop(COUNTER).dtype == torch.int64
    assert {tensor.dtype for tensor in converted.values()} == {torch.float32}
    torch.testing.assert_close(converted[CLASSIFIER], tensors["linear_pred.weight"].float())


def test_only_the_counter_is_filled_in() -> None:
    tensors = original(tiny())
    del tensors["linear_fuse.bn.num_batches_tracked"]
    assert to_transformers(tensors, num_labels=LABELS)[COUNTER] == 0
    del tensors["linear_fuse.bn.running_var"]
    with pytest.raises(EffiSegError, match=r"1 missing \(decode_head.batch_norm.running_var\)"):
        load_strictly(tiny(), to_transformers(tensors, num_labels=LABELS), "here")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_values_that_are_not_finite_are_named(value: float) -> None:
    tensors = original(tiny()) | {"norm2.bias": torch.tensor([0.0, value], dtype=torch.float64)}
    with pytest.raises(EffiSegError, match=r"1 tensors are not finite.*: norm2\.bias;"):
        to_transformers(tensors, num_labels=LABELS)


def test_two_tensors_of_one_meaning_are_an_error() -> None:
    tensors = {f"student.{name}": tensor for name, tensor in original(tiny()).items()}
    tensors |= {f"teacher.{name}": tensor for name, tensor in original(tiny()).items()}
    with pytest.raises(EffiSegError, match=r"'student\.patch_embed1\.proj\.weight' and 'teacher\.patch_embed1"):
        to_transformers(tensors, num_labels=LABELS)


def test_what_does_not_fit_is_listed_in_one_line_and_nothing_is_loaded() -> None:
    network = tiny()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    tensors = to_transformers(original(tiny(seed=4)), num_labels=LABELS)
    gone = [name for name in tensors if ".mlp.fc1." in name] + [CLASSIFIER, "segformer.stages.0.layer_norm.bias"]
    for name in gone:
        del tensors[name]
    tensors |= {"auxiliary_head.conv.weight": torch.ones(1), "conv_seg.bias": torch.ones(1)}
    tensors["decode_head.linear_fuse.weight"] = torch.ones(3, 2)
    tensors["segformer.stages.1.layer_norm.weight"] = torch.ones(16, dtype=torch.int8)
    with pytest.raises(EffiSegError) as caught:
        load_strictly(network, tensors, "teacher.pth")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("teacher.pth: ")
    assert "12 missing" in message
    assert " and 2 more" in message
    assert "2 unexpected (auxiliary_head.conv.weight, conv_seg.bias)" in message
    assert "linear_fuse.weight: found [3, 2] float32, expected [16, 64, 1, 1] float32" in message
    assert "layer_norm.weight: found [16] int8, expected [16] float32" in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_unused_names_are_only_dropped_beside_a_classifier() -> None:
    tensors = {"decode_head.conv_seg.weight": torch.ones(1), "head.weight": torch.ones(1), "a.b": torch.ones(1)}
    assert set(to_transformers(tensors, num_labels=LABELS)) == set(tensors)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_broken_fused_tensor_ends_up_misshaped(rows: int) -> None:
    tensors = original(tiny()) | {"block1.0.attn.kv.weight": torch.ones(rows, 8) if rows else torch.tensor(1.0)}
    with pytest.raises(EffiSegError, match=r"2 misshaped \(segformer\.stages\.0\.blocks\.0\.attention\.k_proj\.weight"):
        load_strictly(tiny(), to_transformers(tensors, num_labels=LABELS), "here")


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
