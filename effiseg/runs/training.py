"""One training with its checkpoints and the files that dvc.yaml declares; whoever calls says where it is logged."""

import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError
from effiseg.base.files import whole_folder, write_text
from effiseg.base.origins import classes_of, digest
from effiseg.base.schema import Row
from effiseg.cli.progress import OnLog, with_progress
from effiseg.cli.stage import is_first_process
from effiseg.data.prepared import Prepared
from effiseg.models.deployed import deploy
from effiseg.models.segformer import CONFIG_FILE, LABELS_KEY, load_model
from effiseg.runs.checkpoints import checkpoints
from effiseg.runs.identity import Digests, digests_of, identity_of, weights_digest
from effiseg.runs.places import STARTS, Place
from effiseg.runs.records import RunRecord, write_record
from effiseg.weights.source import Checkpoint, Source

LICENCE_KEY = "effiseg_licence"  # in a trained model's configuration: of the weights that it started from


def train_run(
    config: Config,
    row: Row,
    seed: int,
    data: Prepared,
    *,
    log: Callable[[str, Digests], AbstractContextManager[OnLog]],
    commit: str,
    until: float = math.inf,
) -> None:
    """Train the row, or take what it starts from where it has 0 epochs, and write its model/, record.json, history.csv.

    Under torchrun or accelerate every process trains, and the first one logs and writes.

    Args:
        log: is entered with the training's identity and digests, gets every number, is left once all is written.
        commit: of the code, for the record.
        until: when it stops in time, see `train_row`.

    Raises:
        EffiSegError: the teacher or the row's first weights cannot be read, the same training runs already, or the
            training diverges.
        PausedError: the time was over before the training's end.
    """
    # imported late: the library's start costs seconds that a wrong configuration should not wait for
    from effiseg.training.train import train_row

    place, teacher_run, start = Place(row.name, seed), config.teacher_of(row.name), open_start(row)
    teacher = deploy(load_model(Place(*teacher_run).last)) if teacher_run else None
    digests = digests_of(config, row, data.digest, weights_digest)
    known_as = identity_of(config, row, seed, digests)
    if not is_first_process():
        with checkpoints(place.name, known_as, owner=False) as folder:
            train_row(row, seed, data, folder, Path(), start=start, teacher=teacher, on_log=lambda *_: None)
        return
    with checkpoints(place.name, known_as) as folder, log(known_as, digests) as tell, whole_folder(place.model) as out:
        on_log = with_progress(tell, row.train.steps(len(data.train)), row.train.batch_size)
        training = train_row(row, seed, data, folder, out, start=start, teacher=teacher, on_log=on_log, until=until)
        assert training is not None
        for name in ("last", "best"):
            _tell_labels(out / name / CONFIG_FILE, data, training.licence)
        how = {key: value for key, value in asdict(training).items() if key != "history"}
        what = {"experiment": row.name, "seed": seed, "identity": known_as, "data_source": data.source, **digests}
        weights = {"weights_digest": digest(out / "last/model.safetensors"), "git_commit": commit}
        write_record(place.record, RunRecord.model_validate(what | how | weights))
        write_text(place.history, training.history.to_csv(index=False))


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
    last = Place.of(row.start.run).last
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
