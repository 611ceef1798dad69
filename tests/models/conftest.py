"""SegFormers of every norm mixture that build in milliseconds."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from effiseg.base.schema import Model, Norms
from effiseg.models import segformer
from effiseg.models.segformer import Segmenter, build_model

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def settings_with() -> Callable[..., Model]:
    """Model settings; norms by place, LayerNorm where nothing is said."""

    def make(
        variant: str = "b0", embedding: str = "overlap", mean: tuple = MEAN, std: tuple = STD, **norms: str
    ) -> Model:
        chosen = Norms(**dict.fromkeys(Norms.model_fields, "layernorm") | norms)
        own = {"variant": variant, "embedding": embedding, "mean": list(mean), "std": list(std)}
        return Model(norms=chosen, draw="mit", alpha_init=0.5, **own)

    return make


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `b0` a SegFormer of the same classes with narrow stages, two blocks in the second."""
    widths = {"hidden_sizes": [4, 8, 10, 16], "depths": [1, 2, 1, 1], "decoder_hidden_size": 12}
    monkeypatch.setitem(segformer.VARIANTS, "b0", widths)


@pytest.fixture
def shaken() -> Callable[[nn.Module], nn.Module]:
    """Gives every parameter and statistic a value of its own, so that no two models agree by their initialisation."""

    def shake(module: nn.Module) -> nn.Module:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            for layer in module.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.running_mean.normal_()
                    layer.running_var.uniform_(0.5, 2)
        return module

    return shake


@pytest.fixture
def classes() -> list[str]:
    return ["road", "sky", "car", "person", "tree"]


@pytest.fixture
def model(
    tiny: None,
    settings_with: Callable[..., Model],
    shaken: Callable[[nn.Module], nn.Module],
    classes: list[str],
) -> Segmenter:
    """A tiny model with LayerNorm everywhere."""
    return shaken(build_model(settings_with(), classes)).eval()


@pytest.fixture
def pixels() -> Callable[..., torch.Tensor]:
    """Random pixels of a shape."""
    return lambda *shape: torch.randint(0, 256, shape, dtype=torch.uint8)


@pytest.fixture
def normalised() -> Callable[[torch.Tensor], torch.Tensor]:
    """By the definition: pixels in [0, 1], minus the mean, over the deviation, channel by channel."""

    def normalise(images: torch.Tensor) -> torch.Tensor:
        channels = [(images[:, c].double() / 255 - MEAN[c]) / STD[c] for c in range(3)]
        return torch.stack(channels, dim=1).float()

    return normalise
