"""Networks to evaluate, and splits of any content."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from effiseg.base.config import Config
from effiseg.data.prepared import Split
from effiseg.models.segformer import Segmenter, build_model
from tests.settings import CITYSCAPES


@pytest.fixture
def make_model(make_config: Callable[..., Config]) -> Callable[[str], Segmenter]:
    """The random network of a row, in eval mode."""

    def make(name: str = "baseline") -> Segmenter:
        return build_model(make_config().row(name).model, CITYSCAPES.classes).eval()

    return make


@pytest.fixture
def make_split() -> Callable[..., Split]:
    """Random images of 32x64 with random labels, a quarter of them void."""

    def make(count: int, label_size: tuple[int, int] = (64, 128)) -> Split:
        images = torch.randint(256, (count, 3, 32, 64), dtype=torch.uint8).numpy()
        labels = torch.randint(19, (count, *label_size), dtype=torch.uint8)
        labels[torch.rand(labels.shape) < 0.25] = 255
        return Split(images, labels.numpy(), tuple(map(str, np.arange(count))))

    return make
