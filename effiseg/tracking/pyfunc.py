"""The MLflow form of a model, as models-from-code: MLflow runs this file to load one."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc import PythonModel
from mlflow.types import Schema, TensorSpec
from PIL import Image


class SegmenterModel(PythonModel):
    """RGB images (N, H, W, 3) uint8 -> class maps (N, H, W) uint8 of trainIds, as `effiseg predict` answers."""

    def load_context(self, context: Any) -> None:
        """Build the network from the logged model folder, in its deployed form, for images of its training's size."""
        from effiseg.deployment.predictor import Predictor
        from effiseg.models.deployed import deploy
        from effiseg.models.segformer import load_model

        network = deploy(load_model(Path(context.artifacts["model"])))
        height, width = context.model_config["size"]
        self.predictor = Predictor(network, (height, width), context.model_config["fit"], torch.device("cpu"))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow reads hints as schema
        """Class maps at the images' own size."""
        return np.stack(self.predictor([Image.fromarray(image) for image in np.ascontiguousarray(model_input)]))


def signature() -> ModelSignature:
    """What the model takes and gives, for any number and size of images."""
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3))]),
        outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1))]),
    )


set_model(SegmenterModel())
