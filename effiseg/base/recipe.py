"""The section `train` of params.yaml: how a row learns."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from effiseg.base.section import Positive, Rate, Section, Share, Size, Weight

SamplingName = Literal["uniform", "class_uniform"]


class Optimizer(Section):
    lr: Rate
    head_lr: Rate
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    weight_decay: Weight
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)]
    eps: Rate
    grad_clip: Weight


class Schedule(Section):
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)]
    warmup_steps: Annotated[int, Field(ge=0)]
    power: Rate


class EarlyStop(Section):
    """When a training ends before its time: by images that it neither learns from nor is scored on."""

    patience: Annotated[int, Field(ge=0)]
    share: Annotated[float, Field(gt=0, lt=1)]


class Augment(Section):
    flip: Share
    scale: Annotated[list[Rate], Field(min_length=2, max_length=2)]
    crop: Size
    colour: Annotated[float, Field(ge=0, lt=1)]
    hue: Annotated[float, Field(ge=0, le=0.5)]

    @model_validator(mode="after")
    def _scale_is_a_range(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale is [lowest, highest], found {self.scale}")
        return self


class Train(Section):
    epochs: Annotated[int, Field(ge=0)]  # 0: a row that is not trained
    iterations: Annotated[int, Field(ge=0)]
    evaluate_every: Positive
    batch_size: Positive
    accumulation: Positive
    precision: Literal["fp32", "bf16", "fp16"]
    compile: bool
    sampling: SamplingName
    ema: Annotated[float, Field(ge=0, lt=1)]
    early_stop: EarlyStop
    optimizer: Optimizer
    schedule: Schedule
    augment: Augment

    def steps(self, images: int) -> int:
        """Optimiser steps of a whole training on so many images."""
        if not self.epochs:
            return 0
        return self.iterations or self.epochs * math.ceil(images / self.batch_size)

    def used(self) -> dict[str, Any]:
        """The settings that count: iterations stand in place of epochs, a share is of no use where nothing stops."""
        unused = {"epochs"} if self.iterations else set()
        return self.model_dump(exclude=unused if self.early_stop.patience else unused | {"early_stop"})

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        if self.batch_size % self.accumulation:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of accumulation {self.accumulation}")
        return self
