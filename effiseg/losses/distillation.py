"""Losses against the teacher. All are computed in float32 and give a float32 scalar; teachers carry no gradient.

What is not `inside`, bool (N, 1, H, W), has no part in them: every mean is over the positions, or images, that show
something. None: all is inside.
"""

import torch.nn.functional as F
from torch import Tensor

from effiseg.losses.inside import mean, only, share
from effiseg.losses.processes import average, total

_SMALLEST_NORM = 1e-4  # of a map in a cosine; torch's own 1e-8 gives a map of zeros a gradient of 1e8
_NEVER = -1e30  # a logit without a part in a softmax; finite, since 0 * inf would be NaN


def kl_divergence(student: Tensor, teacher: Tensor, temperature: float, inside: Tensor | None = None) -> Tensor:
    """Knowledge distillation on logits (Hinton et al. 2015): T^2 * KL(teacher || student), the mean over pixels.

    Args:
        student, teacher: logits (N, C, H, W), softened by T before the softmax over C.
    """
    log_student = (student.float() / temperature).log_softmax(dim=1)
    log_teacher = (teacher.float() / temperature).log_softmax(dim=1)
    per_pixel = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=1, keepdim=True)
    return temperature**2 * mean(per_pixel, inside)


def cosine_guided_distillation(
    student: Tensor, teacher: Tensor, lambda_m: float, lambda_s: float, inside: Tensor | None = None
) -> Tensor:
    """Cosine-similarity-guided feature distillation (CSKD, after Park et al., Scientific Reports 2024) of one stage.

    With S^C the cosine over channels at each position and S^S the cosine over positions of each channel, the guidance
    G = (1 - S^C)(1 - S^S) says where the student is wrong; it weighs the squared error and passes no gradient:
    lambda_m / (C H W) * sum G (F_T - F_S)^2 + lambda_s * mean(1 - S^S) + lambda_s * mean(1 - S^C), mean over the batch.

    Args:
        student, teacher: feature maps of one shape (N, C, H, W); the student's is projected to the teacher's channels.
    """
    student, teacher = only(student.float(), inside), only(teacher.float(), inside)
    over_channels = 1 - F.cosine_similarity(student, teacher, dim=1, eps=_SMALLEST_NORM)  # N, H, W
    over_positions = 1 - F.cosine_similarity(student.flatten(2), teacher.flatten(2), dim=2, eps=_SMALLEST_NORM)  # N, C
    guidance = over_channels.detach()[:, None] * over_positions.detach()[:, :, None, None]
    guided = (guidance * (teacher - student) ** 2).mean() / share(inside)
    cosines = mean(over_positions, _images(inside)) + mean(over_channels[:, None], inside)
    return lambda_m * guided + lambda_s * cosines


def channel_wise_distillation(
    student: Tensor, teacher: Tensor, temperature: float, inside: Tensor | None = None
) -> Tensor:
    """Channel-wise distillation (CWD, Shu et al. 2021): each channel as a distribution over positions.

    T^2 / C * sum over channels of KL(teacher || student), where a channel's distribution is the softmax of its values
    over all positions, softened by T; the sum over positions is part of the KL; mean over the batch.

    Args:
        student, teacher: maps of one shape (N, C, H, W); here logits.
    """
    student, teacher = only(student.float(), inside, _NEVER), only(teacher.float(), inside, _NEVER)
    log_student = (student.flatten(2) / temperature).log_softmax(dim=2)
    log_teacher = (teacher.flatten(2) / temperature).log_softmax(dim=2)
    per_channel = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=2)
    return temperature**2 * mean(per_channel, _images(inside))


def relational_distillation(
    student: Tensor, teacher: Tensor, beta: float, gamma: float, temperature: float, inside: Tensor | None = None
) -> Tensor:
    """DIST (Huang et al. 2022): the student keeps the teacher's relations, not its values.

    beta * (1 - Pearson correlation over the classes of each pixel, mean over pixels) + gamma * (1 - Pearson correlation
    over the batch's pixels of each class, mean over classes), of probabilities softened by T; times T^2.

    Args:
        student, teacher: logits (N, C, H, W).
    """
    maps = (logits.float() / temperature for logits in (student, teacher))
    ours, theirs = (_pixels(logits.softmax(dim=1)) for logits in maps)
    inside = None if inside is None else _pixels(inside)
    between = 1 - mean(_correlation(ours, theirs, dim=0)[None], inside)
    within = 1 - _correlation_over_batch(ours, theirs, inside).mean()
    return temperature**2 * (beta * between + gamma * within)


def _images(inside: Tensor | None) -> Tensor | None:
    """Which images have anything inside, (N, 1)."""
    return None if inside is None else inside.flatten(2).any(dim=2)


def _pixels(maps: Tensor) -> Tensor:
    """(N, C, H, W) -> (C, the batch's pixels)."""
    return maps.transpose(0, 1).flatten(1)


def _correlation(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Pearson correlation along `dim`; of what hardly varies, 0."""
    a, b = (x - x.mean(dim=dim, keepdim=True) for x in (a, b))
    return F.cosine_similarity(a, b, dim=dim, eps=_SMALLEST_NORM)


def _correlation_over_batch(a: Tensor, b: Tensor, inside: Tensor | None) -> Tensor:
    """Pearson correlation of each row of (C, pixels) over all processes' pixels inside; of what hardly varies, 0."""
    present = share(inside)
    a, b = (only(x - average(only(x, inside).mean(dim=1, keepdim=True)) / present, inside) for x in (a, b))
    product, *squares = (total((x * y).sum(dim=1)) for x, y in ((a, b), (a, a), (b, b)))
    ours, theirs = (square.clamp_min(_SMALLEST_NORM**2).sqrt() for square in squares)
    return product / (ours * theirs)
