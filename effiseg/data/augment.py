"""Augmentation on the device, a batch at a time: image and label move together."""

import torch
import torch.nn.functional as F
from kornia.augmentation import ColorJiggle
from torch import Tensor, nn

from effiseg.schema import IGNORE_INDEX, Augment


class Augmentation(nn.Module):
    """Random zoom, crop and flip in one resampling, then colour jitter; all draws come from torch's global generator.

    Each image is zoomed by a factor of its own and cropped at a random place; where the crop reaches past the image,
    pixels are black and labels ignored.
    """

    def __init__(self, settings: Augment) -> None:
        super().__init__()
        self.settings = settings
        strength = settings.colour
        # no submodule: on its way to a GPU it would begin to draw there, and fetch every draw back
        self._jitter = (ColorJiggle(strength, strength, strength) if strength else nn.Identity(),)

    @torch.compiler.disable  # kornia branches on its draws; and compiled code would draw others than eager code
    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N, 3, H, W) and (N, H, W) -> float32 (N, 3, h, w) in 0..255 and uint8 (N, h, w), h x w the crop."""
        # mixed precision would round the coordinates to whole pixels and worse
        with torch.autocast(images.device.type, enabled=False):
            return self._move(images, labels)

    def _move(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        count, _, *size = images.shape
        crop = self.settings.crop
        grid = F.affine_grid(self._draw(count, size, images.device), [count, 3, *crop], align_corners=False)
        moved = F.grid_sample(images.float() / 255, grid, mode="bilinear", align_corners=False)
        # shifted by one, so that the zeros that come in from outside read as "ignore"
        shifted = (labels.int() - IGNORE_INDEX) % (IGNORE_INDEX + 1)
        shifted = F.grid_sample(shifted[:, None].float(), grid, mode="nearest", align_corners=False)[:, 0]
        moved_labels = (shifted.round().int() + IGNORE_INDEX) % (IGNORE_INDEX + 1)
        return 255 * self._jitter[0](moved), moved_labels.to(torch.uint8)

    def _draw(self, count: int, size: list[int], device: torch.device) -> Tensor:
        """Affine maps (N, 2, 3) from crop to image coordinates, both in -1..1."""
        lowest, highest = self.settings.scale
        zoom = lowest + (highest - lowest) * torch.rand(count, device=device)
        flip = torch.where(torch.rand(count, device=device) < self.settings.flip, -1.0, 1.0)
        theta = torch.zeros(count, 2, 3, device=device)
        for axis, (crop_side, side) in enumerate(zip(self.settings.crop[::-1], size[::-1], strict=True)):
            seen = crop_side / side / zoom  # share of the image that the crop shows along this axis
            theta[:, axis, axis] = seen
            theta[:, axis, 2] = (1 - seen).abs() * (2 * torch.rand(count, device=device) - 1)
        theta[:, 0, 0] *= flip
        return theta
