"""Class maps of pictures of any size, and the options at test time."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from effiseg.deployment.predictor import Predictor
from effiseg.evaluation.evaluate import predict_classes

CPU = torch.device("cpu")


class Local(nn.Module):
    """Logits that depend on their own 4x4 pixels alone, as many as the pictures have channels."""

    def forward(self, images):
        return F.avg_pool2d(images.float(), 4, ceil_mode=True)


def picture(height, width, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR)


@pytest.mark.parametrize("size", [(1, 1), (1, 1000), (700, 3), (33, 47), (64, 128), (200, 100)])
def test_any_size_is_answered_at_its_own_size(model, card, size):
    (found,) = Predictor(model, card.size, card.fit, CPU)([picture(*size)])
    assert (found.shape, found.dtype) == (size, np.uint8)
    assert found.max() < len(card.classes)


def test_a_picture_of_the_data_set_is_scaled_as_prepared_images_are(model, card, data):
    image = picture(3 * data.size[0], 3 * data.size[1])
    scaled = np.asarray(image.resize((data.size[1], data.size[0]), Image.Resampling.BILINEAR))
    with torch.no_grad():
        logits = model(torch.from_numpy(scaled.copy()).permute(2, 0, 1)[None])

    (found,) = Predictor(model, card.size, card.fit, CPU)([image])

    np.testing.assert_array_equal(found, predict_classes(logits, (image.height, image.width))[0].numpy())


def test_pictures_together_are_answered_as_each_alone(model, card):
    pictures = [picture(64, 128, 1), picture(50, 50, 2), picture(32, 64, 3), picture(128, 256, 4)]
    predictor = Predictor(model, card.size, card.fit, CPU)
    for found, each in zip(predictor(pictures), pictures, strict=True):
        (alone,) = predictor([each])
        assert (found != alone).mean() < 1e-3  # sums in another order


def test_flip_answers_the_mirrored_picture_with_the_mirrored_map(model, card):
    image = picture(64, 128)
    plain, flipped = Predictor(model, card.size, card.fit, CPU), Predictor(model, card.size, card.fit, CPU, flip=True)
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    assert (plain([mirrored])[0][:, ::-1] != plain([image])[0]).mean() > 0.05  # else the test would prove nothing
    assert (flipped([mirrored])[0][:, ::-1] != flipped([image])[0]).mean() < 1e-3


@pytest.mark.parametrize("zoom", [1.0, 1.5, 2.0, 3.3])
@pytest.mark.parametrize("size", [(64, 128), (150, 90)])
def test_windows_cover_the_whole_picture(card, size, zoom):
    # where logits are local, windows can change nothing
    predictor = Predictor(Local(), card.size, card.fit, CPU, zoom=zoom)
    seen = []
    predictor.network.register_forward_pre_hook(lambda _, images: seen.extend(each.shape[1:] for each in images[0]))
    image = picture(*size)

    (found,) = predictor([image])

    window = seen[0]
    assert set(seen) == {window}
    sides = [side + 4 * round((zoom - 1) * side / 4) for side in window]
    scaled = np.asarray(image.resize((sides[1], sides[0]), Image.Resampling.BILINEAR)).copy()
    whole = Local()(torch.from_numpy(scaled).permute(2, 0, 1)[None])
    assert (found != predict_classes(whole, size)[0].numpy()).mean() < 2e-3
    assert len(seen) == 1 if zoom == 1 else len(seen) >= 4
