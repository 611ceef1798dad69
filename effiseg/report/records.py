"""The files that a report is made of, as checked records."""

import json
import math
import zipfile
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from effiseg.errors import EffiSegError

REPAIR = "run `dvc repro` to write it again"

Kind = TypeVar("Kind", bound=BaseModel)
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]  # null stands for NaN


class Record(BaseModel):
    """A JSON file's content; keys that the report does not use may be there too."""

    model_config = ConfigDict(frozen=True, strict=True)


class Metrics(Record):
    """Scores on the validation split, as fractions; IoU is NaN for a class that the labels do not hold."""

    miou: Number
    miou_quarter: Number
    pixel_accuracy: Number
    iou: dict[str, Number]


class RunMetrics(Metrics):
    """Scores of a training: the last epoch's, and the best epoch's beside them."""

    miou_best: Number
    miou_quarter_best: Number
    pixel_accuracy_best: Number


class TeacherMetrics(Metrics):
    """Scores of the teacher and where it came from."""

    digest: str
    source: str
    variant: str
    mean: list[float]
    std: list[float]


class Floors(Record):
    """Scores that take no learning of shapes."""

    largest_class: Metrics
    colour_lookup: Metrics


class RunInfo(Record):
    """How a training went."""

    epochs: int
    best_epoch: int
    train_minutes: Number
    device: str
    precision: str
    processes: int
    data_digest: str
    teacher_digest: str | None
    peak_memory_mb: Number
    images_per_second: Number
    git_commit: str | None


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
