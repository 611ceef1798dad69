"""Networks and batches for the tests of the training."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from effiseg.base.config import Config
from effiseg.data.prepared import Prepared
from effiseg.models.segformer import Segmenter, build_model
from effiseg.training.callbacks import PausedError
from effiseg.training.task import Task
from effiseg.training.train import Training, train_row
from effiseg.weights.source import Checkpoint
from tests.settings import CITYSCAPES

Log = tuple[dict[str, float], int]


class EndedEarlyError(Exception):
    """Stands for whatever ends a training early."""


@dataclass
class Run:
    """A training, finished or interrupted: its record, its files, and what it logged."""

    folder: Path
    training: Training | None = None
    logs: list[Log] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def files(self) -> dict[str, bytes]:
        """Everything written, byte by byte."""
        return {str(path.relative_to(self.out)): path.read_bytes() for path in self.out.rglob("*") if path.is_file()}

    def logged(self, name: str) -> list[float]:
        return [metrics[name] for metrics, _ in self.logs if name in metrics]


@pytest.fixture(scope="session")
def b2(make_config: Callable[..., Config]) -> Segmenter:
    """A random teacher of the shipped size."""
    torch.manual_seed(7)
    return build_model(make_config().row("teacher").model, CITYSCAPES.classes)


@pytest.fixture(scope="session")
def b0(make_config: Callable[..., Config]) -> Segmenter:
    """A random teacher that is quick to ask."""
    torch.manual_seed(8)
    return build_model(make_config().row("teacher").model.model_copy(update={"variant": "b0"}), CITYSCAPES.classes)


@pytest.fixture
def make_task(make_config: Callable[..., Config], b0: Segmenter) -> Callable[..., Task]:
    """The task of a row, its sections changed by the arguments."""

    def make(
        name: str = "baseline",
        *,
        teacher: Segmenter | None = b0,
        class_weights: Sequence[float] = (1.0, 2.0, *[5.0] * 17),
        **changes: Any,
    ) -> Task:
        row = make_config(**changes).row(name)
        return Task(build_model(row.model, CITYSCAPES.classes), teacher, row, class_weights)

    return make


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Two images and their labels, with some void."""
    labels = torch.randint(19, (2, 4, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    labels[:, :4] = 255
    return torch.randint(256, (2, 3, 32, 64), dtype=torch.uint8), labels.to(torch.uint8)


@pytest.fixture(scope="session")
def train(
    make_config: Callable[..., Config], b0: Segmenter, data: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Run]:
    """Train a row on the tiny data, its sections changed by the arguments.

    With `stop`, the first log that it says yes to ends the training; with `again`, that run is called once more.
    """

    def run(
        name: str = "baseline",
        *,
        seed: int = 0,
        data: Prepared = data,
        stop: Callable[[dict[str, float], int], bool] = lambda *_: False,
        again: Run | None = None,
        checkpoint: Checkpoint | None = None,
        until: float = math.inf,
        **changes: Any,
    ) -> Run:
        run = again or Run(tmp_path_factory.mktemp("run"))

        def on_log(metrics: dict[str, float], step: int) -> None:
            run.logs.append((metrics, step))
            if stop(metrics, step):
                raise EndedEarlyError

        row = make_config(**changes).row(name)
        teacher = b0 if row.loss.needs_teacher else None
        try:
            run.training = train_row(
                row, seed, data, run.checkpoints, run.out, start=checkpoint, teacher=teacher, on_log=on_log, until=until
            )
        except (EndedEarlyError, PausedError):
            run.training = None
        return run

    return run
