"""The study and predict give one answer for one picture and network, however the picture is stored."""

import numpy as np
import pytest
import torch
from PIL import Image

from effiseg.data.images import read_image
from effiseg.data.label_files import read_label
from effiseg.data.prepared import Prepared
from effiseg.deployment.predictor import Predictor
from effiseg.evaluation.evaluate import evaluate
from effiseg.evaluation.metrics import confusion_matrix
from effiseg.preparation.prepare import prepare
from tests.deployment.conftest import network
from tests.settings import CAMVID, data_settings

CPU = torch.device("cpu")
SIZE = (32, 64)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("shape", [(48, 96), (66, 64), (96, 33)])
def test_the_same_picture_gets_the_same_answer_everywhere(settings, tmp_path, orientation, shape):
    draw = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for split in ("train", "val"):
        for folder in (split, f"{split}annot"):
            (tmp_path / folder).mkdir()
        for name in "ab":
            stored = shape[::-1] if orientation == 6 else shape
            noise = Image.fromarray(draw.integers(0, 256, (*stored, 3), dtype=np.uint8))
            noise.save(tmp_path / split / f"{name}.jpg", exif=exif)
            labels = draw.integers(0, 12, shape, dtype=np.uint8)
            Image.fromarray(labels).save(tmp_path / f"{split}annot/{name}.png")
    prepare(data_settings("camvid", tmp_path, SIZE), tmp_path / "prepared", workers=1)
    data = Prepared.open(tmp_path / "prepared")
    model = network(data, settings)
    predictor = Predictor(model, SIZE, "squash", CPU)

    scored = evaluate(model, data.val, data.classes, batch_size=1, device=CPU)

    for name, counts in zip(data.val.names, scored.images, strict=True):
        (found,) = predictor([read_image(tmp_path / f"val/{name}.jpg")])
        truth = read_label(tmp_path / f"valannot/{name}.png", CAMVID)
        assert found.shape == truth.shape == shape
        assert torch.equal(confusion_matrix(torch.from_numpy(found), torch.from_numpy(truth), 11), counts)
