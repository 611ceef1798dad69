"""What one may do at test time beyond a plain pass, measured on the validation pictures as they were taken."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from effiseg.base.errors import EffiSegError
from effiseg.base.schema import Data
from effiseg.data.images import BadFile, read_image
from effiseg.data.label_files import read_label
from effiseg.data.labels import LabelSpace
from effiseg.data.prepared import Prepared
from effiseg.deployment.card import Card
from effiseg.deployment.pictures import side_by_side
from effiseg.deployment.predictor import Predictor
from effiseg.evaluation.metrics import confusion_matrix, scores
from effiseg.preparation.pairs import Pair
from effiseg.preparation.sources import list_pairs

OPTIONS = {
    "plain": {},
    "flip": {"flip": True},
    "zoom 1.5": {"zoom": 1.5},
    "zoom 1.5 and flip": {"zoom": 1.5, "flip": True},
    "zoom 2": {"zoom": 2.0},
}


def validation_pairs(data: Prepared, settings: Data) -> list[Pair]:
    """The raw pictures and labels of what is scored, in the order of the prepared ones.

    Raises:
        EffiSegError: they are not there any more.
    """
    listed = {pair.name: pair for pair in list_pairs(settings).pairs.get("val", [])}
    missing = [name for name in data.val.names if name not in listed]
    if missing:
        raise EffiSegError(
            f"data.root {settings.root}: no picture {missing[0]}, which the prepared data hold; run `dvc repro`"
        )
    return [listed[name] for name in data.val.names]


def measure_options(
    network: torch.nn.Module, card: Card, pairs: Sequence[Pair], device: torch.device
) -> list[dict[str, object]]:
    """For each of `OPTIONS`: option, miou at the labels' resolution, and ms per picture, decoded, to its class map."""
    predictors = {
        name: Predictor(network, card.size, card.fit, device, **settings)  # type: ignore[arg-type]
        for name, settings in OPTIONS.items()
    }
    classes = len(card.classes)
    confusion = {name: torch.zeros(classes, classes, dtype=torch.int64) for name in OPTIONS}
    seconds: dict[str, list[float]] = {name: [] for name in OPTIONS}
    for pair in tqdm(pairs, desc="options", unit="image", leave=False):
        picture, expected = _read(pair, card.space)
        truth = torch.from_numpy(expected)
        for name, predictor in predictors.items():
            start = time.perf_counter()
            (found,) = predictor([picture])
            seconds[name].append(time.perf_counter() - start)
            confusion[name] += confusion_matrix(torch.from_numpy(found), truth, classes)
    return [
        {
            "option": name,
            "miou": scores(confusion[name], card.classes).miou,
            "latency_ms": 1e3 * float(np.median(seconds[name])),
        }
        for name in OPTIONS
    ]


def show_scenes(predictor: Predictor, space: LabelSpace, pairs: Sequence[Pair], count: int) -> Image.Image:
    """Evenly spread validation pictures, each beside its prediction and its truth."""
    rows = []
    for i in np.unique(np.linspace(0, len(pairs) - 1, count).round().astype(int)):
        picture, truth = _read(pairs[i], space)
        (found,) = predictor([picture])
        rows.append((picture, found, truth))
    return side_by_side(rows, space)


def _read(pair: Pair, space: LabelSpace) -> tuple[Image.Image, NDArray[Any]]:
    """A pair that was sound when the data were prepared."""
    path = pair.image
    try:
        picture = read_image(path)
        path = pair.label
        return picture, read_label(path, space)
    except BadFile as error:
        raise EffiSegError(f"{path}: {error}; it was sound when the data were prepared: run `dvc repro`") from None
