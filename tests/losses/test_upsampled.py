"""Cross-entropy of logits that are upsampled band by band is that of logits upsampled as a whole."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from effiseg.losses import upsampled
from effiseg.losses.supervised import weighted_cross_entropy

VOID = 255
CLASSES = 5
WEIGHTS = torch.tensor([0.5, 2.0, 4.0, 1.0, 3.0], dtype=torch.float64)


def whole(logits: Tensor, labels: Tensor) -> Tensor:
    """By PyTorch alone."""
    pixels = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
    return F.cross_entropy(pixels, labels, WEIGHTS.to(logits.dtype), ignore_index=VOID)


def batch(before: tuple[int, int], after: tuple[int, int]) -> tuple[Tensor, Tensor]:
    logits = 3 * torch.randn(2, CLASSES, *before, dtype=torch.float64)
    labels = torch.randint(CLASSES, (2, *after))
    labels[torch.rand(labels.shape) < 0.2] = VOID
    return logits.requires_grad_(), labels


def value_and_gradient(loss: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    return loss, torch.autograd.grad(3 * loss, logits)[0]


@pytest.mark.parametrize("band", [1, 700, 2**19], ids=["line by line", "several lines", "at once"])
@pytest.mark.parametrize(("before", "after"), [((8, 12), (32, 48)), ((5, 7), (19, 27)), ((1, 3), (4, 9))])
def test_value_and_gradient(
    band: int, before: tuple[int, int], after: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upsampled, "BAND", band)
    monkeypatch.setattr(Tensor, "float", Tensor.double)  # by which the losses say in what they are computed
    logits, labels = batch(before, after)
    found = value_and_gradient(weighted_cross_entropy(logits, labels, WEIGHTS), logits)
    torch.testing.assert_close(found, value_and_gradient(whole(logits, labels), logits), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_half_precision_around_it_rounds_nothing(dtype: torch.dtype) -> None:
    logits, labels = batch((8, 12), (32, 48))
    rounded = logits.detach().to(dtype).requires_grad_()
    expected, wanted = value_and_gradient(whole(rounded.double(), labels), rounded)
    with torch.autocast("cpu", torch.bfloat16):
        loss = weighted_cross_entropy(rounded, labels, WEIGHTS.float())
    found, gradient = value_and_gradient(loss, rounded)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient, wanted, rtol=0.01 if dtype == torch.bfloat16 else 1e-5, atol=1e-7)


def test_without_a_valid_pixel_it_is_zero() -> None:
    logits, labels = batch((4, 4), (16, 16))
    found, gradient = value_and_gradient(
        weighted_cross_entropy(logits, torch.full_like(labels, VOID), WEIGHTS.float()), logits
    )
    assert found == 0
    assert not gradient.any()
