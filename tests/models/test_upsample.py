"""Upsampling by matrix products is PyTorch's to rounding, forwards and backwards."""

import pytest
import torch
import torch.nn.functional as F

from effiseg.models.upsample import upsample


@pytest.mark.parametrize(
    ("before", "after"), [((8, 12), (32, 48)), ((5, 7), (19, 40)), ((6, 6), (6, 6)), ((1, 3), (4, 9))]
)
def test_it_is_bilinear_interpolation(before: tuple[int, int], after: tuple[int, int]) -> None:
    maps = torch.randn(2, 3, *before, dtype=torch.float64, requires_grad=True)
    expected = F.interpolate(maps, size=after, mode="bilinear", align_corners=False)
    found = upsample(maps, after)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(expected)
    (gradient,), (wanted,) = (torch.autograd.grad((each * weights).sum(), maps) for each in (found, expected))
    torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=1e-12)


def test_half_precision_around_it_rounds_nothing() -> None:
    maps = torch.randn(1, 2, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = upsample(maps, (32, 32))
    torch.testing.assert_close(found, F.interpolate(maps, size=(32, 32), mode="bilinear", align_corners=False))


def test_what_is_kept_for_the_next_call_serves_a_backward_pass() -> None:
    with torch.inference_mode():
        upsample(torch.zeros(1, 1, 3, 11), (6, 22))
    maps = torch.zeros(1, 1, 3, 11, requires_grad=True)
    upsample(maps, (6, 22)).sum().backward()
    assert maps.grad is not None and maps.grad.sum() == pytest.approx(6 * 22)
