"""Opening prepared data that are damaged."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from effiseg.data.prepared import Prepared
from effiseg.errors import EffiSegError


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def rewritten(out: Path, **changes: object) -> None:
    index = json.loads((out / "index.json").read_text())
    (out / "index.json").write_text(json.dumps(index | changes))


def save_images(out: Path, array: np.ndarray) -> None:
    np.save(out / "val/images.npy", array)


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda out: shutil.rmtree(out), r"index\.json: .*No such file"),
        (lambda out: (out / "index.json").write_text("{"), r"index\.json: .*Invalid JSON"),
        (lambda out: (out / "index.json").write_bytes(b"\xff{}"), r"index\.json: "),
        (lambda out: rewritten(out, format=2), r"index\.json: .*format Input should be 1"),
        (lambda out: rewritten(out, splits={}), r"index\.json: .*expected train and val"),
        (lambda out: rewritten(out, class_weights=[1.0]), r"index\.json: .*19 classes, but another number"),
        (lambda out: rewritten(out, class_weights=[-1.0] * 19), r"index\.json: .*class_weights\.0 "),
        (lambda out: rewritten(out, extra=1), r"index\.json: .*extra"),
        (lambda out: rewritten(out, ignore_index=0), r"index\.json: .*ignore_index"),
        (lambda out: rewritten(out, size=[8, 8]), r"train/images\.npy: .*expected uint8 of shape \(3, 3, 8, 8\)"),
        (lambda out: (out / "train/labels.npy").unlink(), r"train/labels\.npy: .*No such file"),
        (lambda out: truncate(out / "val/images.npy"), r"val/images\.npy: .*"),
        (lambda out: (out / "val/images.npy").write_bytes(b""), r"val/images\.npy: .*"),
        (lambda out: (out / "val/images.npy").write_bytes(b"junk" * 99), r"val/images\.npy: .*"),
        (lambda out: save_images(out, np.zeros((2, 3, 8, 16))), r"val/images\.npy: .*float64"),
        (lambda out: save_images(out, np.zeros((2, 3, 8, 16), np.uint8, "F")), r"val/images\.npy: .*"),
        (lambda out: save_images(out, np.array([None])), r"val/images\.npy: .*"),
    ],
)
def test_a_damaged_folder_is_refused(out: Path, prepared, damage: Callable[[Path], object], match: str):
    prepared()
    damage(out)
    with pytest.raises(EffiSegError, match=match + r".*prepare the data again$") as caught:
        Prepared.open(out)
    assert str(caught.value).isprintable()
