"""Logits and labels of a few pixels."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def logits_of() -> Callable[[list[list[float]]], Tensor]:
    """Logits (1, C, 1, W) whose softmax gives the probabilities written down pixel by pixel."""

    def make(pixels: list[list[float]]) -> Tensor:
        # a constant per pixel changes no softmax
        logs = [[math.log(p) + 3 * index for p in pixel] for index, pixel in enumerate(pixels)]
        return torch.tensor(logs).T[None, :, None, :]

    return make


@pytest.fixture(scope="session")
def finite_gradient() -> Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]:
    """Calls the loss on the input, asserts that value and gradient are finite, and returns the gradient."""

    def check(loss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
        at = at.detach().clone().requires_grad_()
        value = loss(at)
        assert value.shape == ()
        assert value.dtype == torch.float32
        assert value.isfinite()
        value.backward()
        assert at.grad.isfinite().all()
        return at.grad

    return check
