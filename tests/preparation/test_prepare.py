"""From raw folders to the prepared form: arrays, counts, class weights and the digest."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effiseg.data.dataset import open_dataset
from tests.settings import CAMVID, CITYSCAPES

SIZE = (8, 16)


def write_camvid(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True)
        for number in range(2):
            image = Image.fromarray(rng.integers(0, 256, (24, 48, 3), dtype=np.uint8))
            image.save(root / f"{split}/{number}.jpg")
            label = Image.fromarray(rng.integers(0, 12, (24, 48), dtype=np.uint8))
            label.save(root / f"{split}annot/{number}.png")
    return root


def test_the_arrays_are_the_decoded_and_resized_files(raw, out: Path, prepared, beside_out):
    data = prepared(size=SIZE)
    assert (data.path, data.source, data.size, data.label_sizes) == (out, "cityscapes", SIZE, [raw.size])
    assert (data.classes, data.colours, data.num_classes) == (CITYSCAPES.classes, CITYSCAPES.colours, 19)
    assert (data.train.names, data.val.names, len(data.train), len(data.val)) == (raw.train, raw.val, 3, 2)
    table = CITYSCAPES.of_id.astype(np.uint8)
    for split, content, label_size in (("train", data.train, SIZE), ("val", data.val, raw.size)):
        assert isinstance(content.images, np.memmap)
        assert content.images.shape == (len(content), 3, *SIZE)
        assert content.labels.shape == (len(content), *label_size)
        assert content.images.dtype == content.labels.dtype == np.uint8
        for index, name in enumerate(content.names):
            image = Image.open(raw.image(split, name)).resize(SIZE[::-1], Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(content.images[index], np.asarray(image).transpose(2, 0, 1))
            label = Image.open(raw.label(split, name)).resize(label_size[::-1], Image.Resampling.NEAREST)
            np.testing.assert_array_equal(content.labels[index], table[np.asarray(label)])
    assert beside_out() == ["prepared"]


def test_pixels_are_counted_on_train_ids_before_resizing(raw, prepared):
    data = prepared()
    for split, names in (("train", raw.train), ("val", raw.val)):
        ids = np.stack([np.asarray(Image.open(raw.label(split, name))) for name in names])
        train_ids = CITYSCAPES.of_id[ids]
        assert data.pixel_counts[split] == [int((train_ids == number).sum()) for number in range(19)]
        assert data.void_pixels[split] == (train_ids == 255).sum()


def test_computed_weights_follow_the_share_and_absent_classes_get_the_largest(raw, prepared):
    ids = np.full(raw.size, 7, np.uint8)  # road; 3/4 of what is not void
    ids[0], ids[1:6] = 0, 11  # void and building
    for name in raw.train:
        raw.write_label("train", name, ids)
    weights = prepared().class_weights
    assert weights[0] == pytest.approx(1 / math.log(1.10 + 18 / 23))
    assert weights[2] == pytest.approx(1 / math.log(1.10 + 5 / 23))
    assert weights[1] == weights[18] == pytest.approx(1 / math.log(1.10))


def test_paper_weights_are_the_table_of_cityscapes(out: Path, prepared, refused):
    published = open_dataset("cityscapes").published_weights
    assert prepared(class_weights="paper").class_weights == list(published)
    assert len(published) == 19
    shutil.rmtree(out)
    assert "data.class_weights" in refused(source="camvid", class_weights="paper")


def test_camvid(prepared, tmp_path: Path):
    root = write_camvid(tmp_path / "camvid")
    data = prepared(root, source="camvid")
    assert data.classes == CAMVID.classes
    assert data.val.names == ("0", "1")
    ids = np.asarray(Image.open(root / "valannot/1.png"))
    np.testing.assert_array_equal(data.val.labels[1], np.where(ids == 11, 255, ids))


def contents(folder: Path) -> dict[Path, bytes]:
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_digest_depends_on_content_alone(raw, out: Path, prepared, tmp_path: Path):
    first = prepared().digest
    files = contents(out)
    elsewhere = replace(raw, root=raw.root.rename(tmp_path / "elsewhere"))
    for workers in (1, 2, 3, None):
        assert prepared(elsewhere.root, workers=workers).digest == first
        assert contents(out) == files  # the index, too, holds nothing of where the raw data lie
    assert prepared(elsewhere.root, source="synthetic").digest == first
    assert prepared(elsewhere.root, size=(8, 8)).digest != first
    name = elsewhere.val[0]
    ids = np.array(Image.open(elsewhere.label("val", name)))
    ids[5, 5] = 7 if ids[5, 5] != 7 else 8
    elsewhere.write_label("val", name, ids)
    assert prepared(elsewhere.root).digest != first


def test_the_digest_depends_on_the_names(raw, prepared):
    first = prepared().digest
    for path in (raw.image, raw.label):
        path("val", raw.val[1]).rename(path("val", "bonn/b_2"))
    assert prepared().digest != first
