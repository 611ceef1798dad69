"""A row's network by its name alone."""

from pathlib import Path

from effiseg.base.config import PARAMS_FILE, load_config
from effiseg.data.labels import LABEL_SPACES
from effiseg.models.segformer import Segmenter, build_model


def build_student(row: str, params: Path = PARAMS_FILE) -> Segmenter:
    """The student of a row as params.yaml describes it, randomly initialised (torch's global generator), in eval mode.

    It takes uint8 images (N, 3, H, W) and gives logits (N, classes, H/4, W/4).

    Raises:
        EffiSegError: params.yaml is missing or wrong, or has no such row.
    """
    config = load_config(params)
    return build_model(config.row(row).model, LABEL_SPACES[config.data.source].classes).eval()
