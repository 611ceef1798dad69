"""Training on two processes, of one node and of two, started as study.launcher would start them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import set_seed

from effiseg.data.prepared import Prepared
from effiseg.evaluation.evaluate import evaluate
from effiseg.models.segformer import build_model, load_model, save_model
from effiseg.models.start import start_model
from effiseg.training.task import Task
from effiseg.training.train import Training, train_row
from effiseg.weights.source import Checkpoint, Source
from tests.training.worker import SEED, settle

REPOSITORY = Path(__file__).parents[2]
PARAMS = REPOSITORY / "params.yaml"
WEIGHTS = {
    "weighted_ce": 1.0,
    "dice": 0.5,
    "focal": 0.5,
    "tversky": 0.5,
    "focal_tversky": 0.3,
    "kl": 1.0,
    "cwd": 1.0,
    "dist": 1.0,
    "cskd": 1.0,
    "pekd": 1.0,
}
# 10 images in batches of 4. Every term that sums over the batch, batch norm in head and projectors, and all that is
# random, zoomed out too. Some gradients are rounding alone (see test_exact.py): unless eps is well above them, Adam
# makes full steps of them.
SETTINGS: dict[str, Any] = {
    "data": {"size": [32, 64]},
    "experiments": {"teacher": {"model": {"variant": "b0"}}},
    "model": {"norms": {"sequence_reduction": "batchnorm"}},
    "loss": {"weights": WEIGHTS, "cskd": {"projector": "conv_bn_relu"}},
    "train": {
        "epochs": 2,
        "batch_size": 4,
        "optimizer": {"eps": 1e-3},
        "augment": {"crop": [32, 64], "scale": [0.4, 1.6]},
    },
}
HALVES = SETTINGS | {"train": SETTINGS["train"] | {"accumulation": 2, "epochs": 1}}
# all that a start and its recipe bring with them
STARTED = SETTINGS | {
    "experiments": SETTINGS["experiments"] | {"kd": {"start": {"source": "file", "path": "x", "part": "encoder"}}},
    "train": SETTINGS["train"]
    | {
        "epochs": 1,
        "sampling": "class_uniform",
        "ema": 0.9,
        "early_stop": {"patience": 1, "share": 0.2},
        "optimizer": {"eps": 1e-3, "head_lr": 10.0, "layer_decay": 0.9},
    },
}
JOBS = [
    {"name": "whole", "settings": SETTINGS},
    {"name": "halves", "settings": HALVES},
    {"name": "resumed", "settings": SETTINGS, "resume": "whole", "without": "checkpoint-6"},
    {"name": "apart", "settings": SETTINGS, "resume": "halves", "without": "best", "apart": True},
]


def launch(data: Prepared, out: Path, jobs: list[dict[str, Any]], *options: list[str]) -> list[dict[str, Any]]:
    """Run the jobs under torchrun, one agent for each of the options; what each process noted."""
    run = [sys.executable, "-m", "torch.distributed.run"]
    work = [str(Path(__file__).with_name("worker.py")), str(PARAMS), str(data.path), str(out), json.dumps(jobs)]
    variables = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""}
    agents = [
        subprocess.Popen([*run, *each, *work], env=os.environ | variables, stderr=subprocess.PIPE, text=True)
        for each in options
    ]
    try:
        ends = [agent.communicate(timeout=150)[1] for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
    assert [agent.returncode for agent in agents] == [0] * len(agents), ends
    return [json.loads((out / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def checkpoint(out: Path, data: Prepared) -> Checkpoint:
    """A network to start from."""
    row, _ = settle(PARAMS, SETTINGS, data)
    save_model(build_model(row.model, data.classes), out / "start")
    return Checkpoint(out / "start/model.safetensors", Source(origin="a file"))


@pytest.fixture(scope="module")
def results(data: Prepared, out: Path, checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """What two processes of one node noted."""
    half = {**STARTED, "train": STARTED["train"] | {"precision": "bf16", "accumulation": 2}}
    started = [
        {"name": name, "settings": settings, "start": str(checkpoint.file)}
        for name, settings in (("started", STARTED), ("started in bf16", half))
    ]
    return launch(data, out, [*JOBS, *started], ["--standalone", "--nproc-per-node", "2"])


@pytest.fixture(scope="module")
def nodes(data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two nodes with a process each left, which met at a port of this machine."""
    out = tmp_path_factory.mktemp("nodes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        end = f"127.0.0.1:{free.getsockname()[1]}"
    node = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "test"]
    first, second = ([*node, "--rdzv-endpoint", end, "--local-addr", "127.0.0.1"] for _ in range(2))
    launch(data, out, JOBS[:1], first, second)
    return out / "whole" / "models-0"


# --- one process and two ----------------------------------------------------------------------------------------------


def learned(models: Path) -> dict[str, Tensor]:
    """Weights and statistics of the last student and of the projectors."""
    return load_model(models / "last").state_dict() | load_file(models / "projectors.safetensors")


@pytest.fixture(scope="module", params=["whole", "halves", "started"])
def pair(request, data: Prepared, out: Path, checkpoint: Checkpoint, results: list, tmp_path_factory) -> tuple:
    """Of one process and of two: history and weights; and the weights that both began with."""
    settings = {"whole": SETTINGS, "halves": HALVES, "started": STARTED}[request.param]
    start = checkpoint if request.param == "started" else None
    row, teacher = settle(PARAMS, settings, data)
    folder = tmp_path_factory.mktemp("alone")
    models = folder / "models"
    alone = train_row(row, SEED, data, folder / "c", models, start=start, teacher=teacher, on_log=lambda *_: None)
    assert isinstance(alone, Training)
    set_seed(SEED)
    task = Task(start_model(row, data.classes, start).model, teacher, row, data.class_weights)
    before = task.student.state_dict() | task.terms.state_dict()
    together = results[0][request.param]["history"]
    return (
        alone.history.to_dict("list"),
        together,
        before,
        learned(models),
        learned(out / request.param / "models-0"),
    )


def is_cancelled(name: str) -> bool:
    """Constants added to whole channels before a batch norm, or to all keys before the softmax, cancel."""
    before_norm = (".proj.bias", ".0.bias") if "projections." in name or "cskd.projectors." in name else ()
    before_norm += (".sequence_reduction.sequence_reduction.bias",)
    return name.endswith((".k_proj.bias", ".stages.3.layer_norm.bias", *before_norm))


def test_two_processes_reach_the_weights_and_statistics_of_one(pair: tuple[Any, ...]):
    *_, before, alone, together = pair
    assert before.keys() == alone.keys() == together.keys()
    # the head's, those of the projectors and of the encoder's norms
    assert sum("running_var" in name for name in alone) == 11
    moved = {name: (value - before[name]).abs().max() for name, value in alone.items()}
    largest = max(moved[name] for name, value in alone.items() if value.is_floating_point())
    for name, value in alone.items():
        scale = largest if is_cancelled(name) else moved[name]
        rounding = 4 * torch.finfo(torch.float32).eps * value.abs().max()  # what a weight cannot move by less than
        assert (together[name] - value).abs().max() <= 1e-3 * scale + rounding, name


def test_two_processes_log_what_one_does(pair: tuple[Any, ...]):
    alone, together, *_ = pair
    assert alone.keys() == together.keys() >= set(WEIGHTS)
    for name in ("epoch", "step", "lr"):
        assert together[name] == alone[name]
    for name in ("loss", *WEIGHTS):
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-5, atol=1e-6, err_msg=name)
    for name in ("miou", "miou_quarter", "pixel_accuracy"):  # a pixel between two classes may fall to the other one
        np.testing.assert_allclose(together[name], alone[name], atol=1e-3, err_msg=name)


@pytest.mark.slow
def test_two_nodes_reach_the_same_bits_as_two_processes_of_one(nodes: Path, out: Path, results: list):
    expected = learned(out / "whole" / "models-0")
    assert all(torch.equal(value, expected[name]) for name, value in learned(nodes).items())


# --- going on ---------------------------------------------------------------------------------------------------------


def test_two_processes_go_on_to_the_same_bits(out: Path, results: list[dict[str, Any]]):
    assert min(results[0]["resumed"]["steps"]) == 4
    assert results[0]["resumed"]["history"] == results[0]["whole"]["history"]
    expected = learned(out / "whole" / "models-0")
    assert all(torch.equal(value, expected[name]) for name, value in learned(out / "resumed/models-0").items())


def test_nodes_that_do_not_share_the_checkpoints_all_say_so(out: Path, results: list[dict[str, Any]]):
    checkpoint = out / "halves" / "checkpoints" / "checkpoint-3"
    errors = [result["apart"]["error"] for result in results]
    assert errors[0].startswith(f"{checkpoint}: not every node sees this checkpoint")
    assert errors[1].endswith("the nodes of one training need a shared folder (the same file system at the same path)")


# --- who writes -------------------------------------------------------------------------------------------------------


def test_only_the_first_process_logs_writes_and_returns_a_record(out: Path, results: list[dict[str, Any]]):
    first, second = (result["whole"] for result in results)
    assert first["processes"] == 2
    assert first["steps"]
    assert (second["processes"], second["history"], second["steps"]) == (None, None, [])
    assert {path.name for path in (out / "whole/models-0").iterdir()} == {"last", "best", "projectors.safetensors"}
    assert not (out / "whole/models-1").exists()


def test_the_score_of_shared_images_is_that_of_one_process(out: Path, results: list[dict[str, Any]], data: Prepared):
    # five images on two processes: shares of different sizes, and every pixel counted once
    valid = sum(data.pixel_counts["val"])
    assert [result["score"] for result in results] == 2 * [{"same": True, "pixels": valid}]
    model = load_model(out / "whole/models-0/last")
    alone = evaluate(model, data.val, data.classes, batch_size=2, device=torch.device("cpu")).headline()
    assert {name: results[0]["whole"]["history"][name][-1] for name in alone} == alone


def test_half_precision_and_accumulation_go_with_a_start(results: list[dict[str, Any]], out: Path):
    full, half = (results[0][name]["history"] for name in ("started", "started in bf16"))
    assert half["step"] == full["step"]
    np.testing.assert_allclose(half["loss"], full["loss"], rtol=0.1)  # means over half the images, in bf16
    assert half["loss"] != full["loss"]
    models = learned(out / "started in bf16" / "models-0")
    assert all(value.isfinite().all() for value in models.values())
