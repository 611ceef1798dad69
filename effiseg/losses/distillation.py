"""Losses against the teacher. All are computed in float32 and give a float32 scalar; teachers carry no gradient."""

import torch.nn.functional as F
from torch import Tensor

from effiseg.losses.processes import average, total

_SMALLEST_NORM = 1e-4  # of a map in a cosine; torch's own 1e-8 gives a map of zeros a gradient of 1e8


def kl_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Knowledge distillation on logits (Hinton et al. 2015): T^2 * KL(teacher || student), the mean over pixels.

    Args:
        student, teacher: logits (N, C, H, W), softened by T before the softmax over C.
    """
    log_student = (student.float() / temperature).log_softmax(dim=1)
    log_teacher = (teacher.float() / temperature).log_softmax(dim=1)
    per_pixel = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=1)
    return temperature**2 * per_pixel.mean()


def cosine_guided_distillation(student: Tensor, teacher: Tensor, lambda_m: float, lambda_s: float) -> Tensor:
    """Cosine-similarity-guided feature distillation (CSKD, after Park et al., Scientific Reports 2024) of one stage.

    With S^C the cosine over channels at each position and S^S the cosine over positions of each channel, the guidance
    G = (1 - S^C)(1 - S^S) says where the student is wrong; it weighs the squared error and passes no gradient:
    lambda_m / (C H W) * sum G (F_T - F_S)^2 + lambda_s * mean(1 - S^S) + lambda_s * mean(1 - S^C), mean over the batch.

    Args:
        student, teacher: feature maps of one shape (N, C, H, W); the student's is projected to the teacher's channels.
    """
    student, teacher = student.float(), teacher.float()
    over_channels = 1 - F.cosine_similarity(student, teacher, dim=1, eps=_SMALLEST_NORM)  # N, H, W
    over_positions = 1 - F.cosine_similarity(student.flatten(2), teacher.flatten(2), dim=2, eps=_SMALLEST_NORM)  # N, C
    guidance = over_channels.detach()[:, None] * over_positions.detach()[:, :, None, None]
    guided = (guidance * (teacher - student) ** 2).mean()
    return lambda_m * guided + lambda_s * (over_positions.mean() + over_channels.mean())


def channel_wise_distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Channel-wise distillation (CWD, Shu et al. 2021): each channel as a distribution over positions.

    T^2 / C * sum over channels of KL(teacher || student), where a channel's distribution is the softmax of its values
    over all positions, softened by T; the sum over positions is part of the KL; mean over the batch.

    Args:
        student, teacher: maps of one shape (N, C, H, W); here logits.
    """
    log_student = (student.float().flatten(2) / temperature).log_softmax(dim=2)
    log_teacher = (teacher.float().flatten(2) / temperature).log_softmax(dim=2)
    per_channel = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=2)
    return temperature**2 * per_channel.mean()


def relational_distillation(student: Tensor, teacher: Tensor, beta: float, gamma: float, temperature: float) -> Tensor:
    """DIST (Huang et al. 2022): the student keeps the teacher's relations, not its values.

    beta * (1 - Pearson correlation over the classes of each pixel, mean over pixels) + gamma * (1 - Pearson correlation
    over the batch's pixels of each class, mean over classes), of probabilities softened by T; times T^2.

    Args:
        student, teacher: logits (N, C, H, W).
    """
    maps = (logits.float() / temperature for logits in (student, teacher))
    ours, theirs = (logits.softmax(dim=1).transpose(0, 1).flatten(1) for logits in maps)  # C, pixels
    between = 1 - _correlation(ours, theirs, dim=0).mean()
    within = 1 - _correlation_over_batch(ours, theirs).mean()
    return temperature**2 * (beta * between + gamma * within)


def _correlation(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Pearson correlation along `dim`; of what hardly varies, 0."""
    a, b = (x - x.mean(dim=dim, keepdim=True) for x in (a, b))
    return F.cosine_similarity(a, b, dim=dim, eps=_SMALLEST_NORM)


def _correlation_over_batch(a: Tensor, b: Tensor) -> Tensor:
    """Pearson correlation of each row of (C, pixels) over all processes' pixels; of what hardly varies, 0."""
    a, b = (x - average(x.mean(dim=1, keepdim=True)) for x in (a, b))
    product, *squares = (total((x * y).sum(dim=1)) for x, y in ((a, b), (a, a), (b, b)))
    ours, theirs = (square.clamp_min(_SMALLEST_NORM**2).sqrt() for square in squares)
    return product / (ours * theirs)
