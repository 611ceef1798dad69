"""First weights: every layer's drawn standard deviation is that of its formula, and a training tells draws apart."""

import math

import pytest
import torch
from torch import Tensor, nn
from transformers import SegformerForSemanticSegmentation

from effiseg.models.embedding import BottleneckPatchEmbedding
from effiseg.models.initial import draw_like_mit
from effiseg.models.norms import DyL, DyT
from effiseg.models.segformer import Segmenter, build_model
from effiseg.training.task import Task

CLASSES = [f"class {i}" for i in range(19)]


def assert_deviation(weight: Tensor, expected: float, name: str) -> None:
    """The sample's mean and deviation are within five of their own standard errors, of the mean 0 and `expected`."""
    count = weight.numel()
    assert abs(weight.mean().item()) < 5 * expected / math.sqrt(count), name
    assert abs(weight.std().item() / expected - 1) < 5 / math.sqrt(2 * count), name


def layers(module: nn.Module) -> list[tuple[str, nn.Linear | nn.Conv2d]]:
    return [(name, each) for name, each in module.named_modules() if isinstance(each, nn.Linear | nn.Conv2d)]


@pytest.fixture
def drawn(settings_with):
    def make(draw: str = "mit", **settings: str) -> Segmenter:
        torch.manual_seed(3)
        return build_model(settings_with(**settings).model_copy(update={"draw": draw}), CLASSES)

    return make


@pytest.mark.parametrize("variant", ["b0", "b2"])
def test_the_encoder_is_drawn_as_mit(drawn, variant):
    encoder = drawn(variant=variant).network.segformer
    kinds = set()
    for name, layer in layers(encoder):
        if isinstance(layer, nn.Linear):
            assert_deviation(layer.weight, 0.02, name)
        else:
            fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels // layer.groups
            assert_deviation(layer.weight, math.sqrt(2 / fan_out), name)
        assert layer.bias is None or not layer.bias.any(), name
        kinds.add(layer.groups > 1 if isinstance(layer, nn.Conv2d) else None)
    # linear layers, dense convolutions (patch embeddings, sequence reduction) and depthwise ones were all seen
    assert kinds == {None, False, True}
    norms = [each for each in encoder.modules() if isinstance(each, nn.LayerNorm)]
    assert norms
    assert all((norm.weight == 1).all() and not norm.bias.any() for norm in norms)


def test_the_depthwise_convolution_of_a_mix_ffn_is_twenty_times_stronger_than_transformers(drawn):
    ours, theirs = (
        dict(layers(drawn(draw).network.segformer))["stages.1.blocks.0.mlp.dwconv.dwconv"].weight.std().item()
        for draw in ("mit", "transformers")
    )
    assert ours == pytest.approx(math.sqrt(2 / 9), rel=0.05)
    assert theirs == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("variant", ["b0", "b2"])
def test_the_head_is_drawn_as_the_original(drawn, variant):
    head = drawn(variant=variant).network.decode_head
    for layer in (*(projection.proj for projection in head.linear_projections), head.classifier):
        bound = 1 / math.sqrt(layer.weight[0].numel())  # torch's default: uniform in +-1 / sqrt(fan_in)
        assert_deviation(layer.weight, bound / math.sqrt(3), "uniform")
        assert layer.weight.abs().max() <= bound
        assert 0 < layer.bias.abs().max() <= bound
    assert_deviation(head.linear_fuse.weight, math.sqrt(2 / head.linear_fuse.out_channels), "linear_fuse")
    assert (head.batch_norm.weight == 1).all()
    assert not head.batch_norm.bias.any()


def test_transformers_draw_is_what_transformers_makes_bit_for_bit(drawn):
    ours = drawn("transformers").network
    torch.manual_seed(3)
    theirs = SegformerForSemanticSegmentation(ours.config).state_dict()
    assert all(torch.equal(theirs[name], weight) for name, weight in ours.state_dict().items())
    for name, layer in layers(ours):
        assert_deviation(layer.weight, 0.02, name)
        assert layer.bias is None or not layer.bias.any(), name


def test_other_norms_and_the_bottleneck_are_drawn_to_match(drawn):
    model = drawn(embedding="bottleneck", patch_embedding="dyt", block="dyl")
    bottlenecks = [each for each in model.network.modules() if isinstance(each, BottleneckPatchEmbedding)]
    assert len(bottlenecks) == 4
    for bottleneck in bottlenecks:
        for layer in (bottleneck.reduce, bottleneck.conv, bottleneck.expand):
            fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels
            assert_deviation(layer.weight, math.sqrt(2 / fan_out), "bottleneck")
    norms = [each for each in model.network.modules() if isinstance(each, DyT | DyL)]
    assert len(norms) == 4 + 16
    assert all((norm.weight == 1).all() and (norm.alpha == 0.5).all() for norm in norms)


@pytest.mark.parametrize("draw", ["mit", "transformers"])
def test_projectors_are_drawn_to_match(drawn, shipped, draw):
    row = shipped.row("kd")
    row = row.model_copy(update={"model": row.model.model_copy(update={"draw": draw})})
    task = Task(drawn(draw), drawn(variant="b2"), row, [1.0] * 19)
    projectors = layers(task.terms)
    assert len(projectors) == 8
    for name, layer in projectors:
        fan_in, fan_out = layer.weight.shape[1], layer.weight.shape[0]
        expected = 1 / math.sqrt(3 * fan_in)  # torch's default
        if draw == "mit":
            expected = 0.02 if isinstance(layer, nn.Linear) else math.sqrt(2 / fan_out)
        assert_deviation(layer.weight, expected, name)


def test_a_draw_follows_from_the_seed(drawn):
    first, second = (drawn().state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    torch.manual_seed(4)
    other = nn.Linear(4, 4)
    draw_like_mit(other)
    assert not torch.equal(other.weight, nn.Linear(4, 4).weight)


def test_the_draw_decides_what_a_short_training_learns(drawn, shipped):
    """The same images, order and settings: after the same steps the loss is another, and each draw repeats itself."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    labels = (images.float().mean(dim=1) > 127).to(torch.uint8)

    def loss_after(draw: str, steps: int = 6) -> float:
        task = Task(drawn(draw), None, shipped.row("baseline"), [1.0] * 19).train()
        task.augmentation.settings = task.augmentation.settings.model_copy(update={"crop": [64, 64]})
        optimizer = torch.optim.AdamW(task.parameters(), lr=1e-3)
        torch.manual_seed(1)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = task(images, labels)["loss"]
            loss.backward()
            optimizer.step()
        return loss.item()

    assert loss_after("mit") == loss_after("mit")
    assert abs(loss_after("mit") - loss_after("transformers")) > 0.01
