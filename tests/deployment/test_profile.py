"""What models cost: against the published figures and against counts by hand."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from effiseg.base.config import Config
from effiseg.base.schema import Model
from effiseg.deployment import profile as module
from effiseg.deployment.profile import Macs, count_macs, count_parameters, measure_speed, profile
from effiseg.models.segformer import build_model
from tests.settings import CITYSCAPES

CPU = torch.device("cpu")
PAPER_SIZE = (512, 1024)
CLASSES = CITYSCAPES.classes


@pytest.fixture(scope="module", autouse=True)
def tiny() -> None:
    """Nothing is narrowed here: what counts are the published widths."""


@pytest.fixture(scope="module")
def models(make_config: Callable[..., Config]) -> dict[str, Model]:
    config = make_config()
    return {name: config.row(name).model for name, _ in (*config.teachers(), *config.runs())}


@pytest.mark.parametrize(("name", "millions"), [("baseline", 3.719027), ("teacher", 27.361235)])
def test_parameters_are_those_published(models: dict[str, Model], name: str, millions: float):
    assert count_parameters(build_model(models[name], CLASSES)) == round(millions * 1e6)


def test_norms_change_the_parameters_by_their_alphas_alone(models: dict[str, Model]):
    counts = {
        name: count_parameters(build_model(models[name], CLASSES)) for name in ("baseline", "tanh", "tanh_linear")
    }
    assert counts["tanh"] - counts["baseline"] == 4
    # DyL has an alpha per channel: two before attention and MLP, one after the reduction, which stage 4 has not
    widths = np.array([32, 64, 160, 256])
    assert counts["tanh_linear"] - counts["tanh"] == (2 * 2 * widths).sum() + (2 * widths[:3]).sum()


@pytest.mark.parametrize(("name", "published", "paper"), [("baseline", 17.76, 13.60), ("teacher", 129.16, 113.9)])
def test_multiply_adds_at_the_papers_size(models: dict[str, Model], name: str, published: float, paper: float):
    macs = count_macs(models[name], CLASSES, PAPER_SIZE)
    assert macs.published == pytest.approx(published, rel=0.005)
    assert macs.paper == pytest.approx(paper, rel=0.005)
    assert macs.executed < 0.6 * macs.published
    assert macs.deployed < macs.executed  # which multiplies the head's weights once per pass


def convolution(height: int, width: int, inputs: int, outputs: int, kernel: int, groups: int = 1) -> int:
    return height * width * outputs * kernel**2 * inputs // groups


def b0_by_hand(height: int, width: int, *, attention: bool) -> int:
    """B0's multiply-adds in the published order, layer by layer."""
    total, channels = 0, 3
    first = -(-height // 4), -(-width // 4)
    for dim, kernel, stride, reduction in zip(
        (32, 64, 160, 256), (7, 3, 3, 3), (4, 2, 2, 2), (8, 4, 2, 1), strict=True
    ):
        height, width = -(-height // stride), -(-width // stride)
        tokens, reduced = height * width, (height // reduction) * (width // reduction)
        total += convolution(height, width, channels, dim, kernel)
        block = 2 * tokens * dim**2 + 2 * reduced * dim**2  # queries and output, keys and values
        if reduction > 1:
            block += reduced * dim * dim * reduction**2
        block += 2 * tokens * dim * 4 * dim + convolution(height, width, 4 * dim, 4 * dim, 3, groups=4 * dim)
        if attention:
            block += 2 * tokens * reduced * dim
        total += 2 * block + tokens * dim * 256  # two blocks, and the head's projection
        channels = dim
    return total + first[0] * first[1] * (4 * 256 * 256 + 256 * 19)


@pytest.mark.parametrize("size", [(512, 1024), (64, 128), (96, 160), (360, 480), (250, 330)])
def test_multiply_adds_are_those_counted_by_hand_at_any_size(models: dict[str, Model], size: tuple[int, int]):
    macs = count_macs(models["baseline"], CLASSES, size)
    assert macs.published * 1e9 == pytest.approx(b0_by_hand(*size, attention=True), rel=1e-9)
    assert macs.paper * 1e9 == pytest.approx(b0_by_hand(*size, attention=False), rel=1e-9)
    assert macs.executed < macs.published


def test_a_bottlenecks_multiply_adds_are_those_of_its_own_convolutions(models: dict[str, Model]):
    bottleneck = models["baseline"].model_copy(update={"embedding": "bottleneck"})
    (height, width), inputs, difference = (64, 128), 3, 0
    for dim, kernel, stride in ((32, 7, 4), (64, 3, 2), (160, 3, 2), (256, 3, 2)):
        small = height // stride, width // stride
        difference += convolution(*small, inputs, dim, kernel) - convolution(height, width, inputs, dim // 4, 1)
        difference -= convolution(*small, dim // 4, dim // 4, 3) + convolution(*small, dim // 4, dim, 1)
        (height, width), inputs = small, dim
    plain, ours = (count_macs(model, CLASSES, (64, 128)) for model in (models["baseline"], bottleneck))
    for form in ("published", "paper", "executed", "deployed"):
        assert (getattr(plain, form) - getattr(ours, form)) * 1e9 == pytest.approx(difference, abs=1)


def test_norms_do_not_count_as_multiply_adds(models: dict[str, Model]):
    counts = {count_macs(models[name], CLASSES, (64, 128)) for name in ("baseline", "tanh", "tanh_linear")}
    assert len(counts) == 1


class Slow(nn.Module):
    """Takes as long as it is told, pass by pass, on a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> None:
        super().__init__()
        self.seconds, self.now, self.inputs = seconds, 0.0, []
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)

    def forward(self, images: Tensor) -> Tensor:
        self.inputs.append((images.dtype, tuple(images.shape), self.training, torch.is_inference_mode_enabled()))
        self.now += self.seconds.pop(0)
        return images


def test_latency_is_the_median_without_the_first_pass(monkeypatch: pytest.MonkeyPatch):
    model = Slow(monkeypatch, [9.0, 0.2, 0.1, 0.3, 0.2, 0.7])
    speed = measure_speed(model, (64, 128), repeats=5, device=CPU)
    assert speed["size"] == [64, 128]
    assert speed["latency_ms"] == pytest.approx(200)
    assert speed["fps"] == pytest.approx(5)
    assert speed["latency_p95_ms"] == pytest.approx(1000 * np.percentile([0.2, 0.1, 0.3, 0.2, 0.7], 95))
    assert set(model.inputs) == {(torch.uint8, (1, 3, 64, 128), False, True)}


def test_a_profile_is_plain_json_with_the_first_size_counted(models: dict[str, Model]):
    costs = profile(models["tanh"], CLASSES, [(64, 128), (32, 64)], repeats=1, device=CPU)
    assert json.loads(json.dumps(costs)) == costs
    macs: Macs = count_macs(models["tanh"], CLASSES, (64, 128))
    assert (costs["gmacs"], costs["gmacs_paper"]) == (macs.published, macs.paper)
    assert (costs["gmacs_exact"], costs["gmacs_deployed"]) == (macs.executed, macs.deployed)
    assert costs["params_m"] == pytest.approx(3.719031)
    assert costs["precision"] == "fp32"
    assert (costs["threads"], costs["device"]) == (1, "CPU, 1 threads")
    forms = [(speed["form"], speed["size"]) for speed in costs["speeds"]]
    assert forms == [(form, size) for size in ([64, 128], [32, 64]) for form in ("trained", "deployed")]
    assert all(set(speed) == {"form", "size", "fps", "latency_ms", "latency_p95_ms"} for speed in costs["speeds"])
    assert set(costs) == {
        "architecture", "params_m", "gmacs", "gmacs_paper", "gmacs_exact", "gmacs_deployed", "device", "precision",
        "threads", "speeds"
    }  # fmt: skip


def test_rows_with_one_model_share_the_architecture(models: dict[str, Model]):
    keys = {
        name: profile(model, CLASSES, [(32, 64)], repeats=1, device=CPU)["architecture"]
        for name, model in models.items()
        if name != "teacher"
    }
    assert keys["baseline"] == keys["kd"] == keys["dice_focal"]
    assert keys["tanh_linear"] == keys["combined"]
    assert len(set(keys.values())) == 3
