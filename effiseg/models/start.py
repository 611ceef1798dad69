"""A row's network as it is before training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from effiseg.base.errors import EffiSegError
from effiseg.base.origins import classes_of
from effiseg.base.schema import Row
from effiseg.models.segformer import Segmenter, build_model
from effiseg.weights.fetch import fetch
from effiseg.weights.files import read_tensors
from effiseg.weights.layouts import to_transformers
from effiseg.weights.partial import Loaded, load_part


@dataclass(frozen=True)
class Started:
    """A network before training.

    Attributes:
        origin: the checkpoint's file; None where all is drawn.
        loaded: what came of it.
    """

    model: Segmenter
    origin: Path | None = None
    loaded: Loaded | None = None


def start_model(row: Row, classes: Sequence[str]) -> Started:
    """The row's network: weights drawn (torch's global generator), or of the checkpoint that `row.start` names.

    Raises:
        EffiSegError: the checkpoint cannot be had or read, or does not fit the network; or something would stay as
            drawn of a row that is not trained.
    """
    model = build_model(row.model, classes)
    if row.start.source == "drawn":
        return Started(model)
    origin = fetch(row.start, row.model)
    known_as = classes_of(origin)
    tensors = to_transformers(read_tensors(origin), num_labels=len(classes))
    loaded = load_part(
        model.network, tensors, part=row.start.part, classes=classes, known_as=known_as, origin=str(origin)
    )
    if loaded.drawn and not row.train.epochs:
        raise EffiSegError(
            f"{origin}: row '{row.name}' is not trained (train.epochs 0), and not all of it is in the checkpoint: "
            f"{loaded.told()}; train the row, or use a checkpoint of these very classes and layers"
        )
    return Started(model, origin, loaded)
