"""One training with its checkpoints, its MLflow run and the files that dvc.yaml declares."""

import math
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from effiseg.config import Config
from effiseg.data.prepared import Prepared
from effiseg.models.deployed import Deployed
from effiseg.models.weights import digest
from effiseg.pipeline.cli import is_first_process
from effiseg.pipeline.progress import with_progress
from effiseg.pipeline.tracking import Tracker, git_commit, track
from effiseg.pipeline.workspace import TEACHER, checkpoints, whole_folder, write_json, write_text
from effiseg.schema import Row

NEEDED_BY_MODEL = ("torch", "transformers", "safetensors", "pydantic", "ruamel.yaml", "numpy", "pillow", "tqdm")


def tracked_training(
    config: Config,
    row: Row,
    seed: int,
    data: Prepared,
    *,
    name: str,
    group: str,
    teacher: Deployed | None = None,
    accept: Callable[[Path, Tracker], None] = lambda *_: None,
) -> None:
    """Train, and write models/<group>/<name>/, history/<group>/<name>.csv (per epoch) and .json (the record).

    Under torchrun or accelerate every process trains, and the first one logs and writes.

    Args:
        accept: gets the trained models' folder before anything is final; when it raises, the checkpoints stay.

    Raises:
        EffiSegError: the same training runs already, the tracking store cannot be reached, or `accept` says no.
    """
    # imported late: the library's start costs seconds that a wrong configuration should not wait for
    from effiseg.training.train import train_row

    digests = {"data_digest": data.digest, "teacher_digest": digest(TEACHER / "model.safetensors") if teacher else None}
    belongs_to = {"row": row.model_dump(), "seed": seed, "launcher": config.study.launcher, **digests}
    if not is_first_process():
        with checkpoints(name, belongs_to, owner=False) as folder:
            train_row(row, seed, data, folder, Path(), teacher=teacher, on_log=lambda *_: None)
        return
    tags = {"experiment": row.name, "seed": seed, **digests}
    models, history = Path("models", group, name), Path("history", group)
    with (
        checkpoints(name, belongs_to) as folder,
        track(name, data.source, tags=tags, resume=folder / "mlflow_run") as tracker,
        whole_folder(models) as out,
    ):
        tracker.params({"seed": seed, **row.model_dump(exclude={"name"})})
        tracker.dataset(data.source, config.data.root, data.digest, "training")
        steps = row.train.epochs * math.ceil(len(data.train) / row.train.batch_size)
        on_log = with_progress(tracker.metrics, steps, row.train.batch_size)
        training = train_row(row, seed, data, folder, out, teacher=teacher, on_log=on_log)
        assert training is not None
        accept(out, tracker)
        record = {"experiment": row.name, "seed": seed, **training.record(), **digests, "git_commit": git_commit()}
        write_json(history / f"{name}.json", record)
        write_text(history / f"{name}.csv", training.history.to_csv(index=False))
        costs = ("train_minutes", "images_per_second", "peak_memory_mb")
        tracker.metrics({key: record[key] for key in costs}, training.steps)
        tracker.artifact(history / f"{name}.csv")
        tracker.model(out / "last", [f"{package}=={version(package)}" for package in NEEDED_BY_MODEL])
