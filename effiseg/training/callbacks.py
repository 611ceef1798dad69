"""What happens around the training steps: checkpoint marks, tracking, the progress bar."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from effiseg.training import COMPLETE

OnLog = Callable[[dict[str, float], int], None]  # (metrics, step)


class Clock(TrainerCallback):
    """Says what happens at an epoch's end, and marks finished checkpoints with the time spent so far."""

    def __init__(self, earlier_seconds: float, evaluate_every: int = 1) -> None:
        """Args: evaluate_every: epochs between evaluations and checkpoints."""
        self.earlier_seconds, self.evaluate_every = earlier_seconds, evaluate_every

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.monotonic()

    def on_epoch_end(self, _args: Any, state: TrainerState, control: TrainerControl, **__: Any) -> None:
        control.should_log = True
        if round(state.epoch or 0) % self.evaluate_every and state.global_step < state.max_steps:
            control.should_evaluate = control.should_save = False

    def on_save(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        if args.should_save:
            mark = Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE
            mark.write_text(json.dumps({"seconds": self.seconds}), encoding="utf-8")

    @property
    def seconds(self) -> float:
        """Training time of this run and of those that it resumed."""
        return self.earlier_seconds + time.monotonic() - self.started


class PausedError(Exception):
    """The training's time was over before its end; its newest checkpoint is of the step at which it stopped."""


class Deadline(TrainerCallback):
    """Ends a training in time, at any step, with a checkpoint of that step; it comes after the clock.

    Not after the last step: what is left then is written.

    Raises:
        PausedError: when that checkpoint is complete.
    """

    def __init__(self, until: float) -> None:
        """Args: until: seconds since the epoch, as `time.time` counts them."""
        self.until, self.is_over = until, False

    def on_step_end(self, _args: Any, state: TrainerState, control: TrainerControl, **__: Any) -> None:
        ends_epoch = float(state.epoch or 0).is_integer()  # its checkpoint is written once it is scored
        if not ends_epoch and self._ends(state):
            control.should_log = control.should_save = True

    def on_epoch_end(self, _args: Any, state: TrainerState, control: TrainerControl, **__: Any) -> None:
        if self._ends(state):
            control.should_save = True

    def on_save(self, *_: Any, **__: Any) -> None:
        if self.is_over:
            raise PausedError

    def _ends(self, state: TrainerState) -> bool:
        self.is_over = time.time() >= self.until and state.global_step < state.max_steps
        return self.is_over


class Monitor(TrainerCallback):
    """A bar with loss, mIoU and ETA; every logged number goes on to `on_log`. Works in the first process alone."""

    def __init__(self, name: str, on_log: OnLog) -> None:
        self.name = name
        self.on_log_metrics = on_log
        self.bar: tqdm[Any] | None = None
        self.shown: dict[str, str] = {}

    def on_train_begin(self, _args: Any, state: TrainerState, *_: Any, **__: Any) -> None:
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.name, unit="step")

    def on_step_end(self, _args: Any, state: TrainerState, *_: Any, **__: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, _args: Any, state: TrainerState, *_: Any, logs: dict[str, float], **__: Any) -> None:
        if self.bar is None:
            return
        metrics = {name.removeprefix("eval_"): value for name, value in logs.items() if name != "total_flos"}
        self.on_log_metrics(metrics, state.global_step)
        self.shown |= {key: f"{metrics[key]:.4f}" for key in ("loss", "miou") if key in metrics}
        self.bar.set_postfix(self.shown, refresh=False)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        if self.bar is not None:
            self.bar.close()
