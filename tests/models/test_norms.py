"""DyT, DyL, Derf, batch norm, and where they stand."""

import math
from collections import Counter

import pytest
import torch
from torch import nn

from effiseg.base.schema import Norms
from effiseg.models.norms import NORMS, BatchNorm, Derf, DyL, DyT, norm_places, swap_norms, take_apart
from effiseg.models.segformer import build_model

CLASSES = [f"class {index}" for index in range(19)]
TANH = {"patch_embedding": "dyt"}
TANH_LINEAR = {"patch_embedding": "dyt", "block": "dyl", "sequence_reduction": "dyl"}
DERF = {"patch_embedding": "derf"}
BATCHNORM = dict.fromkeys(Norms.model_fields, "batchnorm")
WITH_ALPHA = ["dyt", "dyl", "derf"]


def set_parameters(norm: nn.Module, **values: list[float]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            getattr(norm, name).copy_(torch.tensor(value))


def test_dyt_is_gamma_tanh_alpha_x_plus_beta():
    norm = DyT(2, alpha_init=0.5)
    set_parameters(norm, alpha=[2.0], weight=[3.0, -1.0], bias=[0.25, 4.0])
    x = torch.tensor([[0.5, -0.25], [0.0, 100.0]])
    expected = [
        [3 * math.tanh(2 * 0.5) + 0.25, -1 * math.tanh(2 * -0.25) + 4],
        [3 * 0 + 0.25, -1 * 1 + 4],
    ]
    torch.testing.assert_close(norm(x), torch.tensor(expected))


def test_dyl_is_gamma_alpha_x_plus_beta_with_alpha_per_channel():
    norm = DyL(2, alpha_init=0.5)
    set_parameters(norm, alpha=[2.0, 0.5], weight=[3.0, -1.0], bias=[0.25, 4.0])
    x = torch.tensor([[0.5, -0.25], [0.0, 100.0]])
    expected = [
        [3 * 2 * 0.5 + 0.25, -1 * 0.5 * -0.25 + 4],
        [0.25, -1 * 0.5 * 100 + 4],
    ]
    torch.testing.assert_close(norm(x), torch.tensor(expected))


def test_derf_is_gamma_erf_alpha_x_plus_s_plus_beta():
    norm = Derf(2, alpha_init=0.5)
    set_parameters(norm, alpha=[2.0], shift=[-0.75], weight=[3.0, -1.0], bias=[0.25, 4.0])
    x = torch.tensor([[0.5, -0.25], [0.0, 100.0]])
    expected = [
        [3 * math.erf(2 * 0.5 - 0.75) + 0.25, -1 * math.erf(2 * -0.25 - 0.75) + 4],
        [3 * math.erf(-0.75) + 0.25, -1 * 1 + 4],
    ]
    torch.testing.assert_close(norm(x), torch.tensor(expected))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 9, 5), (7, 5)])
def test_batch_norm_is_that_of_all_tokens_of_the_batch(shape):
    norm, x = BatchNorm(5, 0.5).double(), 3 * torch.randn(shape, dtype=torch.float64) + 1
    set_parameters(norm, weight=[1.0, 2, 3, 4, 5], bias=[5.0, 4, 3, 2, 1])

    def by_hand(x: torch.Tensor) -> torch.Tensor:
        tokens = x.reshape(-1, 5)
        scale = norm.weight / (tokens.var(dim=0, correction=0) + norm.eps).sqrt()
        return ((tokens - tokens.mean(dim=0)) * scale + norm.bias).reshape(shape)

    x.requires_grad_()
    inputs = [x, norm.weight, norm.bias]
    found, expected = norm(x), by_hand(x)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(y.pow(3).sum(), inputs) for y in (found, expected)]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(norm.running_mean, 0.1 * x.detach().reshape(-1, 5).mean(dim=0))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * x.detach().reshape(-1, 5).var(dim=0))


@pytest.mark.parametrize(("name", "alphas"), [("dyt", 1), ("dyl", 7), ("derf", 1)])
def test_new_norms_start_with_the_asked_alpha_gamma_one_and_all_else_zero(name, alphas):
    norm = NORMS[name](7, alpha_init=0.3)
    parameters = dict(norm.named_parameters())
    assert set(parameters) == {"alpha", "weight", "bias"} | ({"shift"} if name == "derf" else set())
    assert torch.equal(parameters["alpha"], torch.full((alphas,), 0.3))
    assert torch.equal(parameters["weight"], torch.ones(7))
    assert torch.equal(parameters["bias"], torch.zeros(7))
    assert torch.equal(parameters.get("shift", torch.zeros(1)), torch.zeros(1))


@pytest.mark.parametrize("name", NORMS)
def test_new_norms_treat_every_position_alike_and_keep_the_shape(name):
    norm = NORMS[name](5, alpha_init=0.5).eval()
    set_parameters(norm, weight=[1.0, 2, 3, 4, 5], bias=[5.0, 4, 3, 2, 1])
    x = torch.randn(2, 3, 4, 5)
    whole = norm(x)
    assert whole.shape == x.shape
    torch.testing.assert_close(whole[1, 2, 3], norm(x[1, 2, 3]))


@pytest.mark.parametrize("name", NORMS)
def test_gradients_reach_every_parameter_of_a_new_norm(name):
    norm = NORMS[name](3, alpha_init=0.5)
    norm(torch.tensor([[0.1, -0.2, 0.3], [0.3, 0.1, 0.4]])).pow(3).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in norm.parameters())


@pytest.mark.parametrize("name", WITH_ALPHA)
def test_repr_tells_channels_and_first_alpha(name):
    assert NORMS[name](7, alpha_init=0.3).extra_repr() == "7, alpha_init=0.3"


@pytest.mark.parametrize("name", ["layernorm", *NORMS])
def test_the_parts_of_a_norm_make_it_up_again(name, shaken):
    norm = shaken(nn.LayerNorm(7) if name == "layernorm" else NORMS[name](7, alpha_init=0.5)).double().eval()
    parts = take_apart(norm)
    x = 3 * torch.randn(4, 5, 7, dtype=torch.float64) + 1
    inner = torch.ones(()) if parts.inner is None else parts.inner
    assert inner.shape == ()
    assert parts.scale.shape == parts.shift.shape == (7,)
    torch.testing.assert_close(parts.scale * parts.core(inner * x) + parts.shift, norm(x), rtol=1e-12, atol=1e-12)


def test_the_core_of_a_norm_keeps_at_most_a_shift_of_its_own_and_that_of_a_linear_norm_computes_nothing():
    norms = [nn.LayerNorm(7, eps=0.1), DyT(7, alpha_init=0.5), DyL(7, alpha_init=0.5), Derf(7, alpha_init=0.5)]
    set_parameters(norms[3], shift=[0.3])
    cores = [take_apart(norm).core for norm in norms]
    assert not any(core is norm for core, norm in zip(cores, norms, strict=True))
    assert not any(list(core.parameters()) for core in cores[:3])
    # the shift stands inside erf, where no neighbour can absorb it; it is a copy
    (shift,) = cores[3].parameters()
    assert torch.equal(shift, norms[3].shift)
    assert shift.data_ptr() != norms[3].shift.data_ptr()
    assert cores[0].eps == 0.1
    assert isinstance(cores[2], nn.Identity)


def test_b0_has_thirty_norms_under_names_of_their_own(settings_with):
    places = list(norm_places(build_model(settings_with(), CLASSES).network))
    assert Counter(place for place, *_ in places) == {
        "patch_embedding": 4,
        "block": 16,
        "sequence_reduction": 6,
        "stage_output": 4,
    }
    assert len({name for _, name, *_ in places}) == 30
    assert len({(id(holder), attribute) for *_, holder, attribute in places}) == 30


def test_the_places_are_all_layer_norms_of_the_network(settings_with):
    network = build_model(settings_with(), CLASSES).network
    found = {id(module) for module in network.modules() if isinstance(module, nn.LayerNorm)}
    assert {id(getattr(holder, attribute)) for _, _, holder, attribute in norm_places(network)} == found


@pytest.mark.parametrize("place", ["patch_embedding", "block", "sequence_reduction", "stage_output"])
@pytest.mark.parametrize("norm", NORMS)
def test_a_swap_touches_the_named_place_and_nothing_else(tiny, settings_with, place, norm):
    network = build_model(settings_with(), CLASSES).network
    before = dict(network.named_modules())
    state = {name: value.clone() for name, value in network.state_dict().items()}
    swap_norms(network, settings_with(**{place: norm}).norms, alpha_init=0.3)

    swapped = [getattr(holder, attribute) for where, _, holder, attribute in norm_places(network) if where == place]
    assert {type(module) for module in swapped} == {NORMS[norm]}
    assert norm not in WITH_ALPHA or all(torch.all(module.alpha == 0.3) for module in swapped)
    changed = {id(module) for name, module in network.named_modules() if before.get(name) is not module}
    assert changed == {id(module) for module in swapped}
    untouched = [name for name, module in network.named_modules() if before.get(name) is module]
    for name, value in network.state_dict().items():
        if name.rpartition(".")[0] in untouched:
            assert torch.equal(value, state[name])


def test_swapping_layernorm_for_layernorm_keeps_the_modules(tiny, settings_with):
    network = build_model(settings_with(), CLASSES).network
    before = dict(network.named_modules())
    swap_norms(network, Norms(**settings_with().norms.model_dump()), alpha_init=0.5)
    assert all(before[name] is module for name, module in network.named_modules())


# LayerNorm holds 2C parameters, DyT 2C + 1, Derf 2C + 2 and DyL 3C. The four patch embeddings' DyT thus add 4,
# Derf 8; DyL adds C per place:
# B0: blocks 2 * 2 * (32 + 64 + 160 + 256), reductions 2 * (32 + 64 + 160)
B0_LINEAR = 2 * 2 * (32 + 64 + 160 + 256) + 2 * (32 + 64 + 160)
# B2: blocks 2 * depth * C, reductions depth * C for the first three stages
B2_LINEAR = 2 * (3 * 64 + 4 * 128 + 6 * 320 + 3 * 512) + (3 * 64 + 4 * 128 + 6 * 320)


@pytest.mark.parametrize(
    ("variant", "norms", "expected"),
    [
        ("b0", {}, 3_719_027),
        ("b0", TANH, 3_719_027 + 4),
        ("b0", DERF, 3_719_027 + 8),
        ("b0", TANH_LINEAR, 3_719_027 + 4 + B0_LINEAR),
        ("b2", {}, 27_361_235),
        ("b2", TANH, 27_361_235 + 4),
        ("b2", TANH_LINEAR, 27_361_235 + 4 + B2_LINEAR),
    ],
)
def test_parameter_counts_with_19_classes(settings_with, variant, norms, expected):
    with torch.device("meta"):
        model = build_model(settings_with(variant, **norms), CLASSES)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_the_shipped_rows_have_the_norms_that_their_names_say(shipped):
    layernorm = dict.fromkeys(Norms.model_fields, "layernorm")
    expected = {
        "tanh": TANH,
        "tanh_linear": TANH_LINEAR,
        "combined": TANH_LINEAR,
        "tanh_reduction": TANH | {"sequence_reduction": "dyt"},
        "tanh_linear_all": TANH_LINEAR | {"stage_output": "dyl"},
        "derf": DERF,
        "batchnorm": BATCHNORM,
        "tanh_batchnorm": BATCHNORM | TANH,
        "tanh_alpha_02": TANH,
        "tanh_alpha_10": TANH,
    }
    assert {name: shipped.row(name).model.norms.model_dump() for name in shipped.experiments} == {
        name: layernorm | expected.get(name, {}) for name in shipped.experiments
    }
    alphas = {name: shipped.row(name).model.alpha_init for name in shipped.experiments}
    assert {name: alpha for name, alpha in alphas.items() if alpha != 0.5} == {
        "tanh_alpha_02": 0.2,
        "tanh_alpha_10": 1.0,
    }


@pytest.mark.parametrize("kind", sorted(NORMS))
def test_a_norm_is_fitted_to_what_it_can_be(kind: str):
    x = torch.randn(4000, 3) * torch.tensor([2.0, 3.0, 5.0]) + torch.tensor([0.0, 1.0, -1.0])
    wanted, found = NORMS[kind](3, 0.5).eval(), NORMS[kind](3, 0.5).eval()
    with torch.no_grad():
        if kind in WITH_ALPHA:
            wanted.alpha.fill_(float(0.7 / x.std()))  # one of the few that are tried
        wanted.weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
        wanted.bias.copy_(torch.tensor([0.1, 0.2, -0.3]))
        expected = wanted(x)
    found.fit(x, expected)
    torch.testing.assert_close(found(x), expected, atol=1e-4, rtol=1e-4)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in found.parameters())
