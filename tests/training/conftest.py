"""Networks and batches for the tests of the training."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from effiseg.config import Config
from effiseg.data.labels import CITYSCAPES
from effiseg.models.segformer import Segmenter, build_model
from effiseg.training.task import Task


@pytest.fixture(scope="session")
def b2(make_config: Callable[..., Config]) -> Segmenter:
    """A random teacher of the shipped size."""
    torch.manual_seed(7)
    return build_model(make_config().teacher.model(), CITYSCAPES.classes)


@pytest.fixture(scope="session")
def b0(make_config: Callable[..., Config]) -> Segmenter:
    """A random teacher that is quick to ask."""
    torch.manual_seed(8)
    return build_model(make_config(teacher={"variant": "b0"}).teacher.model(), CITYSCAPES.classes)


@pytest.fixture
def make_task(make_config: Callable[..., Config], b0: Segmenter) -> Callable[..., Task]:
    """The task of a row, its sections changed by the arguments."""

    def make(
        name: str = "baseline",
        *,
        teacher: Segmenter | None = b0,
        class_weights: Sequence[float] = (1.0, 2.0, *[5.0] * 17),
        **changes: Any,
    ) -> Task:
        row = make_config(**changes).row(name)
        return Task(build_model(row.model, CITYSCAPES.classes), teacher, row, class_weights)

    return make


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Two images and their labels, with some void."""
    labels = torch.randint(19, (2, 4, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    labels[:, :4] = 255
    return torch.randint(256, (2, 3, 32, 64), dtype=torch.uint8), labels.to(torch.uint8)
