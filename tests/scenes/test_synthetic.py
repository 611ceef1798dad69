from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from effiseg.base.errors import EffiSegError
from effiseg.base.schema import IGNORE_INDEX
from effiseg.data.dataset import open_dataset
from effiseg.data.prepared import Prepared
from effiseg.preparation.prepare import prepare
from effiseg.scenes import synthetic
from effiseg.scenes.canvas import EGO_VEHICLE, OUT_OF_ROI
from effiseg.scenes.synthetic import render_scene, synthesize
from tests.settings import CITYSCAPES, data_settings

CLASSES = len(CITYSCAPES.classes)


@cache
def _scenes(split: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images, labels = zip(*(render_scene((3, split, index), 64) for index in range(count)), strict=True)
    return np.stack(images), np.stack(labels)


def _train() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return _scenes(0, 70)


def _val() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return _scenes(1, 40)


def _shares(labels: NDArray[np.uint8]) -> dict[str, float]:
    train_ids = CITYSCAPES.of_id[labels]
    counts = np.bincount(train_ids[train_ids != IGNORE_INDEX], minlength=CLASSES)
    return dict(zip(CITYSCAPES.classes, (counts / counts.sum()).tolist(), strict=True))


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_image_and_label_have_the_stated_shape_and_type() -> None:
    image, label = render_scene(1, 48)
    assert image.shape == (48, 96, 3)
    assert label.shape == (48, 96)
    assert image.dtype == label.dtype == np.uint8


def test_same_seed_is_the_same_street_at_another_height() -> None:
    small, large = render_scene(5, 128)[1], render_scene(5, 512)[1]
    assert (small == large[2::4, 2::4]).mean() > 0.93


def test_scenes_differ_between_seeds() -> None:
    assert (render_scene((1, 0, 0), 64)[1] != render_scene((1, 0, 1), 64)[1]).mean() > 0.1


def test_bytes_are_the_same_whatever_the_number_of_workers(tmp_path: Path) -> None:
    synthesize(tmp_path / "one", train=10, val=3, height=32, seed=4, workers=1)
    synthesize(tmp_path / "two", train=10, val=3, height=32, seed=4, workers=2)
    synthesize(tmp_path / "other", train=10, val=3, height=32, seed=5, workers=1)
    one, two, other = (_files(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one)


def test_files_are_laid_out_as_cityscapes(tmp_path: Path) -> None:
    root = tmp_path / "data"
    synthesize(root, train=9, val=3, height=32, seed=1, workers=1)
    cities = {}
    for split, count in (("train", 9), ("val", 3)):
        images = sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
        assert len(images) == count
        cities[split] = {path.parent.name for path in images}
        for path in images:
            city, sequence, frame, _ = path.name.split("_")
            assert city == path.parent.name
            assert len(sequence) == len(frame) == 6
            label_name = path.name.replace("_leftImg8bit", "_gtFine_labelIds")
            with Image.open(path) as image, Image.open(root / "gtFine" / split / city / label_name) as label:
                assert (image.format, image.mode, image.size) == ("PNG", "RGB", (64, 32))
                assert (label.format, label.mode, label.size) == ("PNG", "L", (64, 32))
    assert not cities["train"] & cities["val"]
    assert len(_files(root)) == 2 * 12


def test_label_files_hold_allowed_ids_only() -> None:
    assert (CITYSCAPES.of_id[_train()[1]] >= 0).all()


@pytest.mark.parametrize("scenes", [_train, _val])
def test_every_class_occurs_and_shares_are_long_tailed(scenes) -> None:
    _, labels = scenes()
    share = _shares(labels)
    assert min(share.values()) > 0.0003, share
    assert list(sorted(share, key=share.__getitem__, reverse=True)[:3]) == ["road", "building", "vegetation"]
    assert 0.30 < share["road"] < 0.42
    rare = ("wall", "fence", "traffic light", "rider", "motorcycle", "bicycle")
    assert all(share[name] < 0.02 for name in rare), share
    assert all(share[name] < 0.03 for name in ("truck", "bus", "train")), share  # few, but large


def test_void_ids_frame_the_image() -> None:
    _, labels = _train()
    assert (labels[:, 0] == OUT_OF_ROI).all()
    assert (labels[:, -3, 64] == EGO_VEHICLE).mean() > 0.5
    assert {4, 5} <= set(np.unique(labels).tolist())


def test_colour_alone_does_not_give_the_class_away() -> None:
    def bins(images: NDArray[np.uint8]) -> NDArray[np.int64]:
        red, green, blue = np.moveaxis(images.astype(np.int64) >> 4, -1, 0)
        return red * 256 + green * 16 + blue

    def joint(first: NDArray[np.int64], truth: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        return np.bincount(first * CLASSES + truth, minlength=size * CLASSES).reshape(size, CLASSES)

    samples = []
    for images, labels in (_train(), _val()):
        truth = CITYSCAPES.of_id[labels].astype(np.int64)
        kept = truth != IGNORE_INDEX
        samples.append((bins(images)[kept], truth[kept]))
    (train_bins, train_truth), (val_bins, val_truth) = samples
    guess = joint(train_bins, train_truth, 16**3).argmax(axis=1)
    confusion = joint(guess[val_bins], val_truth, CLASSES)
    hits = np.diag(confusion)
    iou = hits / np.maximum(confusion.sum(axis=0) + confusion.sum(axis=1) - hits, 1)
    assert hits.sum() / confusion.sum() < 0.52
    assert iou.mean() < 0.12


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "cityscapes"
    root.mkdir()
    (root / "precious.txt").write_text("real data")
    with pytest.raises(EffiSegError, match=r"cityscapes.*precious\.txt"):
        synthesize(root, train=1, val=1, height=32, seed=0, workers=1)
    assert _files(tmp_path) == {"cityscapes/precious.txt": b"real data"}


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(EffiSegError, match="found a file"):
        synthesize(tmp_path / "data", train=1, val=1, height=32, seed=0, workers=1)


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    synthesize(tmp_path, train=1, val=1, height=32, seed=0, workers=1)
    assert len(_files(tmp_path)) == 4


@pytest.mark.parametrize("bad", [{"train": -1}, {"val": -1}, {"height": 8}, {"seed": -1}, {"workers": 0}])
def test_numbers_out_of_range_are_refused(tmp_path: Path, bad: dict[str, int]) -> None:
    settings = {"train": 1, "val": 1, "height": 32, "seed": 0, "workers": 1} | bad
    with pytest.raises(EffiSegError, match=next(iter(bad))):
        synthesize(tmp_path / "data", **settings)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
def test_nothing_is_left_when_interrupted(tmp_path: Path, monkeypatch, failure: type[BaseException]) -> None:
    rendered = []

    def fail_on_third(seed: tuple[int, ...], height: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        if len(rendered) == 2:
            raise failure
        rendered.append(seed)
        return render_scene(seed, height)

    monkeypatch.setattr(synthetic, "render_scene", fail_on_third)
    with pytest.raises(failure):
        synthesize(tmp_path / "data", train=4, val=1, height=32, seed=0, workers=1)
    assert len(rendered) == 2
    assert not any(tmp_path.iterdir())


def test_what_a_killed_run_left_is_cleaned_up(tmp_path: Path) -> None:
    stale = tmp_path / ".data.partial"
    stale.mkdir()
    (stale / "half.png").write_bytes(b"")
    synthesize(tmp_path / "data", train=1, val=1, height=32, seed=0, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert len(_files(tmp_path / "data")) == 4


def test_generated_scenes_read_as_cityscapes_are_still_known_as_generated(tmp_path: Path) -> None:
    synthesize(tmp_path / "raw", train=2, val=2, height=32, seed=0, workers=1)
    prepare(data_settings("cityscapes", tmp_path / "raw"), tmp_path / "prepared", workers=1)
    assert Prepared.open(tmp_path / "prepared").source == "synthetic"


def test_scenes_read_by_another_table_keep_its_classes_and_are_still_told_as_generated(tmp_path: Path) -> None:
    synthesize(tmp_path / "raw", train=2, val=2, height=32, seed=0, workers=1)
    prepare(data_settings("cityscapes-categories", tmp_path / "raw"), tmp_path / "prepared", workers=1)
    data = Prepared.open(tmp_path / "prepared")
    assert (data.source, data.generated) == ("synthetic", True)
    assert data.classes == open_dataset("cityscapes-categories").space.classes
    assert data.space.void == open_dataset("cityscapes-categories").void
