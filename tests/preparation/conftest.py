"""Tiny raw data in the layout of Cityscapes, to be damaged by the tests, and their preparation."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from effiseg.base.errors import EffiSegError
from effiseg.data.prepared import Prepared
from effiseg.preparation.prepare import prepare
from tests.settings import data_settings


@dataclass(frozen=True)
class Raw:
    """Images and labels of noise in the layout of Cityscapes.

    Attributes:
        root: the folder of both.
        size: height and width of each.
        train: names of the training samples.
        val: names of the validation samples.
    """

    root: Path
    size: tuple[int, int] = (24, 48)
    train: tuple[str, ...] = ("aachen/a_0", "aachen/a_1", "ulm/u_0")
    val: tuple[str, ...] = ("bonn/b_0", "bonn/b_1")

    def image(self, split: str, name: str) -> Path:
        return self.root / f"leftImg8bit/{split}/{name}_leftImg8bit.png"

    def label(self, split: str, name: str) -> Path:
        return self.root / f"gtFine/{split}/{name}_gtFine_labelIds.png"

    def write_image(self, split: str, name: str, pixels: np.ndarray) -> None:
        write_png(self.image(split, name), pixels)

    def write_label(self, split: str, name: str, ids: np.ndarray) -> None:
        write_png(self.label(split, name), ids)


def write_png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    raw, rng = Raw(tmp_path / "raw"), np.random.default_rng(0)
    for split, names in (("train", raw.train), ("val", raw.val)):
        for name in names:
            raw.write_image(split, name, rng.integers(0, 256, (*raw.size, 3), dtype=np.uint8))
            raw.write_label(split, name, rng.integers(0, 34, raw.size, dtype=np.uint8))
    return raw


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where the prepared data go; nothing else is kept beside them."""
    return tmp_path / "build" / "prepared"


@pytest.fixture
def prepared(raw: Raw, out: Path) -> Callable[..., Prepared]:
    """Prepares `raw` to `out` at 8x16, or what the arguments say."""

    def run(root: Path = raw.root, out: Path = out, source: str = "cityscapes", **settings: Any) -> Prepared:
        workers = settings.pop("workers", 1)
        prepare(data_settings(source, root, **{"size": (8, 16), **settings}), out, workers=workers)
        return Prepared.open(out)

    return run


@pytest.fixture
def refused(prepared: Callable[..., Prepared], beside_out: Callable[[], list[str]]) -> Callable[..., str]:
    """The one-line message of a preparation that must fail and leave nothing behind."""

    def run(*arguments: Any, **settings: Any) -> str:
        with pytest.raises(EffiSegError) as caught:
            prepared(*arguments, **settings)
        message = str(caught.value)
        assert message.isprintable()
        assert beside_out() == []
        return message

    return run


@pytest.fixture
def beside_out(out: Path) -> Callable[[], list[str]]:
    """The names in the folder of `out`, its own included."""

    def names() -> list[str]:
        return sorted(entry.name for entry in out.parent.iterdir()) if out.parent.exists() else []

    return names
