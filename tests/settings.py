"""Settings as params.yaml holds them, for what takes a section of it, and the label spaces of shipped tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from effiseg.base.schema import Data
from effiseg.data.dataset import open_dataset

CITYSCAPES = open_dataset("cityscapes").space
CAMVID = open_dataset("camvid").space


def data_settings(source: str, root: Path, size: Sequence[int] = (32, 64), **changes: Any) -> Data:
    """The shipped section `data` of this source below this folder; sizes may be smaller than a network takes."""
    shipped = {
        "size": [32, 64],
        "fit": "squash",
        "train_on": ["train"],
        "score_on": "val",
        "held_out": [],
        "final_on": [],
        "allow_overlap": False,
        "class_weights": "computed",
    }
    settings = Data.model_validate({**shipped, "source": source, "root": str(root), **changes})
    return settings.model_copy(update={"size": list(size)})
