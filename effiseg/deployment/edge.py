"""A finished row as the files of one target, for one size of images, held against the trained network."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from effiseg.base.errors import EffiSegError
from effiseg.data.prepared import Prepared
from effiseg.deployment import tensorrt
from effiseg.deployment.card import Card
from effiseg.deployment.export import COMPARED, Parity, compare, spread
from effiseg.deployment.ncnn_file import PARAM, NcnnSegmenter, write_ncnn
from effiseg.deployment.runtimes import FileSegmenter, OnnxSegmenter
from effiseg.models.deployed import Deployed, deploy
from effiseg.models.segformer import Segmenter

SMALLEST = 32  # pixels a side


@dataclass(frozen=True)
class Target:
    """What a row can be written for.

    Attributes:
        write: puts the files for images of the card's size into a folder.
        mark: a file by which a folder of an earlier export is told.
        runtime: what opens them here.
        hint: what is left to do on the device.
    """

    write: Callable[[Deployed, Path, Card], None]
    mark: str
    runtime: type[FileSegmenter]
    hint: str


TARGETS = {
    "tensorrt": Target(
        tensorrt.write_tensorrt,
        tensorrt.COMMAND_FILE,
        OnnxSegmenter,
        f"in that folder, where TensorRT 10 is: {tensorrt.COMMAND}",
    ),
    "ncnn": Target(
        write_ncnn,
        PARAM,
        NcnnSegmenter,
        "in0 takes the pixels as they are (ncnn::Mat::from_pixels, PIXEL_RGB); out0 gives logits on the quarter grid",
    ),
}


def export_target(
    model: Segmenter, card: Card, data: Prepared, folder: Path, target: str, size: tuple[int, int] | None = None
) -> Parity:
    """Write the files of one of `TARGETS` into `folder`, which must exist.

    Args:
        model: the trained network, on the CPU.
        size: (H, W) of the images that the files take; None: that of the training.

    Raises:
        EffiSegError: the size is too small, the target is not installed or does not take the network, or its files
            answer otherwise than the trained network.
    """
    size = size or card.size
    if min(size) < SMALLEST:
        raise EffiSegError(f"--size {size[0]} {size[1]}: expected at least {SMALLEST} pixels a side")
    chosen = TARGETS[target]
    chosen.write(deploy(model), folder, card.model_copy(update={"size": size}))
    images = _scaled(torch.from_numpy(spread(data.val, COMPARED)), size)
    with torch.inference_mode():
        expected = torch.cat([model(image[None]) for image in images])  # one by one, since the size may be large
    file = chosen.runtime.file
    return compare(file, expected, chosen.runtime(folder / file), images)


def export_at_sizes(
    model: Segmenter, card: Card, data: Prepared, folder: Path, target: str, sizes: Iterable[Sequence[int]]
) -> None:
    """Write a target's files for several sizes (H, W) into folders of their own below `folder`, see `at_size`.

    Raises:
        EffiSegError: as `export_target` has it.
    """
    for height, width in sizes:
        inner = at_size(folder, (height, width))
        inner.mkdir(parents=True)
        export_target(model, card, data, inner, target, (height, width))


def at_size(folder: Path, size: Sequence[int]) -> Path:
    """The folder of the files for images of one size (H, W)."""
    return folder / f"{size[0]}x{size[1]}"


def _scaled(images: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 images (N, 3, h, w) at another size, as other pictures of the same kind."""
    if images.shape[2:] == size:
        return images
    scaled = F.interpolate(images.float(), size=size, mode="bilinear", align_corners=False)
    return scaled.round().to(torch.uint8)
