"""The terms that an objective may sum, by the names that params.yaml uses.

A new term is a class here, a line in `LOSSES`, its weight in `schema.LossWeights` and its settings in `schema.Loss`.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effiseg.losses.distillation import (
    channel_wise_distillation,
    cosine_guided_distillation,
    kl_divergence,
    relational_distillation,
)
from effiseg.losses.supervised import dice_loss, focal_loss, tversky_loss, weighted_cross_entropy
from effiseg.outputs import Outputs
from effiseg.schema import Loss


@dataclass
class Signals:
    """What a training step offers to every term.

    Attributes:
        logits, labels: (N, C, H, W) and (N, H, W), brought to one resolution.
        student, teacher: the networks' own outputs; the teacher's hold only what the active terms need.
    """

    logits: Tensor
    labels: Tensor
    student: Outputs
    teacher: Outputs


@dataclass
class Setting:
    """What a term may need to know when it is built: class weights (C,) and channels per stage of both networks."""

    class_weights: Tensor
    student_channels: list[int]
    teacher_channels: list[int]


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
        return weighted_cross_entropy(signals.logits, signals.labels, self.class_weights)


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
        return dice_loss(signals.logits, signals.labels, self.smooth)


class Focal(nn.Module):
    """Focal loss with the class weights as alpha."""

    needs_teacher_logits: ClassVar[bool] = False
    alpha: Tensor

    def __init__(self, loss: Loss, setting: Setting) -> None:
        super().__init__()
        self.gamma = loss.focal.gamma
        self.register_buffer("alpha", setting.class_weights, persistent=False)

    def forward(self, signals: Signals) -> Tensor:
        return focal_loss(signals.logits, signals.labels, self.alpha, self.gamma)


class Tversky(nn.Module):
    needs_teacher_logits: ClassVar[bool] = False
    power = 1.0

    def __init__(self, loss: Loss, setting: Setting) -> None:
        super().__init__()
        self.settings = loss.tversky

    def forward(self, signals: Signals) -> Tensor:
        alpha, beta, smooth = self.settings.alpha, self.settings.beta, self.settings.smooth
        return tversky_loss(signals.logits, signals.labels, alpha, beta, smooth, self.power)


class FocalTversky(Tversky):
    """The Tversky loss with its own settings, raised to a power per class."""

    def __init__(self, loss: Loss, setting: Setting) -> None:
        super().__init__(loss, setting)
        self.power = 1 / loss.focal_tversky.gamma


class Kl(nn.Module):
    """KL divergence on both networks' own 1/4 grid."""

    needs_teacher_logits: ClassVar[bool] = True

    def __init__(self, loss: Loss, setting: Setting) -> None:
        super().__init__()
        self.temperature = loss.kl.temperature

    def forward(self, signals: Signals) -> Tensor:
        assert signals.student.logits is not None and signals.teacher.logits is not None
        return kl_divergence(signals.student.logits, signals.teacher.logits, self.temperature)


class Cwd(nn.Module):
    """Channel-wise distillation of the logits, on both networks' own 1/4 grid."""

    needs_teacher_logits: ClassVar[bool] = True

    def __init__(self, loss: Loss, setting: Setting) -> None:
        super().__init__()
        self.temperature = loss.cwd.temperature

    def forward(self, signals: Signals) -> Tensor:
        assert signals.student.logits is not None and signals.teacher.logits is not None
        return channel_wise_distillation(signals.student.logits, signals.teacher.logits, self.temperature)


class Dist(nn.Module):
    """DIST on both networks' own 1/4 grid."""

    needs_teacher_logits: ClassVar[bool] = True

    def __init__(self, loss: Loss, setting: Setting) -> None:
        super().__init__()
        self.settings = loss.dist

    def forward(self, signals: Signals) -> Tensor:
        assert signals.student.logits is not None and signals.teacher.logits is not None
        beta, gamma, temperature = self.settings.beta, self.settings.gamma, self.settings.temperature
        return relational_distillation(signals.student.logits, signals.teacher.logits, beta, gamma, temperature)


class Cskd(nn.Module):
    """CSKD on the stage outputs, the student's brought to the teacher's channels by a 1x1 convolution per stage."""

    needs_teacher_logits: ClassVar[bool] = False

    def __init__(self, loss: Loss, setting: Setting) -> None:
        super().__init__()
        self.settings = loss.cskd
        pairs = zip(setting.student_channels, setting.teacher_channels, strict=True)
        self.projectors = nn.ModuleList(nn.Conv2d(student, teacher, 1) for student, teacher in pairs)

    def forward(self, signals: Signals) -> Tensor:
        stages = zip(
            self.settings.stage_weights,
            self.projectors,
            signals.student.features,
            signals.teacher.features,
            strict=True,
        )
        lambda_m, lambda_s = self.settings.lambda_m, self.settings.lambda_s
        terms = [
            weight * cosine_guided_distillation(project(student), teacher, lambda_m, lambda_s)
            for weight, project, student, teacher in stages
        ]
        return torch.stack(terms).sum()


class Pekd(nn.Module):
    """Patch-embedding distillation (after TransKD, Liu et al. 2022): per stage, the mean squared error between the
    teacher's patch embeddings and the student's, brought to the teacher's channels by a linear layer."""

    needs_teacher_logits: ClassVar[bool] = False

    def __init__(self, loss: Loss, setting: Setting) -> None:
        super().__init__()
        self.stage_weights = loss.pekd.stage_weights
        pairs = zip(setting.student_channels, setting.teacher_channels, strict=True)
        self.projectors = nn.ModuleList(nn.Linear(student, teacher) for student, teacher in pairs)

    def forward(self, signals: Signals) -> Tensor:
        stages = zip(
            self.stage_weights,
            self.projectors,
            signals.student.embeddings,
            signals.teacher.embeddings,
            strict=True,
        )
        terms = [
            weight * F.mse_loss(project(student).float(), teacher.float())
            for weight, project, student, teacher in stages
        ]
        return torch.stack(terms).sum()


class FeatureMse(nn.Module):
    """Plain feature distillation (after FitNets, Romero et al. 2015): per stage, the mean squared error between the
    teacher's stage output and the student's, brought to the teacher's channels by a 1x1 convolution."""

    needs_teacher_logits: ClassVar[bool] = False

    def __init__(self, loss: Loss, setting: Setting) -> None:
        super().__init__()
        self.stage_weights = loss.feature_mse.stage_weights
        pairs = zip(setting.student_channels, setting.teacher_channels, strict=True)
        self.projectors = nn.ModuleList(nn.Conv2d(student, teacher, 1) for student, teacher in pairs)

    def forward(self, signals: Signals) -> Tensor:
        stages = zip(
            self.stage_weights, self.projectors, signals.student.features, signals.teacher.features, strict=True
        )
        terms = [
            weight * F.mse_loss(project(student).float(), teacher.float())
            for weight, project, student, teacher in stages
        ]
        return torch.stack(terms).sum()


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
