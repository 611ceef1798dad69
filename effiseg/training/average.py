"""A moving average of the weights, which is what is scored and kept where a row asks for one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from transformers import TrainerCallback, TrainerState, TrainingArguments

FILE = "average.pt"  # in a checkpoint


class WeightAverage(TrainerCallback):
    """An exponential moving average of a network's parameters, updated with every optimiser step.

    After n steps the old average weighs min(decay, (1 + n) / (10 + n)), so that the first draw is soon forgotten.
    Buffers, batch norm's running statistics, are the network's own.

    Attributes:
        network: the averaged network, of the same class; there from the training's beginning.
    """

    network: Any

    def __init__(self, model: nn.Module, decay: float, resumed: Path | None) -> None:
        """Args: resumed: the checkpoint from which the training goes on."""
        self.model, self.decay, self.resumed = model, decay, resumed

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.averaged = AveragedModel(self.model, multi_avg_fn=self._mix)  # on the model's device, which it has by now
        self.network = self.averaged.module
        if self.resumed:
            self.averaged.load_state_dict(torch.load(self.resumed / FILE, weights_only=True))

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.averaged.update_parameters(self.model)

    def on_save(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        if args.should_save:
            torch.save(self.averaged.state_dict(), Path(args.output_dir) / f"checkpoint-{state.global_step}" / FILE)

    @torch.no_grad()
    def _mix(self, averaged: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
        decay = min(self.decay, (1 + int(steps)) / (10 + int(steps)))
        torch._foreach_lerp_(list(averaged), list(current), 1 - decay)
