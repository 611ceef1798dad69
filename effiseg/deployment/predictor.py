"""A network's answer for pictures of any size."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from effiseg.data.fit import Fit, fit_picture, frame
from effiseg.evaluation.evaluate import predict_classes

_GRID = 4  # pixels per logit, along a side


class Predictor:
    """Class maps of pictures of any size: brought to the size of the training as `prepare` does, and the logits back.

    Args:
        network: uint8 images (N, 3, H, W) to logits (N, classes, H/4, W/4), on `device`.
        size: (height, width) of the training.
        fit: how a picture of another shape is brought there.
        flip: whether to average the logits with those of the mirrored picture.
        zoom: above 1, the picture is scaled to this many times the training size a side, and cut into windows of the
            training size that overlap by half; where they overlap, logits are averaged.
    """

    def __init__(
        self,
        network: nn.Module,
        size: tuple[int, int],
        fit: Fit,
        device: torch.device,
        *,
        flip: bool = False,
        zoom: float = 1.0,
    ) -> None:
        self.network, self.size, self.fit, self.device = network, size, fit, device
        self.flip, self.zoom = flip, zoom

    def __call__(self, pictures: Sequence[Image.Image]) -> list[NDArray[Any]]:
        """RGB pictures of any sizes -> trainIds (H, W) of each, at its own size."""
        if not pictures:
            return []
        whole = (_zoomed(self.size[0], self.zoom), _zoomed(self.size[1], self.zoom))
        images = np.stack([fit_picture(picture, whole, self.fit) for picture in pictures])
        logits = self.logits(torch.from_numpy(images).permute(0, 3, 1, 2).to(self.device))
        # one picture at a time: logits at a camera's resolution are the largest tensors of all
        shapes = [(picture.height, picture.width) for picture in pictures]
        return [
            predict_classes(single, shape, frame(shape, whole, self.fit))[0].cpu().numpy()
            for shape, single in zip(shapes, logits.split(1), strict=True)
        ]

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """uint8 (N, 3, H, W), `zoom` times the training size a side -> float32 logits (N, classes, H/4, W/4)."""
        logits = self._slide(images)
        if self.flip:
            logits = (logits + self._slide(images.flip(-1)).flip(-1)) / 2
        return logits

    def _slide(self, images: Tensor) -> Tensor:
        """The mean of the logits of all windows that cover the images; one window is all there is without a zoom."""
        window = self.size
        total: Tensor | float = 0.0
        times: Tensor | float = 0.0
        for top in _starts(images.shape[2], window[0]):
            row, lefts = images[:, :, top : top + window[0]], _starts(images.shape[3], window[1])
            # a row of windows in one pass: small ones cost little more than one
            parts = self._forward(torch.cat([row[..., left : left + window[1]] for left in lefts]))
            for left, part in zip(lefts, parts.chunk(len(lefts)), strict=True):
                place = _place(top, left, part, images)
                total = F.pad(part, place) + total
                times = F.pad(torch.ones_like(part[:1, :1]), place) + times
        assert isinstance(total, Tensor)
        return total / times

    def _forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images).float()
        return logits


def _zoomed(side: int, zoom: float) -> int:
    """About `zoom` times a window's side, so that windows on the logits' grid end where the picture does."""
    return side + _GRID * round((zoom - 1) * side / _GRID)


def _starts(length: int, window: int) -> list[int]:
    """Where windows begin that cover `length` and overlap by half or more; multiples of the grid."""
    steps = -(-2 * (length - window) // window)
    return [_GRID * round((length - window) * i / max(steps, 1) / _GRID) for i in range(steps + 1)]


def _place(top: int, left: int, part: Tensor, images: Tensor) -> tuple[int, int, int, int]:
    """How much to pad a window's logits, left, right, above and below, to those of the images."""
    (height, width), (y, x) = part.shape[2:], (top // _GRID, left // _GRID)
    return x, -(-images.shape[3] // _GRID) - x - width, y, -(-images.shape[2] // _GRID) - y - height
