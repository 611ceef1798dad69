"""The terms that an objective may sum, by the names that params.yaml uses.

A new term is a class here, a line in `LOSSES`, and in effiseg/base/objective.py its weight in `LossWeights` and its
settings in `Loss`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effiseg.base.errors import EffiSegError
from effiseg.base.objective import Loss
from effiseg.losses.distillation import (
    channel_wise_distillation,
    cosine_guided_distillation,
    kl_divergence,
    relational_distillation,
)
from effiseg.losses.inside import only, share
from effiseg.losses.supervised import dice_loss, focal_loss, tversky_loss, weighted_cross_entropy
from effiseg.models.outputs import Outputs
from effiseg.models.products import Linear, Pointwise
from effiseg.models.upsample import upsample


@dataclass
class Signals:
    """What a training step offers to every term.

    Attributes:
        logits, labels: (N, C, h, w) and (N, H, W), of the same size or to be compared at that of the labels.
        student, teacher: the networks' own outputs; the teacher's hold only what the active terms need.
        inside: which positions of each stage's grid show the images, bool (N, 1, H_i, W_i); None where all do.
    """

    logits: Tensor
    labels: Tensor
    student: Outputs
    teacher: Outputs
    inside: Sequence[Tensor | None] = (None, None, None, None)

    @cached_property
    def upsampled(self) -> Tensor:
        """The logits at the labels' size, (N, C, H, W)."""
        height, width = self.labels.shape[1:]
        if self.logits.shape[2:] == (height, width):
            return self.logits
        # in float32 at least, as the losses are: half precision would round each logit once more
        least = torch.promote_types(self.logits.dtype, torch.float32)
        return upsample(self.logits.to(least), (height, width))


@dataclass
class Setting:
    """What a term may need to know when it is built: class weights (C,) and channels per stage of both networks."""

    class_weights: Tensor
    student_channels: list[int]
    teacher_channels: list[int]

    def channels(self) -> Iterator[tuple[int, int]]:
        """(student's, teacher's) channels of each stage."""
        return zip(self.student_channels, self.teacher_channels, strict=True)


class Term(Protocol):
    """A term of the objective: an nn.Module, whose parameters (projectors) train along with the student."""

    needs_teacher_logits: ClassVar[bool]

    def __init__(self, loss: Loss, setting: Setting) -> None: ...

    def __call__(self, signals: Signals) -> Tensor: ...


class WeightedCrossEntropy(nn.Module):
    needs_teacher_logits: ClassVar[bool] = False
    class_weights: Tensor

    def __init__(self, loss: Loss, setting: Setting) -> None:
        super().__init__()
        self.register_buffer("class_weights", setting.class_weights, persistent=False)

    def forward(self, signals: Signals) -> Tensor:
        # a GPU holds what is upsampled with ease, and a compiler fuses by itself
        is_fused = signals.logits.device.type == "cpu" and not torch.compiler.is_compiling()
        logits = signals.logits if is_fused else signals.upsampled
        return weighted_cross_entropy(logits, signals.labels, self.class_weights)


class CrossEntropy(WeightedCrossEntropy):
    """The same with every class alike."""

    def __init__(self, loss: Loss, setting: Setting) -> None:
        super().__init__(loss, setting)
        self.class_weights = torch.ones_like(setting.class_weights)


class Dice(nn.Module):
    needs_teacher_logits: ClassVar[bool] = False

    def __init__(self, loss: Loss, setting: Setting) -> None:
        super().__init__()
        self.smooth = loss.dice.smooth

    def forward(self, signals: Signals) -> Tensor:
        return dice_loss(signals.upsampled, signals.labels, self.smooth)


class Focal(nn.Module):
    """Focal loss with the class weights as alpha."""

    needs_teacher_logits: ClassVar[bool] = False
    alpha: Tensor

    def __init__(self, loss: Loss, setting: Setting) -> None:
        super().__init__()
        self.gamma = loss.focal.gamma
        self.register_buffer("alpha", setting.class_weights, persistent=False)

    def forward(self, signals: Signals) -> Tensor:
        return focal_loss(signals.upsampled, signals.labels, self.alpha, self.gamma)


class Tversky(nn.Module):
    needs_teacher_logits: ClassVar[bool] = False
    power = 1.0

    def __init__(self, loss: Loss, setting: Setting) -> None:
        super().__init__()
        self.settings = loss.tversky

    def forward(self, signals: Signals) -> Tensor:
        alpha, beta, smooth = self.settings.alpha, self.settings.beta, self.settings.smooth
        return tversky_loss(signals.upsampled, signals.labels, alpha, beta, smooth, self.power)


class FocalTversky(Tversky):
    """The Tversky loss with its own settings, raised to a power per class."""

    def __init__(self, loss: Loss, setting: Setting) -> None:
        super().__init__(loss, setting)
        self.power = 1 / loss.focal_tversky.gamma


class LogitTerm(nn.Module, ABC):
    """A comparison of both networks' logits on their own 1/4 grid, which is that of the first stage."""

    needs_teacher_logits: ClassVar[bool] = True

    def __init__(self, loss: Loss, setting: Setting) -> None:
        super().__init__()
        self.settings = loss

    def forward(self, signals: Signals) -> Tensor:
        assert signals.student.logits is not None and signals.teacher.logits is not None
        return self.compare(signals.student.logits, signals.teacher.logits, signals.inside[0])

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor, inside: Tensor | None) -> Tensor:
        """The loss of logits (N, C, h, w), where inside."""


class Kl(LogitTerm):
    def compare(self, student: Tensor, teacher: Tensor, inside: Tensor | None) -> Tensor:
        return kl_divergence(student, teacher, self.settings.kl.temperature, inside)


class Cwd(LogitTerm):
    def compare(self, student: Tensor, teacher: Tensor, inside: Tensor | None) -> Tensor:
        return channel_wise_distillation(student, teacher, self.settings.cwd.temperature, inside)


class Dist(LogitTerm):
    def compare(self, student: Tensor, teacher: Tensor, inside: Tensor | None) -> Tensor:
        dist = self.settings.dist
        return relational_distillation(student, teacher, dist.beta, dist.gamma, dist.temperature, inside)


class Cskd(nn.Module):
    """CSKD on the stage outputs, the student's brought to the teacher's channels by a projector per stage.

    The projector is a 1x1 convolution, trained with the student; `conv_bn_relu` and `frozen` are what was released
    with the method's paper, kept to measure their effect.
    """

    needs_teacher_logits: ClassVar[bool] = False

    def __init__(self, loss: Loss, setting: Setting) -> None:
        super().__init__()
        self.settings = loss.cskd
        self.projectors = nn.ModuleList(PROJECTORS[loss.cskd.projector](*pair) for pair in setting.channels())
        self.projectors.requires_grad_(not loss.cskd.frozen)

    def forward(self, signals: Signals) -> Tensor:
        lambda_m, lambda_s = self.settings.lambda_m, self.settings.lambda_s

        def compare(student: Tensor, teacher: Tensor, inside: Tensor | None) -> Tensor:
            return cosine_guided_distillation(student, teacher, lambda_m, lambda_s, inside)

        student, teacher = signals.student.features, signals.teacher.features
        return over_stages(compare, self.settings.stage_weights, self.projectors, student, teacher, signals.inside)


class Pekd(nn.Module):
    """Patch-embedding distillation (after TransKD, Liu et al. 2022): per stage, the mean squared error between the
    teacher's patch embeddings and the student's, brought to the teacher's channels by a linear layer."""

    needs_teacher_logits: ClassVar[bool] = False

    def __init__(self, loss: Loss, setting: Setting) -> None:
        super().__init__()
        self.stage_weights = loss.pekd.stage_weights
        self.projectors = nn.ModuleList(Linear(*pair) for pair in setting.channels())

    def forward(self, signals: Signals) -> Tensor:
        student, teacher = signals.student.embeddings, signals.teacher.embeddings
        inside = [mask if mask is None else mask.flatten(2).mT for mask in signals.inside]  # of tokens
        return over_stages(squared_error, self.stage_weights, self.projectors, student, teacher, inside)


class FeatureMse(nn.Module):
    """Plain feature distillation (after FitNets, Romero et al. 2015): per stage, the mean squared error between the
    teacher's stage output and the student's, brought to the teacher's channels by a 1x1 convolution."""

    needs_teacher_logits: ClassVar[bool] = False

    def __init__(self, loss: Loss, setting: Setting) -> None:
        super().__init__()
        self.stage_weights = loss.feature_mse.stage_weights
        self.projectors = nn.ModuleList(Pointwise(*pair) for pair in setting.channels())

    def forward(self, signals: Signals) -> Tensor:
        student, teacher = signals.student.features, signals.teacher.features
        return over_stages(squared_error, self.stage_weights, self.projectors, student, teacher, signals.inside)


class NormedProjector(nn.Sequential):
    """Layers with a batch norm among them, (N, C, H, W) -> (N, C', H, W)."""

    def forward(self, features: Tensor) -> Tensor:
        if self.training and features.shape[0] * features.shape[2] * features.shape[3] == 1:
            raise EffiSegError(
                "projector conv_bn_relu: a batch of one image whose last feature map is one pixel has no variance; set "
                "a larger train.augment.crop or train.batch_size, or another projector"
            )
        projected: Tensor = super().forward(features)
        return projected


PROJECTORS: dict[str, Callable[[int, int], nn.Module]] = {
    "conv": Pointwise,
    "conv_bn_relu": lambda student, teacher: NormedProjector(
        Pointwise(student, teacher), nn.BatchNorm2d(teacher), nn.ReLU()
    ),
}


def over_stages(
    compare: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    weights: list[float],
    projectors: nn.ModuleList,
    student: list[Tensor],
    teacher: list[Tensor],
    inside: Sequence[Tensor | None],
) -> Tensor:
    """The weighted sum over stages of `compare(projected student, teacher, inside)`."""
    stages = zip(weights, projectors, student, teacher, inside, strict=True)
    losses = [weight * compare(project(ours), theirs, mask) for weight, project, ours, theirs, mask in stages]
    return torch.stack(losses).sum()


def squared_error(student: Tensor, teacher: Tensor, inside: Tensor | None) -> Tensor:
    """The mean squared difference inside, in float32."""
    return F.mse_loss(only(student.float(), inside), only(teacher.float(), inside)) / share(inside)


LOSSES: dict[str, type[Term]] = {
    "weighted_ce": WeightedCrossEntropy,
    "ce": CrossEntropy,
    "dice": Dice,
    "focal": Focal,
    "tversky": Tversky,
    "focal_tversky": FocalTversky,
    "kl": Kl,
    "cwd": Cwd,
    "dist": Dist,
    "cskd": Cskd,
    "pekd": Pekd,
    "feature_mse": FeatureMse,
}
