"""What a made-up run leaves on disk beside its scores: norms, curve, record and profile."""

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from effiseg.base.config import Config
from effiseg.runs.places import Place

DATA_DIGEST = hashlib.sha256(b"data").hexdigest()
TEACHER_DIGEST = hashlib.sha256(b"teacher").hexdigest()
SIZE = (32, 64)  # of the prepared images
NORMS = [
    *(f"stage{i}.patch_embedding" for i in (1, 2, 3, 4)),
    *(f"stage1.block1.{place}" for place in ("before_attention", "sequence_reduction", "before_mlp")),
    "stage1.output",
]


def write_norms(folder: Path, config: Config, name: str, draw: np.random.Generator) -> None:
    norms = config.row(name).model.norms
    kinds = [
        getattr(norms, {"patch_embedding": "patch_embedding", "output": "stage_output"}.get(place, "block"))
        for place in (norm.rsplit(".")[-1] for norm in NORMS)
    ]
    inputs = draw.normal(0, 3, (len(NORMS), 400)).astype(np.float32)
    outputs = np.stack(
        [
            np.tanh(0.5 * x)
            if kind == "dyt"
            else 0.5 * x
            if kind == "dyl"
            else x / (1 + np.abs(draw.normal(1, 0.2, 400)))
            for kind, x in zip(kinds, inputs, strict=True)
        ]
    ).astype(np.float32)
    np.savez(folder / "norms.npz", names=np.array(NORMS), kinds=np.array(kinds), inputs=inputs, outputs=outputs)


def write_history(place: Place, distilled: bool, level: float, draw: np.random.Generator) -> None:
    lines = ["epoch,step,loss,weighted_ce,lr,miou,miou_quarter,pixel_accuracy"]
    for epoch in range(1, 13):
        miou = level * (1 - np.exp(-epoch / 4)) + draw.normal(0, 0.005)
        loss = 2.5 * np.exp(-epoch / 5) + 0.4 + draw.normal(0, 0.03)
        lines.append(f"{epoch},{30 * epoch},{loss},{loss},0.001,{miou},{0.97 * miou},{0.5 + miou / 3}")
    place.history.write_text("\n".join(lines) + "\n")
    training = {"epochs": 12, "steps": 360, "best_epoch": 10 + place.seed % 2, "train_minutes": 3.5 + level}
    costs = {"peak_memory_mb": 1234.5, "images_per_second": 17.25}
    digests = {"teacher_digest": TEACHER_DIGEST if distilled else None, "weights_digest": "0" * 64}
    write_record(place, training | costs | digests)


def write_fetched(place: Place) -> None:
    """What a row that is not trained leaves."""
    place.scores.mkdir(exist_ok=True)
    place.history.write_text("epoch,step,loss,lr,miou,miou_quarter,pixel_accuracy\n")
    training = {"origin": "weights/b2.safetensors", "epochs": 0, "steps": 0, "best_epoch": 0, "train_minutes": 0.0}
    costs = {"peak_memory_mb": None, "images_per_second": None}
    write_record(place, training | costs | {"weights_digest": TEACHER_DIGEST, "teacher_digest": None})


def write_record(place: Place, values: dict[str, Any]) -> None:
    common = {
        "device": "CPU, 2 threads",
        "precision": "fp32",
        "processes": 1,
        "threads": 1,
        "git_commit": "0123abc",
        "origin": "",
        "licence": "",
        "start": "",
        "start_digest": None,
    }
    known = {"experiment": place.row, "seed": place.seed, "identity": "0" * 16, "data_source": "synthetic"}
    write_json(place.record, common | known | {"data_digest": DATA_DIGEST} | values)


def profile(config: Config, name: str, draw: np.random.Generator) -> dict[str, Any]:
    """A row's costs; rows with the same model share the architecture."""
    model = config.row(name).model
    teacher = model.variant == "b2"
    sizes = {tuple(config.profile.size): 1.0, tuple(SIZE): 12.0}
    speeds = []
    for size, form in itertools.product(sizes, ("trained", "deployed")):
        factor = sizes[size] * (2.0 if form == "deployed" else 1.0)
        latency = (400 if teacher else 100) / factor * (1 + 0.1 * float(draw.random()))
        speed = {"fps": 1000 / latency, "latency_ms": latency, "latency_p95_ms": 1.2 * latency}
        speeds.append({"form": form, "size": list(size), **speed})
    return {
        "architecture": hashlib.sha256(model.model_dump_json().encode()).hexdigest()[:12],
        "params_m": 27.361 if teacher else 3.719,
        "gmacs": 129.0 if teacher else 17.8,
        "gmacs_paper": 113.6 if teacher else 13.6,
        "gmacs_exact": 52.1 if teacher else 9.2,
        "gmacs_deployed": 51.9 if teacher else 9.1,
        "device": "CPU, 2 threads",
        "precision": "fp32",
        "threads": 2,
        "speeds": speeds,
    }


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
