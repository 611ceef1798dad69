"""Why a checkpoint does not fit is told before the names that do not."""

import pytest
import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from effiseg.base.errors import EffiSegError
from effiseg.weights.layouts import load_strictly, to_transformers

B0 = {"hidden_sizes": [32, 64, 160, 256], "depths": [2, 2, 2, 2], "decoder_hidden_size": 8}
B2 = {"hidden_sizes": [64, 16, 16, 16], "depths": [3, 4, 6, 3], "decoder_hidden_size": 8}  # narrow, where none looks


def network(settings, labels=19):
    config = SegformerConfig(num_labels=labels, num_attention_heads=[1, 2, 4, 8], mlp_ratios=[1, 1, 1, 1], **settings)
    return SegformerForSemanticSegmentation(config)


@pytest.fixture(scope="module")
def b0():
    return network(B0)


def refused(model, tensors):
    with pytest.raises(EffiSegError) as caught:
        load_strictly(model, to_transformers(tensors, num_labels=19), "x.pth")
    message = str(caught.value)
    assert message.startswith("x.pth: does not fit the model: ")
    assert "\n" not in message
    return message.removeprefix("x.pth: does not fit the model: ").split("; nothing was loaded")[0]


def test_another_variant(b0):
    assert refused(b0, network(B2).state_dict()) == "it is a B2, and model.variant says b0"
    assert refused(network(B2), b0.state_dict()) == "it is a B0, and model.variant says b2"


def test_an_encoder_alone(b0):
    encoder = {name: tensor for name, tensor in b0.state_dict().items() if name.startswith("segformer.")}
    assert refused(b0, encoder) == "it is an encoder without a decode head"


def test_other_classes(b0):
    assert refused(b0, network(B0, 150).state_dict()) == "it knows 150 classes, and the data set has 19"


@pytest.mark.parametrize("name", ["auxiliary_head.conv_seg.weight", "criterion.weight", "module.criterion.weight"])
def test_what_belongs_to_a_training(b0, name):
    told = refused(b0, b0.state_dict() | {name: torch.ones(19)})
    assert told == f"it holds what belongs to a training and not to the network ({name}): leave that out"


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (
            ("backbone.layers.0.1.0.attn.attn.in_proj_weight", "decode_head.convs.0.conv.weight"),
            "it is in mmsegmentation's layout, whose decode head is another",
        ),
        (
            ("encoder.patch_embed1.proj.weight", "decoder.mlp_stage.0.linear.weight", "segmentation_head.0.weight"),
            "it is of segmentation_models.pytorch, whose decode head is another",
        ),
    ],
)
def test_other_projects(b0, names, told):
    assert refused(b0, {name: torch.ones(2, 2) for name in names}) == told
