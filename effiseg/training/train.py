"""Train one row with one seed, from nothing or from where a killed run stopped."""

import json
import math
import os
import platform
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate.utils import broadcast_object_list, gather_object
from safetensors.torch import save_file
from torch import Tensor
from transformers import EarlyStoppingCallback, TrainerState, set_seed
from transformers.trainer import TRAINER_STATE_NAME

from effiseg.base.device import device_name, keep_freed_memory
from effiseg.base.errors import EffiSegError
from effiseg.base.schema import Row
from effiseg.data.prepared import Prepared, Split
from effiseg.models.deployed import Deployed
from effiseg.models.fitted import IMAGES
from effiseg.models.segformer import Segmenter, save_model
from effiseg.models.start import Started, start_model
from effiseg.training import COMPLETE
from effiseg.training.average import WeightAverage
from effiseg.training.batch_norm import share_statistics
from effiseg.training.callbacks import Clock, Deadline, Monitor, OnLog
from effiseg.training.held_out import hold_out
from effiseg.training.task import Task
from effiseg.training.trainer import HELD_OUT, RowTrainer, best_folder, training_arguments
from effiseg.weights.source import Checkpoint

SCORES = ("miou", "miou_quarter", "pixel_accuracy")


@dataclass(frozen=True)
class Training:
    """What a finished training says of itself.

    Attributes:
        history: one line per epoch: epoch, step, loss, each term, lr, miou, miou_quarter, pixel_accuracy, and
            held_out_miou where training images are held out.
        origin: where the first weights are from; empty where they were drawn.
        licence: of those, as their model card states it.
        start: what of them was loaded, left aside and drawn.
        best_epoch: that of the highest mIoU, counted from 1, on what is held out or else on the validation split.
        train_minutes: wall-clock time with the evaluations between epochs, over all resumed parts.
        threads: of each process; 1 where a GPU computes.
    """

    history: pd.DataFrame
    origin: str
    licence: str
    start: str
    epochs: int
    steps: int
    best_epoch: int
    train_minutes: float
    images_per_second: float
    peak_memory_mb: float
    device: str
    precision: str
    processes: int
    threads: int


def train_row(
    row: Row,
    seed: int,
    data: Prepared,
    checkpoints: Path,
    out: Path,
    *,
    start: Checkpoint | None = None,
    teacher: Segmenter | Deployed | None,
    on_log: OnLog,
    until: float = math.inf,
) -> Training | None:
    """Train a row and write `out`: last/ and best/ (models) and, where there are projectors, projectors.safetensors.

    A row of 0 epochs is not trained: both models are what it starts from.

    Everything random follows from `seed`: on one CPU, the same call gives the same weights bit for bit, also when it
    was killed and called again with the same `checkpoints` folder. Several processes reach those of one, but for
    rounding.

    Args:
        checkpoints: where the training keeps what it needs to resume; the caller deletes it when all is done.
        start: what the row starts from; None where its weights are drawn.
        teacher: needed by rows with a distillation term; best deployed already, so that the trained form can be freed.
        on_log: gets every logged number as (metrics, step).
        until: when the training stops in time, seconds since the epoch; the next call goes on at that very step.

    Returns:
        The training's record in the first process, None in the others.

    Raises:
        EffiSegError: the global batch does not divide among the processes, fp16 without a GPU, the processes do not
            share the `checkpoints` folder, or the training diverged.
        PausedError: the time was over before the training's end.
    """
    keep_freed_memory()
    set_seed(seed)
    started = start_model(row, data.classes, start, _some(data.train, IMAGES) if start else None)
    if started.loaded and os.environ.get("RANK", "0") == "0":
        print(f"start: {started.source.origin}: {started.loaded.told()}")
    if not row.train.epochs:
        return _untrained(started, row, out)
    task = Task(started.model, teacher, row, data.class_weights)
    processes = _processes()
    stop = row.train.early_stop
    learned, held_out = hold_out(data.train, stop.share) if stop.patience else (range(len(data.train)), ())
    arguments = training_arguments(row.train, seed, checkpoints, len(learned), processes)
    # asking joins the processes; each drives one GPU, however many there are
    arguments._n_gpu = min(1, arguments.n_gpu)
    if processes > 1:
        share_statistics(task)
    resume = common_checkpoint(checkpoints)
    earlier = json.loads((resume / COMPLETE).read_text(encoding="utf-8"))["seconds"] if resume else 0.0
    clock = Clock(earlier, row.train.evaluate_every)
    average = WeightAverage(task.student, row.train.ema, resume) if row.train.ema else None
    stops = [EarlyStoppingCallback(stop.patience)] if stop.patience else []
    # the clock marks checkpoints as complete: what belongs into them is written before
    averages = [average] if average else []
    callbacks = [*stops, *averages, clock, Monitor(f"{row.name} seed {seed}", on_log), Deadline(until)]
    trainer = RowTrainer(
        task, arguments, data, callbacks, row.train, learned=learned, held_out=held_out, average=average
    )
    trainer.resume(resume)
    _refuse_divergence(task, row)
    if not trainer.is_world_process_zero():
        return None
    seconds = clock.seconds
    _write_models(trainer, checkpoints, out)
    history = epoch_history(trainer.state, list(task.weights))
    return Training(
        history=history,
        origin=started.source.origin,
        licence=started.source.licence,
        start=started.loaded.told() if started.loaded else "",
        epochs=int(history["epoch"].iloc[-1]),
        steps=trainer.state.global_step,
        best_epoch=int(history["epoch"].iloc[history[HELD_OUT if stops else "miou"].fillna(-1).argmax()]),
        train_minutes=seconds / 60,
        images_per_second=trainer.state.global_step * row.train.batch_size / seconds,
        peak_memory_mb=_peak_memory_mb(),
        device=device_name(arguments.device),
        precision=row.train.precision,
        processes=processes,
        threads=torch.get_num_threads() if arguments.device.type == "cpu" else 1,
    )


def _some(split: Split, count: int) -> Tensor:
    """Images of a split, evenly spaced, uint8 (N, 3, H, W)."""
    indices = np.linspace(0, len(split) - 1, min(count, len(split))).round().astype(int)
    return torch.from_numpy(split.read(indices.tolist())[0])


def _untrained(started: Started, row: Row, out: Path) -> Training | None:
    """A row of 0 epochs: its weights are those that it starts from, written by the first process."""
    if os.environ.get("RANK", "0") != "0":
        return None
    for name in ("last", "best"):
        save_model(started.model, out / name)
    return Training(
        history=pd.DataFrame(columns=["epoch", "step", "loss", "lr", *SCORES]),
        origin=started.source.origin,
        licence=started.source.licence,
        start=started.loaded.told() if started.loaded else "",
        epochs=0,
        steps=0,
        best_epoch=0,
        train_minutes=0.0,
        images_per_second=math.nan,
        peak_memory_mb=math.nan,
        device=device_name(torch.device("cpu")),
        precision=row.train.precision,
        processes=1,
        threads=torch.get_num_threads(),
    )


def _refuse_divergence(task: Task, row: Row) -> None:
    state = task.state_dict()
    broken = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        optimizer = row.train.optimizer
        raise EffiSegError(
            f"row {row.name}: the training diverged: {len(broken)} of {len(state)} tensors are not finite at its end; "
            f"lower train.optimizer.lr ({optimizer.lr:g}) or its grad_clip ({optimizer.grad_clip:g})"
        )


def latest_checkpoint(checkpoints: Path) -> Path | None:
    """The newest checkpoint that was written to its end; broken ones, left by a kill, are deleted."""
    found = sorted(checkpoints.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    whole = [folder for folder in found if (folder / COMPLETE).is_file() and (folder / TRAINER_STATE_NAME).is_file()]
    for folder in set(found) - set(whole):
        shutil.rmtree(folder)
    return whole[-1] if whole else None


def common_checkpoint(checkpoints: Path) -> Path | None:
    """The checkpoint that all processes go on from: the first one's newest; all of them must call.

    Raises:
        EffiSegError: another process, on a node with a disk of its own, does not see it.
    """
    is_first = os.environ.get("RANK", "0") == "0"
    newest = latest_checkpoint(checkpoints) if is_first else None
    (name,) = broadcast_object_list([newest and newest.name])
    checkpoint = checkpoints / name if name else None
    if not all(gather_object([checkpoint is None or (checkpoint / COMPLETE).is_file()])):
        raise EffiSegError(
            f"{checkpoint}: not every node sees this checkpoint; the nodes of one training need a shared folder "
            "(the same file system at the same path)"
        )
    return checkpoint


def epoch_history(state: TrainerState, terms: list[str]) -> pd.DataFrame:
    """The trainer's log as one line per epoch; losses are the mean over the epoch's steps."""
    logs = pd.DataFrame(state.log_history)
    logs["epoch"] = logs["epoch"].map(lambda epoch: -int(-epoch // 1))  # a log in mid-epoch belongs to that epoch
    losses = logs.dropna(subset=["loss"]).copy()
    losses["steps"] = losses["step"].diff().fillna(losses["step"])
    columns = list(dict.fromkeys(["loss", *terms]))
    weighted = losses[columns].mul(losses["steps"], axis=0).groupby(losses["epoch"]).sum()
    history = weighted.div(losses.groupby("epoch")["steps"].sum(), axis=0)
    history["lr"] = losses.groupby("epoch")["learning_rate"].last()
    history.insert(0, "step", losses.groupby("epoch")["step"].last().astype(int))
    scored = logs.dropna(subset=["eval_miou"]).set_index("epoch")
    for name in (*SCORES, HELD_OUT):
        if f"eval_{name}" in scored:
            history[name] = scored[f"eval_{name}"]
    return history.reset_index()


def _write_models(trainer: RowTrainer, checkpoints: Path, out: Path) -> None:
    """The network of the last epoch and the best one; where what is held out chose an epoch, that one is both."""
    out.mkdir(parents=True, exist_ok=True)
    best = best_folder(checkpoints)
    if trainer.held_out and best.exists():
        shutil.copytree(best, out / "last", dirs_exist_ok=True)
    else:
        save_model(trainer.student, out / "last")
    shutil.copytree(best if best.exists() else out / "last", out / "best", dirs_exist_ok=True)
    projectors = {name: tensor.cpu().contiguous() for name, tensor in trainer.task.terms.state_dict().items()}
    if projectors:
        save_file(projectors, out / "projectors.safetensors")


def _processes() -> int:
    # accelerate's PartialState would tell too, but fixes the device choice before the arguments are built
    return int(os.environ.get("WORLD_SIZE", "1"))


def _peak_memory_mb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10
