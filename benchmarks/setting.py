"""What is compared: rows of params.yaml at the sizes of the table, on random pixels."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.stock import Stock, StockTask, training_step
from effiseg.base.config import load_config
from effiseg.base.device import keep_freed_memory
from effiseg.base.schema import Model, Row
from effiseg.data.dataset import open_dataset
from effiseg.models.segformer import build_model
from effiseg.training.task import Task

CPU = torch.device("cpu")
REPOSITORY = Path(__file__).parents[1]
CLASSES = open_dataset("cityscapes").space.classes
PAPER_WEIGHTS = open_dataset("cityscapes").published_weights
STEP_SIZE, STEP_BATCH = (256, 512), 2
IMAGE_SIZE = (512, 1024)
FULL_SIZE = (1024, 2048)  # of Cityscapes' files


def row(name: str, crop: tuple[int, int] = STEP_SIZE) -> Row:
    """A row of params.yaml that trains at `crop`."""
    found = load_config(REPOSITORY / "params.yaml").row(name)
    augment = found.train.augment.model_copy(update={"crop": list(crop)})
    return found.model_copy(update={"train": found.train.model_copy(update={"augment": augment})})


def teacher_model() -> Model:
    """The teacher of params.yaml."""
    return row("teacher").model


def our_task(name: str, crop: tuple[int, int] = STEP_SIZE) -> Task:
    """A row as the study trains it."""
    settings = row(name, crop)
    teacher = build_model(teacher_model(), CLASSES) if settings.loss.needs_teacher else None
    return Task(build_model(settings.model, CLASSES), teacher, settings, PAPER_WEIGHTS).train()


def stock_task(name: str, crop: tuple[int, int] = STEP_SIZE, *, teacher_head: bool = True) -> StockTask:
    """The same row with transformers' networks as they are."""
    settings = row(name, crop)
    teacher = Stock(teacher_model(), CLASSES) if settings.loss.needs_teacher else None
    student = Stock(settings.model, CLASSES)
    task: StockTask = StockTask(student, teacher, settings, PAPER_WEIGHTS, teacher_head=teacher_head).train()
    return task


def our_step(name: str, *, bf16: bool = False, compiled: bool = False) -> Callable[[], None]:
    """A step of a row on a batch of the table's size, in a process that keeps freed memory, as trainings do."""
    keep_freed_memory()
    task = our_task(name)
    if compiled:
        task.compile()
    return training_step(task, *batch(STEP_BATCH, STEP_SIZE, CPU), bf16=bf16)


def stock_step(name: str, *, teacher_head: bool = True) -> Callable[[], None]:
    """The same step with transformers' networks as they are."""
    return training_step(stock_task(name, teacher_head=teacher_head), *batch(STEP_BATCH, STEP_SIZE, CPU))


def batch(count: int, size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Random pixels and labels on the device, a tenth of the labels void."""
    images = torch.randint(256, (count, 3, *size), dtype=torch.uint8)
    labels = torch.randint(len(CLASSES), (count, *size), dtype=torch.uint8)
    labels[torch.rand(labels.shape) < 0.1] = 255
    return images.to(device), labels.to(device)


def to_device(task: nn.Module, device: torch.device) -> nn.Module:
    """The task with its teacher, which is no submodule of it."""
    for teacher in getattr(task, "_teacher", ()):
        teacher.to(device)
    return task.to(device)
