"""Pictures of differing sizes and shapes: squashed or padded by one rule, scored at each label's own size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from effiseg.data.fit import Fit, fit_picture, frame, placed
from effiseg.data.prepared import Prepared, Ragged
from effiseg.deployment.predictor import Predictor
from effiseg.evaluation.evaluate import evaluate
from effiseg.evaluation.metrics import confusion_matrix
from effiseg.preparation.floors import colour_lookup, largest_class
from effiseg.preparation.prepare import prepare
from tests.settings import data_settings

SHAPES = ((24, 48), (40, 40), (50, 20), (17, 90), (24, 48))
SIZE = (32, 64)
FITS: tuple[Fit, ...] = ("squash", "pad")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """CamVid's layout; a square in the middle is a car, which is red."""
    for split in ("train", "val"):
        for folder in (split, f"{split}annot"):
            (tmp_path / "raw" / folder).mkdir(parents=True)
        for number, (height, width) in enumerate(SHAPES):
            ids = np.full((height, width), 3, np.uint8)
            ids[height // 4 : -(height // 4), width // 4 : -(width // 4)] = 8
            ids[0] = 11
            image = np.where(ids[..., None] == 8, [250, 10, 10], [90, 90, 90]).astype(np.uint8)
            Image.fromarray(image).save(tmp_path / f"raw/{split}/{number}.png")
            Image.fromarray(ids).save(tmp_path / f"raw/{split}annot/{number}.png")
    return tmp_path / "raw"


def prepared(root: Path, fit: Fit, workers: int = 1) -> Prepared:
    prepare(data_settings("camvid", root, SIZE, fit=fit), root.parent / fit, workers=workers)
    return Prepared.open(root.parent / fit)


@pytest.mark.parametrize("fit", FITS)
def test_scored_labels_keep_their_own_sizes(root: Path, fit: Fit):
    data = prepared(root, fit)
    assert isinstance(data.val.labels, Ragged)
    assert [label.shape for label in data.val.labels] == list(SHAPES) == list(data.label_sizes)
    for number, label in enumerate(data.val.labels):
        ids = np.asarray(Image.open(root / f"valannot/{number}.png"))
        np.testing.assert_array_equal(label, np.where(ids == 11, 255, ids))
    assert data.train.labels.shape == (len(SHAPES), *SIZE)
    _, labels = data.val.read([3, 1])
    assert [label.shape for label in labels] == [SHAPES[3], SHAPES[1]]
    assert prepared(root, fit, workers=2).digest == data.digest


def test_squashed_pictures_fill_the_size_and_padded_ones_keep_their_shape(root: Path):
    squashed, padded = prepared(root, "squash"), prepared(root, "pad")
    assert squashed.digest != padded.digest
    for index, shape in enumerate(SHAPES):
        picture = Image.open(root / f"train/{index}.png")
        whole = np.asarray(picture.resize((64, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        np.testing.assert_array_equal(squashed.train.images[index], whole)
        height, width = placed(shape, SIZE, "pad")
        assert max(height / 32, width / 64) == 1
        assert width / height == pytest.approx(shape[1] / shape[0], rel=0.1)
        inner = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        np.testing.assert_array_equal(padded.train.images[index][:, :height, :width], inner)
        outside = np.ones(SIZE, bool)
        outside[:height, :width] = False
        assert (padded.train.labels[index][outside] == 255).all()
        assert (padded.train.images[index][:, outside] == 0).all()


class ByColour(torch.nn.Module):
    """Red is a car, all else road; on the logits' grid."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        red = torch.nn.functional.avg_pool2d((images[:, :1].float() - images[:, 1:2].float()) / 240, 4)
        logits = torch.full((len(images), 11, *red.shape[2:]), -9.0)
        logits[:, 8:9], logits[:, 3:4] = red, 1 - red
        return logits


@pytest.mark.parametrize("fit", FITS)
def test_evaluation_and_prediction_agree_and_find_the_square_where_it_is(root: Path, fit: Fit):
    data, device = prepared(root, fit), torch.device("cpu")
    scored = evaluate(ByColour(), data.val, data.classes, batch_size=2, device=device)
    predictor = Predictor(ByColour(), SIZE, fit, device)
    pictures = [Image.open(root / f"val/{number}.png") for number in range(len(SHAPES))]
    for index, (found, shape) in enumerate(zip(predictor(pictures), SHAPES, strict=True)):
        assert found.shape == shape
        truth = torch.from_numpy(np.array(data.val.labels[index]))
        assert torch.equal(confusion_matrix(torch.from_numpy(found), truth, 11), scored.images[index])
    assert scored.scores.miou > 0.75
    assert scored.quarter_scores.miou > 0.7


@pytest.mark.parametrize("fit", FITS)
def test_floors_are_measured_in_the_labels_own_pixels(root: Path, fit: Fit):
    data = prepared(root, fit)
    counts = np.array(data.pixel_counts["val"])
    assert largest_class(data).full.sum().item() == counts.sum()
    assert largest_class(data).scores.iou["road"] == pytest.approx(counts[3] / counts.sum())
    assert colour_lookup(data).scores.miou > 0.8


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (31, 64), (1080, 1920)])
def test_every_shape_has_a_place(shape: tuple[int, int], fit: Fit):
    picture = Image.new("RGB", (shape[1], shape[0]))
    assert fit_picture(picture, SIZE, fit).shape == (*SIZE, 3)
    whole = frame(shape, SIZE, fit)
    assert whole[0] >= shape[0] and whole[1] >= shape[1]
    if fit == "squash":
        assert whole == shape
