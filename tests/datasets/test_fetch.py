"""Data sets in the form of the Hugging Face Hub, from a local folder."""

from io import BytesIO
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from effiseg.base.errors import EffiSegError
from effiseg.data.dataset import open_dataset
from effiseg.data.prepared import Prepared
from effiseg.intake.fetch import fetch
from effiseg.preparation.prepare import prepare
from tests.settings import data_settings

RNG = np.random.default_rng(0)


def encoded(array: np.ndarray, form: str) -> bytes:
    buffer = BytesIO()
    Image.fromarray(array).save(buffer, form)
    return buffer.getvalue()


@pytest.fixture
def hub(tmp_path: Path) -> tuple[Path, dict[str, list[dict[str, bytes]]]]:
    """Parquet files as the Hub keeps them, and what they hold."""
    folder = tmp_path / "hub"
    (folder / "data").mkdir(parents=True)
    kept = {}
    for split, count in (("train", 5), ("validation", 2)):
        pictures = [encoded(RNG.integers(0, 256, (16, 24, 3), dtype=np.uint8), "JPEG") for _ in range(count)]
        masks = [
            encoded(np.repeat(RNG.integers(0, 3, (16, 1), dtype=np.uint8), 24, axis=1), "PNG") for _ in range(count)
        ]
        kept[split] = [{"pixel": a, "annotation": b} for a, b in zip(pictures, masks, strict=True)]
        rows = {
            "pixel": [{"bytes": each, "path": None} for each in pictures],
            "annotation": [{"bytes": each, "path": None} for each in masks],
            "scene": [f"street {i}" for i in range(count)],
        }
        kinds = datasets.Features(
            {"pixel": datasets.Image(), "annotation": datasets.Image(), "scene": datasets.Value("string")}
        )
        datasets.Dataset.from_dict(rows, features=kinds).to_parquet(folder / f"data/{split}-00000-of-00001.parquet")
    return folder, kept


def test_images_and_masks_are_written_byte_for_byte_with_a_table_that_serves(hub, tmp_path: Path):
    folder, kept = hub
    out = tmp_path / "mine"
    told = fetch(str(folder), "", out)
    assert any("train: 5 pairs" in line for line in told) and any("val: 2 pairs" in line for line in told)
    for split, name in (("train", "train"), ("validation", "val")):
        for index, row in enumerate(kept[split]):
            assert (out / f"{name}/images/{index:06d}.jpg").read_bytes() == row["pixel"]
            assert (out / f"{name}/labels/{index:06d}.png").read_bytes() == row["annotation"]
    assert open_dataset(str(out)).homepage == str(folder)
    prepare(data_settings(str(out), out), tmp_path / "prepared", workers=1)
    assert Prepared.open(tmp_path / "prepared").num_classes == 3


@pytest.mark.parametrize(
    ("name", "revision", "columns", "told"),
    [
        ("owner/name", "main", {}, "--revision 'main': expected a commit of 40 hex digits"),
        ("{hub}", "", {"image": "scene"}, r"columns: looked for .*pixel, annotation of pixel, annotation, scene"),
        ("{hub}", "", {"label": "none"}, "name them with --image and --label"),
    ],
)
def test_what_cannot_be_fetched_is_told_and_leaves_nothing(hub, tmp_path: Path, name, revision, columns, told):
    with pytest.raises(EffiSegError, match=told):
        fetch(name.format(hub=hub[0]), revision, tmp_path / "mine", **columns)
    assert not (tmp_path / "mine").exists()


def test_a_folder_that_exists_is_not_touched(hub, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(EffiSegError, match="exists already; name a new folder"):
        fetch(str(hub[0]), "", tmp_path / "mine")
