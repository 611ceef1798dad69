"""A small, made-up study on disk: everything that a report is built from."""

import hashlib
import io
import itertools
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from effiseg.config import Config, merge, read_yaml
from effiseg.data.labels import CAMVID, CITYSCAPES

REPOSITORY = Path(__file__).parents[2]
DATA_DIGEST = hashlib.sha256(b"data").hexdigest()
TEACHER_DIGEST = hashlib.sha256(b"teacher").hexdigest()
SIZE, FULL_SIZE = (32, 64), (64, 128)
NORMS = [
    *(f"stage{i}.patch_embedding" for i in (1, 2, 3, 4)),
    *(f"stage1.block1.{place}" for place in ("before_attention", "sequence_reduction", "before_mlp")),
    "stage1.output",
]


@dataclass(frozen=True)
class Study:
    """The folder that holds the results, and the params they belong to."""

    root: Path
    config: Config

    @property
    def out(self) -> Path:
        return self.root / "reports"

    def metrics(self, experiment: str, seed: int = 0) -> dict[str, Any]:
        return self.read(f"results/{self.config.stage_of(experiment)}/{experiment}-{seed}/metrics.json")

    def read(self, name: str) -> dict[str, Any]:
        return json.loads((self.root / name).read_text())

    def change(self, name: str, **values: object) -> None:
        write_json(self.root / name, self.read(name) | values)


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Study]:
    """Write a study; the arguments change params.yaml and the data."""

    def make(
        *,
        source: str = "synthetic",
        absent: Sequence[str] = ("train",),
        val: int = 4,
        experiments: dict[str, dict[str, Any]] | None = None,
        **changes: object,
    ) -> Study:
        content = merge(read_yaml(REPOSITORY / "params.yaml"), {"data": {"source": source}, **changes})
        if experiments is not None:
            content["experiments"] = experiments
        study = Study(tmp_path, Config.model_validate(content))
        write_study(study, source, absent, val)
        return study

    return make


def write_study(study: Study, source: str, absent: Sequence[str], val: int) -> None:
    space = CAMVID if source == "camvid" else CITYSCAPES
    draw = np.random.default_rng(0)
    truth = write_prepared(study.root / "prepared", source, space, absent, val, draw)
    places = {name: i for i, name in enumerate(study.config.experiments)}
    for name, seed in study.config.runs():
        key = f"{study.config.stage_of(name)}/{name}-{seed}"
        level = 0.3 + 0.011 * places[name] + 0.007 * seed
        guesses = guess(truth, space.classes, level, draw)
        scores = write_predictions(study.root / f"results/{key}", truth, guesses, space.classes)
        best = {
            f"{score}_best": value if value is None or score == "iou" else value + 0.01
            for score, value in scores.items()
        }
        write_json(study.root / f"results/{key}/metrics.json", scores | best)
        write_norms(study.root / f"results/{key}", study.config, name, draw)
        write_history(study.root / f"history/{key}", study.config.stage_of(name), seed, level, draw)
        write_json(
            study.root / f"profiles/{study.config.stage_of(name)}/{name}.json", profile(study.config, name, draw)
        )
    settings = {"source": "train", "variant": "b2", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    costs = {"params_m": 27.361, "gmacs": 129.0, "gmacs_paper": 113.6}
    teacher = made_up_scores(space.classes, absent, 0.5, draw) | settings | costs | {"digest": TEACHER_DIGEST}
    write_json(study.root / "results/teacher/metrics.json", teacher)
    write_json(study.root / "profiles/teacher.json", profile(study.config, None, draw))
    floors = {"largest_class": 0.02, "colour_lookup": 0.11}
    scores = {name: made_up_scores(space.classes, absent, level, draw) for name, level in floors.items()}
    write_json(study.root / "results/floors.json", scores)
    (study.root / "history/teacher.csv").write_text("epoch,step,loss,lr,miou,miou_quarter,pixel_accuracy\n")


def write_prepared(
    folder: Path, source: str, space: Any, absent: Sequence[str], val: int, draw: np.random.Generator
) -> np.ndarray:
    """Eight vertical bands of classes per image, no class left out, and a void line; returns the val labels."""
    counts: dict[str, Any] = {}
    missing = [space.classes.index(name) for name in absent]
    held = [i for i in range(len(space.classes)) if i not in missing] or [255]
    for split, number, size in (("train", 6, SIZE), ("val", val, FULL_SIZE)):
        bands = np.resize(draw.permutation(held), (number, 8))
        labels = np.repeat(bands, size[1] // 8, axis=1)[:, None, :].repeat(size[0], axis=1).astype(np.uint8)
        labels[:, -2:] = 255
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(space.colours)] = space.colours
        step = size[0] // SIZE[0]
        noise = draw.integers(0, 40, (number, *SIZE, 3))
        images = (palette[labels[:, ::step, ::step]] * 0.8 + noise).astype(np.uint8).transpose(0, 3, 1, 2)
        (folder / split).mkdir(parents=True, exist_ok=True)
        np.save(folder / split / "images.npy", np.ascontiguousarray(images))
        np.save(folder / split / "labels.npy", labels)
        pixels = np.bincount(labels[labels != 255], minlength=len(space.classes)).tolist()
        names = [f"{split}_{i}" for i in range(number)]
        counts[split] = {"names": names, "pixel_counts": pixels, "void_pixels": int((labels == 255).sum())}
    index = {
        "format": 1,
        "source": source,
        "root": "data",
        "digest": DATA_DIGEST,
        "classes": space.classes,
        "colours": space.colours,
        "ignore_index": 255,
        "size": SIZE,
        "full_size": FULL_SIZE,
        "class_weights": [1.0] * len(space.classes),
        "splits": counts,
    }
    write_json(folder / "index.json", index)
    return labels


def made_up_scores(
    classes: Sequence[str], absent: Sequence[str], level: float, draw: np.random.Generator
) -> dict[str, Any]:
    iou = {name: None if name in absent else float(np.clip(level + draw.normal(0, 0.15), 0, 1)) for name in classes}
    held = [value for value in iou.values() if value is not None]
    miou = float(np.mean(held)) if held else None
    quarter = None if miou is None else 0.97 * miou
    return {"miou": miou, "miou_quarter": quarter, "pixel_accuracy": 0.5 + level / 3, "iou": iou}


def guess(truth: np.ndarray, classes: Sequence[str], level: float, draw: np.random.Generator) -> np.ndarray:
    """Class maps that are right but for blocks of 4x4 pixels; some images are harder than others."""
    levels = np.clip(level + draw.normal(0, 0.1, (len(truth), 1, 1)), 0, 1)
    grid = (len(truth), truth.shape[1] // 4, truth.shape[2] // 4)
    drawn = np.where(draw.random(grid) < levels, -1, draw.integers(0, len(classes), grid))
    drawn = drawn.repeat(4, axis=1).repeat(4, axis=2)
    return np.where(drawn >= 0, drawn, np.where(truth == 255, 0, truth)).astype(np.uint8)


def write_predictions(folder: Path, truth: np.ndarray, guesses: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Write what an evaluation keeps of its predictions; returns the scores, NaN as null."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"val_{i}" for i in range(len(truth))]
    with zipfile.ZipFile(folder / "predictions.zip", "w") as archive:
        for name, image in zip(names, guesses, strict=True):
            png = io.BytesIO()
            Image.fromarray(image).save(png, "png")
            archive.writestr(f"{name}.png", png.getvalue())
    size = len(classes)
    confusion = np.stack(
        [
            np.bincount(t[t != 255].astype(int) * size + p[t != 255], minlength=size**2).reshape(size, size)
            for t, p in zip(truth, guesses, strict=True)
        ]
    )
    np.savez(folder / "images.npz", names=np.array(names), confusion=confusion)
    return scores_of(confusion.sum(axis=0), classes)


def scores_of(confusion: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    hits, labelled, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    pairs = zip(classes, hits, labelled, predicted, strict=True)
    iou = {name: float(h / (t + p - h)) if t else None for name, h, t, p in pairs}
    held = [value for value in iou.values() if value is not None]
    miou = float(np.mean(held)) if held else None
    quarter = None if miou is None else 0.97 * miou
    accuracy = float(hits.sum() / labelled.sum()) if held else None
    return {"miou": miou, "miou_quarter": quarter, "pixel_accuracy": accuracy, "iou": iou}


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


def write_history(path: Path, stage: str, seed: int, level: float, draw: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["epoch,step,loss,weighted_ce,lr,miou,miou_quarter,pixel_accuracy"]
    for epoch in range(1, 13):
        miou = level * (1 - np.exp(-epoch / 4)) + draw.normal(0, 0.005)
        loss = 2.5 * np.exp(-epoch / 5) + 0.4 + draw.normal(0, 0.03)
        lines.append(f"{epoch},{30 * epoch},{loss},{loss},0.001,{miou},{0.97 * miou},{0.5 + miou / 3}")
    path.with_name(f"{path.name}.csv").write_text("\n".join(lines) + "\n")
    information = {
        "epochs": 12,
        "best_epoch": 10 + seed % 2,
        "train_minutes": 3.5 + level,
        "device": "CPU, 2 threads",
        "precision": "fp32",
        "processes": 1,
        "data_digest": DATA_DIGEST,
        "teacher_digest": TEACHER_DIGEST if stage == "distill" else None,
        "peak_memory_mb": 1234.5,
        "images_per_second": 17.25,
        "git_commit": "0123abc",
    }
    write_json(path.with_name(f"{path.name}.json"), information)


def profile(config: Config, name: str | None, draw: np.random.Generator) -> dict[str, Any]:
    """A row's costs, or the teacher's; rows with the same model share the architecture."""
    teacher = name is None
    model = config.teacher.model() if name is None else config.row(name).model
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
