"""SegFormers of every norm mixture that build in milliseconds."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from effiseg.models import segformer
from effiseg.schema import Model, Norms


@pytest.fixture
def settings_with() -> Callable[..., Model]:
    """Model settings; norms by place, LayerNorm where nothing is said."""

    def make(
        variant: str = "b0", mean: tuple = (0.485, 0.456, 0.406), std: tuple = (0.229, 0.224, 0.225), **norms: str
    ):
        chosen = Norms(**dict.fromkeys(Norms.model_fields, "layernorm") | norms)
        return Model(variant=variant, norms=chosen, alpha_init=0.5, mean=list(mean), std=list(std))

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
