"""The lines of the table that a CPU can measure. Each function measures one line, or a few that belong together."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks import peak
from benchmarks.apart import Work, apart
from benchmarks.compare import Result, summarise, time_in_turn
from benchmarks.setting import (
    CLASSES,
    CPU,
    FULL_SIZE,
    IMAGE_SIZE,
    REPOSITORY,
    STEP_BATCH,
    STEP_SIZE,
    batch,
    our_step,
    row,
    stock_step,
    teacher_model,
)
from benchmarks.stock import Stock
from effiseg.base.config import load_config
from effiseg.base.device import keep_freed_memory
from effiseg.base.schema import Model
from effiseg.data.prepared import Prepared
from effiseg.deployment.graph_export import export_onnx
from effiseg.deployment.onnx_file import quantise
from effiseg.deployment.runtimes import compile_openvino, openvino_installed, read_openvino
from effiseg.models import Deployed, deploy
from effiseg.models.products import Linear, prefers_onednn
from effiseg.models.segformer import build_model
from effiseg.preparation.prepare import prepare
from effiseg.scenes.synthetic import synthesize
from effiseg.training.sampler import EpochSampler
from effiseg.training.trainer import PreparedImages

SCENES = 24  # pictures of the data comparison
EVALUATED = ("500", "50")  # images
SETTING = f"{STEP_SIZE[0]}x{STEP_SIZE[1]}, batch {STEP_BATCH}"
STUDY = "as the study trains it, freed memory kept"
STEP = f"a training step at {SETTING}: augmentation, forward, backward, clipping, fused AdamW"
IMAGE = f"one image of {IMAGE_SIZE[0]}x{IMAGE_SIZE[1]}, uint8 pixels to logits, float32"
EAGER = "other: stock transformers, torch eager"


def b0_step() -> Iterator[Result]:
    """A training step of the baseline, and what bfloat16 adds on this machine."""
    ours = partial(our_step, "baseline")
    note = f"{STEP}, `baseline`, float32; ours: {STUDY}; other: stock transformers, same losses"
    yield _apart("b0_training_step", ours, partial(stock_step, "baseline"), 2.6, note)
    note = f"{STEP}, `baseline`, {STUDY}; ours: bfloat16 autocast; other: float32"
    yield _apart("b0_training_step_bf16", partial(our_step, "baseline", bf16=True), ours, None, note)


def compiled_step() -> Iterator[Result]:
    """What `train.compile` adds, and after how long a training the compiler's time is paid back."""
    with apart(partial(our_step, "baseline", compiled=True), partial(our_step, "baseline")) as (ours, other):
        begun = time.perf_counter()
        ours()
        minutes = (time.perf_counter() - begun) / 60
        note = f"{STEP}, `baseline`, {STUDY}, float32; ours: torch.compile, {minutes:.1f} minutes before the first step"
        found = _compared("b0_training_step_compiled", ours, other, None, note)
    gain = found.ratio - 1
    paid = f"paid back by a training of {minutes / gain + minutes:.0f} minutes" if gain > 0 else "never paid back"
    yield replace(found, note=f"{note}, {paid}; other: eager; each in a process of its own")


def kd_step() -> Iterator[Result]:
    """A distillation step (B2 to B0, CSKD and PEKD): time, also against a caller who leaves the head out; memory."""
    ours = partial(our_step, "kd")
    start = f"{STEP}, `kd` (B2 to B0, CSKD and PEKD), float32; ours: {STUDY}; other: stock transformers"
    note = f"{start} for student and teacher, same losses"
    yield _apart("kd_training_step", ours, partial(stock_step, "kd"), 2.8, note)
    note = f"{start} whose caller skips the teacher's head, since neither loss needs its logits"
    yield _apart("kd_training_step_headless", ours, partial(stock_step, "kd", teacher_head=False), None, note)
    pairs = [(peak.in_own_process("kd_step", "ours"), peak.in_own_process("kd_step", "stock")) for _ in range(3)]
    mine, theirs = zip(*pairs, strict=True)
    note = f"{start} for both; resident memory at the peak of {peak.STEPS} steps above that with the networks loaded"
    yield _less_memory("kd_peak_memory", mine, theirs, 0.65, note)


def linear_layer() -> Iterator[Result]:
    """A linear layer of the first stage, forwards and backwards, by the library that EffiSeg chooses and by torch's."""
    keep_freed_memory()  # as trainings do
    ours, other, tokens = Linear(64, 256), nn.Linear(64, 256), torch.randn(2**14, 64, requires_grad=True)
    slope, chosen = torch.randn(2**14, 256), "oneDNN" if prefers_onednn() else "the same"
    note = f"{2**14} tokens from 64 to 256 channels and back, float32; ours: {chosen}; other: torch's own"
    ways = (lambda: ours(tokens).backward(slope)), (lambda: other(tokens).backward(slope))
    yield _compared("linear_layer", *ways, None, note)


@torch.inference_mode()
def b0_inference() -> Iterator[Result]:
    """The stock baseline against its deployed form, in torch and in ONNX Runtime."""
    images, _ = batch(1, IMAGE_SIZE, CPU)
    stock, deployed = networks(row("baseline").model)
    session, pixels = onnx_session(deployed), {"images": images.numpy()}
    note = f"{IMAGE}; ours: B0 deployed"
    torch_eager, onnx_runtime = (lambda: stock(images)), (lambda: session.run(None, pixels))
    yield _compared("b0_inference", lambda: deployed(images), torch_eager, 2.0, f"{note}, torch eager; {EAGER}")
    yield _compared("b0_inference_onnx", onnx_runtime, torch_eager, 4.5, f"{note}, ONNX Runtime; {EAGER}")
    stock_session = onnx_session(stock)
    note = f"{note}, ONNX Runtime; other: stock transformers, exported the same way, ONNX Runtime"
    yield _compared("b0_inference_both_onnx", onnx_runtime, lambda: stock_session.run(None, pixels), None, note)


@torch.inference_mode()
def b0_openvino() -> Iterator[Result]:
    """The deployed baseline in OpenVINO, against stock in torch and against itself in ONNX Runtime."""
    images, _ = batch(1, IMAGE_SIZE, CPU)
    stock, deployed = networks(row("baseline").model)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        export_onnx(deployed, file)
        session, compiled = _opened(file), compile_openvino(read_openvino(file), "logits", IMAGE_SIZE)
    pixels = {"images": images.numpy()}
    note = f"{IMAGE}; ours: B0 deployed, OpenVINO"
    ours, torch_eager = (lambda: compiled(pixels)), (lambda: stock(images))
    yield _compared("b0_inference_openvino", ours, torch_eager, 5.5, f"{note}; {EAGER}")
    onnx_runtime, note = (lambda: session.run(None, pixels)), f"{note}; other: the same file, ONNX Runtime"
    yield _compared("openvino_against_onnx", ours, onnx_runtime, 1.15, note)


@torch.inference_mode()
def b2_inference() -> Iterator[Result]:
    """The stock teacher against its deployed form."""
    images, _ = batch(1, IMAGE_SIZE, CPU)
    stock, deployed = networks(teacher_model())
    note = f"{IMAGE}; ours: B2 deployed, torch eager; {EAGER}"
    yield _compared("b2_inference", lambda: deployed(images), lambda: stock(images), 2.3, note)


@torch.inference_mode()
def norms() -> Iterator[Result]:
    """Deployed rows against the deployed baseline: whether DyT and DyL, and BatchNorm, are faster than LayerNorm."""
    images, _ = batch(1, IMAGE_SIZE, CPU)
    pixels, baseline = {"images": images.numpy()}, _deployed("baseline")
    session = onnx_session(baseline)
    for name in ("tanh_linear", "batchnorm"):
        deployed = _deployed(name)
        note = f"{IMAGE}; ours: `{name}` deployed, other: `baseline` deployed"
        ours, other = (lambda network=deployed: network(images)), (lambda: baseline(images))
        yield _compared(f"{name}_deployed", ours, other, None, f"{note}, both torch eager")
        own = onnx_session(deployed)
        ours, other = (lambda own=own: own.run(None, pixels)), (lambda: session.run(None, pixels))
        yield _compared(f"{name}_deployed_onnx", ours, other, None, f"{note}, both ONNX Runtime")


def quantised() -> Iterator[Result]:
    """Which operators of the deployed baseline pay in 8 bits, and what they pay in a network without LayerNorms."""
    convolutions, products = ["Conv"], ["Gemm", "MatMul"]
    kinds = {"convolutions": convolutions, "products": products, "both": [*convolutions, *products]}
    yield from _in_8_bits("baseline", {f"int8_{kind}": operators for kind, operators in kinds.items()})
    yield from _in_8_bits("batchnorm", {"int8_batchnorm": convolutions})


def _in_8_bits(name: str, lines: Mapping[str, list[str]]) -> Iterator[Result]:
    images, _ = batch(1, IMAGE_SIZE, CPU)
    pixels = {"images": images.numpy()}
    note = f"one image of {IMAGE_SIZE[0]}x{IMAGE_SIZE[1]}, uint8 pixels to logits, `{name}` deployed, ONNX Runtime"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "model.onnx")
        export_onnx(_deployed(name), source)
        float32 = _opened(source)
        for line, operators in lines.items():
            quantise(source, Path(folder, f"{line}.onnx"), images.numpy(), operators)
            int8 = _opened(Path(folder, f"{line}.onnx"))
            ours, other = (lambda int8=int8: int8.run(None, pixels)), (lambda: float32.run(None, pixels))
            yield _compared(line, ours, other, None, f"{note}; ours: {', '.join(operators)} in int8; other: float32")


def data() -> Iterator[Result]:
    """An epoch's images and labels as batches in memory, without augmentation, which is the same for both ways."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "raw")
        synthesize(raw, train=SCENES, val=1, height=FULL_SIZE[0], seed=0)
        settings = load_config(REPOSITORY / "params.yaml").data
        prepare(settings.model_copy(update={"root": str(raw), "size": STEP_SIZE}), Path(folder, "prepared"))
        split = Prepared.open(Path(folder, "prepared")).train
        sampler = EpochSampler(range(len(split)), STEP_BATCH, seed=0)
        ours = DataLoader(PreparedImages(split), STEP_BATCH, sampler=sampler, collate_fn=lambda prepared: prepared)
        workers = os.cpu_count() or 1
        other = DataLoader(PngImages(raw), STEP_BATCH, shuffle=True, num_workers=workers, persistent_workers=True)
        mine, theirs = time_in_turn(lambda: _exhaust(ours), lambda: _exhaust(other), CPU)
    note = (
        f"an epoch of {SCENES} generated scenes to {STEP_SIZE[0]}x{STEP_SIZE[1]}, batches of {STEP_BATCH}, no model; "
        f"ours: prepared arrays, no worker; other: decoding and resizing PNG of {FULL_SIZE[1]}x{FULL_SIZE[0]} in "
        f"{workers} workers"
    )
    speeds = ([SCENES / second for second in seconds] for seconds in (mine, theirs))
    yield summarise("epoch_data", *speeds, unit="images/s", floor=15.0, device=CPU, note=note, better="more")


def evaluation() -> Iterator[Result]:
    """Whether memory grows with the number of images."""
    many, few = (peak.in_own_process("evaluation", count) for count in EVALUATED)
    note = (
        f"evaluating `baseline` deployed, images at {STEP_SIZE[0]}x{STEP_SIZE[1]} against labels at "
        f"{FULL_SIZE[0]}x{FULL_SIZE[1]}; ours: {EVALUATED[0]} images; other: the same with {EVALUATED[1]}; resident "
        "memory of the whole process at its peak"
    )
    yield _less_memory("evaluation_memory", [many], [few], 1.1, note)


CPU_ROWS: tuple[Callable[[], Iterator[Result]], ...] = (
    b0_step,
    compiled_step,
    kd_step,
    linear_layer,
    b0_inference,
    *((b0_openvino,) if openvino_installed() else ()),
    b2_inference,
    norms,
    quantised,
    data,
    evaluation,
)


class PngImages(Dataset[tuple[Tensor, Tensor]]):
    """Cityscapes' files, decoded and resized whenever they are asked for."""

    def __init__(self, root: Path) -> None:
        self.images = sorted(root.glob("leftImg8bit/train/*/*.png"))
        self.labels = sorted(root.glob("gtFine/train/*/*_labelIds.png"))
        assert len(self.images) == len(self.labels) == SCENES

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        size = STEP_SIZE[::-1]
        with Image.open(self.images[index]) as image, Image.open(self.labels[index]) as label:
            pixels = np.array(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))
            ids = np.array(label.resize(size, Image.Resampling.NEAREST))
        return torch.from_numpy(pixels).permute(2, 0, 1), torch.from_numpy(ids)


def networks(model: Model) -> tuple[Stock, Deployed]:
    """A stock network in eval mode and the deployed form of its equal."""
    built = build_model(model, CLASSES)
    stock = Stock(model, CLASSES).eval()
    stock.network.load_state_dict(built.network.state_dict())
    return stock, deploy(built)


def _deployed(name: str) -> Deployed:
    return deploy(build_model(row(name).model, CLASSES))


def onnx_session(network: nn.Module) -> onnxruntime.InferenceSession:
    """A deployed network, exported and opened in ONNX Runtime with torch's threads."""
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(network, Path(folder, "model.onnx"))
        return _opened(Path(folder, "model.onnx"))


def _opened(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _apart(name: str, ours: Callable[[], Work], other: Callable[[], Work], floor: float | None, note: str) -> Result:
    with apart(ours, other) as (mine, theirs):
        return _compared(name, mine, theirs, floor, f"{note}; each in a process of its own")


def _compared(
    name: str, ours: Callable[[], object], other: Callable[[], object], floor: float | None, note: str
) -> Result:
    pair = ([1e3 * second for second in seconds] for seconds in time_in_turn(ours, other, CPU))
    return summarise(name, *pair, unit="ms", floor=floor, device=CPU, note=note)


def _less_memory(
    name: str, ours: tuple[float, ...] | list[float], other: tuple[float, ...] | list[float], limit: float, note: str
) -> Result:
    """A line whose ratio is our share of the other's memory."""
    return summarise(name, ours, other, unit="MB", floor=limit, device=CPU, note=note, better="more")


def _exhaust(loader: DataLoader) -> None:
    for _ in loader:
        pass
