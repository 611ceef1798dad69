"""Reads the results of a study and checks that they belong together."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError
from effiseg.data.predictions import ClassMap, read_predictions
from effiseg.data.prepared import Prepared
from effiseg.report.blocks import Recordings, recordings
from effiseg.runs.places import FLOORS, PREPARED, RUNS, Place
from effiseg.runs.records import (
    FORMS,
    REPAIR,
    Floors,
    Metrics,
    Profile,
    RunMetrics,
    RunRecord,
    Speed,
    read_arrays,
    read_history,
    read_record,
)

BASELINE = "baseline"


@dataclass(frozen=True)
class Norm:
    """One norm of a trained network: sampled inputs and what it made of them."""

    kind: str
    inputs: NDArray[np.float32]
    outputs: NDArray[np.float32]


@dataclass(frozen=True)
class Run:
    """One training: a row with one seed."""

    place: Place
    metrics: RunMetrics
    info: RunRecord
    history: pd.DataFrame

    @property
    def experiment(self) -> str:
        return self.place.row

    @property
    def seed(self) -> int:
        return self.place.seed

    def predictions(self, names: list[str], sizes: Sequence[tuple[int, int]]) -> list[ClassMap]:
        """Class maps of the validation images of these names, at their labels' resolutions."""
        path = self.place.scores / "predictions.zip"
        maps = read_predictions(path, names)
        if any(classes.shape != size for classes, size in zip(maps, sizes, strict=True)):
            raise EffiSegError(f"{path}: does not fit the validation images; {REPAIR}")
        return maps

    def confusion(self, data: Prepared) -> NDArray[np.int64]:
        """One confusion matrix per validation image (N, classes, classes), rows are the truth."""
        path = self.place.scores / "images.npz"
        names, confusion = read_arrays(path, "names", "confusion")
        if tuple(names) != data.val.names or confusion.shape[1:] != (data.num_classes, data.num_classes):
            raise EffiSegError(f"{path}: is not of these validation images and classes; {REPAIR}")
        return confusion

    def norms(self) -> dict[str, Norm]:
        """The sampled norms by name, from the input side to the output side."""
        path = self.place.scores / "norms.npz"
        names, kinds, inputs, outputs = read_arrays(path, "names", "kinds", "inputs", "outputs")
        return {
            str(name): Norm(str(kind), x, y) for name, kind, x, y in zip(names, kinds, inputs, outputs, strict=True)
        }


@dataclass(frozen=True)
class Results:
    """Everything that a report shows, as it was measured.

    Attributes:
        runs: in the order of params.yaml, seed by seed.
        missing: (row, seed) of the study without a result: they failed, or were not run.
        teachers: the runs of study.teachers; empty in a study without any.
        profiles: by row, teachers too; the speeds of rows of one architecture are pooled.
    """

    config: Config
    data: Prepared
    runs: list[Run]
    missing: list[tuple[str, int]]
    teachers: list[Run]
    floors: Floors
    profiles: dict[str, Profile]

    @property
    def experiments(self) -> list[str]:
        """The rows that have a result, in the order of params.yaml."""
        return list(dict.fromkeys(run.experiment for run in self.runs))

    @property
    def rows(self) -> list[str]:
        """All rows of the study, in the order of params.yaml."""
        return list(dict.fromkeys(name for name, _ in self.config.runs()))

    @property
    def dataset(self) -> str:
        """The data set by its short name, and what was held out of it."""
        validation = self.config.data.validation
        return self.data.source + (f" ({validation})" if validation else "")

    @property
    def recordings(self) -> Recordings:
        """The validation images by recording."""
        return Recordings(recordings(self.data.val.groups))

    @property
    def pictures(self) -> bool:
        """Whether there are images and labels: a kept study has none."""
        return len(self.data.val.images) > 0

    @property
    def absent(self) -> list[str]:
        """Classes without a pixel in the validation labels."""
        return [name for name, value in self.floors.largest_class.iou.items() if math.isnan(value)]

    def of(self, experiment: str) -> list[Run]:
        """The row's runs, one per seed."""
        return [run for run in self.runs if run.experiment == experiment]

    def delta(self, run: Run) -> float:
        """How much mIoU the run gains over the baseline with the same seed; NaN without a baseline."""
        for other in self.of(BASELINE):
            if other.seed == run.seed:
                return run.metrics.miou - other.metrics.miou
        return math.nan


def collect(config: Config, root: Path) -> Results:
    """Read the results of every row and seed of the study below `root` that has one.

    Raises:
        EffiSegError: there is no result at all, a file is missing or damaged, or results of different data sets or
            teachers are mixed.
    """
    data = Prepared.open(root / PREPARED) if (root / PREPARED / "val").is_dir() else Prepared.described(root / PREPARED)
    places = {key: Place(*key, root) for key in (*config.teachers(), *config.runs())}
    found = {key: _read_run(place, data) for key, place in places.items() if _is_done(place)}
    runs = [found[key] for key in config.runs() if key in found]
    if not runs:
        raise EffiSegError(f"{root / RUNS}: no row of the study has a result there; {REPAIR}")
    for run in found.values():
        _check_teacher(run, found.get(config.teacher_of(run.experiment) or ("", 0)))
    profiles: dict[str, list[Profile]] = defaultdict(list)
    for run in found.values():
        profiles[run.experiment].append(_read_profile(config, run.place))
    return Results(
        config=config,
        data=data,
        runs=runs,
        missing=[key for key in config.runs() if key not in found],
        teachers=[found[key] for key in config.teachers() if key in found],
        floors=read_record(root / FLOORS, Floors),
        profiles=pool_speeds(profiles),
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
