"""The forms of one trained row, measured: what each costs, and where it predicts otherwise than the trained network."""

import ctypes
import gc
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from effiseg.base.device import device_name
from effiseg.base.errors import EffiSegError
from effiseg.data.prepared import Split
from effiseg.deployment.edge import at_size
from effiseg.deployment.ncnn_file import NcnnSegmenter
from effiseg.deployment.runtimes import FileSegmenter, OnnxSegmenter, OpenvinoSegmenter, openvino_installed
from effiseg.deployment.tolerance import EXACT
from effiseg.evaluation.evaluate import predict_classes
from effiseg.evaluation.metrics import confusion_matrix, scores
from effiseg.models.deployed import deploy
from effiseg.models.segformer import load_model

UNTIMED_TURNS = 1  # every form has made one pass already, when it was opened


@dataclass(frozen=True)
class Form:
    """One way to run a trained row.

    Attributes:
        exact: whether it claims the trained network's predictions.
        file: what it is stored in, a file or a folder.
        open: reads the file; gives images on `device` -> logits.
    """

    name: str
    exact: bool
    precision: str
    file: Path
    device: torch.device
    open: Callable[[], nn.Module]


def forms_of(trained: Path, exported: Path, device: torch.device) -> list[Form]:
    """The forms of the model folder `trained` and of the files that `export_files` wrote, as trained first.

    torch runs on `device`, all others on the CPU; OpenVINO only where it is installed, ncnn only where
    `export_at_sizes` wrote `exported`/ncnn.
    """
    weights, cpu = trained / "model.safetensors", torch.device("cpu")

    def network() -> nn.Module:
        return load_model(trained).to(device)

    def deployed() -> nn.Module:
        return deploy(load_model(trained).to(device))

    def onnx(name: str) -> Callable[[], nn.Module]:
        return lambda: OnnxSegmenter(exported / name)

    float32 = exported / "model.onnx"
    ncnn = exported / "ncnn"
    sizes = sorted(ncnn.iterdir()) if ncnn.is_dir() else []  # of one file as large as of the other
    openvino = Form("openvino", True, "fp32", float32, cpu, lambda: OpenvinoSegmenter(float32))
    return [
        Form("torch", True, "fp32", weights, device, network),
        Form("torch_deployed", True, "fp32", weights, device, deployed),
        Form("torch_deployed_bf16", False, "bf16", weights, device, lambda: _Bfloat16(deployed())),
        Form("onnx", True, "fp32", float32, cpu, onnx(float32.name)),
        Form("onnx_fp16", False, "fp16 weights", exported / "model_fp16.onnx", cpu, onnx("model_fp16.onnx")),
        Form("onnx_int8", False, "int8 convolutions", exported / "model_int8.onnx", cpu, onnx("model_int8.onnx")),
        *([openvino] if openvino_installed() else []),
        *([Form("ncnn", True, "fp32", sizes[0], cpu, lambda: _AtSizes(ncnn))] if sizes else []),
    ]


def measure_forms(
    forms: Sequence[Form], split: Split, classes: Sequence[str], *, size: Sequence[int], repeats: int, batch_size: int
) -> list[dict[str, object]]:
    """Everything that the deployment table tells of each form; the first one is the trained network.

    Args:
        size: of the images (height, width) that time and memory are measured on, one at a time.

    Returns:
        Per form: form, exact, precision, device, threads, size_mb (1e6 bytes on disk), latency_ms, latency_p95_ms and
        fps from uint8 pixels to the class map of the same size, peak_memory_mb (2^20 bytes, of opening it and one
        image; NaN where it cannot be told), miou and iou by class at full label resolution, and pixels_changed, the
        share of predicted pixels that are not the trained network's.

    Raises:
        EffiSegError: a form that claims exactness changes more than `EXACT` of the pixels.
    """
    opened = {form.name: _opened(form, size) for form in forms}
    networks = {name: network for name, (network, _) in opened.items()}
    devices = {form.name: form.device for form in forms}
    seconds = _time_in_turn(networks, devices, size, repeats=repeats)
    costs = {
        form.name: {
            "precision": form.precision,
            "device": device_name(form.device),
            "threads": torch.get_num_threads(),
            "size_mb": stored(form.file) / 1e6,
            "latency_ms": 1e3 * float(np.median(seconds[form.name])),
            "latency_p95_ms": 1e3 * float(np.percentile(seconds[form.name], 95)),
            "fps": 1 / float(np.median(seconds[form.name])),
            "peak_memory_mb": opened[form.name][1],
        }
        for form in forms
    }
    answers = _compare(networks, devices, split, classes, batch_size=batch_size)
    for form in forms:
        changed = answers[form.name]["pixels_changed"]
        if form.exact and not changed <= EXACT:  # type: ignore[operator]
            raise EffiSegError(
                f"{form.name}: {changed:.4%} of the predicted pixels differ from the trained network's, at most "
                f"{EXACT:.2%} are allowed of an exact form; report this as a fault of the export"
            )
    return [{"form": form.name, "exact": form.exact, **costs[form.name], **answers[form.name]} for form in forms]


class _Bfloat16(nn.Module):
    """A network with its layers in bfloat16."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            logits: Tensor = self.network(images)
        return logits.float()


class _AtSizes(nn.Module):
    """A form whose files take images of one size each; they are opened when the first such images come."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.opened: dict[torch.Size, FileSegmenter] = {}

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self._for(images)(images)
        return logits

    def classes(self, images: Tensor) -> Tensor:
        return self._for(images).classes(images)

    def _for(self, images: Tensor) -> FileSegmenter:
        size = images.shape[2:]
        if size not in self.opened:
            self.opened[size] = NcnnSegmenter(at_size(self.folder, size) / NcnnSegmenter.file)
        return self.opened[size]


class _ToClasses(nn.Module):
    """A network that answers with the class map at the images' size."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        if isinstance(self.network, FileSegmenter | _AtSizes):
            return self.network.classes(images)
        return predict_classes(self.network(images), images.shape[2:])


@torch.inference_mode()
def _time_in_turn(
    networks: Mapping[str, nn.Module], devices: Mapping[str, torch.device], size: Sequence[int], *, repeats: int
) -> dict[str, list[float]]:
    """Seconds of single-image passes, one form after the other and again, so that what else the machine does
    meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for turn in tqdm(range(UNTIMED_TURNS + repeats), desc="time", unit="turn", leave=False):
        for name, network in networks.items():
            image = torch.zeros(1, 3, *size, dtype=torch.uint8, device=devices[name])
            _synchronise(devices[name])
            start = time.perf_counter()
            _ToClasses(network)(image)
            _synchronise(devices[name])
            if turn >= UNTIMED_TURNS:
                seconds[name].append(time.perf_counter() - start)
    return seconds


@torch.inference_mode()
def _compare(
    networks: Mapping[str, nn.Module],
    devices: Mapping[str, torch.device],
    split: Split,
    classes: Sequence[str],
    *,
    batch_size: int,
) -> dict[str, dict[str, object]]:
    """Scores of all networks and their differences from the first, in one pass over the split."""
    confusion = {name: torch.zeros(len(classes), len(classes), dtype=torch.int64) for name in networks}
    changed, pixels = dict.fromkeys(networks, 0), 0
    for start in tqdm(range(0, len(split), batch_size), desc="compare", unit="batch", leave=False):
        batch = range(start, min(start + batch_size, len(split)))
        pictures, labels = split.read(batch)
        images = torch.from_numpy(pictures)
        logits = {name: network(images.to(devices[name])).float() for name, network in networks.items()}
        for i, (index, array) in enumerate(zip(batch, labels, strict=True)):
            label, frame = torch.from_numpy(array), split.frame(index)
            reference: Tensor | None = None
            for name, each in logits.items():
                prediction = predict_classes(each[i : i + 1], label.shape, frame)[0].cpu()
                reference = prediction if reference is None else reference
                confusion[name] += confusion_matrix(prediction, label, len(classes))
                changed[name] += int((prediction != reference).sum())
            pixels += label.numel()
    found = {name: scores(matrix, classes) for name, matrix in confusion.items()}
    return {
        name: {"miou": found[name].miou, "pixels_changed": changed[name] / pixels, "iou": found[name].iou}
        for name in networks
    }


@torch.inference_mode()
def _opened(form: Form, size: Sequence[int]) -> tuple[nn.Module, float]:
    """The network, and by how many MB memory grew at its peak when it was opened and saw one image."""
    image = torch.zeros(1, 3, *size, dtype=torch.uint8, device=form.device)
    if form.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(form.device)
        before = torch.cuda.memory_allocated(form.device)
        network = form.open()
        _ToClasses(network)(image)
        return network, (torch.cuda.max_memory_allocated(form.device) - before) / 2**20
    clear = Path("/proc/self/clear_refs")
    if not clear.exists():  # not Linux
        return form.open(), float("nan")
    gc.collect()
    # memory that earlier forms freed must go back to the system, or this one would use it unseen
    ctypes.CDLL(None).malloc_trim(0)
    clear.write_text("5")  # the peak starts again from what is resident now
    before_kb = _resident_peak_kb()
    network = form.open()
    _ToClasses(network)(image)
    return network, (_resident_peak_kb() - before_kb) / 1024


def stored(path: Path) -> int:
    """Bytes of a file, or of a folder's files."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.iterdir()))


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _resident_peak_kb() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1])
