"""The archive of predicted class maps."""

from pathlib import Path

import numpy as np
import pytest

from effiseg.base.errors import EffiSegError
from effiseg.data.predictions import read_predictions, write_predictions


@pytest.fixture
def maps() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {name: draw.integers(0, 19, (6, 10), dtype=np.uint8) for name in ("bonn/b_0", "bonn/b_1", "café")}


@pytest.fixture
def archive(tmp_path: Path, maps: dict[str, np.ndarray]) -> Path:
    return write(tmp_path / "predictions.zip", maps)


def write(path: Path, maps: dict[str, np.ndarray]) -> Path:
    with write_predictions(path) as add:
        for name, classes in maps.items():
            add(name, classes)
    return path


def test_maps_come_back_bit_by_bit_in_the_order_asked_for(archive: Path, maps: dict[str, np.ndarray]):
    names = list(reversed(maps))
    for name, found in zip(names, read_predictions(archive, names), strict=True):
        np.testing.assert_array_equal(found, maps[name], strict=True)


def test_the_same_maps_give_the_same_bytes(archive: Path, maps: dict[str, np.ndarray], tmp_path: Path):
    assert write(tmp_path / "again.zip", maps).read_bytes() == archive.read_bytes()


def test_an_unknown_sample_is_named(archive: Path):
    with pytest.raises(EffiSegError, match=r"predictions.zip: .*'nowhere.png' in the archive.*dvc repro"):
        read_predictions(archive, ["nowhere"])


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b.replace(b"IDAT", b"XDAT")])
def test_a_damaged_archive_is_named(archive: Path, maps: dict[str, np.ndarray], damage):
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(EffiSegError, match=r"predictions.zip: not a readable archive .*dvc repro"):
        read_predictions(archive, list(maps))


def test_a_missing_archive_is_named(tmp_path: Path):
    with pytest.raises(EffiSegError, match=r"none.zip: not a readable archive \(No such file"):
        read_predictions(tmp_path / "none.zip", ["a"])
