"""The MLflow run of a training: its settings, curve, costs and model."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

from effiseg.base.config import Config
from effiseg.base.schema import Row
from effiseg.cli.git import git_commit
from effiseg.cli.progress import OnLog
from effiseg.data.prepared import Prepared
from effiseg.runs.identity import Digests
from effiseg.runs.places import Place
from effiseg.runs.records import RunRecord, read_record
from effiseg.runs.training import train_run
from effiseg.tracking.tracker import track_run

NEEDED_BY_MODEL = ("torch", "transformers", "safetensors", "pydantic", "ruamel.yaml", "numpy", "pillow", "tqdm")


def train_tracked(config: Config, row: Row, seed: int, data: Prepared) -> None:
    """Train the row as `train_run` does, and log it to MLflow.

    Raises:
        EffiSegError: what `train_run` raises, or the tracking store cannot be reached.
    """
    log = partial(track_training, config, row, data, Place(row.name, seed))
    train_run(config, row, seed, data, log=log, commit=git_commit())


@contextmanager
def track_training(
    config: Config, row: Row, data: Prepared, place: Place, known_as: str, digests: Digests, **tags: Any
) -> Iterator[OnLog]:
    """The MLflow run of a training: its settings when the block begins; costs, curve and model when it has ended well.

    Args:
        place: where the training's files lie then.
        known_as: its identity.
        tags: besides its row, seed and digests.

    Raises:
        EffiSegError: the tracking store cannot be reached or used.
    """
    with track_run(
        place.name, known_as, data.source, tags={"experiment": place.row, "seed": place.seed, **digests, **tags}
    ) as tracker:
        tracker.params({"seed": place.seed, **row.model_dump(exclude={"name"})})
        tracker.dataset(data.source, config.data.root, data.digest, "training")
        yield tracker.metrics
        record = read_record(place.record, RunRecord)
        costs = record.model_dump(include={"train_minutes", "images_per_second", "peak_memory_mb"})
        tracker.metrics(costs, record.steps)
        tracker.artifact(place.history)
        needed = [f"{package}=={version(package)}" for package in NEEDED_BY_MODEL]
        tracker.model(place.last, data.size, data.fit, needed)
