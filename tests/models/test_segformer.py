"""The whole network against transformers' own."""

import pytest
import torch
from transformers import SegformerForSemanticSegmentation

from effiseg.models.head import ExactDecodeHead
from effiseg.models.segformer import build_model, transformers_config

WIDTHS = [4, 8, 10, 16]

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def stock(model, settings_with, classes):
    """transformers' network, head included, with the model's parameters."""
    network = SegformerForSemanticSegmentation(transformers_config(settings_with(), classes))
    network.load_state_dict(model.network.state_dict())
    return network.eval()


@pytest.mark.parametrize("size", [(64, 128), (100, 180), (33, 47)])
def test_logits_equal_those_of_transformers_on_normalised_input(model, stock, size, pixels, normalised):
    images = pixels(2, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(model(images), stock(normalised(images)).logits, rtol=1e-4, atol=1e-5)


def test_training_gives_the_gradients_of_transformers(model, stock, pixels, normalised):
    images = pixels(2, 3, 64, 64)
    for network in (model, stock):
        for layer in network.train().modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0.0
            if hasattr(layer, "drop_prob"):
                layer.drop_prob = 0.0
    weights = torch.randn(2, 5, 16, 16)
    (model(images) * weights).sum().backward()
    (stock(normalised(images)).logits * weights).sum().backward()
    largest = max(parameter.grad.abs().max() for parameter in stock.parameters())
    for (name, found), expected in zip(model.network.named_parameters(), stock.parameters(), strict=True):
        assert (found.grad - expected.grad).abs().max() <= 1e-4 * largest, name


def test_the_network_has_the_head_that_computes_less(model, stock):
    assert type(model.network.decode_head) is ExactDecodeHead
    assert type(stock.decode_head) is not ExactDecodeHead


def test_uint8_and_float_pixels_give_the_same_logits(model, pixels):
    images = pixels(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images), model(images.float()))


def test_normalisation_is_that_of_the_settings_on_the_scale_of_pixels(settings_with, classes):
    model = build_model(settings_with(mean=(0.5, 0.25, 0.0), std=(0.1, 0.2, 1.0)), classes)
    assert torch.allclose(model.mean.flatten(), torch.tensor([127.5, 63.75, 0.0]))
    assert torch.allclose(model.std.flatten(), torch.tensor([25.5, 51.0, 255.0]))


def test_mean_0_and_std_1_scale_the_pixels_to_0_1(settings_with, shaken, classes, pixels):
    model = shaken(build_model(settings_with(mean=(0, 0, 0), std=(1, 1, 1)), classes)).eval()
    images = pixels(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images), model.network(images / 255).logits, rtol=1e-4, atol=1e-5)


def test_normalisation_moves_with_the_model_but_is_not_among_its_weights(model):
    assert not {"mean", "std"} & set(model.state_dict())
    assert model.double().mean.dtype == torch.float64


@pytest.mark.parametrize(
    ("size", "grids"),
    [
        ((64, 128), [(16, 32), (8, 16), (4, 8), (2, 4)]),
        ((100, 180), [(25, 45), (13, 23), (7, 12), (4, 6)]),  # every stage rounds up
    ],
)
def test_outputs_run_from_the_finest_stage_to_the_coarsest(model, size, grids, classes, pixels):
    outputs = model.outputs(pixels(2, 3, *size))
    assert [tuple(x.shape) for x in outputs.features] == [(2, c, *grid) for c, grid in zip(WIDTHS, grids, strict=True)]
    assert [tuple(x.shape) for x in outputs.embeddings] == [
        (2, h * w, c) for c, (h, w) in zip(WIDTHS, grids, strict=True)
    ]
    assert tuple(outputs.logits.shape) == (2, len(classes), *grids[0])


def test_the_head_is_skipped_when_nobody_wants_logits(model, pixels):
    calls = []
    model.network.decode_head.register_forward_hook(lambda *_: calls.append(1))
    images = pixels(1, 3, 64, 64)
    with torch.no_grad():
        without = model.outputs(images, with_logits=False)
        assert not calls
        whole = model.outputs(images)
    assert without.logits is None
    assert calls == [1]
    for found, expected in zip(without.features + without.embeddings, whole.features + whole.embeddings, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("size", [(64, 128), (100, 180)])
def test_features_and_embeddings_are_what_transformers_computes_inside(model, stock, size, pixels, normalised):
    seen = []
    for stage in stock.segformer.stages:
        stage.patch_embeddings.register_forward_hook(lambda _module, _inputs, result: seen.append(result[0]))
    images = pixels(2, 3, *size)
    with torch.no_grad():
        outputs = model.outputs(images)
        hidden = stock(normalised(images), output_hidden_states=True).hidden_states
    for found, expected in zip(outputs.features, hidden, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for found, expected in zip(outputs.embeddings, seen, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_one_seed_builds_one_model(settings_with, classes):
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build_model(settings_with(patch_embedding="dyt"), classes).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not all(torch.equal(value, states[2][name]) for name, value in states[0].items())
