"""How pictures of any size and shape become what a network takes, and where its answers lie in them: one rule for all.

`squash` stretches a picture to the size; `pad` keeps its shape, puts it into the upper left corner and leaves the rest
black, with void labels.
"""

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Fit = Literal["squash", "pad"]
Shape = tuple[int, int]  # height, width
Element = TypeVar("Element", bound=np.generic)


def placed(shape: Shape, size: Shape, fit: Fit) -> Shape:
    """How large a picture of `shape` stands in `size`."""
    if fit == "squash":
        return size
    scale = min(size[0] / shape[0], size[1] / shape[1])
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def frame(shape: Shape, size: Shape, fit: Fit) -> Shape:
    """The whole of `size` in pixels of a label of `shape`, whose part at the upper left the label is."""
    inner = placed(shape, size, fit)
    height, width = (
        max(side, round(side * outer / part)) for side, outer, part in zip(shape, size, inner, strict=True)
    )
    return height, width


def fit_picture(picture: Image.Image, size: Shape, fit: Fit) -> NDArray[np.uint8]:
    """An RGB picture (H, W, 3) at `size`, scaled bilinearly and antialiased."""
    height, width = placed((picture.height, picture.width), size, fit)
    scaled: NDArray[np.uint8] = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    return in_corner(scaled, size, 0)


def fit_label(label: NDArray[Element], size: Shape, fit: Fit, void: int) -> NDArray[Element]:
    """A label (H, W) at `size`, by the nearest pixel; beside it stands `void`."""
    height, width = placed((label.shape[0], label.shape[1]), size, fit)
    # Pillow scales 16 bits as whole numbers of 32
    image = Image.fromarray(label if label.dtype == np.uint8 else label.astype(np.int32))
    scaled = np.asarray(image.resize((width, height), Image.Resampling.NEAREST)).astype(label.dtype, copy=False)
    return in_corner(scaled, size, void)


def in_corner(array: NDArray[Element], size: Shape, value: int) -> NDArray[Element]:
    """An array (H, W, ...) within `size`, at the upper left; the rest holds `value`. The array itself where it fits."""
    if array.shape[:2] == size:
        return array
    whole = np.full((*size, *array.shape[2:]), value, dtype=array.dtype)
    whole[: array.shape[0], : array.shape[1]] = array
    return whole
