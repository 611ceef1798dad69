"""A row's network as it is before training."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from effiseg.base.errors import EffiSegError
from effiseg.base.schema import Model, Row
from effiseg.models.segformer import Segmenter, build_model
from effiseg.weights.files import read_tensors
from effiseg.weights.layouts import to_transformers
from effiseg.weights.partial import Loaded, load_part
from effiseg.weights.source import Checkpoint, Source


@dataclass(frozen=True)
class Started:
    """A network before training.

    Attributes:
        source: where its weights came from; empty where all is drawn.
        loaded: what came of them.
    """

    model: Segmenter
    source: Source
    loaded: Loaded | None


def start_model(row: Row, classes: Sequence[str], checkpoint: Checkpoint | None) -> Started:
    """The row's network: weights drawn (torch's global generator), or the part of `checkpoint` that `row.start` names.

    Raises:
        EffiSegError: the checkpoint cannot be read, or does not fit the network; or something would stay as drawn of a
            row that is not trained.
    """
    model = build_model(row.model, classes)
    if checkpoint is None:
        return Started(model, Source(), None)
    source = checkpoint.source
    try:
        tensors = to_transformers(read_tensors(checkpoint.file), num_labels=len(classes))
    except EffiSegError as error:
        raise EffiSegError(f"row '{row.name}' starts from {source.origin}: {error}") from None
    loaded = load_part(
        model.network,
        tensors,
        part=row.start.part,
        classes=classes,
        known_as=source.classes,
        origin=f"row '{row.name}' starts from {source.origin}",
    )
    if loaded.drawn and not row.train.epochs:
        raise EffiSegError(
            f"row '{row.name}' is not trained (train.epochs 0), and not all of it is in what it starts from, "
            f"{source.origin}: {loaded.told()}; train the row, or use a checkpoint of these very classes and layers"
        )
    _compare_normalisation(row.model, source)
    return Started(model, source, loaded)


def _compare_normalisation(model: Model, source: Source) -> None:
    for key, ours, theirs in (("mean", model.mean, source.mean), ("std", model.std, source.std)):
        if theirs and any(abs(a - b) > 1e-3 for a, b in zip(theirs, ours, strict=True)):
            print(f"warning: model.{key} is {ours}, but {source.origin} was trained with {theirs}", file=sys.stderr)
