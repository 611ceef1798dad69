"""Reads the results of a study and checks that they belong together."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from effiseg.config import Config
from effiseg.data.predictions import read_predictions
from effiseg.data.prepared import Prepared
from effiseg.data.recordings import recordings
from effiseg.errors import EffiSegError
from effiseg.report.blocks import Recordings
from effiseg.report.records import (
    FORMS,
    REPAIR,
    Floors,
    Metrics,
    Profile,
    RunInfo,
    RunMetrics,
    Speed,
    TeacherMetrics,
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

    experiment: str
    seed: int
    folder: Path
    metrics: RunMetrics
    info: RunInfo
    history: pd.DataFrame

    def predictions(self, names: list[str], size: tuple[int, int]) -> list[NDArray[np.uint8]]:
        """Class maps of the validation images of these names, at the labels' resolution `size`."""
        path = self.folder / "predictions.zip"
        maps = read_predictions(path, names)
        if any(classes.shape != size for classes in maps):
            raise EffiSegError(f"{path}: does not fit the validation images; {REPAIR}")
        return maps

    def confusion(self, data: Prepared) -> NDArray[np.int64]:
        """One confusion matrix per validation image (N, classes, classes), rows are the truth."""
        path = self.folder / "images.npz"
        names, confusion = read_arrays(path, "names", "confusion")
        if tuple(names) != data.val.names or confusion.shape[1:] != (data.num_classes, data.num_classes):
            raise EffiSegError(f"{path}: is not of these validation images and classes; {REPAIR}")
        return confusion

    def norms(self) -> dict[str, Norm]:
        """The sampled norms by name, from the input side to the output side."""
        names, kinds, inputs, outputs = read_arrays(self.folder / "norms.npz", "names", "kinds", "inputs", "outputs")
        return {
            str(name): Norm(str(kind), x, y) for name, kind, x, y in zip(names, kinds, inputs, outputs, strict=True)
        }


@dataclass(frozen=True)
class Results:
    """Everything that a report shows, as it was measured.

    Attributes:
        runs: in the order of params.yaml, seed by seed.
        missing: (row, seed) of the study without a result: they failed, or were not run.
        profiles: by row; the speeds of rows of one architecture are pooled. A row without its first seed has none.
    """

    config: Config
    data: Prepared
    runs: list[Run]
    missing: list[tuple[str, int]]
    teacher: TeacherMetrics
    teacher_history: pd.DataFrame
    teacher_profile: Profile
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
        return Recordings(recordings(self.data.source, self.data.val.names))

    @property
    def absent(self) -> list[str]:
        """Classes without a pixel in the validation labels."""
        return [name for name, value in self.teacher.iou.items() if math.isnan(value)]

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
    data = Prepared.open(root / "prepared")
    teacher = read_record(root / "results/teacher/metrics.json", TeacherMetrics)
    _check_classes(root / "results/teacher/metrics.json", teacher, data)
    done = {key: _is_done(root, config.run_path(*key)) for key in config.runs()}
    if not any(done.values()):
        raise EffiSegError(f"{root / 'results'}: no row of the study has a result there; {REPAIR}")
    runs = [_read_run(config, root, *key, data, teacher) for key, exists in done.items() if exists]
    experiments = dict.fromkeys(run.experiment for run in runs)
    # a row is profiled by the model of its first seed
    profiled = [name for name in experiments if done[name, config.study.seeds[0]]]
    profiles = {name: _read_profile(config, root, f"{config.stage_of(name)}/{name}") for name in profiled}
    return Results(
        config=config,
        data=data,
        runs=runs,
        missing=[key for key, exists in done.items() if not exists],
        teacher=teacher,
        teacher_history=read_history(root / "history/teacher.csv"),
        teacher_profile=_read_profile(config, root, "teacher"),
        floors=read_record(root / "results/floors.json", Floors),
        profiles=pool_speeds(profiles),
    )


def _is_done(root: Path, name: str) -> bool:
    """Whether a run was trained and evaluated.

    A training that failed leaves no record, but the evaluation of the one before it may still lie there.
    """
    return (root / "history" / f"{name}.json").exists() and (root / "results" / name).is_dir()


def pool_speeds(profiles: Mapping[str, Profile]) -> dict[str, Profile]:
    """Give rows that are the same computation on the same machine one speed: the median of theirs.

    Their measured differences are noise, and in a table they would read as findings.
    """
    groups = defaultdict(list)
    for name, profile in profiles.items():
        groups[profile.architecture, profile.device, profile.precision, profile.threads].append(name)
    return {
        name: profiles[name].model_copy(update={"speeds": _pooled([profiles[member] for member in members])})
        for members in groups.values()
        for name in members
    }


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


def _read_run(config: Config, root: Path, experiment: str, seed: int, data: Prepared, teacher: TeacherMetrics) -> Run:
    name = config.run_path(experiment, seed)
    folder, details = root / "results" / name, root / "history" / f"{name}.json"
    metrics = read_record(folder / "metrics.json", RunMetrics)
    _check_classes(folder / "metrics.json", metrics, data)
    info = read_record(details, RunInfo)
    for kind, used, now in (
        ("data", info.data_digest, data.digest),
        ("teacher", info.teacher_digest, teacher.digest),
    ):
        if used is not None and used != now:
            raise EffiSegError(f"{details}: trained with {kind} {used[:12]}, now it is {now[:12]}; {REPAIR}")
    history = read_history(details.with_suffix(".csv"))
    if history.empty:
        raise EffiSegError(f"{details.with_suffix('.csv')}: no epoch in it; {REPAIR}")
    return Run(experiment, seed, folder, metrics, info, history)


def _read_profile(config: Config, root: Path, name: str) -> Profile:
    path = root / "profiles" / f"{name}.json"
    profile = read_record(path, Profile)
    for form in FORMS:
        if profile.at(config.profile.size, form) is None:
            raise EffiSegError(f"{path}: no speed of the {form} form at profile.size {config.profile.size}; {REPAIR}")
    return profile


def _check_classes(path: Path, metrics: Metrics, data: Prepared) -> None:
    if set(metrics.iou) != set(data.classes):
        raise EffiSegError(f"{path}: iou is not of the classes of {data.source}; {REPAIR}")
