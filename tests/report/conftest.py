"""A small, made-up study on disk: everything that a report is built from."""

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from effiseg.base.config import Config, merge, read_yaml
from effiseg.data.dataset import DataSet, open_dataset
from effiseg.runs.places import Place
from tests.report.runs import DATA_DIGEST, SIZE, profile, write_fetched, write_history, write_json, write_norms

REPOSITORY = Path(__file__).parents[2]
FULL_SIZE = (64, 128)


@dataclass(frozen=True)
class Study:
    """The folder that holds the results, and the params they belong to."""

    root: Path
    config: Config

    @property
    def out(self) -> Path:
        return self.root / "reports"

    def metrics(self, experiment: str, seed: int = 0) -> dict[str, Any]:
        return self.read(f"runs/{experiment}-{seed}/metrics.json")

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
            content["study"]["teachers"] = []
        study = Study(tmp_path, Config.model_validate(content))
        write_study(study, source, absent, val)
        return study

    return make


def write_study(study: Study, source: str, absent: Sequence[str], val: int) -> None:
    dataset = open_dataset(source)
    space = dataset.space
    draw = np.random.default_rng(0)
    truth = write_prepared(study.root / "prepared", dataset, absent, val, draw)
    students = [name for name in study.config.experiments if name not in study.config.study.teachers]
    places = {name: i for i, name in enumerate(students)}
    finals = {
        split: write_prepared(study.root / "finals" / split, dataset, absent, val, draw)
        for split in study.config.data.final_on
    }
    for name, seed in study.config.runs():
        place = Place(name, seed, study.root)
        level = 0.3 + 0.011 * places[name] + 0.007 * seed
        guesses = guess(truth, space.classes, level, draw)
        write_metrics(place, write_predictions(place.scores, truth, guesses, space.classes))
        for split, labels in finals.items():
            final = Place(name, seed, study.root, split)
            guesses = guess(labels, space.classes, level, draw)
            write_metrics(final, write_predictions(final.scores, labels, guesses, space.classes))
            write_norms(final.scores, study.config, name, draw)
        write_norms(place.scores, study.config, name, draw)
        write_history(place, name in study.config.study.distillation, level, draw)
        write_json(place.profile, profile(study.config, name, draw))
    for name, seed in study.config.teachers():
        place = Place(name, seed, study.root)
        write_metrics(place, made_up_scores(space.classes, absent, 0.5, draw))
        write_fetched(place)
        write_json(place.profile, profile(study.config, name, draw))
    floors = {"largest_class": 0.02, "colour_lookup": 0.11}
    scores = {name: made_up_scores(space.classes, absent, level, draw) for name, level in floors.items()}
    for folder in (study.root, *(study.root / "finals" / split for split in finals)):
        write_json(folder / "floors.json", scores)


def write_metrics(place: Place, scores: dict[str, Any]) -> None:
    best = {
        f"{score}_best": value if value is None or score == "iou" else value + 0.01 for score, value in scores.items()
    }
    write_json(place.metrics, scores | best)


def write_prepared(
    folder: Path, dataset: DataSet, absent: Sequence[str], val: int, draw: np.random.Generator
) -> np.ndarray:
    """Eight vertical bands of classes per image, no class left out, and a void line; returns the val labels."""
    space = dataset.space
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
        void = int((labels == 255).sum())
        groups = [dataset.group_of(name) for name in names]
        found = {"names": names, "groups": groups, "pixel_counts": pixels, "void_pixels": void}
        counts[split] = {"splits": [split], **found}
    index = {
        "format": 3,
        "title": dataset.title,
        "digest": DATA_DIGEST,
        "table": dataset.fingerprint,
        "space": space.model_dump(mode="json"),
        "size": SIZE,
        "fit": "squash",
        "label_sizes": [FULL_SIZE],
        "generated": dataset.generated,
        "paper": dataset.paper,
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
    scores = {"miou": miou, "miou_official": miou, "miou_quarter": quarter, "pixel_accuracy": 0.5 + level / 3}
    return scores | {"iou": iou}


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
    found = sum(bool(p and not t) for t, p in zip(labelled, predicted, strict=True))  # classes that no label holds
    official = None if miou is None else miou * len(held) / (len(held) + found)
    scores = {"miou": miou, "miou_official": official, "miou_quarter": quarter, "pixel_accuracy": accuracy}
    return scores | {"iou": iou}
