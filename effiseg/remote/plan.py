"""Which runs a study has, what each reads of others, and which are done."""

from effiseg.base.config import Config
from effiseg.keep import scored_on
from effiseg.runs.identity import digests_of, identity_of, weights_digest
from effiseg.runs.places import Place
from effiseg.runs.records import RunRecord, read_record


def planned(config: Config) -> dict[str, tuple[str, ...]]:
    """Every run of the study, by name, with the names of those that it reads, which come before it."""
    study = config.study
    rows = (*study.experiments, *study.distillation, *study.assisted, *study.continued)
    runs = [*config.teachers(), *((row, seed) for row in rows for seed in study.seeds)]
    return {Place(*run).name: _read_by(config, run[0]) for run in runs}


def identity_at(config: Config, place: Place, data_digest: str) -> str:
    """The identity of a run's training in the working folder; empty where a run that it reads is not there yet."""
    row = config.row(place.row)
    try:
        digests = digests_of(config, row, data_digest, weights_digest)
    except FileNotFoundError:
        return ""
    return identity_of(config, row, place.seed, digests)


def is_trained(config: Config, place: Place, data_digest: str) -> bool:
    """Whether the run lies here as its settings, what it reads and the code would make it now."""
    if not (place.model.is_dir() and place.record.is_file()):
        return False
    return read_record(place.record, RunRecord).identity == identity_at(config, place, data_digest)


def to_score(config: Config, place: Place, everywhere: bool) -> list[Place]:
    """Where the run is scored there: a teacher on the validation split, or `everywhere` every run on every split."""
    if everywhere:
        return scored_on(place, config.data.final_on)
    return [place] if place.row in config.study.teachers else []


def _read_by(config: Config, row: str) -> tuple[str, ...]:
    teacher, start = config.teacher_of(row), config.row(row).start
    names = [Place(*teacher).name] if teacher else []
    return tuple(dict.fromkeys([*names, *([start.run] if start.source == "run" else [])]))
