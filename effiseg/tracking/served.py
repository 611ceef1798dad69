"""The registered form of a row, as models-from-code: MLflow's scoring server runs this file to load one.

`mlflow models serve --model-uri models:/effiseg-synthetic@best --env-manager local` answers at /invocations.
"""

import base64
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, Schema
from mlflow.types.schema import AnyType, Array, DataType
from numpy.typing import NDArray
from PIL import Image

COLUMN = "image"


class ServedModel(PythonModel):
    """Pictures, one a row of the column `image` -> class maps (H, W) of trainIds, each at its picture's size.

    A picture is the bytes of a PNG, JPEG, WEBP, BMP or TIFF file (in JSON: in base64), or an array (H, W, 3) of RGB
    values 0..255.
    """

    def load_context(self, context: Any) -> None:
        """Build the network from the exported checkpoint, in its deployed form: weights and JSON, no code."""
        from effiseg.deployment.checkpoint import open_checkpoint
        from effiseg.deployment.predictor import Predictor
        from effiseg.models.deployed import deploy

        model, card = open_checkpoint(Path(context.artifacts["checkpoint"]))
        self.predictor = Predictor(deploy(model), card.size, card.fit, torch.device("cpu"))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow reads hints as schema
        """One class map per row; a picture that cannot be used is an error of status 400 that names its row."""
        pictures = [_picture(value, f"{COLUMN} {row}") for row, value in enumerate(_values(model_input[COLUMN]))]
        return self.predictor(pictures)


def signature() -> ModelSignature:
    """What the model takes and gives."""
    return ModelSignature(
        inputs=Schema([ColSpec(AnyType(), COLUMN)]),
        outputs=Schema([ColSpec(Array(Array(DataType.integer)))]),
    )


def _values(column: Iterable[Any]) -> Iterator[Any]:
    """One value per picture: of `{"inputs": {"image": [...]}}` MLflow makes one row that holds the whole list."""
    for value in column:
        several = isinstance(value, list | np.ndarray) and len(value) > 0 and isinstance(value[0], str | bytes)
        yield from value if several else [value]


def _picture(value: Any, origin: str) -> Image.Image:
    from effiseg.data.images import BadFile, decode

    try:
        if isinstance(value, str):
            value = _bytes(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return decode(bytes(value))
    except ValueError:  # letters that base64 has not, too few of them
        raise _refused(f"{origin}: text that is not base64; send the bytes of a picture in base64") from None
    except BadFile as error:
        raise _refused(f"{origin}: {error}") from None
    return Image.fromarray(_pixels(value, origin))


def _bytes(text: str) -> bytes:
    """Base64 as people send it: with line breaks, after `data:image/png;base64,`, in either alphabet, padded or not."""
    plain = (
        "".join(re.sub(r"^\s*data:[^,]*,", "", text, flags=re.I).split())
        .translate(str.maketrans("-_", "+/"))
        .rstrip("=")
    )
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)


def _pixels(value: Any, origin: str) -> NDArray[np.uint8]:
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        array = np.empty(0)
    whole = array.ndim == 3 and array.shape[2] == 3 and array.size > 0 and np.issubdtype(array.dtype, np.integer)
    if not whole or array.min() < 0 or array.max() > 255:
        raise _refused(
            f"{origin}: {type(value).__name__} of shape {array.shape} and type {array.dtype}, expected the bytes of a "
            "picture in base64, or an array (H, W, 3) of whole numbers 0 to 255"
        )
    return array.astype(np.uint8)


def _refused(message: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(message)  # status 400


set_model(ServedModel())
