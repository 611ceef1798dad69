"""The deployed form as ONNX files: in float32, with smaller weights, and with 8-bit convolutions."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from torch import Tensor, nn

from effiseg.base.schema import label_type
from effiseg.deployment.card import Card
from effiseg.deployment.graph_export import export_onnx

# `make bench` measures which operators pay: on a CPU with VNNI, 8-bit convolutions are faster than float32 and 8-bit
# matrix products slower; the norms, GELUs and softmaxes around these stay in float32, and every change of type is a
# pass over the map.
QUANTISED = ("Conv",)
_LAYERS = ("Conv", "Gemm", "MatMul")
OUTPUTS = ("classes", "logits")


class _WithClasses(nn.Module):
    """Class map at the images' own size, and the logits that it comes from.

    Args:
        labels: the class map's type; None: `label_type`.
    """

    def __init__(self, network: nn.Module, labels: torch.dtype | None = None) -> None:
        super().__init__()
        self.network, self.labels = network, labels

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(images)
        upsampled = F.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=False)
        labels = self.labels or getattr(torch, label_type(logits.shape[1]))
        return upsampled.argmax(dim=1).to(labels), logits


def write_float32(network: nn.Module, path: Path, card: Card, *, graphs: Path | None = None) -> None:
    """Write one self-contained file.

    Input `images`: uint8 (N, 3, H, W), RGB. Outputs `classes`: trainIds (N, H, W) of `label_type`, and `logits`:
    float32 (N, classes, H/4, W/4). Batch and size are free, from 32 pixels a side.

    Args:
        network: uint8 images to logits, on the CPU; best a deployed form.
        graphs: as `export_onnx` takes it.
    """
    export_onnx(_WithClasses(network).eval(), path, OUTPUTS, graphs=graphs)
    _save(onnx.load(path), path, card)


def write_fixed(network: nn.Module, path: Path, card: Card) -> None:
    """Write one self-contained file for one image of `card.size` at a time.

    As `write_float32` has it, but `images` (1, 3, H, W) and `classes` int32.
    """
    export_onnx(_WithClasses(network, torch.int32).eval(), path, OUTPUTS, size=card.size)
    _save(onnx.load(path), path, card)


def write_half_stored(source: Path, path: Path, card: Card) -> None:
    """The float32 file `source` with its weights stored in float16: half the size, computed in float32 as before."""
    model = onnx.load(source)
    _store_half(model)
    _save(model, path, card)


def write_int8(source: Path, path: Path, card: Card, images: NDArray[np.uint8]) -> None:
    """The float32 file `source` with convolutions in 8 bits by static calibration, other weights stored in float16.

    Args:
        images: (N, 3, H, W), training images, by whose smallest and largest activations the scales are chosen.
    """
    quantise(source, path, images, QUANTISED)
    model = onnx.load(path)
    _store_half(model)
    _save(model, path, card)


def quantise(source: Path, path: Path, images: NDArray[np.uint8], operators: Sequence[str]) -> None:
    """The float32 file `source` with all operators of these types in 8 bits, scaled by `images` (N, 3, H, W)."""
    with _quiet():
        quantize_static(
            source,
            path,
            _Images(images),
            op_types_to_quantize=list(operators),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def _store_half(model: onnx.ModelProto) -> None:
    """Store the weights of layers in float16; the runtime turns them back once, when it opens the file."""
    weights = {name for node in model.graph.node if node.op_type in _LAYERS for name in node.input}
    casts = []
    for tensor in model.graph.initializer:
        weight = numpy_helper.to_array(tensor)
        if tensor.name in weights and weight.dtype == np.float32 and np.abs(weight).max() < np.finfo(np.float16).max:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(weight.astype(np.float16), f"{name}.half"))
            casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    for node in casts:
        model.graph.node.insert(0, node)


class _Images(CalibrationDataReader):
    """Images one by one, as the calibration asks for them."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        image = next(self._images, None)
        return None if image is None else {"images": image[None]}


def _save(model: onnx.ModelProto, path: Path, card: Card) -> None:
    graph = model.graph
    # the exporter notes in every part which line of code it comes from: half a megabyte, and this machine's paths
    for part in (model, graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.helper.set_model_props(model, card.to_metadata())
    model.producer_name = "effiseg"
    onnx.save(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the libraries tell of packages that nothing here needs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
