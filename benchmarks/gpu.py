"""The lines that need a GPU: bfloat16, our way compiled (inference as CUDA graphs), the other way eager."""

import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from benchmarks.compare import Result, summarise, time_in_turn
from benchmarks.rows import networks
from benchmarks.setting import IMAGE_SIZE, batch, our_task, row, stock_task, teacher_model, to_device
from benchmarks.stock import training_step

BATCHES = (1, 2, 4, 8, 16, 32, 64)
TRAINING_BATCH = 8
IMAGE = f"images of {IMAGE_SIZE[0]}x{IMAGE_SIZE[1]}, bfloat16"
WAYS = "ours: deployed, torch.compile with CUDA graphs; other: stock transformers, torch eager"


def gpu_inference(device: torch.device | None = None) -> Iterator[Result]:
    """Frames per second at batch 1 and at each way's best batch."""
    device = device or torch.device("cuda")
    for name, model in (("b0", row("baseline").model), ("b2", teacher_model())):
        stock, deployed = (network.to(device, torch.bfloat16) for network in networks(model))
        deployed.compile(mode="reduce-overhead")
        speeds = _speeds(deployed, stock, 1, device)
        note = f"{IMAGE}, batch 1; {WAYS}"
        floor = 4.0 if name == "b0" else None
        yield _more(f"gpu_{name}_inference_batch1", *speeds, unit="images/s", floor=floor, device=device, note=note)
        best = [_best_batch(network, device) for network in (deployed, stock)]
        ours, other = ([count / second for second in seconds] for count, seconds in best)
        note = f"{IMAGE}, each way at its best batch (ours {best[0][0]}, other {best[1][0]}); {WAYS}"
        yield _more(f"gpu_{name}_inference_best", ours, other, unit="images/s", floor=None, device=device, note=note)


def gpu_training(device: torch.device | None = None) -> Iterator[Result]:
    """Training images per second of the baseline and of distillation, with the GPU's utilisation."""
    device = device or torch.device("cuda")
    for name in ("baseline", "kd"):
        images, labels = batch(TRAINING_BATCH, IMAGE_SIZE, device)
        ours = to_device(our_task(name, IMAGE_SIZE), device)
        other = to_device(stock_task(name, IMAGE_SIZE), device)
        ours.compile(dynamic=False)
        mine, theirs = (training_step(task, images, labels, bf16=True) for task in (ours, other))
        with _utilisation() as busy:
            seconds = time_in_turn(mine, theirs, device)
        speeds = [[TRAINING_BATCH / second for second in times] for times in seconds]
        note = (
            f"{IMAGE}, batch {TRAINING_BATCH}, autocast; ours: torch.compile; other: stock transformers, torch eager; "
            f"utilisation over both ways: {busy()}"
        )
        yield _more(f"gpu_{name}_training", *speeds, unit="images/s", floor=None, device=device, note=note)


GPU_ROWS: tuple[Callable[[], Iterator[Result]], ...] = (gpu_inference, gpu_training)


def _more(name: str, ours: list[float], other: list[float], **settings: object) -> Result:
    count = min(len(ours), len(other))
    return summarise(name, ours[:count], other[:count], better="more", **settings)  # type: ignore[arg-type]


@torch.inference_mode()
def _speeds(ours: nn.Module, other: nn.Module, count: int, device: torch.device) -> list[list[float]]:
    images, _ = batch(count, IMAGE_SIZE, device)
    seconds = time_in_turn(lambda: ours(images), lambda: other(images), device)
    return [[count / second for second in times] for times in seconds]


@torch.inference_mode()
def _best_batch(network: nn.Module, device: torch.device) -> tuple[int, list[float]]:
    """The batch with the most images per second that fits, and its passes' seconds."""
    found: dict[int, list[float]] = {}
    for count in BATCHES:
        try:
            images, _ = batch(count, IMAGE_SIZE, device)
            found[count] = time_in_turn(lambda: network(images), _nothing, device)[0]  # noqa: B023 called at once
        except torch.cuda.OutOfMemoryError:
            break
    best = max(found, key=lambda count: count / statistics.median(found[count]))
    return best, found[best]


def _nothing() -> Tensor | None:
    return None


@contextmanager
def _utilisation() -> Iterator[Callable[[], str]]:
    """Samples what the driver says while the block runs; the result is a text for the note."""
    if shutil.which("nvidia-smi") is None:
        yield lambda: "unknown (no nvidia-smi)"
        return
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
    samples: list[float] = []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield lambda: f"{statistics.mean(samples):.0f} %" if samples else "unknown"
    finally:
        process.terminate()
        output, _ = process.communicate()
        samples += [float(line) for line in output.split() if line.replace(".", "").isdigit()]
