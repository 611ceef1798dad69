"""The MLflow form of a model, as models-from-code: MLflow runs this file to load one."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc import PythonModel
from mlflow.types import Schema, TensorSpec


class SegmenterModel(PythonModel):
    """RGB images (N, H, W, 3) uint8 -> class maps (N, H, W) uint8 of trainIds."""

    def load_context(self, context: Any) -> None:
        """Build the network from the logged model folder, in its deployed form."""
        from effiseg.evaluation.evaluate import predict_classes
        from effiseg.models.deployed import deploy
        from effiseg.models.segformer import load_model

        self.model = deploy(load_model(Path(context.artifacts["model"])))
        self.predict_classes = predict_classes

    @torch.inference_mode()
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow reads hints as schema
        """Class maps at the images' own size."""
        images = torch.from_numpy(np.ascontiguousarray(model_input)).permute(0, 3, 1, 2)
        return self.predict_classes(self.model(images), images.shape[2:]).numpy()


def signature() -> ModelSignature:
    """What the model takes and gives, for any number and size of images."""
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3))]),
        outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1))]),
    )


set_model(SegmenterModel())
