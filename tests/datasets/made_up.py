"""Made-up data sets of many kinds: blobs of colour on grey, in the forms that people keep images and labels in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Labels = NDArray[np.integer[Any]]
COUNTS = {"train": 6, "val": 3}


@dataclass(frozen=True)
class Kind:
    """How a data set is kept.

    Attributes:
        classes: of the blobs and the ground.
        image, label: paths below the root, of a split and a name.
        save: writes a label of class numbers to a path, as the data set encodes them.
        sizes: of the pictures, in turn: (height, width).
        table: what to change of the table that `data init` writes.
    """

    classes: int
    image: str
    label: str
    save: Callable[[Labels, Path], None]
    sizes: tuple[tuple[int, int], ...] = ((48, 96),)
    table: dict[str, Any] = field(default_factory=dict)


def ids(values: list[int]) -> Callable[[Labels, Path], None]:
    """Grey pictures of these ids, of 16 bits where they need them."""
    table = np.array(values, np.uint8 if max(values) < 256 else np.uint16)
    return lambda labels, path: Image.fromarray(table[labels]).save(path)


def colours(values: list[tuple[int, int, int]]) -> Callable[[Labels, Path], None]:
    return lambda labels, path: Image.fromarray(np.array(values, np.uint8)[labels]).save(path)


def palette(labels: Labels, path: Path) -> None:
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette([value for i in range(256) for value in (17 * i % 256, 91 * i % 256, 53 * i % 256)])
    image.save(path)


KINDS = {
    "ids with gaps": Kind(3, "images/{}/{}.jpg", "labels/{}/{}.png", ids([7, 26, 300])),
    "colours": Kind(3, "{}/{}.png", "{}_labels/{}_L.png", colours([(128, 0, 0), (0, 64, 64), (255, 255, 0)])),
    "palette": Kind(4, "JPEGImages/{}/{}.jpg", "SegmentationClass/{}/{}.png", palette),
    "black and white": Kind(2, "{}/images/{}.jpg", "{}/masks/{}.png", ids([0, 255])),
    "many classes": Kind(150, "images/{}/{}.png", "annotations/{}/{}.png", ids(list(range(150)))),
    "more than 8 bits hold": Kind(300, "images/{}/{}.png", "labels/{}/{}.png", ids(list(range(300)))),
    "differing sizes": Kind(
        3, "pictures/{}/{}.webp", "truth/{}/{}_mask.tif", ids([0, 1, 2]), ((48, 96), (64, 64), (90, 40))
    ),
    "one class and void": Kind(
        2,
        "{}/{}.jpg",
        "{}/{}_gt.bmp",
        ids([255, 1]),
        table={"classes": [{"name": "thing", "colour": [200, 30, 30], "ids": [1]}], "void": {"ids": [255]}},
    ),
}


def write(kind: Kind, root: Path, counts: dict[str, int] | None = None) -> dict[Path, Labels]:
    """Write the data set and return the class numbers of each label file."""
    draw = np.random.default_rng(0)
    truth: dict[Path, Labels] = {}
    tints = draw.integers(0, 256, (kind.classes, 3))
    for split, count in (counts or COUNTS).items():
        for number in range(count):
            height, width = kind.sizes[number % len(kind.sizes)]
            canvas = Image.new("I", (width, height), int(draw.integers(kind.classes)) if kind.classes > 2 else 0)
            pen = ImageDraw.Draw(canvas)
            for blob in range(2 * kind.classes if kind.classes > 9 else 4):
                left, top = draw.integers(0, width - 8), draw.integers(0, height - 8)
                box = (int(left), int(top), int(left) + int(draw.integers(4, 24)), int(top) + int(draw.integers(4, 24)))
                pen.ellipse(box, fill=(blob + number) % kind.classes)
            labels = np.asarray(canvas)
            image, label = (root / form.format(split, f"bild {number} ä") for form in (kind.image, kind.label))
            for path in (image, label):
                path.parent.mkdir(parents=True, exist_ok=True)
            noisy = tints[labels] * 0.8 + draw.integers(0, 40, (height, width, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(image)
            kind.save(labels, label)
            truth[label] = labels
    return truth
