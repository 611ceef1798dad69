"""Training on two processes, started as study.launcher would start them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from effiseg.data.prepared import Prepared
from effiseg.evaluation.evaluate import evaluate
from effiseg.models.segformer import load_model

REPOSITORY = Path(__file__).parents[2]
SETTINGS = {"data": {"size": [32, 64]}, "train": {"epochs": 2, "batch_size": 4, "augment": {"crop": [32, 64]}}}

# every process says what it got; the last line of each is JSON
SCRIPT = """
import json, os, sys
from pathlib import Path
import torch
from effiseg.config import Config, merge, read_yaml
from effiseg.data.prepared import Prepared
from effiseg.models.segformer import build_model, load_model
from effiseg.evaluation.evaluate import evaluate
from effiseg.training.train import train_row

torch.set_num_threads(1)
params, settings, folder, out = (Path(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
config = Config.model_validate(merge(read_yaml(params), settings))
data, rank, steps = Prepared.open(folder), int(os.environ["RANK"]), []
torch.manual_seed(5)
teacher = build_model(config.teacher.model(), data.classes)
training = train_row(
    config.row("kd"), 3, data, out / "checkpoints", out / f"models-{rank}", teacher=teacher,
    on_log=lambda metrics, step: steps.append(step),
)
torch.manual_seed(6)
scored = build_model(config.row("kd").model, data.classes)
shared = evaluate(
    scored, data.val, data.classes, batch_size=2, device=torch.device("cpu"), across_processes=True
)
alone = evaluate(scored, data.val, data.classes, batch_size=2, device=torch.device("cpu"))
result = {
    "record": training and training.record(),
    "history": training and training.history.to_dict("list"),
    "logs": len(steps),
    "same": bool(torch.equal(shared.full, alone.full) and torch.equal(shared.quarter, alone.quarter)),
    "pixels": int(shared.full.sum()),
}
(out / f"{rank}.json").write_text(json.dumps(result))
"""


@pytest.fixture(scope="module")
def out(data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left after training a distilled row together."""
    out = tmp_path_factory.mktemp("processes")
    (out / "script.py").write_text(SCRIPT)
    settings = SETTINGS | {"teacher": {"variant": "b0"}}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [
        str(out / "script.py"),
        str(REPOSITORY / "params.yaml"),
        json.dumps(settings),
        str(data.path),
        str(out),
    ]
    variables = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, *arguments], env=os.environ | variables, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def results(out: Path) -> list[dict[str, Any]]:
    return [json.loads((out / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_only_the_first_process_logs_writes_and_returns_a_record(out: Path, results: list[dict[str, Any]]):
    first, second = results
    assert first["record"]["processes"] == 2
    assert first["logs"] > 0
    assert (second["record"], second["history"], second["logs"]) == (None, None, 0)
    assert {path.name for path in (out / "models-0").iterdir()} == {"last", "best", "projectors.safetensors"}
    assert not (out / "models-1").exists()


def test_the_global_batch_is_that_of_one_process(results: list[dict[str, Any]]):
    # 10 images in batches of 4
    assert results[0]["record"]["steps"] == 6
    assert results[0]["history"]["step"] == [3, 6]


def test_the_weights_are_finite(out: Path):
    for name in ("last/model.safetensors", "best/model.safetensors", "projectors.safetensors"):
        assert all(value.isfinite().all() for value in load_file(out / "models-0" / name).values())


def test_logged_terms_are_those_of_all_processes_as_the_loss_is(results: list[dict[str, Any]]):
    history = results[0]["history"]
    sums = [sum(values) for values in zip(*(history[name] for name in ("weighted_ce", "cskd", "pekd")), strict=True)]
    assert history["loss"] == pytest.approx(sums, rel=1e-5)


def test_the_score_of_shared_images_is_that_of_one_process(out: Path, results: list[dict[str, Any]], data: Prepared):
    # five images on two processes: shares of different sizes, and every pixel counted once
    valid = sum(data.pixel_counts["val"])
    assert [(result["same"], result["pixels"]) for result in results] == [(True, valid), (True, valid)]
    model = load_model(out / "models-0" / "last")
    alone = evaluate(model, data.val, data.classes, batch_size=2, device=torch.device("cpu")).headline()
    assert {name: results[0]["history"][name][-1] for name in alone} == alone
