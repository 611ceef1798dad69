"""What is random in a step belongs to the sample: the same alone as in a batch, and nothing of it in evaluation."""

import pytest
import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from effiseg.models.draws import Draws, draw_kept, draw_uniform, drop
from effiseg.models.head import ExactDecodeHead
from effiseg.models.segformer import Segmenter

CPU = torch.device("cpu")
SIZE = (36, 64)  # a quarter of it is odd


@pytest.fixture
def model(shaken) -> Segmenter:
    """A narrow network that drops much."""
    config = SegformerConfig(
        hidden_sizes=[4, 8, 10, 16],
        depths=[1, 2, 1, 1],
        decoder_hidden_size=6,
        num_labels=5,
        drop_path_rate=0.6,
        classifier_dropout_prob=0.3,
    )
    network = SegformerForSemanticSegmentation(config)
    network.decode_head = ExactDecodeHead(config)
    return Segmenter(shaken(network), [0.5] * 3, [0.2] * 3)


def test_draws_are_those_of_the_seeds_whatever_the_batch(model: Segmenter):
    seeds = [7, 2**62 - 1, 0, 7]
    batch = model.draw(seeds, SIZE, 3, CPU)
    assert [part.shape for part in batch] == [(4, 3), (4, 10), (4, 6, 9, 16)]
    for i, seed in enumerate(seeds):
        for whole, alone in zip(batch, model.draw([seed], SIZE, 3, CPU), strict=True):
            assert torch.equal(whole[i], alone[0])
    assert not torch.equal(batch.kept[0], batch.kept[1])
    assert not torch.equal(batch.paths[0], batch.paths[1])


def test_uniform_draws_and_masks_have_their_distribution():
    uniform = draw_uniform(range(400), 20, CPU)
    assert 0 <= uniform.min() < uniform.max() < 1
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.01)
    assert uniform.mean(dim=0).sub(0.5).abs().max() < 0.06
    for rate in (0.0, 0.1, 0.5, 0.9):
        kept = draw_kept(range(4), (7, 50, 101), rate, CPU)  # an odd number of values
        assert kept.float().mean().item() == pytest.approx(1 - rate, abs=0.005)
        assert kept.is_contiguous(memory_format=torch.channels_last)


def test_what_is_dropped_is_zero_and_the_rest_grows_so_that_the_expectation_stays():
    x = torch.randn(3, 4, requires_grad=True)
    kept = torch.tensor([[True], [False], [True]])
    dropped = drop(x, kept, 0.2)
    assert (dropped[1] == 0).all()
    torch.testing.assert_close(dropped[0], x[0] / 0.8)
    dropped.sum().backward()
    torch.testing.assert_close(x.grad, (kept / 0.8).expand(3, 4))


def outputs(model: Segmenter, images: torch.Tensor, draws: Draws | None) -> list[torch.Tensor]:
    found = model.outputs(images, draws)
    return [found.logits, *found.features, *found.embeddings]


def test_where_everything_is_kept_training_differs_from_transformers_by_the_scale_alone(model: Segmenter):
    for module in model.modules():
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    model.train().network.decode_head.dropout.p = 0.0
    images = torch.rand(2, 3, *SIZE) * 255
    for found, expected in zip(
        outputs(model, images, model.draw([1, 2], SIZE, 0, CPU)), outputs(model, images, None), strict=True
    ):
        assert torch.equal(found, expected)


def test_a_dropped_branch_leaves_its_input_and_a_kept_one_is_scaled(model: Segmenter):
    block = model.train().network.segformer.stages[3].blocks[0]  # its rate is 0.6
    seen = []
    block.layernorm_after.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    block.layernorm_before.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    draws = model.draw([1, 2], SIZE, 0, CPU)
    draws.paths[:, 8] = torch.tensor([0.59, 0.61])  # the attention's branch
    attended = []
    block.attention.register_forward_hook(lambda _module, _args, found: attended.append(found[0]))
    model.outputs(torch.rand(2, 3, *SIZE) * 255, draws)
    before, after = seen
    assert torch.equal(after[0], before[0])
    torch.testing.assert_close(after[1], before[1] + attended[0][1] / 0.4)


def test_the_head_drops_what_the_mask_says(model: Segmenter):
    draws = model.train().draw([1, 2], SIZE, 0, CPU)
    head = model.network.decode_head
    head.classifier.weight.data = torch.eye(5, 6)[:, :, None, None]  # each logit shows a channel
    head.classifier.bias.data.zero_()
    images = torch.rand(2, 3, *SIZE) * 255
    found = model.outputs(images, draws).logits
    head.dropout.p = 0.0
    whole = model.outputs(images, draws._replace(kept=torch.ones_like(draws.kept))).logits
    assert (whole > 0).float().mean() > 0.2
    torch.testing.assert_close(found, whole * draws.kept[:, :5] / 0.7)
