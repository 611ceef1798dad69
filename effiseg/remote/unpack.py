"""`effiseg unpack`: what another machine has trained, as results of this folder."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError
from effiseg.base.files import whole_folder, write_text
from effiseg.base.origins import digest
from effiseg.cluster.graph import Graph, read_graph
from effiseg.data.prepared import Prepared
from effiseg.keep import row_differences
from effiseg.remote.archive import read_archive
from effiseg.remote.bring import BROUGHT, Brought
from effiseg.remote.pack import maker, trained_here
from effiseg.remote.plan import planned
from effiseg.remote.train import alone
from effiseg.runs.checkpoints import CKPT, checkpoint_folder, checkpoints, exclusive, kept_checkpoint
from effiseg.runs.identity import Digests, digests_of, identity_of, weights_digest
from effiseg.runs.places import ROWS, Place
from effiseg.runs.records import RunRecord, read_history, read_record
from effiseg.runs.study import open_prepared
from effiseg.runs.tracked_training import track_training

SCRATCH = CKPT / "unpacked"
MODEL = ("config.json", "model.safetensors")


@dataclass(frozen=True)
class Arrival:
    """A training in the unpacked archive: where it would stand, where it lies, and what it would be known by here."""

    place: Place
    there: Place
    digests: Digests
    identity: str

    @property
    def checkpoints(self) -> Path:
        return self.there.root / CKPT / f"{self.place.name}-{self.identity}"


def unpack(config: Config, archive: Path) -> list[str]:
    """Bring the finished runs of an archive into runs/ and MLflow, and checkpoints to where trainings look for them.

    Returns:
        What was done, line by line, and last the command by which DVC takes it.

    Raises:
        EffiSegError: the archive is damaged, or a run is of other data, settings, code or teacher, or has been trained
            here to other weights; nothing is changed then. Or MLflow cannot be used.
    """
    data, plan, graph = open_prepared(config), planned(config), read_graph()
    trained = trained_here(graph, plan)
    with alone(), _opened(archive) as (root, brought):
        for name in (*brought.finished, *brought.begun):
            if name not in plan:
                raise EffiSegError(f"{archive}: run '{name}': the study here has none of that name")
        arrivals = [_checked(config, data, name, root, brought) for name in plan if name in brought.finished]
        new = [each for each in arrivals if not _is_here(each, archive, trained)]
        begun = [_checked(config, data, name, root, brought) for name in plan if name in brought.begun]
        ahead = [each for each in begun if each.place.name not in trained and _is_ahead(each)]
        with ExitStack() as locks:
            for each in new:
                locks.enter_context(checkpoints(each.place.name, each.identity))
            for each in ahead:
                locks.enter_context(exclusive(checkpoint_folder(each.place.name, each.identity)))
            for each in new:
                _log(config, data, each, brought.commit)
                _put(each)
            for each in ahead:
                with whole_folder(checkpoint_folder(each.place.name, each.identity)) as folder:
                    shutil.copytree(each.checkpoints, folder, dirs_exist_ok=True)
    told = {
        "brought home": new,
        "here already": [each for each in arrivals if each not in new],
        "to go on from a checkpoint": ahead,
        "no further than here": [each for each in begun if each not in ahead],
    }
    lines = [f"{what}: {', '.join(each.place.name for each in found)}" for what, found in told.items() if found]
    left = [each.place for each in arrivals if each.place.name not in trained]
    return [*lines, *([f"now run: {_commands(config, graph, left)}"] if left else [])]


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[Path, Brought]]:
    """The archive unpacked, all its files as they were written."""
    shutil.rmtree(SCRATCH, ignore_errors=True)  # of a call that was killed
    try:
        read_archive(archive, SCRATCH)
        damaged = f"{archive}: damaged, or not what `python -m effiseg.remote` wrote ({{}}); copy it again"
        try:
            brought = Brought.model_validate_json((SCRATCH / BROUGHT).read_bytes())
        except (OSError, ValidationError):
            raise EffiSegError(damaged.format(f"no whole {BROUGHT}")) from None
        names = {path.relative_to(SCRATCH).as_posix() for path in SCRATCH.rglob("*") if path.is_file()}
        if odd := sorted(names - {BROUGHT} ^ brought.files.keys() | _needed(brought) - names):
            raise EffiSegError(damaged.format(f"{odd[0]} is missing or too much"))
        for name, expected in brought.files.items():
            if digest(SCRATCH / name) != expected:
                raise EffiSegError(damaged.format(f"{name} is not as it was"))
        yield SCRATCH, brought
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)


def _needed(brought: Brought) -> set[str]:
    """The files without which a run is none."""
    finished = [Place.of(name) for name in brought.finished]
    files = {path for place in finished for path in (place.record, place.history)}
    files |= {folder / name for place in finished for folder in (place.last, place.best) for name in MODEL}
    files |= {ROWS / f"{Place.of(name).row}.json" for name in (*brought.finished, *brought.begun)}
    return set(map(str, files))


def _checked(config: Config, data: Prepared, name: str, root: Path, brought: Brought) -> Arrival:
    """A training of the archive, held against what it would be here."""
    place, there = Place.of(name), Place.of(name, root)
    row = config.row(place.row)

    def weights(read: Place) -> str:
        try:
            return weights_digest(Place(read.row, read.seed, root if read.name in brought.finished else Path()))
        except OSError:
            raise EffiSegError(f"{name}: it reads {read.name}, which is neither here nor in the archive") from None

    digests = digests_of(config, row, data.digest, weights)
    identity = identity_of(config, row, place.seed, digests)
    for key, found, expected in row_differences(config, there):
        raise EffiSegError(f"{name}: trained with {key} {found}, here it is {expected}; unpack where they are the same")
    arrival = Arrival(place, there, digests, identity)
    if name in brought.begun:
        found = arrival.checkpoints.is_dir()
    else:
        record = read_record(there.record, RunRecord)
        for key, expected in digests.items():
            if (value := getattr(record, key)) != expected:
                raise EffiSegError(
                    f"{name}: {key} is {_short(value)}, and here {_short(expected)}; unpack where they are the same"
                )
        found = record.identity == identity
    if not found:
        raise EffiSegError(
            f"{name}: trained with other code, data, teacher or study.launcher than here (packed at commit "
            f"{brought.commit or 'unknown'}); check that commit out, and unpack there"
        )
    return arrival


def _is_here(arrival: Arrival, archive: Path, trained: set[str]) -> bool:
    """Whether these very weights lie here."""
    place = arrival.place
    if place.model.is_dir() and place.record.is_file() and weights_digest(place) == weights_digest(arrival.there):
        return True
    if place.name in trained:
        raise EffiSegError(
            f"{place.folder}: {place.name} has been trained here already, to other weights than those in {archive}; "
            f"remove {place.folder} to take these"
        )
    return False


def _is_ahead(arrival: Arrival) -> bool:
    here = checkpoint_folder(arrival.place.name, arrival.identity)
    return kept_checkpoint(arrival.checkpoints)[0] > kept_checkpoint(here)[0]


def _log(config: Config, data: Prepared, arrival: Arrival, commit: str) -> None:
    """Tell MLflow what it would have heard of the training here: its curve epoch by epoch."""
    history = read_history(arrival.there.history).rename(columns={"lr": "learning_rate"})
    tags = {"git.commit": commit}
    row = config.row(arrival.place.row)
    with track_training(config, row, data, arrival.there, arrival.identity, arrival.digests, **tags) as log:
        for line in history.to_dict("records"):
            step = int(line.pop("step"))
            log({str(name): value for name, value in line.items()}, step)


def _put(arrival: Arrival) -> None:
    place, there = arrival.place, arrival.there
    with whole_folder(place.model) as folder:
        shutil.copytree(there.model, folder, dirs_exist_ok=True)
        for name in ("record", "history"):
            write_text(getattr(place, name), getattr(there, name).read_text(encoding="utf-8"))


def _commands(config: Config, graph: Graph, places: list[Place]) -> str:
    """By which DVC takes these runs: what reads a teacher waits for its scores."""
    teachers = [place for place in places if place.row in config.study.teachers]
    others = [place for place in places if place not in teachers]
    steps = (
        ("dvc commit --force", [maker(graph, place.record) for place in teachers]),
        ("dvc repro --single-item", [maker(graph, place.metrics) for place in teachers]),
        ("dvc commit --force", [maker(graph, place.record) for place in others]),
    )
    return " && ".join(f"{command} {' '.join(stages)}" for command, stages in steps if stages)


def _short(value: str | None) -> str:
    return value[:12] if value else "none"
