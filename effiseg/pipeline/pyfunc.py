"""The MLflow form of a model, as models-from-code: MLflow runs this file to load one."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc import PythonModel
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray


class SegmenterModel(PythonModel):  # type: ignore[misc]
    """RGB images (N, H, W, 3) uint8 -> class maps (N, H, W) uint8 of trainIds."""

    def load_context(self, context: Any) -> None:
        from effiseg.models.segformer import load_model

        self.model = load_model(Path(context.artifacts["model"]))

    @torch.inference_mode()
    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> NDArray[np.uint8]:
        images = torch.from_numpy(np.ascontiguousarray(model_input)).permute(0, 3, 1, 2)
        logits = self.model(images)
        upsampled = F.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=False)
        return upsampled.argmax(dim=1).to(torch.uint8).numpy()


def signature() -> ModelSignature:
    """What the model takes and gives, for any number and size of images."""
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3))]),
        outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1))]),
    )


set_model(SegmenterModel())
