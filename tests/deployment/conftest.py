"""A row of narrow stages on the tiny data set, exported once."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from effiseg.base.config import load_config
from effiseg.base.schema import Model
from effiseg.data.prepared import Prepared, Split
from effiseg.deployment.card import Card
from effiseg.deployment.export import Parity, export_files
from effiseg.models import segformer
from effiseg.models.segformer import Segmenter, build_model

WIDTHS = {"hidden_sizes": [4, 8, 10, 16], "depths": [1, 2, 1, 1], "decoder_hidden_size": 12}
CALIBRATION = 4


class Recorded(Split):
    """A split that remembers which of its samples were read."""

    def read(self, indices):
        vars(self).setdefault("asked", []).extend(indices)
        return super().read(indices)


@dataclass(frozen=True)
class Exported:
    """The exported folder, what the export said, and the samples that it read."""

    folder: Path
    parities: list[Parity]
    data: Prepared


@pytest.fixture(scope="session")
def card(data: Prepared) -> Card:
    return Card(
        experiment="mine",
        seed=3,
        git_commit="0" * 40,
        data_digest=data.digest,
        miou=0.25,
        space=data.space,
        size=data.size,
        fit=data.fit,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        start="huggingface a/b at 0a",
        licence="research-only",
    )


@contextmanager
def narrow() -> Iterator[None]:
    """Makes `b0` a SegFormer with narrow stages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(segformer.VARIANTS, "b0", WIDTHS)
        yield


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with narrow():
        yield


def network(data: Prepared, settings: Model) -> Segmenter:
    """A network whose parameters and statistics are far from their first values."""
    torch.manual_seed(0)
    model = build_model(settings, data.classes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for layer in model.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2)
    return model


@pytest.fixture(scope="session")
def settings(repository: Path) -> Model:
    """The baseline's model: LayerNorm everywhere."""
    return load_config(repository / "params.yaml").model


@pytest.fixture(scope="session")
def model(data: Prepared, settings: Model) -> Segmenter:
    with narrow():
        return network(data, settings)


@pytest.fixture(scope="session")
def exported(model: Segmenter, card: Card, data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("exported")
    splits = {name: Recorded(**vars(getattr(data, name))) for name in ("train", "val")}
    recorded = replace(data, **splits)
    with narrow():
        parities = export_files(model, card, recorded, folder, calibration=CALIBRATION)
    return Exported(folder, parities, recorded)
