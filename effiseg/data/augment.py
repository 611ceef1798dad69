"""Augmentation on the device, a batch at a time: image and label move together."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from kornia.enhance import adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation
from torch import Tensor, nn

from effiseg.base.device import full_precision
from effiseg.base.recipe import Augment

_DRAWS = 7  # uniform numbers for each image: zoom, flip, place across and down, brightness, contrast, saturation


class Augmentation(nn.Module):
    """Random zoom, crop and flip in one resampling, then colour jitter, all as the caller's draws say.

    Each image is zoomed by a factor of its own and cropped at a random place; where the crop reaches past the image,
    pixels are black and labels ignored.
    """

    def __init__(self, settings: Augment) -> None:
        super().__init__()
        self.settings = settings
        self.draws = _DRAWS + (settings.hue > 0)  # the hue's is the last one

    @torch.compiler.disable  # compiled code would round coordinates otherwise: another nearest label here and there
    def forward(self, images: Tensor, labels: Tensor, draws: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One batch.

        Args:
            images, labels: uint8 (N, 3, H, W) and (N, H, W), of `label_type`, whose largest number is void.
            draws: uniform in 0..1, (N, `draws`); from torch's global generator if not given.

        Returns:
            float32 (N, 3, h, w) in 0..255 and labels (N, h, w), h x w the crop.
        """
        if draws is None:
            draws = torch.rand(len(images), self.draws, device=images.device)
        # mixed precision would round the coordinates to whole pixels and worse
        with full_precision(images.device):
            return self._move(images, labels, draws)

    @torch.compiler.disable
    def inside(self, size: Sequence[int], draws: Tensor) -> Tensor | None:
        """Which pixels of the crops show images of `size` (H, W), bool (N, 1, h, w); None where no draw leaves them.

        Void labels cannot tell: those within an image are no different from those beside it.
        """
        lowest = self.settings.scale[0]
        if all(crop <= lowest * side for crop, side in zip(self.settings.crop, size, strict=True)):
            return None
        with full_precision(draws.device):
            ones = draws.new_ones(len(draws), 1, *size)
            return F.grid_sample(ones, self._grid(draws, size), mode="nearest", align_corners=False) > 0

    def _move(self, images: Tensor, labels: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        grid = self._grid(draws, images.shape[2:])
        moved = F.grid_sample(images.float() / 255, grid, mode="bilinear", align_corners=False)
        # shifted by one, so that the zeros that come in from outside read as "ignore"
        void = torch.iinfo(labels.dtype).max
        shifted = (labels.int() - void) % (void + 1)
        shifted = F.grid_sample(shifted[:, None].float(), grid, mode="nearest", align_corners=False)[:, 0]
        moved_labels = (shifted.round().int() + void) % (void + 1)
        return 255 * self._jitter(moved, draws), moved_labels.to(labels.dtype)

    def _jitter(self, images: Tensor, draws: Tensor) -> Tensor:
        """Shift the brightness, scale contrast and saturation, turn the hue of images in 0..1, in this order."""
        colour, hue = self.settings.colour, self.settings.hue
        if colour:
            brightness, contrast, saturation = (colour * (2 * draws[:, 4:_DRAWS] - 1)).unbind(dim=1)
            images = adjust_brightness(images, brightness)
            images = adjust_saturation(adjust_contrast(images, 1 + contrast), 1 + saturation)
        if hue:
            images = adjust_hue(images.clamp(0, 1), 2 * math.pi * hue * (2 * draws[:, _DRAWS] - 1))
        return images.clamp_(0, 1) if colour or hue else images

    def _grid(self, draws: Tensor, size: Sequence[int]) -> Tensor:
        """Where in the images, in -1..1, each pixel of the crops lies: (N, h, w, 2)."""
        return F.affine_grid(self._maps(draws, size), [len(draws), 1, *self.settings.crop], align_corners=False)

    def _maps(self, draws: Tensor, size: Sequence[int]) -> Tensor:
        """Affine maps (N, 2, 3) from crop to image coordinates, both in -1..1."""
        lowest, highest = self.settings.scale
        zoom = lowest + (highest - lowest) * draws[:, 0]
        flip = torch.where(draws[:, 1] < self.settings.flip, -1.0, 1.0)
        theta = draws.new_zeros(len(draws), 2, 3)
        for axis, (crop_side, side) in enumerate(zip(self.settings.crop[::-1], size[::-1], strict=True)):
            seen = crop_side / side / zoom  # share of the image that the crop shows along this axis
            theta[:, axis, axis] = seen
            theta[:, axis, 2] = (1 - seen).abs() * (2 * draws[:, 2 + axis] - 1)
        theta[:, 0, 0] *= flip
        return theta
