"""transformers' Trainer, told how this project evaluates, logs and decays."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils import logging

from effiseg.base.device import repeatable
from effiseg.base.errors import EffiSegError
from effiseg.base.recipe import Train
from effiseg.data.prepared import Prepared, Split
from effiseg.evaluation.evaluate import Evaluation, evaluate
from effiseg.models.deployed import deploy
from effiseg.models.segformer import Segmenter, save_model
from effiseg.training.average import WeightAverage
from effiseg.training.held_out import part_of
from effiseg.training.rates import rate_factors
from effiseg.training.sampler import EpochSampler, images_by_class
from effiseg.training.task import Task

logging.set_verbosity_error()  # its advice is for users of the library; ours see the bar

LOGS_PER_EPOCH = 5
HELD_OUT = "held_out_miou"  # of the training images by which a training stops early


class PreparedImages(Dataset[dict[str, Any]]):
    """Prepared images and labels as the trainer wants them: whole batches of uint8 tensors, without any decoding."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, samples: list[tuple[int, int]]) -> dict[str, Any]:
        """A batch as the data loader asks for it, by (image, seed); nothing is left to collate."""
        indices, seeds = zip(*samples, strict=True)
        images, labels = self.split.read(indices)
        return {"images": torch.from_numpy(images), "labels": torch.from_numpy(labels), "seeds": list(seeds)}


class RowTrainer(Trainer):
    """Evaluation on the validation split, every term in the log, and the best student kept beside the checkpoints."""

    def __init__(
        self,
        task: Task,
        args: TrainingArguments,
        data: Prepared,
        callbacks: list[TrainerCallback],
        recipe: Train,
        *,
        learned: Sequence[int],
        held_out: Sequence[int] = (),
        average: WeightAverage | None = None,
    ) -> None:
        """What the library does not know of.

        Args:
            learned: indices of the training images that are learned.
            held_out: of those that are scored after each epoch, to choose one.
            average: of the student, which is then what is scored and kept; it is one of the callbacks too.
        """
        self.task = task
        self.data = data
        self.recipe = recipe
        self.average = average
        self.learned = learned
        self.held_out = held_out
        self.term_sums: dict[str, Tensor] = {}
        self.steps_summed = 0.0
        images = {"train_dataset": PreparedImages(data.train), "eval_dataset": PreparedImages(data.val)}
        super().__init__(task, args, **images, data_collator=lambda batch: batch, callbacks=callbacks)
        self.remove_callback(PrinterCallback)

    def resume(self, checkpoint: Path | None) -> None:
        """Train to the end, from a checkpoint where there is one; nothing is done after one of the end."""
        if checkpoint is None or not self._is_over(checkpoint):
            self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            return
        # the library would make one step more, within an epoch, or another epoch after an early end
        self._load_from_checkpoint(str(checkpoint))
        self.callback_handler.on_train_begin(self.args, self.state, self.control)
        self.callback_handler.on_train_end(self.args, self.state, self.control)

    def _is_over(self, checkpoint: Path) -> bool:
        """Whether no step comes after a checkpoint; if so, the trainer's state is that of the checkpoint."""
        state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        over = state.global_step >= self.recipe.steps(len(self.learned))
        if patience := self.recipe.early_stop.patience:
            stop = state.stateful_callbacks[EarlyStoppingCallback.__name__]["attributes"]
            over = over or stop["early_stopping_patience_counter"] >= patience
        if over:
            self.state = state
            self.callback_handler.state = state
        return over

    @property
    def student(self) -> Segmenter:
        """What is scored and kept: the student as it is, or the average of what it was."""
        return self.average.network if self.average else self.task.student

    def _get_train_sampler(self, *_: Any) -> Sampler:
        shares = self.args.world_size * self.args.gradient_accumulation_steps
        by_class = (
            images_by_class(self.data.train, self.learned, self.data.num_classes)
            if self.recipe.sampling == "class_uniform"
            else ()
        )
        return EpochSampler(self.learned, shares * self.args.per_device_train_batch_size, self.args.seed, by_class)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Weights decay; norm parameters and biases, which are vectors, never do."""
        return [name for name, parameter in model.named_parameters() if parameter.ndim > 1]

    def create_optimizer(self, *args: Any) -> Any:
        """The library's, with learning rates that differ within the network where the recipe says so."""
        optimizer = self.recipe.optimizer
        if self.optimizer is not None or optimizer.head_lr == optimizer.layer_decay == 1:  # type: ignore[has-type]
            return super().create_optimizer(*args)
        kind, settings = self.get_optimizer_cls_and_kwargs(self.args)
        decays = set(self.get_decay_parameter_names(self.task))
        learning = {name: each for name, each in self.task.named_parameters() if each.requires_grad}
        depths = self.task.student.network.config.depths
        factors = rate_factors(learning, depths, head=optimizer.head_lr, decay=optimizer.layer_decay)
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, parameter in learning.items():
            groups.setdefault((factors[name], name in decays), []).append(parameter)
        self.optimizer = kind(
            [
                {
                    "params": parameters,
                    "lr": self.args.learning_rate * factor,
                    "weight_decay": self.args.weight_decay if is_decaying else 0.0,
                }
                for (factor, is_decaying), parameters in groups.items()
            ],
            **settings,
        )
        return self.optimizer

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """The library's, to the same digits every time."""
        with repeatable(self.args.device):
            return super().training_step(*args, **kwargs)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The task's loss; sums up each term on the device, without waiting for it.

        The library divides the loss by the number of micro-batches itself.
        """
        images, labels, seeds = inputs["images"], inputs["labels"], inputs["seeds"]
        outputs = model(images, labels, self.task.draw(seeds, images.device))
        share = 1 / self.args.gradient_accumulation_steps
        for name in self.task.weights:
            self.term_sums[name] = self.term_sums.get(name, 0) + share * outputs[name].detach()
        self.steps_summed += share
        return outputs["loss"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add each term's mean since the last log, over all processes, as the library does with the loss."""
        if "loss" in logs:
            for name, total in self.term_sums.items():
                logs[name] = float(self.accelerator.reduce(total / self.steps_summed, "mean"))
            self.term_sums.clear()
            self.steps_summed = 0.0
        super().log(logs, start_time)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the validation split, and what is held out, and keep the student when it is the best so far."""
        network = deploy(self.student)
        metrics = {f"eval_{name}": value for name, value in self._score(network, self.data.val).headline().items()}
        if self.held_out:
            held_out = self._score(network, part_of(self.data.train, self.held_out))
            metrics[f"eval_{HELD_OUT}"] = held_out.scores.miou
        best, decisive = self.state.best_metric, metrics[f"eval_{self.args.metric_for_best_model}"]
        if self.args.should_save and (best is None or decisive > best):
            save_model(self.student, best_folder(self.args.output_dir))
        self.log(dict(metrics))
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _score(self, network: nn.Module, split: Split) -> Evaluation:
        return evaluate(
            network,
            split,
            self.data.classes,
            batch_size=self.args.per_device_train_batch_size,
            device=self.args.device,
            across_processes=True,
        )


def best_folder(checkpoints: str | Path) -> Path:
    """Where the best student so far lies, beside the checkpoints."""
    return Path(checkpoints) / "best"


def training_arguments(train: Train, seed: int, checkpoints: Path, images: int, processes: int) -> TrainingArguments:
    """`train` in the library's words. `batch_size` is the global batch, whatever the number of processes.

    Raises:
        EffiSegError: the global batch does not divide among processes and accumulation steps, or fp16 without a GPU.
    """
    if train.precision == "fp16" and not torch.cuda.is_available():
        raise EffiSegError("train.precision: fp16 needs a GPU, and there is none here; use fp32 or bf16")
    shares = processes * train.accumulation
    if train.batch_size % shares:
        raise EffiSegError(
            f"train.batch_size: {train.batch_size} does not divide among {processes} processes and "
            f"{train.accumulation} accumulation steps; use a multiple of {shares}"
        )
    optimizer, schedule = train.optimizer, train.schedule
    steps, stops = train.steps(images), train.early_stop.patience > 0
    return TrainingArguments(
        output_dir=str(checkpoints),
        seed=seed,
        num_train_epochs=train.epochs,
        max_steps=train.iterations or -1,
        per_device_train_batch_size=train.batch_size // shares,
        gradient_accumulation_steps=train.accumulation,
        learning_rate=optimizer.lr,
        weight_decay=optimizer.weight_decay,
        adam_beta1=optimizer.betas[0],
        adam_beta2=optimizer.betas[1],
        adam_epsilon=optimizer.eps,
        max_grad_norm=optimizer.grad_clip,
        optim="adamw_torch_fused",
        lr_scheduler_type="polynomial",
        lr_scheduler_kwargs={"power": schedule.power, "lr_end": 0.0},
        # never all of them: the last step, and the only one, trains at the full rate
        warmup_steps=min(schedule.warmup_steps or math.ceil(steps * schedule.warmup_ratio), steps - 1),
        bf16=train.precision == "bf16",
        fp16=train.precision == "fp16",
        torch_compile=train.compile,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=max(1, images // train.batch_size // LOGS_PER_EPOCH),
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,  # one whole checkpoint stays while the next is written
        metric_for_best_model=HELD_OUT if stops else "miou",
        restore_callback_states_from_checkpoint=stops,  # how long ago the best was
        greater_is_better=True,
        label_names=["labels"],
        logging_nan_inf_filter=False,  # it would wait for the device at every step, and hide a diverged loss
        accelerator_config={"non_blocking": True},  # the next batch travels while the device works
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        report_to=[],
        disable_tqdm=True,
    )
