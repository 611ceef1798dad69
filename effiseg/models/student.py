"""A row's network by its name alone."""

from pathlib import Path

from effiseg.base.config import PARAMS_FILE, load_config
from effiseg.models.segformer import Segmenter, build_model


def build_student(row: str, params: Path = PARAMS_FILE) -> Segmenter:
    """The student of a row as params.yaml describes it, randomly initialised (torch's global generator), in eval mode.

    It takes uint8 images (N, 3, H, W) and gives logits (N, classes, H/4, W/4).

    Raises:
        EffiSegError: params.yaml is missing or wrong, or has no such row.
    """
    from effiseg.data.dataset import open_dataset  # what only measures networks does without

    config = load_config(params)
    return build_model(config.row(row).model, open_dataset(config.data.source).space.classes).eval()
