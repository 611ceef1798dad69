"""Linear layers by oneDNN where MKL is slow: the digits of `F.linear`, and its gradients."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.export import export

from effiseg.models import products
from effiseg.models.products import Linear, Pointwise, linear, pointwise, prefers_onednn, swap_linears

SHAPES = [((5, 3), 4), ((2, 7, 16), 8), ((2, 3, 5, 8), 16), ((0, 4), 3), ((1, 1), 1)]
NAMES = {"AMD EPYC 9B45": True, "Intel(R) Xeon(R) Processor": False, "GenuineIntel": False}

has_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@pytest.fixture
def by_onednn(monkeypatch):
    """oneDNN's products, whoever made the CPU."""
    monkeypatch.setattr(products, "prefers_onednn", lambda: True)


def counted(monkeypatch) -> list[int]:
    """Grows by one with each product of oneDNN."""
    calls, product = [], products._product
    monkeypatch.setattr(products, "_product", lambda *of: calls.append(1) or product(*of))
    return calls


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@has_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("shape", "width"), SHAPES)
def test_values_and_gradients_are_those_of_torch(by_onednn, monkeypatch, shape, width, bias):
    calls = counted(monkeypatch)
    ours = [torch.randn(shape), torch.randn(width, shape[-1]), torch.randn(width) if bias else None]
    theirs = [value if value is None else value.clone().requires_grad_() for value in ours]
    ours = [value if value is None else value.requires_grad_() for value in ours]
    found, expected = linear(*ours), F.linear(*theirs)
    close(found, expected)
    slope = torch.randn_like(expected)
    found.backward(slope)
    expected.backward(slope)
    for one, other in zip(ours, theirs, strict=True):
        if one is not None:
            close(one.grad, other.grad)
    assert len(calls) == (3 if found.numel() else 0)  # forwards, to x, to the weight


@has_onednn
def test_maps_and_transposed_inputs(by_onednn):
    maps, weight, bias = torch.randn(2, 6, 5, 4), torch.randn(3, 6), torch.randn(3)
    expected = F.conv2d(maps, weight[:, :, None, None], bias)
    for layout in (torch.contiguous_format, torch.channels_last):
        close(pointwise(maps.contiguous(memory_format=layout), weight, bias), expected)
    layer = Pointwise(6, 3)
    close(layer(maps), nn.Conv2d.forward(layer, maps))


@has_onednn
def test_slices_reach_onednn_as_whole_matrices(by_onednn, monkeypatch):
    """oneDNN takes strides that are not a matrix's own, and then minutes for what takes milliseconds."""
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        torch.ops.mkldnn, "_linear_pointwise", lambda *of: seen.append(of[1]) or F.linear(*of[:3]), raising=False
    )
    x, weight = torch.randn(6, 5, 8)[..., 2:5].requires_grad_(), torch.randn(4, 8)[:, 1:4].requires_grad_()
    found = linear(x, weight)
    close(found, F.linear(x, weight))
    found[..., 1:3].square().sum().backward()
    assert len(seen) == 3
    assert all(each.is_contiguous() or each.T.is_contiguous() for each in seen)


@has_onednn
def test_only_what_is_asked_for_gets_a_gradient(by_onednn, monkeypatch):
    calls = counted(monkeypatch)
    weight = torch.randn(4, 3, requires_grad=True)
    linear(torch.randn(5, 3), weight).sum().backward()
    assert len(calls) == 2
    with torch.no_grad():
        assert not linear(torch.randn(5, 3), weight).requires_grad
    bias = torch.zeros(4, requires_grad=True)
    linear(torch.randn(5, 3), torch.randn(4, 3), bias).sum().backward()
    close(bias.grad, torch.full((4,), 5.0))


@has_onednn
def test_other_types_and_compilers_keep_torchs_own(by_onednn, monkeypatch):
    calls = counted(monkeypatch)
    layer, x = Linear(3, 4), torch.randn(5, 3)
    assert layer.double()(x.double()).dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer.float()(x).dtype == torch.bfloat16
    assert layer.to("meta")(x.to("meta")).is_meta
    graph = export(Linear(3, 4), (x,)).graph
    assert not [node for node in graph.nodes if "mkldnn" in str(node.target)]
    assert "mkldnn" not in str(torch.jit.trace(Linear(3, 4), x, check_trace=False).graph)
    assert not calls


def test_swapped_layers_keep_their_parameters():
    before = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 2), nn.LayerNorm(2)))
    after = copy.deepcopy(before)
    swap_linears(after)
    assert [type(layer) for layer in after.modules() if isinstance(layer, nn.Linear)] == [Linear, Linear]
    x = torch.randn(5, 3)
    close(after(x), before(x))
    after.load_state_dict(before.state_dict())


@pytest.mark.parametrize(("name", "expected"), NAMES.items())
def test_intels_cpus_stay_with_mkl(monkeypatch, name, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": name})
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert prefers_onednn.__wrapped__() is expected


def test_a_torch_that_does_not_tell_the_cpu_stays_with_mkl(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not prefers_onednn.__wrapped__()


def test_a_torch_without_mkl_is_left_alone(monkeypatch):
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert not prefers_onednn.__wrapped__()
