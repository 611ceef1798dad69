"""A finished row as files, each held against the trained network before it counts."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from effiseg.base.errors import EffiSegError
from effiseg.data.prepared import Prepared, Split
from effiseg.deployment.card import Card
from effiseg.deployment.checkpoint import open_checkpoint, write_checkpoint
from effiseg.deployment.onnx_file import write_float32, write_half_stored, write_int8
from effiseg.deployment.runtimes import FileSegmenter, OnnxSegmenter, OpenvinoSegmenter, openvino_installed
from effiseg.deployment.tolerance import EXACT
from effiseg.evaluation.evaluate import predict_classes
from effiseg.models.deployed import deploy
from effiseg.models.segformer import Segmenter

CHECKPOINT = "checkpoint"
# share of pixels beyond which a file of reduced precision is taken for broken
REDUCED = {"model_fp16.onnx": 0.01, "model_int8.onnx": 0.2}
COMPARED = 8  # validation images that every file is held against


@dataclass(frozen=True)
class Parity:
    """How far a file's answers are from the trained network's, on validation images.

    Attributes:
        runtime: what ran it.
        logits: largest difference of a logit, relative to the largest logit.
        pixels: share of pixels of another class, at the images' size.
    """

    file: str
    runtime: str
    logits: float
    pixels: float


def export_files(
    model: Segmenter, card: Card, data: Prepared, folder: Path, *, calibration: int, graphs: Path | None = None
) -> list[Parity]:
    """Write checkpoint/, model.onnx, model_fp16.onnx and model_int8.onnx into `folder`, which must exist.

    Where OpenVINO is installed, model.onnx is compared in it too.

    Args:
        model: the trained network, on the CPU.
        calibration: training images, evenly spread, that the 8-bit scales are chosen by.
        graphs: a folder that keeps exported graphs for other networks of this structure; None: nothing is kept.

    Raises:
        EffiSegError: a file answers otherwise than the trained network, beyond its tolerance.
    """
    float32 = folder / "model.onnx"
    writers: dict[str, Callable[[Path], None]] = {
        CHECKPOINT: lambda path: write_checkpoint(model, path, card),
        float32.name: lambda path: write_float32(deploy(model), path, card, graphs=graphs),
        "model_fp16.onnx": lambda path: write_half_stored(float32, path, card),
        "model_int8.onnx": lambda path: write_int8(float32, path, card, spread(data.train, calibration)),
    }
    images = torch.from_numpy(spread(data.val, COMPARED))
    with torch.inference_mode():
        expected = model(images)
    parities = []
    for name, write in writers.items():
        write(folder / name)
        other = open_checkpoint(folder / name)[0] if name == CHECKPOINT else OnnxSegmenter(folder / name)
        parities.append(compare(name, expected, other, images))
    if openvino_installed():
        parities.append(compare(float32.name, expected, OpenvinoSegmenter(float32), images))
    return parities


@torch.inference_mode()
def compare(name: str, expected: Tensor, other: nn.Module, images: Tensor) -> Parity:
    """How far a file's answers are from the trained network's.

    Args:
        expected: the trained network's logits (N, classes, H/4, W/4) for the images.
        other: what the file is opened as.
        images: uint8 (N, 3, H, W).

    Raises:
        EffiSegError: farther than its tolerance.
    """
    found = other(images)
    size = images.shape[2:]
    if isinstance(other, FileSegmenter):
        runtime, classes = other.runtime, other.classes(images)
    else:
        runtime, classes = "torch", predict_classes(found, size)
    parity = Parity(
        file=name,
        runtime=runtime,
        logits=((found - expected).abs().max() / expected.abs().max()).item(),
        pixels=(classes != predict_classes(expected, size)).float().mean().item(),
    )
    allowed = REDUCED.get(name, EXACT)
    if not (parity.pixels <= allowed and (name in REDUCED or parity.logits <= EXACT)):
        raise EffiSegError(
            f"{name} in {runtime}: {parity.pixels:.2%} of the pixels of {len(images)} validation images differ from "
            f"the trained network's, logits by {parity.logits:.1e} of the largest; at most {allowed:.2%} and "
            f"{EXACT:.0e} are allowed. Nothing was exported; train the row longer, or report this as a fault of the "
            "export"
        )
    return parity


def spread(split: Split, count: int) -> NDArray[np.uint8]:
    """At most `count` images (N, 3, H, W), evenly spread over the split."""
    indices = np.unique(np.linspace(0, len(split) - 1, count).round().astype(np.int64))
    images, _ = split.read(indices.tolist())
    return images
