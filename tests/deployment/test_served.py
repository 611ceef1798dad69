"""Pictures as clients of MLflow's scoring server send them."""

import base64
import json
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import invocations
from PIL import Image

from effiseg.tracking.served import ServedModel, signature

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def png() -> bytes:
    buffer = BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    return buffer.getvalue()


PLAIN, SAFE = base64.b64encode(png()).decode(), base64.urlsafe_b64encode(png()).decode()
FORMS = {
    "plain": PLAIN,
    "with line breaks": base64.encodebytes(png()).decode(),
    "with windows' line breaks": base64.encodebytes(png()).decode().replace("\n", "\r\n"),
    "with a line's end": PLAIN + "\n",
    "as an address": f"data:image/png;base64,{PLAIN}",
    "as an address in capitals": f"DATA:image/png;BASE64,{PLAIN}",
    "as an address with parameters": f"data:image/png;name=a.png;base64,{PLAIN}",
    "of the safe alphabet": SAFE,
    "without padding": SAFE.rstrip("="),
}


@pytest.fixture
def served():
    """The model with a network that answers with the picture's red values."""
    model = ServedModel()
    model.predictor = lambda pictures: [np.asarray(picture)[..., 0] for picture in pictures]
    return model


@pytest.mark.parametrize("form", FORMS)
def test_base64_in_every_form(served, form):
    (found,) = served.predict(None, {"image": [FORMS[form]]})
    np.testing.assert_array_equal(found, PIXELS[..., 0])


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("no base64 at all!", "image 0: text that is not base64"),
        ("Grüße", "image 0: text that is not base64"),
        (base64.b64encode(b"rubbish").decode(), "image 0: not a PNG, JPEG, WEBP, BMP or TIFF file"),
        ("", "image 0: empty (0 bytes)"),
        ([[1, 2]], "image 0: list of shape (1, 2)"),
    ],
)
def test_what_is_no_picture_is_refused(served, value, told):
    with pytest.raises(MlflowException) as caught:
        served.predict(None, {"image": [value]})
    assert str(caught.value).startswith(told)


BODIES = {
    "columns": {"dataframe_split": {"columns": ["image"], "data": [[PLAIN], [SAFE]]}},
    "records": {"dataframe_records": [{"image": PLAIN}, {"image": SAFE}]},
    "inputs": {"inputs": {"image": [PLAIN, SAFE]}},
    "pixels": {"dataframe_records": [{"image": PIXELS.tolist()}, {"image": PIXELS.tolist()}]},
    "pixels as inputs": {"inputs": {"image": [PIXELS.tolist(), PIXELS.tolist()]}},
}


@pytest.mark.parametrize("body", BODIES)
def test_every_body_of_mlflow(served, body):
    """Through MLflow's own server code, with the model's signature."""
    meta = SimpleNamespace(
        signature=signature(),
        get_input_schema=lambda: signature().inputs,
        get_params_schema=lambda: None,
        get_output_schema=lambda: signature().outputs,
    )
    model = PyFuncModel(meta, served, predict_fn="predict")
    model.predict = lambda data, params=None: served.predict(None, _enforced(data))
    answer = invocations(json.dumps(BODIES[body]), "application/json", model, signature().inputs)
    assert answer.status == 200, answer.response
    assert json.loads(answer.response)["predictions"] == 2 * [PIXELS[..., 0].tolist()]


def _enforced(data):
    from mlflow.models.utils import _enforce_schema

    return _enforce_schema(data, signature().inputs)
