"""What a report shows, as it was measured."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import mean

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError
from effiseg.data.predictions import ClassMap, read_predictions
from effiseg.data.prepared import Prepared
from effiseg.report.blocks import Recordings, recordings
from effiseg.runs.places import Place
from effiseg.runs.records import REPAIR, Floors, Profile, RunMetrics, RunRecord, read_arrays

BASELINE = "baseline"
_LENGTH = {"epochs", "iterations", "evaluate_every"}  # settings of `train` by which rows of one family differ


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

    @property
    def device_minutes(self) -> float:
        """Wall-clock minutes of the training times its processes."""
        return self.info.train_minutes * self.info.processes

    @property
    def thread_minutes(self) -> float:
        """Device minutes times the threads of each process; on a GPU they are one."""
        return self.device_minutes * self.info.threads

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
        data: the images that were learned, and as `val` those of `split`.
        runs: in the order of params.yaml, seed by seed.
        missing: (row, seed) of the study without a result: they failed, or were not run.
        teachers: the runs of study.teachers; empty in a study without any.
        profiles: by row, teachers too, of those that were profiled; the speeds of rows of one architecture are pooled.
        split: that is scored; `held_out` where training images are.
        finals: the same of each split of data.final_on that a run was scored on.
    """

    config: Config
    data: Prepared
    runs: list[Run]
    missing: list[tuple[str, int]]
    teachers: list[Run]
    floors: Floors
    profiles: dict[str, Profile]
    split: str
    finals: "dict[str, Results]" = field(default_factory=dict)

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

    @cached_property
    def steps(self) -> dict[str, int]:
        """How long each row trains, in optimiser steps."""
        return {row: self.config.row(row).train.steps(len(self.data.train.names)) for row in self.rows}

    @cached_property
    def families(self) -> dict[str, list[str]]:
        """Rows that differ in nothing but how long they train, shortest first.

        Each family has the name of the row that trains as long as the settings say, or else of its first.
        """
        members: dict[str, list[str]] = {}
        for row in self.rows:
            settings = self.config.row(row).used()
            alike = {key: value for key, value in settings["train"].items() if key not in _LENGTH}
            members.setdefault(json.dumps(settings | {"train": alike}), []).append(row)
        families = {}
        for rows in members.values():
            usual = [row for row in rows if not _LENGTH & self.config.experiments[row].get("train", {}).keys()]
            families[(usual or rows)[0]] = sorted(rows, key=self.steps.__getitem__)
        return families

    @property
    def baselines(self) -> list[str]:
        """The baseline, and the rows that differ from it in their length alone."""
        return next((rows for rows in self.families.values() if BASELINE in rows), [])

    def reference(self, experiment: str) -> str:
        """The row that this one is compared with: the baseline that trains as long as it does, or else the baseline."""
        if experiment in self.baselines:
            return BASELINE
        alike = [row for row in self.baselines if self.steps[row] == self.steps[experiment]]
        return alike[0] if alike and BASELINE not in alike else BASELINE

    def of(self, experiment: str) -> list[Run]:
        """The row's runs, one per seed."""
        return [run for run in self.runs if run.experiment == experiment]

    def minutes(self, experiment: str) -> float:
        """Thread minutes that one training of the row needs, NaN without a result.

        Its epochs times the least that an epoch took in any training of its family: these do the same work, and what
        else a machine does only adds to it.
        """
        family = next(rows for rows in self.families.values() if experiment in rows)
        an_epoch = [run.thread_minutes / run.info.epochs for row in family for run in self.of(row) if run.info.epochs]
        epochs = [run.info.epochs for run in self.of(experiment)]
        return min(an_epoch, default=math.nan) * mean(epochs) if epochs else math.nan

    def delta(self, run: Run) -> float:
        """How much mIoU the run gains over its reference with the same seed; NaN without one."""
        for other in self.of(self.reference(run.experiment)):
            if other.seed == run.seed:
                return run.metrics.miou - other.metrics.miou
        return math.nan
