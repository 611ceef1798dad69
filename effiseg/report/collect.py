"""Reads the results of a study and checks that they belong together."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError
from effiseg.data.index import INDEX_FILE
from effiseg.data.prepared import Prepared
from effiseg.report.results import Results, Run
from effiseg.runs.places import FINALS, FLOORS, PREPARED, RUNS, Place
from effiseg.runs.records import (
    FORMS,
    REPAIR,
    Floors,
    Metrics,
    Profile,
    RunMetrics,
    RunRecord,
    Speed,
    read_history,
    read_record,
)


def collect(config: Config, root: Path) -> Results:
    """Read the results of every row and seed of the study below `root` that has one.

    Raises:
        EffiSegError: there is no result at all, a file is missing or damaged, or results of different data sets or
            teachers are mixed.
    """
    data = _opened(root / PREPARED, Prepared.open)
    results = _collected(config, root, data, "held_out" if config.data.held_out else config.data.score_on)
    if not results.runs:
        raise EffiSegError(f"{root / RUNS}: no row of the study has a result there; {REPAIR}")
    finals: dict[str, Results] = {}
    for split in config.data.final_on:
        folder = root / FINALS / split
        if (folder / INDEX_FILE).exists():
            final = _collected(config, root, data, split, scored=_opened(folder, Prepared.open_final))
            finals |= {split: final} if final.runs else {}
    return replace(results, finals=finals)


def _opened(folder: Path, open_arrays: Callable[[Path], Prepared]) -> Prepared:
    return open_arrays(folder) if (folder / "val").is_dir() else Prepared.described(folder)


def _collected(config: Config, root: Path, data: Prepared, split: str, scored: Prepared | None = None) -> Results:
    """What there is of one split: of data.final_on where it is `scored`, else of the validation split."""
    of_final = split if scored else ""
    places = {key: Place(*key, root, of_final) for key in (*config.teachers(), *config.runs())}
    found = {key: _read_run(place, data) for key, place in places.items() if _is_done(place)}
    for run in found.values():
        _check_teacher(run, found.get(config.teacher_of(run.experiment) or ("", 0)))
    profiles: dict[str, list[Profile]] = defaultdict(list)
    for run in found.values():
        if run.place.profile.exists():  # a machine without DVC makes none
            profiles[run.experiment].append(_read_profile(config, run.place))
    return Results(
        config=config,
        data=scored or data,
        runs=[found[key] for key in config.runs() if key in found],
        missing=[key for key in config.runs() if key not in found],
        teachers=[found[key] for key in config.teachers() if key in found],
        floors=read_record((root / FINALS / split if scored else root) / FLOORS, Floors),
        profiles=pool_speeds(profiles),
        split=split,
    )


def _is_done(place: Place) -> bool:
    """Whether a run was trained and evaluated.

    A training that failed leaves no record, but the evaluation of the one before it may still lie there.
    """
    return place.record.exists() and place.scores.is_dir()


def pool_speeds(profiles: Mapping[str, list[Profile]]) -> dict[str, Profile]:
    """Give rows that are the same computation on the same machine one speed: the median of theirs, over all seeds.

    Their measured differences are noise, and in a table they would read as findings.
    """
    groups = defaultdict(list)
    for name, (first, *_) in profiles.items():
        groups[first.architecture, first.device, first.precision, first.threads].append(name)
    found: dict[str, Profile] = {}
    for members in groups.values():
        speeds = _pooled([profile for name in members for profile in profiles[name]])
        found |= {name: profiles[name][0].model_copy(update={"speeds": speeds}) for name in members}
    return found


def _pooled(profiles: list[Profile]) -> list[Speed]:
    groups = defaultdict(list)
    for profile in profiles:
        for speed in profile.speeds:
            groups[speed.form, tuple(speed.size)].append(speed)
    return [
        Speed(
            form=form,
            size=list(size),
            fps=median(speed.fps for speed in speeds),
            latency_ms=median(speed.latency_ms for speed in speeds),
            latency_p95_ms=median(speed.latency_p95_ms for speed in speeds),
        )
        for (form, size), speeds in groups.items()
    ]


def _read_run(place: Place, data: Prepared) -> Run:
    metrics, info = read_record(place.metrics, RunMetrics), read_record(place.record, RunRecord)
    _check_classes(place.metrics, metrics, data)
    _check_same(place, "data", info.data_digest, data.digest)
    history = read_history(place.history)
    if history.empty and info.epochs:
        raise EffiSegError(f"{place.history}: no epoch in it; {REPAIR}")
    return Run(place, metrics, info, history)


def _check_teacher(run: Run, teacher: Run | None) -> None:
    if teacher and run.info.teacher_digest:
        _check_same(run.place, "teacher", run.info.teacher_digest, teacher.info.weights_digest)


def _check_same(place: Place, kind: str, used: str, now: str) -> None:
    if used != now:
        raise EffiSegError(f"{place.record}: trained with {kind} {used[:12]}, now it is {now[:12]}; {REPAIR}")


def _read_profile(config: Config, place: Place) -> Profile:
    profile = read_record(place.profile, Profile)
    for form in FORMS:
        if profile.at(config.profile.size, form) is None:
            raise EffiSegError(
                f"{place.profile}: no speed of the {form} form at profile.size {config.profile.size}; {REPAIR}"
            )
    return profile


def _check_classes(path: Path, metrics: Metrics, data: Prepared) -> None:
    if set(metrics.iou) != set(data.classes):
        raise EffiSegError(f"{path}: iou is not of the classes of {data.source}; {REPAIR}")
