"""One training with its checkpoints, its MLflow run and the files that dvc.yaml declares."""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError
from effiseg.base.files import whole_folder, write_text
from effiseg.base.origins import classes_of, digest
from effiseg.base.schema import Row
from effiseg.cli.progress import with_progress
from effiseg.cli.stage import is_first_process
from effiseg.data.prepared import Prepared
from effiseg.models.deployed import deploy
from effiseg.models.segformer import CONFIG_FILE, LABELS_KEY, load_model
from effiseg.runs.checkpoints import checkpoints, identity
from effiseg.runs.places import STARTS, Place
from effiseg.runs.records import RunRecord, write_record
from effiseg.tracking.store import git_commit
from effiseg.tracking.tracker import track_run
from effiseg.weights.source import Checkpoint, Source

LICENCE_KEY = "effiseg_licence"  # in a trained model's configuration: of the weights that it started from
NEEDED_BY_MODEL = ("torch", "transformers", "safetensors", "pydantic", "ruamel.yaml", "numpy", "pillow", "tqdm")


def train_run(config: Config, row: Row, seed: int, data: Prepared) -> None:
    """Train the row, or take what it starts from where it has 0 epochs, and write its model/, record.json, history.csv.

    Under torchrun or accelerate every process trains, and the first one logs and writes.

    Raises:
        EffiSegError: the teacher or the row's first weights cannot be read, the same training runs already, the
            training diverges, or the tracking store cannot be reached.
    """
    # imported late: the library's start costs seconds that a wrong configuration should not wait for
    from effiseg.training.train import train_row

    place, teacher_run, start = Place(row.name, seed), config.teacher_of(row.name), open_start(row)
    teacher_place = Place(*teacher_run) if teacher_run else None
    teacher = deploy(load_model(teacher_place.last)) if teacher_place else None
    digests = {
        "data_digest": data.digest,
        "teacher_digest": digest(teacher_place.last / "model.safetensors") if teacher_place else None,
        "start_digest": start.source.sha256 if start else None,
    }
    known_as = identity(
        {"name": row.name, "row": row.used(), "seed": seed, "launcher": config.study.launcher, **digests}
    )
    if not is_first_process():
        with checkpoints(place.name, known_as, owner=False) as folder:
            train_row(row, seed, data, folder, Path(), start=start, teacher=teacher, on_log=lambda *_: None)
        return
    with (
        checkpoints(place.name, known_as) as folder,
        track_run(place.name, known_as, data.source, tags={"experiment": row.name, "seed": seed, **digests}) as tracker,
        whole_folder(place.model) as out,
    ):
        tracker.params({"seed": seed, **row.model_dump(exclude={"name"})})
        tracker.dataset(data.source, config.data.root, data.digest, "training")
        on_log = with_progress(tracker.metrics, row.train.steps(len(data.train)), row.train.batch_size)
        training = train_row(row, seed, data, folder, out, start=start, teacher=teacher, on_log=on_log)
        assert training is not None
        for name in ("last", "best"):
            _tell_labels(out / name / CONFIG_FILE, data, training.licence)
        how = {key: value for key, value in asdict(training).items() if key != "history"}
        what = {"experiment": row.name, "seed": seed, "identity": known_as, "data_source": data.source, **digests}
        weights = {"weights_digest": digest(out / "last/model.safetensors"), "git_commit": git_commit()}
        record = RunRecord.model_validate(what | how | weights)
        write_record(place.record, record)
        write_text(place.history, training.history.to_csv(index=False))
        costs = record.model_dump(include={"train_minutes", "images_per_second", "peak_memory_mb"})
        tracker.metrics(costs, training.steps)
        tracker.artifact(place.history)
        needed = [f"{package}=={version(package)}" for package in NEEDED_BY_MODEL]
        tracker.model(out / "last", data.size, data.fit, needed)


def open_start(row: Row) -> Checkpoint | None:
    """The checkpoint that the row starts from; None where its weights are drawn.

    Raises:
        EffiSegError: it was not fetched, or the run has not been trained.
    """
    if row.start.source == "drawn":
        return None
    if row.start.source != "run":
        found = Checkpoint.read(STARTS / row.name)
        if found is None:
            raise EffiSegError(f"{STARTS / row.name}: holds no checkpoint; run `dvc repro fetch`")
        return found
    name, _, seed = row.start.run.rpartition("-")
    last = Place(name, int(seed)).last
    file = last / "model.safetensors"
    try:
        licence = json.loads((last / CONFIG_FILE).read_text(encoding="utf-8")).get(LICENCE_KEY, "")
        sha256 = digest(file)
    except (OSError, ValueError) as error:
        raise EffiSegError(
            f"start.run: {last} (row '{row.name}') cannot be read ({' '.join(str(error).split())}); train "
            f"{row.start.run} first"
        ) from None
    source = Source(origin=f"run {row.start.run}", sha256=sha256, licence=licence, classes=classes_of(file))
    return Checkpoint(file, source)


def _tell_labels(file: Path, data: Prepared, licence: str) -> None:
    """Add to a model's configuration what its answers mean, which images it was trained on, and on whose terms."""
    content = json.loads(file.read_text(encoding="utf-8"))
    content[LABELS_KEY] = {"space": data.space.model_dump(mode="json"), "size": data.size, "fit": data.fit}
    content |= {LICENCE_KEY: licence} if licence else {}
    write_text(file, json.dumps(content, indent=2) + "\n")
