"""Exported files as networks: ONNX files in ONNX Runtime, or in OpenVINO where that is installed."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from effiseg.base.errors import EffiSegError
from effiseg.deployment.card import Card

INSTALL_OPENVINO = "pip install openvino==2026.4.0"  # as requirements-openvino.in pins it


class FileSegmenter(nn.Module, ABC):
    """A file that EffiSeg exported, in a runtime on the CPU, with as many threads as torch has.

    Attributes:
        runtime: its name for people.
        file: what it opens of an exported folder.
        card: what the file says about itself.
    """

    runtime: ClassVar[str]
    file: ClassVar[str] = "model.onnx"

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            EffiSegError: it is missing or damaged, EffiSeg did not write it, or the runtime is not installed or not for
                such a file.
        """
        super().__init__()
        if not path.is_file():
            raise EffiSegError(f"{path}: not found; write it with `python -m effiseg export RUN`")
        try:
            metadata = self._open(path)
        except EffiSegError:
            raise
        except Exception as error:  # runtimes raise many kinds
            reason = " ".join(str(error).split())[:200]
            raise EffiSegError(f"{path}: {self.runtime} cannot open it ({reason}); export the row again") from None
        self.card = Card.from_metadata(metadata, str(path))

    def forward(self, images: Tensor) -> Tensor:
        """RGB pixels uint8 (N, 3, H, W) -> logits (N, classes, H/4, W/4)."""
        return self._on_device("logits", images)

    def classes(self, images: Tensor) -> Tensor:
        """RGB pixels uint8 (N, 3, H, W) -> class map (N, H, W) of `label_type`."""
        return self._on_device("classes", images)

    def _on_device(self, output: str, images: Tensor) -> Tensor:
        return torch.from_numpy(self._run(output, images.cpu().numpy())).to(images.device)

    @abstractmethod
    def _open(self, path: Path) -> Mapping[str, str]:
        """Open the file and give its metadata."""

    @abstractmethod
    def _run(self, output: str, images: NDArray[np.uint8]) -> NDArray[Any]:
        """The output of this name for the images."""


class OnnxSegmenter(FileSegmenter):
    """An exported file in ONNX Runtime."""

    runtime = "ONNX Runtime"

    def _open(self, path: Path) -> Mapping[str, str]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.is_single = self.session.get_inputs()[0].shape[0] == 1  # a file for a device
        metadata: Mapping[str, str] = self.session.get_modelmeta().custom_metadata_map
        return metadata

    def _run(self, output: str, images: NDArray[np.uint8]) -> NDArray[Any]:
        if self.is_single and len(images) > 1:
            return np.concatenate([self._run(output, image[None]) for image in images])
        found: list[NDArray[Any]] = self.session.run([output], {"images": images})
        return found[0]


class OpenvinoSegmenter(FileSegmenter):
    """An exported file in OpenVINO, compiled once for each output and size of images that it is asked for."""

    runtime = "OpenVINO"

    def _open(self, path: Path) -> Mapping[str, str]:
        self.model = read_openvino(path)
        if any(each.get_type_name() == "FakeQuantize" for each in self.model.get_ops()):
            # measured: 9 % of the pixels changed, where ONNX Runtime changes 1 %
            raise EffiSegError(f"{path}: in 8 bits for ONNX Runtime, expected model.onnx; OpenVINO rounds otherwise")
        self.compiled: dict[tuple[str, tuple[int, ...]], Any] = {}
        return {key: value.astype(str) for key, value in dict(self.model.rt_info).get("framework", {}).items()}

    def _run(self, output: str, images: NDArray[np.uint8]) -> NDArray[Any]:
        key = (output, images.shape[2:])
        if key not in self.compiled:
            self.compiled[key] = compile_openvino(self.model, *key)
        # one by one: batches are no faster, and the last one of many pictures would be compiled for itself
        return np.concatenate([self.compiled[key](image[None])[0] for image in images])


def openvino_installed() -> bool:
    """Whether the extra is there."""
    return find_spec("openvino") is not None


def read_openvino(path: Path) -> Any:
    """An ONNX file as a model of OpenVINO's.

    Raises:
        EffiSegError: OpenVINO is not installed.
    """
    return _import_openvino().Core().read_model(path)


def compile_openvino(model: Any, output: str, size: tuple[int, ...]) -> Any:
    """What an OpenVINO model needs for `output`, compiled in float32 for one image (1, 3, *size) and torch's threads.

    A free size would be slower than ONNX Runtime.
    """
    openvino = _import_openvino()
    own = model.clone()
    part = openvino.Model([own.output(output)], own.get_parameters())
    part.reshape([1, 3, *size])
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",  # by itself it takes bfloat16 where the processor has it: 1 % of the pixels
    }
    return openvino.Core().compile_model(part, "CPU", settings)


def _import_openvino() -> ModuleType:
    # else the import reports to Google Analytics and leaves an id in the home folder
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ModuleNotFoundError:
        raise EffiSegError(f"openvino is not installed; run `{INSTALL_OPENVINO}`") from None
    return openvino
