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
from tests.weights.networks import LABELS, logits, original, tiny

CLASSIFIER = "decode_head.classifier.weight"
COUNTER = "decode_head.batch_norm.num_batches_tracked"


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
