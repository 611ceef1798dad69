"""What each process of a launcher runs in the tests: trains jobs one after the other and notes what it got.

Arguments: params.yaml, the prepared data, the folder for results, and the jobs as JSON.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from effiseg.base.config import Config, merge, read_yaml
from effiseg.base.errors import EffiSegError
from effiseg.base.schema import Row
from effiseg.data.prepared import Prepared
from effiseg.evaluation.evaluate import evaluate
from effiseg.models.segformer import build_model
from effiseg.training.train import train_row
from effiseg.weights.source import Checkpoint, Source

SEED = 3


def settle(params: Path, settings: dict[str, Any], data: Prepared) -> tuple[Row, torch.nn.Module]:
    """The row `kd` under the settings, and its random teacher."""
    config = Config.model_validate(merge(read_yaml(params), settings))
    torch.manual_seed(5)
    return config.row("kd"), build_model(config.row("teacher").model, data.classes)


def train(params: Path, job: dict[str, Any], data: Prepared, out: Path, rank: int) -> dict[str, Any]:
    """Do a job.

    Args:
        job: `name` and `settings`; `start`, a file of weights; `resume`, the job whose checkpoints to go on from,
            without the folder `without`; `apart`, whether other processes look for them elsewhere.
    """
    row, teacher = settle(params, job["settings"], data)
    checkpoints = out / job.get("resume", job["name"]) / "checkpoints"
    if "resume" in job:
        if rank == 0:
            shutil.rmtree(checkpoints / job["without"])
        torch.distributed.barrier()
    if job.get("apart") and rank:
        checkpoints = checkpoints.with_name("another node's disk")
    steps: list[int] = []
    try:
        training = train_row(
            row,
            SEED,
            data,
            checkpoints,
            out / job["name"] / f"models-{rank}",
            start=Checkpoint(Path(job["start"]), Source(origin="a file")) if "start" in job else None,
            teacher=teacher,
            on_log=lambda _, step: steps.append(step),
        )
    except EffiSegError as error:
        return {"error": str(error)}
    return {
        "processes": training and training.processes,
        "history": training and training.history.to_dict("list"),
        "steps": steps,
    }


def score(params: Path, settings: dict[str, Any], data: Prepared) -> dict[str, Any]:
    """One model's confusion matrices: are they the same of all processes together as of one alone?"""
    _, model = settle(params, settings, data)
    device = torch.device("cpu")
    shared = evaluate(model, data.val, data.classes, batch_size=2, device=device, across_processes=True)
    alone = evaluate(model, data.val, data.classes, batch_size=2, device=device)
    same = torch.equal(shared.full, alone.full) and torch.equal(shared.quarter, alone.quarter)
    return {"same": bool(same), "pixels": int(shared.full.sum())}


def main() -> None:
    torch.set_num_threads(1)
    params, folder, out = map(Path, sys.argv[1:4])
    jobs, rank, data = json.loads(sys.argv[4]), int(os.environ["RANK"]), Prepared.open(folder)
    results = {job["name"]: train(params, job, data, out, rank) for job in jobs}
    results["score"] = score(params, jobs[0]["settings"], data)
    (out / f"{rank}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
