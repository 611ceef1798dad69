"""The deployed form: the trained model's answers, and nothing of the trained model itself."""

import copy
import itertools
import math
import random
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import SegformerForSemanticSegmentation
from transformers.models.segformer.modeling_segformer import SegformerDropPath

from effiseg.base.schema import Norms
from effiseg.models import deploy
from effiseg.models.norms import DyL
from effiseg.models.outputs import Outputs
from effiseg.models.segformer import build_model, transformers_config

PLACES = list(Norms.model_fields)
NORM_NAMES = ["layernorm", "dyt", "dyl", "derf", "batchnorm"]
SIZES = [(64, 96), (97, 130), (33, 47)]
DTYPES = [pytest.param(torch.float64, 1e-10, id="float64"), pytest.param(torch.float32, 1e-5, id="float32")]

drawn = random.Random(0)
ONE_PLACE = [{place: name} for place, name in itertools.product(PLACES, NORM_NAMES[1:])]
EVERYWHERE = [dict.fromkeys(PLACES, name) for name in NORM_NAMES]
BOTTLENECKS = [{"embedding": "bottleneck", **norms} for norms in EVERYWHERE]
MIXTURES = [{place: drawn.choice(NORM_NAMES) for place in PLACES} for _ in range(10)]


def written(norms: dict[str, str]) -> str:
    return "-".join(f"{place}:{name}" for place, name in norms.items())


every_norm = pytest.mark.parametrize("norms", [*ONE_PLACE, *EVERYWHERE, *BOTTLENECKS, *MIXTURES], ids=written)
one_everywhere = pytest.mark.parametrize("norms", [*EVERYWHERE, BOTTLENECKS[1]], ids=[*NORM_NAMES, "bottleneck"])


@pytest.fixture
def make(tiny, settings_with, shaken, classes) -> Callable[..., nn.Module]:
    """A tiny model of these norms in eval mode, all weights and statistics shaken."""
    return lambda **settings: shaken(build_model(settings_with(**settings), classes)).eval()


def assert_equal_to(found, expected, tolerance):
    """Relative to the largest value: single entries may be differences of large numbers."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


def assert_all_equal_to(found, expected, tolerance):
    """The outputs of one pass: logits, features and embeddings."""
    assert_equal_to(found.logits, expected.logits, tolerance)
    for kind in ("features", "embeddings"):
        for ours, theirs in zip(getattr(found, kind), getattr(expected, kind), strict=True):
            assert_equal_to(ours, theirs, tolerance)


# --- against the trained form -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@every_norm
def test_all_outputs_are_those_of_the_trained_model(make, pixels, norms, dtype, tolerance):
    model = make(**norms)
    deployed = deploy(copy.deepcopy(model).to(dtype))
    model.double()  # what both forms round: in float32 the trained one may be the farther from it
    for size, count in zip(SIZES, (1, 3, 3), strict=True):
        images = pixels(count, 3, *size)
        with torch.no_grad():
            exact = model.outputs(images)
            features, embeddings = ([each.to(dtype) for each in maps] for maps in (exact.features, exact.embeddings))
            expected = Outputs(exact.logits.to(dtype), features, embeddings)
            # features are not averaged by a head, and a LayerNorm enlarges the rounding where tokens hardly differ
            assert_all_equal_to(deployed.outputs(images), expected, 3 * tolerance)
            assert_equal_to(deployed(images), expected.logits, tolerance)


@one_everywhere
def test_uint8_and_float_pixels_give_the_same_logits(make, pixels, norms):
    deployed, images = deploy(make(**norms)), pixels(2, 3, 64, 96)
    assert torch.equal(deployed(images), deployed(images.float()))


@pytest.mark.parametrize(("mean", "std"), [((0, 0, 0), (1, 1, 1)), ((0.5, 0.25, 0.0), (0.1, 0.2, 1.0))])
@one_everywhere
def test_any_input_normalisation_is_that_of_the_model(make, pixels, norms, mean, std):
    model, images = make(mean=mean, std=std, **norms), pixels(2, 3, 33, 47)
    with torch.no_grad():
        assert_equal_to(deploy(model)(images), model(images), 1e-5)


@pytest.mark.parametrize(("variant", "size"), [("b0", (64, 128)), ("b2", (64, 64))])
def test_networks_of_real_size_answer_as_those_of_transformers(
    variant, size, settings_with, shaken, classes, pixels, normalised
):
    model = shaken(build_model(settings_with(variant), classes)).eval()
    stock = SegformerForSemanticSegmentation(transformers_config(settings_with(variant), classes)).eval()
    stock.load_state_dict(model.network.state_dict())
    images = pixels(2, 3, *size)
    with torch.no_grad():
        assert_equal_to(deploy(model)(images), stock(normalised(images)).logits, 1e-5)


@one_everywhere
def test_a_trained_model_keeps_its_answers(make, pixels, norms):
    model, images = make(**norms).train(), pixels(4, 3, 64, 96)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(10):
        optimizer.zero_grad()
        F.cross_entropy(model(images), images[:, 0, ::4, ::4].long() // 64).backward()
        optimizer.step()
    assert not any(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        assert_equal_to(deploy(model)(images), model.eval()(images), 1e-5)


@one_everywhere
def test_under_autocast_the_logits_are_close(make, pixels, norms):
    deployed, images = deploy(make(**norms)), pixels(2, 3, 64, 96)
    with torch.autocast("cpu", torch.bfloat16):
        logits = deployed(images)
    assert logits.dtype == torch.bfloat16
    # bfloat16 rounds to 1/256, and the roundings of some dozen layers one after the other add up
    assert_equal_to(logits.float(), deployed(images), 0.05)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 3])
def test_logits_are_contiguous_at_a_quarter_of_the_size_rounded_up(model, pixels, count, size):
    logits = deploy(model)(pixels(count, 3, *size))
    assert logits.shape == (count, 5, *(math.ceil(side / 4) for side in size))
    assert logits.is_contiguous()


def test_the_head_is_skipped_when_nobody_wants_logits(model, pixels):
    deployed, images, calls = deploy(model), pixels(1, 3, 64, 64), []
    deployed.head.register_forward_hook(lambda *_: calls.append(1))
    without = deployed.outputs(images, with_logits=False)
    assert without.logits is None
    assert not calls
    whole = deployed.outputs(images)
    assert calls == [1]
    for found, expected in zip(without.features + without.embeddings, whole.features + whole.embeddings, strict=True):
        assert torch.equal(found, expected)


# --- apart from the trained model -------------------------------------------------------------------------------------


def parts_of(module):
    """Everything that a module is made of: modules, parameters and buffers."""
    return [*module.modules(), *module.parameters(), *module.buffers()]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@one_everywhere
def test_the_model_that_was_handed_over_stays_as_it_is(make, pixels, norms, training):
    model = make(**norms).train(training)
    next(model.parameters()).requires_grad_(False)  # one of both kinds
    parts = {id(part) for part in parts_of(model)}
    state = copy.deepcopy(model.state_dict())
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    deploy(model)(pixels(1, 3, 64, 64))
    assert {id(part) for part in parts_of(model)} == parts
    assert all(module.training == training for module in model.modules())
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@one_everywhere
def test_nothing_is_shared_with_the_model_that_was_handed_over(make, norms, dtype):
    model = make(**norms).to(dtype)
    deployed = deploy(model)
    assert not {id(part) for part in parts_of(model)} & {id(part) for part in parts_of(deployed)}
    memory = {value.untyped_storage().data_ptr() for value in (*model.parameters(), *model.buffers())}
    shared = [
        name
        for name, value in (*deployed.named_parameters(), *deployed.named_buffers())
        if value.untyped_storage().data_ptr() in memory
    ]
    assert shared == []


@every_norm
def test_nothing_is_left_that_trains_or_folds(make, norms):
    deployed = deploy(make(**norms).train())
    assert not any(parameter.requires_grad for parameter in deployed.parameters())
    assert not any(module.training for module in deployed.modules())
    gone = (nn.Dropout, nn.BatchNorm2d, SegformerDropPath, DyL)
    assert [name for name, module in deployed.named_modules() if isinstance(module, gone)] == []


@pytest.mark.parametrize("norm", ["dyl", "batchnorm"])
def test_a_linear_norm_leaves_nothing_wherever_it_stands(make, norm):
    deployed = deploy(make(**dict.fromkeys(PLACES, norm)))
    for stage in deployed.stages:
        assert isinstance(stage.norm, nn.Identity)
        assert isinstance(stage.embed.norm, nn.Identity)
        for block in stage.blocks:
            assert isinstance(block.before_attention, nn.Identity)
            assert isinstance(block.before_mlp, nn.Identity)
    reductions = [block.reduction for stage in list(deployed.stages)[:3] for block in stage.blocks]
    assert len(reductions) == 4
    assert all(isinstance(reduction.core, nn.Identity) for reduction in reductions)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_a_channel_that_is_its_shift_alone_is_told_at_the_padding_too(make, pixels, dtype, tolerance):
    model = make(stage_output="batchnorm").to(dtype)
    for stage in model.network.segformer.stages:
        with torch.no_grad():
            stage.layer_norm.weight[:2] = torch.tensor([0.0, 1e-9])
            stage.layer_norm.bias[:2] = 3.0
    images = pixels(2, 3, 64, 96)
    with torch.inference_mode():
        assert_all_equal_to(deploy(model).outputs(images), model.outputs(images), tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_the_shift_inside_erf_is_part_of_the_answer(make, pixels, dtype, tolerance):
    model, images = make(**dict.fromkeys(PLACES, "derf")).to(dtype), pixels(2, 3, 64, 96)
    answers = []
    for shift in (0.0, 0.4):
        for name, parameter in model.named_parameters():
            if name.endswith(".shift"):
                parameter.detach().fill_(shift)
        with torch.no_grad():
            answers.append(model(images))
        assert_equal_to(deploy(model)(images), answers[-1], tolerance)
    assert (answers[0] - answers[1]).abs().max() > 0.01 * answers[0].abs().max()


def test_the_answer_is_always_that_of_evaluation(model, pixels):
    images = pixels(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(images)
    deployed = deploy(model.train())
    first, second = deployed(images), deployed.train()(images)
    assert torch.equal(first, second)
    assert_equal_to(first, expected, 1e-5)


# --- copies -----------------------------------------------------------------------------------------------------------


@one_everywhere
def test_it_survives_copying_and_a_file(make, pixels, norms, tmp_path):
    deployed, images = deploy(make(**norms)), pixels(1, 3, 64, 96)
    expected = deployed(images)
    assert torch.equal(copy.deepcopy(deployed)(images), expected)
    torch.save(deployed.state_dict(), tmp_path / "deployed.pt")
    other = deploy(make(**norms))
    assert not torch.equal(other(images), expected)
    other.load_state_dict(torch.load(tmp_path / "deployed.pt", weights_only=True))
    assert torch.equal(other(images), expected)


def test_a_deployed_form_is_returned_as_it_is_and_anything_else_is_refused(make):
    deployed = deploy(make())
    assert deploy(deployed) is deployed
    with pytest.raises(TypeError, match="found Linear, expected a model from build_student"):
        deploy(nn.Linear(1, 1))
