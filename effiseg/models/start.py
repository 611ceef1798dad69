"""A row's network as it is before training."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from effiseg.base.errors import EffiSegError
from effiseg.base.schema import Model, Row
from effiseg.models.fitted import fit_norms, with_layer_norms
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


def start_model(
    row: Row, classes: Sequence[str], checkpoint: Checkpoint | None, images: Tensor | None = None
) -> Started:
    """The row's network: weights drawn (torch's global generator), or the part of `checkpoint` that `row.start` names.

    Args:
        images: training images, uint8 (N, 3, H, W), by which norms of another kind than the checkpoint's LayerNorms are
            fitted to these; without any they stay as drawn.

    Raises:
        EffiSegError: the checkpoint cannot be read, or does not fit the network; or something would stay as drawn of a
            row that is not trained.
    """
    model = build_model(row.model, classes)
    if checkpoint is None:
        return Started(model, Source(), None)
    source, origin = checkpoint.source, f"row '{row.name}' starts from {checkpoint.source.origin}"
    try:
        tensors = to_transformers(read_tensors(checkpoint.file), num_labels=len(classes))
    except EffiSegError as error:
        raise EffiSegError(f"{origin}: {error}") from None

    def load(into: Segmenter) -> Loaded:
        known_as, part = source.classes, row.start.part
        return load_part(into.network, tensors, part=part, classes=classes, known_as=known_as, origin=origin)

    loaded = load(model)
    if loaded.drawn and not row.train.epochs:
        raise EffiSegError(
            f"row '{row.name}' is not trained (train.epochs 0), and not all of it is in what it starts from, "
            f"{source.origin}: {loaded.told()}; train the row, or use a checkpoint of these very classes and layers"
        )
    if loaded.norms and images is not None:
        norms = with_layer_norms(model, row.model.norms, loaded.norms)
        reference = build_model(row.model.model_copy(update={"norms": norms}), classes)
        load(reference)
        fit_norms(model, reference, images, loaded.norms)
        loaded = loaded.with_fitted_norms(len(images))
    _compare_normalisation(row.model, source)
    return Started(model, source, loaded)


def _compare_normalisation(model: Model, source: Source) -> None:
    for key, ours, theirs in (("mean", model.mean, source.mean), ("std", model.std, source.std)):
        if theirs and any(abs(a - b) > 1e-3 for a, b in zip(theirs, ours, strict=True)):
            print(f"warning: model.{key} is {ours}, but {source.origin} was trained with {theirs}", file=sys.stderr)
