"""Every term at the sizes of a training, under autocast, against float64: sums over a whole batch must not overflow."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from effiseg.base.config import Config
from effiseg.losses.terms import LOSSES, Setting, Signals
from effiseg.models.outputs import Outputs

CLASSES, SIZE = 19, (256, 512)
STUDENT, TEACHER = [32, 64, 160, 256], [64, 128, 320, 512]
GRIDS = [(SIZE[0] // stride, SIZE[1] // stride) for stride in (4, 8, 16, 32)]
PROJECTED = ("cskd", "pekd", "feature_mse")  # their projectors are layers, which autocast runs in half precision
LOSS_SCALE = 2.0**16  # the first one of a training in float16, without which its gradients would vanish

Build = Callable[[str], nn.Module]


@pytest.fixture
def build(shipped: Config) -> Build:
    def make(name: str) -> nn.Module:
        torch.manual_seed(1)  # the same projectors
        return LOSSES[name](shipped.loss, Setting(torch.linspace(0.5, 3, CLASSES), STUDENT, TEACHER))

    return make


def outputs(channels: list[int], dtype: torch.dtype) -> Outputs:
    """Random maps in half precision, as networks hand them over under autocast; class 0 fills most of the image."""
    grids = list(zip(channels, GRIDS, strict=True))
    logits = 2 * torch.randn(2, CLASSES, *GRIDS[0])
    logits[:, 0] += 5
    return Outputs(
        logits.to(dtype),
        [torch.randn(2, c, h, w).to(dtype) for c, (h, w) in grids],
        [torch.randn(2, h * w, c).to(dtype) for c, (h, w) in grids],
    )


def doubled(given: Outputs) -> Outputs:
    return Outputs(given.logits.double(), [x.double() for x in given.features], [x.double() for x in given.embeddings])


def value_and_gradient(
    term: nn.Module, student: Outputs, labels: Tensor, teacher: Outputs, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """A term's value and, in float64, its gradient: of all that the student hands over and of the projectors.

    Args:
        dtype: of autocast, which ends before the backward pass, as in training.
    """
    leaves = [leaf.detach().requires_grad_() for leaf in (student.logits, *student.features, *student.embeddings)]
    student = Outputs(leaves[0], leaves[1:5], leaves[5:])
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        value = term(Signals(student.logits, labels, student, teacher))
    (LOSS_SCALE * value).backward()
    gradients = [leaf.grad for leaf in (*leaves, *term.parameters()) if leaf.grad is not None]
    return value, torch.cat([gradient.flatten().double() / LOSS_SCALE for gradient in gradients])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_under_autocast_a_terms_value_and_gradient_are_those_of_float64(
    name: str, dtype: torch.dtype, build: Build, monkeypatch: pytest.MonkeyPatch
):
    student, teacher = outputs(STUDENT, dtype), outputs(TEACHER, dtype)
    labels = torch.randint(CLASSES, (2, *SIZE)).where(torch.rand(2, *SIZE) < 0.3, 0).to(torch.uint8)
    labels[:, :20] = 255
    value, gradient = value_and_gradient(build(name), student, labels, teacher, dtype)
    assert value.dtype == torch.float32

    monkeypatch.setattr(Tensor, "float", Tensor.double)  # by which the losses say in what they are computed
    exact_value, exact_gradient = value_and_gradient(build(name).double(), doubled(student), labels, doubled(teacher))
    # a value of float32; the gradient that is handed back is rounded, by a fifth of eps in the mean
    rounding = torch.finfo(dtype).eps
    of_value, of_gradient = (rounding / 100, 0.4 * rounding) if name in PROJECTED else (1e-6, 0.25 * rounding)
    assert abs(value - exact_value) <= of_value * exact_value
    assert (gradient - exact_gradient).norm() <= of_gradient * exact_gradient.norm()
