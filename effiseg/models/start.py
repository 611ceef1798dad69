"""A row's network as it is before training."""

from collections.abc import Sequence
from pathlib import Path

from effiseg.base.schema import Row
from effiseg.models.segformer import Segmenter, build_model
from effiseg.weights.fetch import fetch
from effiseg.weights.files import read_tensors
from effiseg.weights.layouts import load_strictly, to_transformers


def start_model(row: Row, classes: Sequence[str]) -> tuple[Segmenter, Path | None]:
    """The row's network: weights drawn (torch's global generator), or of the checkpoint that `row.start` names.

    Returns:
        The network, and the checkpoint's file.

    Raises:
        EffiSegError: the checkpoint cannot be had or read, or does not fit the network.
    """
    model = build_model(row.model, classes)
    if row.start.source == "drawn":
        return model, None
    origin = fetch(row.start, row.model)
    tensors = to_transformers(read_tensors(origin), num_labels=len(classes))
    load_strictly(model.network, tensors, origin=str(origin))
    return model, origin
