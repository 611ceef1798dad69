"""The decode head against transformers' own."""

import copy

import pytest
import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel
from transformers import SegformerConfig
from transformers.models.segformer.modeling_segformer import SegformerDecodeHead

from effiseg.models.head import ExactDecodeHead

CHANNELS = [4, 8, 10, 16]
EVEN = [(16, 32), (8, 16), (4, 8), (2, 4)]
ODD = [(25, 45), (13, 23), (7, 12), (4, 6)]  # of a 100x180 image
ONE_SIZE = [(5, 3)] * 4
DTYPES = [pytest.param(torch.float64, 1e-10, id="float64"), pytest.param(torch.float32, 1e-5, id="float32")]


@pytest.fixture
def heads(shaken):
    """transformers' head and ours with one state, statistics and all; without dropout, which is random."""
    config = SegformerConfig(hidden_sizes=CHANNELS, decoder_hidden_size=12, num_labels=5, classifier_dropout_prob=0.0)
    stock = shaken(SegformerDecodeHead(config))
    ours = ExactDecodeHead(config)
    ours.load_state_dict(stock.state_dict())
    return stock, ours


def stage_maps(sizes, dtype):
    return [torch.randn(2, c, h, w, dtype=dtype) for c, (h, w) in zip(CHANNELS, sizes, strict=True)]


def assert_equal_to(found, expected, tolerance):
    """Relative to the largest value: single entries may be differences of large numbers."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("sizes", [EVEN, ODD, ONE_SIZE], ids=["even", "odd", "one-size"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_logits_and_gradients_equal_those_of_transformers(heads, training, sizes, dtype, tolerance):
    stock, ours = (head.to(dtype).train(training) for head in heads)
    maps = stage_maps(sizes, dtype)
    ours_in, stock_in = ([x.clone().requires_grad_() for x in maps] for _ in range(2))
    logits, expected = ours(ours_in), stock(stock_in)
    assert_equal_to(logits, expected, tolerance)

    weights = torch.randn_like(expected)
    (logits * weights).sum().backward()
    (expected * weights).sum().backward()
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    largest = max(parameter.grad.abs().max() for parameter in stock.parameters())
    for name, parameter in stock.named_parameters():
        # a batch norm in train mode cancels what comes before it as a constant: those gradients are rounding only
        scale = largest if training and name.endswith("proj.bias") else parameter.grad.abs().max()
        assert (gradients[name] - parameter.grad).abs().max() <= 10 * tolerance * scale, name
    for found, wanted in zip(ours_in, stock_in, strict=True):
        assert_equal_to(found.grad, wanted.grad, 10 * tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_batch_norm_statistics_are_updated_as_by_transformers(heads, dtype, tolerance):
    stock, ours = (head.to(dtype).train() for head in heads)
    before = copy.deepcopy(ours.batch_norm)
    for _ in range(2):
        maps = stage_maps(ODD, dtype)
        ours(maps)
        stock(maps)
    assert not torch.allclose(before.running_mean, ours.batch_norm.running_mean)
    assert_equal_to(ours.batch_norm.running_mean, stock.batch_norm.running_mean, tolerance)
    assert_equal_to(ours.batch_norm.running_var, stock.batch_norm.running_var, tolerance)
    assert ours.batch_norm.num_batches_tracked == stock.batch_norm.num_batches_tracked == 2


def test_evaluation_leaves_the_statistics_alone(heads):
    ours = heads[1].eval()
    before = copy.deepcopy(ours.batch_norm.state_dict())
    ours(stage_maps(EVEN, torch.float32))
    assert all(torch.equal(value, before[name]) for name, value in ours.batch_norm.state_dict().items())


def test_state_dict_keys_and_shapes_are_those_of_transformers(heads):
    stock, ours = ({name: value.shape for name, value in head.state_dict().items()} for head in heads)
    assert ours == stock


def test_dropout_acts_in_training_only():
    config = SegformerConfig(hidden_sizes=CHANNELS, decoder_hidden_size=12, num_labels=5, classifier_dropout_prob=0.5)
    head = ExactDecodeHead(config)
    maps = stage_maps(EVEN, torch.float32)
    head.eval()
    assert torch.equal(head(maps), head(maps))
    head.train()
    assert not torch.equal(head(maps), head(maps))


def test_a_missing_stage_is_an_error_not_a_smaller_sum(heads):
    with pytest.raises((ValueError, RuntimeError)):
        heads[1](stage_maps(EVEN, torch.float32)[:3])


def test_under_autocast_the_weights_are_composed_in_full_precision(heads):
    ours = heads[1]
    expected_weights, expected_bias = ours._composed()
    with torch.autocast("cpu", torch.bfloat16):
        weights, bias = ours._composed()
    for found, expected in zip([*weights, bias], [*expected_weights, expected_bias], strict=True):
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_under_autocast_logits_and_gradients_are_close(heads, training):
    ours, maps = heads[1].train(training), stage_maps(ODD, torch.float32)
    results = []
    for enabled in (True, False):
        ours.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = ours(maps)
        logits.float().square().mean().backward()
        results.append((logits, ours.linear_fuse.weight.grad.clone()))
    (logits, gradient), (expected_logits, expected_gradient) = results
    assert (logits.dtype, gradient.dtype) == (torch.bfloat16, torch.float32)
    # bfloat16 rounds to 1/256, once for each of the four stages, the norm, and the classifier
    assert_equal_to(logits.float(), expected_logits, 0.03)
    assert_equal_to(gradient, expected_gradient, 0.06)


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_compiled_whole_it_gives_the_same_logits_and_gradients(heads, training):
    ours, maps = heads[1].train(training), stage_maps(ODD, torch.float32)
    results = []
    for head in (torch.compile(ours, backend="aot_eager", fullgraph=True), ours):
        ours.zero_grad()
        logits = head(maps)
        logits.square().sum().backward()
        results.append([logits, *(parameter.grad for parameter in ours.parameters())])
    compiled, eager = results
    largest = max(gradient.abs().max() for gradient in eager[1:])
    assert_equal_to(compiled[0], eager[0], 1e-5)
    for found, expected in zip(compiled[1:], eager[1:], strict=True):
        assert (found - expected).abs().max() <= 1e-5 * largest


@pytest.mark.parametrize("source", [0, 1], ids=["theirs to ours", "ours to theirs"])
def test_a_checkpoint_of_one_head_gives_the_other_the_same_answers(heads, shaken, source, tmp_path):
    source, target = (heads[source].eval(), shaken(heads[1 - source]).eval())
    torch.save(source.state_dict(), tmp_path / "head.pt")
    maps = stage_maps(ODD, torch.float32)
    assert not torch.allclose(target(maps), source(maps), atol=1e-3)
    target.load_state_dict(torch.load(tmp_path / "head.pt", weights_only=True), strict=True)
    assert_equal_to(target(maps), source(maps), 1e-5)


@pytest.fixture
def one_process(tmp_path):
    """torch.distributed with this process alone."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_shared_among_processes_it_has_the_same_gradients(heads, one_process):
    stock, ours = (head.train() for head in heads)
    alone, maps = copy.deepcopy(ours), stage_maps(ODD, torch.float32)
    for head in (DistributedDataParallel(ours), alone, stock):
        head(maps).square().sum().backward()
    largest = max(parameter.grad.abs().max() for parameter in stock.parameters())
    for (name, found), same, expected in zip(
        ours.named_parameters(), alone.parameters(), stock.parameters(), strict=True
    ):
        assert torch.equal(found.grad, same.grad), name
        assert (found.grad - expected.grad).abs().max() <= 1e-4 * largest, name
