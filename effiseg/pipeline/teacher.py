"""The teacher from wherever `teacher.source` says, measured before anything learns from it."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from effiseg.config import Config
from effiseg.data.prepared import Prepared
from effiseg.errors import EffiSegError
from effiseg.evaluation.evaluate import evaluate
from effiseg.evaluation.profile import profile
from effiseg.models.deployed import deploy
from effiseg.models.download import fetch_gdrive, fetch_huggingface, fetch_url
from effiseg.models.segformer import build_model, load_model, save_model
from effiseg.models.weights import digest, load_strictly, read_tensors, to_transformers
from effiseg.pipeline.cli import is_first_process
from effiseg.pipeline.tracking import Tracker, track
from effiseg.pipeline.training import tracked_training
from effiseg.pipeline.workspace import repository, whole_folder, write_json, write_text
from effiseg.schema import Teacher

MODELS = Path("models/teacher")
HISTORY = Path("history/teacher")
METRICS = Path("results/teacher/metrics.json")
PROFILE = Path("profiles/teacher.json")
CHECKPOINT_NAMES = ("model.safetensors", "pytorch_model.bin")
HISTORY_COLUMNS = "epoch,step,loss,lr,miou,miou_quarter,pixel_accuracy\n"


def make_teacher(config: Config, data: Prepared, device: torch.device) -> None:
    """Train or fetch the teacher, evaluate and profile it, and write what dvc.yaml declares.

    Raises:
        EffiSegError: the checkpoint cannot be had or does not fit, or its mIoU is below `teacher.min_miou`.
    """

    def accept(models: Path, tracker: Tracker) -> None:
        _measure(config, data, models / "last", device, tracker)

    if config.teacher.source == "train":
        row = config.teacher_row()
        tracked_training(config, row, config.teacher.seed, data, name="teacher", group=".", accept=accept)
        return
    if not is_first_process():
        return
    with track("teacher", data.source, tags={"data_digest": data.digest}) as tracker, whole_folder(MODELS) as out:
        tracker.params({"teacher": config.teacher.model_dump()})
        tracker.dataset(data.source, config.data.root, data.digest, "evaluation")
        origin = fetch(config.teacher)
        teacher = build_model(config.teacher.model(), data.classes)
        tensors = to_transformers(read_tensors(origin), num_labels=data.num_classes)
        load_strictly(teacher.network, tensors, origin=str(origin))
        save_model(teacher, out / "last")
        accept(out, tracker)
        record = {"experiment": "teacher", "seed": config.teacher.seed, "origin": str(origin), "epochs": None}
        write_json(HISTORY.with_suffix(".json"), record | {"sha256": digest(origin), "data_digest": data.digest})
        write_text(HISTORY.with_suffix(".csv"), HISTORY_COLUMNS)


def fetch(teacher: Teacher) -> Path:
    """The checkpoint file that `teacher` names, downloaded if need be.

    Raises:
        EffiSegError: it cannot be had, or its digest is not `teacher.sha256`.
    """
    downloads = repository() / ".downloads"
    sha256 = teacher.sha256 or None
    if teacher.source == "url":
        return fetch_url(teacher.url, downloads, sha256=sha256)
    if teacher.source == "gdrive":
        return fetch_gdrive(teacher.gdrive_id, downloads, sha256=sha256)
    if teacher.source == "huggingface":
        files = fetch_huggingface(teacher.repo, teacher.revision, downloads, sha256=sha256)
        _compare_normalisation(teacher, files.preprocessor)
        return files.weights
    path = Path(teacher.path)
    if path.is_dir():
        # what transformers' save_pretrained writes
        path = next((path / name for name in CHECKPOINT_NAMES if (path / name).is_file()), path)
    if not path.is_file():
        raise EffiSegError(
            f"teacher.path: {path} is neither a checkpoint nor a folder with {' or '.join(CHECKPOINT_NAMES)}; give an "
            "absolute path"
        )
    found = digest(path)
    if sha256 and found != sha256.lower():
        raise EffiSegError(f"teacher.sha256: {path} has {found}, expected {sha256}; correct the digest or the file")
    if not sha256:
        print(f"{path}: sha256 {found}")
    return path


def _compare_normalisation(teacher: Teacher, preprocessor: Path | None) -> None:
    if preprocessor is None:
        return
    stated = json.loads(preprocessor.read_text())
    for key, ours in (("image_mean", teacher.mean), ("image_std", teacher.std)):
        if key in stated and any(abs(a - b) > 1e-3 for a, b in zip(stated[key], ours, strict=True)):
            print(
                f"warning: teacher.{key[6:]} is {ours}, but {teacher.repo} was trained with {stated[key]}",
                file=sys.stderr,
            )


def _measure(config: Config, data: Prepared, folder: Path, device: torch.device, tracker: Tracker) -> None:
    """Evaluate the teacher's weights in `folder` and write its metrics and its profile."""
    teacher = config.teacher
    model = deploy(load_model(folder).to(device))
    batch_size = config.train.batch_size
    evaluation = evaluate(model, data.val, data.classes, batch_size=batch_size, device=device, progress=True)
    miou = evaluation.scores.miou
    if not miou >= teacher.min_miou:
        fetched = (
            "check that it was trained on such data, with these classes and this normalisation (teacher.mean, "
            "teacher.std), train one here (teacher.source: train)"
        )
        advice = "train it longer (teacher.overrides)" if teacher.source == "train" else fetched
        raise EffiSegError(
            f"teacher.min_miou: the teacher ({teacher.source}) reaches mIoU {miou:.4f} on the validation split, "
            f"expected at least {teacher.min_miou}; {advice}, or lower the bound"
        )
    sizes = [config.profile.size, config.data.size]
    costs = profile(teacher.model(), data.classes, sizes, repeats=config.profile.repeats, device=device)
    identity: dict[str, Any] = {
        "digest": digest(folder / "model.safetensors"),
        "source": teacher.source,
        **teacher.model_dump(include={"variant", "mean", "std"}),
    }
    counts = {key: costs[key] for key in ("params_m", "gmacs", "gmacs_paper")}
    write_json(METRICS, {**evaluation.report(), **identity, **counts})
    write_json(PROFILE, costs)
    tracker.metrics(evaluation.headline())
    tracker.tags({f"teacher.{key}": value for key, value in identity.items()})
