"""One way to name a model: a training of the study, a file, or a registered model."""

from pathlib import Path

import torch
from torch import nn

from effiseg.base.config import load_config
from effiseg.base.errors import EffiSegError
from effiseg.deployment.card import Card, Unexported
from effiseg.deployment.checkpoint import open_checkpoint, open_folder
from effiseg.deployment.export import CHECKPOINT
from effiseg.deployment.ncnn_file import NcnnSegmenter
from effiseg.deployment.runtimes import FileSegmenter, OnnxSegmenter, OpenvinoSegmenter
from effiseg.models.deployed import deploy
from effiseg.models.segformer import CONFIG_FILE
from effiseg.runs.finished import find_run
from effiseg.runs.study import open_prepared

# of --runtime
RUNTIMES: dict[str, type[FileSegmenter]] = {
    "onnx": OnnxSegmenter,
    "openvino": OpenvinoSegmenter,
    "ncnn": NcnnSegmenter,
}
_BY_SUFFIX = {".onnx": "onnx", ".param": "ncnn"}


def open_model(name: str, device: torch.device, runtime: str | None = None) -> tuple[nn.Module, Card | Unexported]:
    """A network for `device` (of ONNX files: the CPU) and its card: uint8 images to logits.

    Args:
        name: <row>-<seed> of the study, an exported folder, .onnx or .param file, checkpoint or model folder, or
            models:/<name>@<alias> (or models:/<name>/<version>) of MLflow's registry.
        runtime: of `RUNTIMES`, what runs an exported folder or file. None: torch runs folders that have a checkpoint;
            else what a target's folder or a file is for.

    Raises:
        EffiSegError: there is none of that name, it is damaged or none that EffiSeg wrote, or the runtime cannot run it
            or is not installed.
    """
    path = Path(name)
    if path.is_dir() and not runtime and not any((path / inner).exists() for inner in (CHECKPOINT, CONFIG_FILE)):
        runtime = next((key for key in _BY_SUFFIX.values() if (path / RUNTIMES[key].file).exists()), None)
    if runtime and path.is_dir():
        path /= RUNTIMES[runtime].file
    found = _BY_SUFFIX.get(path.suffix)
    if found and Path(RUNTIMES[runtime or found].file).suffix == path.suffix:
        network = RUNTIMES[runtime or found](path)
        return network, network.card
    if runtime:
        kind = Path(RUNTIMES[runtime].file).suffix
        raise EffiSegError(
            f"--runtime {runtime}: --model {name} is no exported folder or {kind} file; write one with `python -m "
            "effiseg export RUN`"
        )
    if name.startswith("models:"):
        # imported late: MLflow costs seconds
        from effiseg.deployment.registry import fetch_registered

        with fetch_registered(name) as folder:
            model, card = open_checkpoint(folder)
        return deploy(model.to(device)), card
    if path.is_dir():
        inner = path / CHECKPOINT  # of a whole export
        own, labelled = open_folder(inner if inner.is_dir() else path)
        return deploy(own.to(device)), labelled
    if path.exists() or len(path.parts) > 1:
        state = "a file" if path.exists() else "not found"
        raise EffiSegError(
            f"--model {name}: {state}, expected <row>-<seed>, an exported folder, .onnx or .param file, or "
            "models:/NAME@ALIAS; write one with `python -m effiseg export RUN`"
        )
    config = load_config()
    run = find_run(config, open_prepared(config), name)
    return deploy(run.load().to(device)), run.card
