"""Segmentation scores, by hand and against the official evaluator of Cityscapes."""

import argparse
import math

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official  # noqa: N813
from cityscapesscripts.helpers.labels import labels as official_labels
from PIL import Image

from effiseg.base.schema import IGNORE_INDEX
from effiseg.evaluation.metrics import confusion_matrix, scores

NAMES = ["road", "sky", "car"]
EVALUATED = [label for label in official_labels if not label.ignoreInEval]
IGNORED_IDS = [label.id for label in official_labels if label.ignoreInEval and label.id >= 0]


# --- by hand ----------------------------------------------------------------------------------------------------------

LABELS = torch.tensor([[0, 0, 0, 1], [1, 1, IGNORE_INDEX, IGNORE_INDEX]])
PREDICTIONS = torch.tensor([[0, 0, 1, 1], [1, 0, 0, 2]])
COUNTS = torch.tensor([[2, 1, 0], [1, 2, 0], [0, 0, 0]])  # of the six valid pixels


def test_confusion_by_hand_has_the_truth_in_rows_and_no_ignored_pixels():
    labels = torch.tensor([0, 0, 0, 1, IGNORE_INDEX])
    predictions = torch.tensor([0, 2, 2, 0, 1])
    expected = torch.tensor([[1, 0, 2], [1, 0, 0], [0, 0, 0]])
    assert torch.equal(confusion_matrix(predictions, labels, 3), expected)
    assert torch.equal(confusion_matrix(PREDICTIONS, LABELS, 3), COUNTS)


def test_scores_by_hand():
    found = scores(COUNTS, NAMES)
    # road: 2 hits, 1 missed, 1 too many; sky the same; there is no car
    assert found.iou["road"] == pytest.approx(2 / (2 + 1 + 1))
    assert found.iou["sky"] == pytest.approx(2 / (2 + 1 + 1))
    assert math.isnan(found.iou["car"])
    assert found.miou == pytest.approx((2 / 4 + 2 / 4) / 2)
    assert found.pixel_accuracy == pytest.approx((2 + 2) / 6)
    assert found.absent == ["car"]


def test_unequal_classes_by_hand():
    found = scores(torch.tensor([[50, 0, 10], [5, 15, 0], [0, 0, 20]]), NAMES)
    assert found.iou == pytest.approx(
        {"road": 50 / (60 + 55 - 50), "sky": 15 / (20 + 15 - 15), "car": 20 / (20 + 30 - 20)}
    )
    assert found.miou == pytest.approx((50 / 65 + 15 / 20 + 20 / 30) / 3)
    assert found.pixel_accuracy == pytest.approx(85 / 100)
    assert found.absent == []


def test_a_class_predicted_but_absent_from_the_labels_is_left_out_of_the_mean():
    found = scores(torch.tensor([[3, 0, 1], [0, 4, 0], [0, 0, 0]]), NAMES)
    assert math.isnan(found.iou["car"])
    assert found.miou == pytest.approx((3 / 4 + 4 / 4) / 2)


def test_a_class_present_but_never_predicted_counts_as_zero():
    found = scores(torch.tensor([[4, 0, 0], [0, 4, 0], [2, 0, 0]]), NAMES)
    assert found.iou["car"] == 0
    assert found.miou == pytest.approx((4 / 6 + 1 + 0) / 3)
    assert found.absent == []


def test_perfect_predictions_score_one():
    labels = torch.randint(0, 3, (2, 8, 8))
    found = scores(confusion_matrix(labels, labels, 3), NAMES)
    assert (found.miou, found.pixel_accuracy) == (1, 1)


def test_without_a_single_valid_pixel_every_score_is_nan():
    labels = torch.full((2, 4, 4), IGNORE_INDEX, dtype=torch.uint8)
    counts = confusion_matrix(torch.zeros(2, 4, 4, dtype=torch.int64), labels, 3)
    assert torch.equal(counts, torch.zeros(3, 3, dtype=torch.int64))
    found = scores(counts, NAMES)
    assert math.isnan(found.miou)
    assert math.isnan(found.pixel_accuracy)
    assert found.absent == NAMES


@pytest.mark.parametrize("classes", [1, 3, 19, 200])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64], ids=str)
def test_every_integer_type_counts_alike(dtype, classes):
    labels = torch.randint(0, classes, (2, 9, 7))
    predictions = torch.randint(0, classes, (2, 9, 7))
    labels[0, :3] = IGNORE_INDEX
    expected = torch.zeros(classes, classes, dtype=torch.int64)
    for label, prediction in zip(labels.flatten().tolist(), predictions.flatten().tolist(), strict=True):
        if label != IGNORE_INDEX:
            expected[label, prediction] += 1
    found = confusion_matrix(predictions.to(dtype), labels.to(dtype), classes)
    assert found.dtype == torch.int64
    assert torch.equal(found, expected)
    assert torch.equal(confusion_matrix(predictions, labels.to(dtype), classes), expected)


def test_matrices_of_parts_sum_to_the_matrix_of_the_whole():
    labels, predictions = torch.randint(0, 3, (2, 4, 6, 6))
    parts = sum(confusion_matrix(p, t, 3) for p, t in zip(predictions, labels, strict=True))
    assert torch.equal(parts, confusion_matrix(predictions, labels, 3))


def test_counts_beyond_the_precision_of_float32_are_kept():
    found = scores(torch.tensor([[2**31, 1], [0, 2**31]]), NAMES[:2])
    assert found.iou["road"] == 2**31 / (2**31 + 1)
    assert found.pixel_accuracy == 2**32 / (2**32 + 1) < 1


def test_names_and_matrix_must_agree():
    with pytest.raises(ValueError, match="zip"):
        scores(COUNTS, NAMES[:2])


# --- the official evaluator -------------------------------------------------------------------------------------------


@pytest.fixture
def official_scores(tmp_path, monkeypatch):
    """Runs cityscapesscripts on label images (labelIds) written as PNG files."""
    monkeypatch.setattr(official, "CSUPPORT", False)  # its C extension is not part of the package
    args = argparse.Namespace(**vars(official.args))  # the module's own are global and changed by a run
    args.evalInstLevelScore = args.JSONOutput = False
    args.quiet = True

    def run(predictions: np.ndarray, truths: np.ndarray) -> dict:
        files: dict[str, list[str]] = {"pred": [], "gt": []}
        for index, images in enumerate(zip(predictions, truths, strict=True)):
            for kind, image in zip(files, images, strict=True):
                path = tmp_path / f"{kind}_{index}.png"
                Image.fromarray(image.astype(np.uint8)).save(path)
                files[kind].append(str(path))
        return official.evaluateImgLists(files["pred"], files["gt"], args)

    return run


def label_images(seed: int, present: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and truths of three images as labelIds: two pixels of three right, ignored labels in the truth."""
    generator = np.random.default_rng(seed)
    ids = np.array([label.id for label in EVALUATED])[present]
    shares = generator.dirichlet(np.ones(len(ids)))
    truths = generator.choice(ids, size=(3, 40, 60), p=shares)
    truths.flat[: len(ids)] = ids
    noise = generator.choice(ids, size=truths.shape)
    predictions = np.where(generator.random(truths.shape) < 0.67, truths, noise)
    void = generator.random(truths.shape) < 0.1
    void.flat[: len(ids)] = False
    truths[void] = generator.choice(IGNORED_IDS, size=void.sum())
    return predictions, truths


def train_ids(ids: np.ndarray) -> torch.Tensor:
    table = np.full(256, IGNORE_INDEX)
    for label in EVALUATED:
        table[label.id] = label.trainId
    return torch.from_numpy(table[ids]).to(torch.uint8)


def our_scores(predictions: np.ndarray, truths: np.ndarray):
    by_train_id = sorted(EVALUATED, key=lambda label: label.trainId)
    counts = sum(
        confusion_matrix(train_ids(p), train_ids(t), len(EVALUATED)) for p, t in zip(predictions, truths, strict=True)
    )
    return scores(counts, [label.name for label in by_train_id])


@pytest.mark.parametrize(
    "present", [list(range(19)), [0, 2, 10, 13], [18]], ids=["all classes", "some classes", "one class"]
)
@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_those_of_the_official_evaluator(official_scores, seed, present):
    predictions, truths = label_images(seed, present)
    expected, found = official_scores(predictions, truths), our_scores(predictions, truths)
    assert len(found.iou) == 19
    for name, value in found.iou.items():
        assert value == pytest.approx(expected["classScores"][name], abs=1e-6, nan_ok=True), name
    assert found.miou == pytest.approx(expected["averageScoreClasses"], abs=1e-6)
    assert len(found.absent) == 19 - len(present)


def test_the_one_difference_to_the_official_evaluator_is_a_class_predicted_but_absent(official_scores):
    """There it counts as 0, so that a row's mean would depend on what it predicts; all 19 occur in Cityscapes val."""
    predictions, truths = label_images(0, [0, 1, 2])
    predictions[0, 20, :5], truths[0, 20, :5] = EVALUATED[13].id, EVALUATED[0].id
    expected, found = official_scores(predictions, truths), our_scores(predictions, truths)
    absent = EVALUATED[13].name
    assert expected["classScores"][absent] == 0
    assert math.isnan(found.iou[absent])
    present = [value for name, value in expected["classScores"].items() if not math.isnan(value) and name != absent]
    assert found.miou == pytest.approx(sum(present) / 3, abs=1e-6)


def test_the_inputs_of_any_integer_type_stay_as_they_are():
    for dtype in (torch.uint8, torch.int32, torch.int64):
        labels, predictions = torch.tensor([[1, 2]], dtype=dtype), torch.tensor([[2, 2]], dtype=dtype)
        counts = confusion_matrix(predictions, labels, 3)
        assert counts.tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 1]]
        assert (labels.tolist(), predictions.tolist()) == ([[1, 2]], [[2, 2]])


def test_a_label_that_is_no_class_is_an_error():
    with pytest.raises(ValueError, match="0 to 2 and 255"):
        confusion_matrix(torch.tensor([0]), torch.tensor([3], dtype=torch.uint8), 3)
