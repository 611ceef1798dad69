"""Evaluation: counts against a plain computation that keeps everything."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from effiseg.data.prepared import Prepared, Split
from effiseg.evaluation.evaluate import Evaluation, evaluate, predict_classes
from effiseg.evaluation.metrics import scores
from effiseg.models.segformer import Segmenter
from tests.settings import CITYSCAPES

CPU = torch.device("cpu")
CLASSES = CITYSCAPES.classes

MakeModel = Callable[..., Segmenter]
MakeSplit = Callable[..., Split]


class Always7(nn.Module):
    """Answers class 7."""

    def forward(self, images: Tensor) -> Tensor:
        return F.one_hot(torch.tensor(7), 19).float().view(1, 19, 1, 1).expand(len(images), -1, 8, 16)


def count(model: nn.Module, split: Split, batch_size: int = 2, **settings: bool) -> Evaluation:
    return evaluate(model, split, CLASSES, batch_size=batch_size, device=CPU, **settings)


def counted_one_by_one(predictions: Tensor, labels: Tensor) -> Tensor:
    confusion = torch.zeros(len(CLASSES), len(CLASSES), dtype=torch.int64)
    for prediction, label in zip(predictions.flatten().tolist(), labels.flatten().tolist(), strict=True):
        if label != 255:
            confusion[label, prediction] += 1
    return confusion


# --- counts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 7])
@pytest.mark.parametrize("label_size", [(64, 128), (32, 64), (45, 101)])
def test_both_counts_are_those_of_a_computation_that_keeps_every_logit(
    make_model: MakeModel, make_split: MakeSplit, batch_size: int, label_size: tuple[int, int]
):
    model, split = make_model(), make_split(3, label_size)
    labels = torch.tensor(split.labels)
    with torch.no_grad():
        logits = torch.cat([model(torch.tensor(split.images[[i]])) for i in range(3)])
    full = F.interpolate(logits, size=label_size, mode="bilinear", align_corners=False).argmax(dim=1)
    rows, columns = ((torch.arange(n) * size // n) for n, size in zip((8, 16), label_size, strict=True))
    quarter_labels = labels[:, rows][:, :, columns]

    evaluation = count(model, split, batch_size)
    assert torch.equal(evaluation.full, counted_one_by_one(full, labels))
    assert torch.equal(evaluation.quarter, counted_one_by_one(logits.argmax(dim=1), quarter_labels))
    assert len(full.unique()) > 1


def test_the_order_of_images_and_their_division_do_not_matter(make_model: MakeModel, data: Prepared):
    model = make_model()
    whole = count(model, data.val, 5)
    parts = [Split(data.val.images[i : i + 1], data.val.labels[i : i + 1], ("",)) for i in (3, 0, 4, 1, 2)]
    assert torch.equal(sum(count(model, part).full for part in parts), whole.full)
    assert whole.full.sum() == sum(data.pixel_counts["val"])


def test_each_image_has_a_matrix_of_its_own_in_the_order_of_the_split(make_model: MakeModel, data: Prepared):
    model = make_model()
    images = count(model, data.val, 2).images
    assert images.shape == (len(data.val), data.num_classes, data.num_classes)
    for index, matrix in enumerate(images):
        alone = Split(data.val.images[index : index + 1], data.val.labels[index : index + 1], ("",))
        assert torch.equal(matrix, count(model, alone).full)


def test_rows_are_the_truth_and_columns_the_prediction(make_split: MakeSplit):
    split = make_split(2)
    split.labels[:] = 3
    evaluation = count(Always7(), split)
    assert evaluation.full[3, 7] == evaluation.full.sum() == split.labels.size
    assert evaluation.quarter[3, 7] == evaluation.quarter.sum() == 2 * 8 * 16


def test_classes_are_chosen_after_upsampling():
    # between a pixel of class 0 and one of class 2, class 1 is the best compromise
    logits = torch.tensor([[3.0, 0.0], [2.0, 2.0], [0.0, 3.0]])[None, :, None, :]
    assert predict_classes(logits, (1, 8)).tolist() == [[[0, 0, 0, 1, 1, 2, 2, 2]]]
    assert predict_classes(logits, (1, 2)).tolist() == [[[0, 2]]]


# --- the model --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_is_restored_and_its_statistics_are_left_alone(
    make_model: MakeModel, make_split: MakeSplit, training: bool
):
    model, split = make_model(), make_split(2)
    expected = count(model, split).full
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train(training)
    assert torch.equal(count(model, split).full, expected)
    assert all(module.training is training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_no_gradients_are_kept(make_model: MakeModel, make_split: MakeSplit):
    model, recorded = make_model(), []
    model.register_forward_hook(lambda _module, _args, output: recorded.append(output.requires_grad))
    count(model, make_split(2))
    assert recorded == [False]


class LiveBytes(TorchDispatchMode):
    """The most bytes that tensors made inside held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, tuple[object, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                self.held[storage._cdata] = (torch.multiprocessing.reductions.StorageWeakRef(storage), storage.nbytes())
        self.held = {key: entry for key, entry in self.held.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.held.values()))
        return result


def test_memory_grows_by_one_matrix_for_each_image(make_model: MakeModel, make_split: MakeSplit):
    model, peaks = make_model(), []
    for split in (make_split(4, (128, 256)), make_split(16, (128, 256))):
        with LiveBytes() as live:
            count(model, split)
        peaks.append(live.peak)
    assert peaks[1] <= 1.01 * peaks[0] + 12 * (len(CLASSES) ** 2 * 8)


def test_full_resolution_logits_exist_for_one_image_at_a_time(make_split: MakeSplit, monkeypatch: pytest.MonkeyPatch):
    sizes, interpolate = [], F.interpolate

    def noted(x: Tensor, size: tuple[int, int], **settings: object) -> Tensor:
        if tuple(size) == (64, 128):
            sizes.append(tuple(x.shape[:2]))
        return interpolate(x, size=size, **settings)

    monkeypatch.setattr(F, "interpolate", noted)
    count(Always7(), make_split(4), 4)
    assert sizes == [(1, 1)] * 4 * 19  # and of one class at a time


# --- scores -----------------------------------------------------------------------------------------------------------


def test_full_and_quarter_scores_are_kept_apart(make_model: MakeModel, data: Prepared):
    evaluation = count(make_model(), data.val)
    full, quarter = scores(evaluation.full, CLASSES), scores(evaluation.quarter, CLASSES)
    assert full.miou != quarter.miou
    assert evaluation.headline() == {
        "miou": full.miou,
        "miou_quarter": quarter.miou,
        "pixel_accuracy": full.pixel_accuracy,
    }
    report = evaluation.report("_best")
    assert list(report) == ["miou_best", "miou_quarter_best", "pixel_accuracy_best", "miou_official_best", "iou_best"]
    assert list(report["iou_best"]) == list(CLASSES)


def test_a_class_without_labels_is_nan_and_left_out_of_the_mean(make_model: MakeModel, make_split: MakeSplit):
    split = make_split(2)
    split.labels[split.labels == 5] = 255
    report = count(make_model(), split).report()
    absent = [name for name, value in report["iou"].items() if math.isnan(value)]
    assert absent == [CLASSES[5]]
    assert report["miou"] == pytest.approx(np.nanmean(list(report["iou"].values())))


def test_a_split_of_void_alone_scores_nan(make_model: MakeModel, make_split: MakeSplit):
    split = make_split(2)
    split.labels[:] = 255
    evaluation = count(make_model(), split)
    assert evaluation.full.sum() == 0
    assert all(math.isnan(value) for value in evaluation.headline().values())


# --- predictions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_each_prediction_is_handed_over_as_it_was_counted(make_model: MakeModel, data: Prepared, batch_size: int):
    maps: dict[int, Tensor] = {}
    evaluation = evaluate(
        make_model(),
        data.val,
        data.classes,
        batch_size=batch_size,
        device=CPU,
        on_prediction=lambda index, classes: maps.update({index: classes}),
    )
    assert sorted(maps) == list(range(len(data.val)))
    for index, classes in maps.items():
        assert (classes.dtype, classes.shape) == (torch.uint8, data.label_sizes[0])
        counted = counted_one_by_one(classes[None], torch.tensor(data.val.labels[index : index + 1]))
        assert torch.equal(counted, evaluation.images[index])
