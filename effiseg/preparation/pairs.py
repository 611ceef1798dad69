"""An image and its label: named, read, and held against each other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from effiseg.data.images import BadFile, read_image
from effiseg.data.label_files import read_label
from effiseg.data.labels import LabelSpace
from effiseg.preparation.problems import Problem

_SAME_SHAPE = 0.02  # by which ratios of sides may differ


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its label; their paths stand as text, which takes a tenth of what a `Path` does.

    Attributes:
        name: what `{name}` stands for in the patterns; where several splits are used as one, after `<split>/`.
        files: of image and label.
        group: the drive, city or sequence that it is from, and its frame there.
    """

    name: str
    files: tuple[str, str]
    group: tuple[str, int]

    @property
    def image(self) -> Path:
        return Path(self.files[0])

    @property
    def label(self) -> Path:
        return Path(self.files[1])


def read_pair(pair: Pair, space: LabelSpace) -> tuple[Image.Image | None, NDArray[Any] | None, tuple[Problem, ...]]:
    """The image, upright, and its trainIds (H, W); None for both where something is wrong with either, and what."""
    problems, image, label = [], None, None
    try:
        image = read_image(pair.image)
    except BadFile as error:
        problems.append(Problem(pair.image, str(error)))
    try:
        label = read_label(pair.label, space)
    except BadFile as error:
        problems.append(Problem(pair.label, str(error)))
    if image is not None and label is not None and label.shape != (image.height, image.width):
        problems.append(Problem(pair.label, _other_size(label.shape, (image.height, image.width))))
    return (None, None, tuple(problems)) if problems else (image, label, ())


def _other_size(label: tuple[int, ...], image: tuple[int, int]) -> str:
    """What is wrong with a label of another size than its image, and the likely cause."""
    cause = "take both from the same release"
    if label == image[::-1]:
        cause = "the picture is turned by its EXIF data and the label is not: turn the label too"
    elif abs(label[0] * image[1] / (label[1] * image[0]) - 1) < _SAME_SHAPE:
        cause = "one of them was resized; take both at one size"
    return f"{told_size(label)}, but its image, upright, is {told_size(image)}: {cause}"


def told_size(size: tuple[int, ...]) -> str:
    """A size in messages."""
    return f"{size[0]}x{size[1]} (height x width)"
