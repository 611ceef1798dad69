"""The files of a run as records, checked when they are read: writers and readers share them."""

import json
import math
import zipfile
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from effiseg.base.errors import EffiSegError
from effiseg.base.files import write_json

REPAIR = "run `dvc repro` to write it again"

Kind = TypeVar("Kind", bound=BaseModel)
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]  # null stands for NaN


class Record(BaseModel):
    """A JSON file's content; keys that the report does not use may be there too."""

    model_config = ConfigDict(frozen=True, strict=True)


class Metrics(Record):
    """Scores on the validation split, as fractions; IoU is NaN for a class that the labels do not hold.

    Attributes:
        miou_official: as Cityscapes' evaluator takes the mean, see `effiseg.evaluation.metrics.Scores`.
    """

    miou: Number
    miou_official: Number
    miou_quarter: Number
    pixel_accuracy: Number
    iou: dict[str, Number]


class RunMetrics(Metrics):
    """Scores of a training: the last epoch's, and the best epoch's beside them."""

    miou_best: Number
    miou_quarter_best: Number
    pixel_accuracy_best: Number


class Floors(Record):
    """Scores that take no learning of shapes."""

    largest_class: Metrics
    colour_lookup: Metrics


class RunRecord(Record):
    """How a training went.

    Attributes:
        identity: of the training, see `identity.identity_of`; its MLflow run bears it too.
        origin: where the first weights are from; empty where they were drawn.
        licence: of those, as their model card states it; empty where none does.
        start: what of them was loaded, left aside and drawn.
        epochs: 0 where the weights were fetched and not trained.
        train_minutes: wall-clock time with the evaluations between epochs, over all resumed parts.
        teacher_digest: of the teacher's weights; None where the row has none.
        start_digest: of the file of the first weights; None where they were drawn.
        threads: of each process; 1 where a GPU computed.
    """

    experiment: str
    seed: int
    identity: str
    origin: str
    licence: str
    start: str
    epochs: int
    steps: int
    best_epoch: int
    train_minutes: Number
    images_per_second: Number
    peak_memory_mb: Number
    device: str
    precision: str
    processes: int
    threads: int
    data_source: str
    data_digest: str
    teacher_digest: str | None
    start_digest: str | None
    weights_digest: str
    git_commit: str


FORMS = ("trained", "deployed")


class Speed(Record):
    """Inference on one image of `size` by the network as trained or in its deployed form."""

    form: Literal["trained", "deployed"]
    size: list[int]
    fps: Number
    latency_ms: Number
    latency_p95_ms: Number


class Profile(Record):
    """What a model costs; rows of one `architecture` are the same computation."""

    params_m: Number
    gmacs: Number
    gmacs_paper: Number
    gmacs_exact: Number
    gmacs_deployed: Number
    device: str
    precision: str
    threads: int
    architecture: str
    speeds: list[Speed]

    def at(self, size: list[int], form: str) -> Speed | None:
        """The speed at `size` in `form`, if it was measured."""
        return next((speed for speed in self.speeds if speed.size == size and speed.form == form), None)

    def numbers(self, size: list[int]) -> dict[str, float]:
        """Counts, and speeds at `size`, for tracking: those of the trained form by their plain names."""
        speeds = {form: self.at(size, form) for form in FORMS}
        measured = {
            f"{name}{'' if form == 'trained' else f'_{form}'}": getattr(speed, name)
            for form, speed in speeds.items()
            if speed
            for name in ("fps", "latency_ms", "latency_p95_ms")
        }
        return {name: value for name, value in self.model_dump().items() if isinstance(value, float)} | measured


class FormRecord(Record):
    """One form of one training, as the deploy stage measured it."""

    form: str
    exact: bool
    precision: str
    device: str
    threads: int
    size_mb: Number
    latency_ms: Number
    latency_p95_ms: Number
    fps: Number
    peak_memory_mb: Number
    miou: Number
    pixels_changed: Number
    iou: dict[str, Number]


class DeploymentRecord(Record):
    """All forms of one training, timed on images of `size` (height, width)."""

    size: list[int]
    forms: list[FormRecord]

    def numbers(self) -> dict[str, float]:
        """<form>.<quantity> -> value, for tracking."""
        return {
            f"{form.form}.{name}": value
            for form in self.forms
            for name, value in form.model_dump(exclude={"threads"}).items()
            if isinstance(value, float)
        }


class OptionRecord(Record):
    """One way to predict at test time."""

    option: str
    miou: Number
    latency_ms: Number


class OptionsRecord(Record):
    """What the predict stage measured, with the best training."""

    run: str
    device: str
    options: list[OptionRecord]


def write_record(path: Path, record: Record) -> None:
    """Write a record as a JSON file, whole."""
    write_json(path, record.model_dump())


def read_record(path: Path, kind: type[Kind]) -> Kind:
    """A JSON file as the record `kind`.

    Raises:
        EffiSegError: it is missing, not JSON, or lacks a key.
    """
    try:
        return kind.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise EffiSegError(f"{path}: {error.strerror}; {REPAIR}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise EffiSegError(f"{path}: {f'{key}: ' if key else ''}{problem['msg']}; {REPAIR}") from None
    except ValueError as error:
        raise EffiSegError(f"{path}: not valid JSON ({' '.join(str(error).split())}); {REPAIR}") from None


def read_history(path: Path) -> pd.DataFrame:
    """A training's curve, one line per epoch: at least epoch, loss and miou, all of them numbers.

    Raises:
        EffiSegError: it is missing, not CSV, lacks a column, or holds something else than numbers.
    """
    try:
        frame = pd.read_csv(path, float_precision="round_trip")
    except OSError as error:
        raise EffiSegError(f"{path}: {error.strerror}; {REPAIR}") from None
    except ValueError as error:
        raise EffiSegError(f"{path}: not valid CSV ({' '.join(str(error).split())}); {REPAIR}") from None
    for column in ("epoch", "loss", "miou"):
        if column not in frame:
            raise EffiSegError(f"{path}: no column '{column}'; {REPAIR}")
        if len(frame) and not pd.api.types.is_numeric_dtype(frame[column]):
            raise EffiSegError(f"{path}: column '{column}' holds something else than numbers; {REPAIR}")
    return frame


def read_arrays(path: Path, *names: str) -> tuple[NDArray, ...]:
    """The named arrays of an .npz file.

    Raises:
        EffiSegError: it is missing, damaged, or lacks one of them.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return tuple(arrays[name] for name in names)
    except FileNotFoundError as error:
        raise EffiSegError(f"{path}: {error.strerror}; {REPAIR}") from None
    except KeyError as error:
        raise EffiSegError(f"{path}: {error.args[0]}; {REPAIR}") from None
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise EffiSegError(f"{path}: not a readable .npz file ({' '.join(str(error).split())}); {REPAIR}") from None
