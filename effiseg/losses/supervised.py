"""Losses against the labels.

Shapes throughout: logits (N, C, H, W) of any float type, computed in float32; labels (N, H, W) of whole numbers,
trainIds and the classes' `ignore_index`; the result is a float32 scalar. A batch without a valid pixel gives 0 with
gradient 0. Where several processes train, the batch is that of all of them together.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from effiseg.base.device import full_precision
from effiseg.base.schema import ignore_index
from effiseg.losses.processes import total
from effiseg.losses.upsampled import upsampled_cross_entropy


def weighted_cross_entropy(logits: Tensor, labels: Tensor, class_weights: Tensor) -> Tensor:
    """Cross-entropy, the mean over valid pixels weighted by their class: sum w_y * -log p_y / sum w_y.

    Logits (N, C, h, w) of another size than the labels' are upsampled to it bilinearly, but never as a whole.
    """
    labels = labels.long()
    void = ignore_index(logits.shape[1])
    valid = labels != void
    index = labels.where(valid, 0)
    weights = class_weights[index] * valid
    if logits.shape[2:] == labels.shape[1:]:
        loss = F.cross_entropy(logits.float(), labels, class_weights, ignore_index=void, reduction="sum")
    else:
        loss = upsampled_cross_entropy(logits.float(), index, weights)
    # clamped: without a valid pixel both sums are 0
    return total(loss) / total(weights.sum()).clamp_min(class_weights.min())


def dice_loss(logits: Tensor, labels: Tensor, smooth: float) -> Tensor:
    """Soft Dice (Milletari et al. 2016): 1 - (2 sum pg + smooth) / (sum p + sum g + smooth), over the whole batch.

    The mean is over the classes that the batch's labels hold: an absent class has nothing to overlap with, and void
    pixels enter neither sum.
    """
    overlap, predicted, actual = _sums(logits, labels)
    return _mean_of_present(1 - (2 * overlap + smooth) / (predicted + actual + smooth), actual)


def tversky_loss(logits: Tensor, labels: Tensor, alpha: float, beta: float, smooth: float, power: float) -> Tensor:
    """Tversky loss (Salehi et al. 2017), the mean over the classes that the batch's labels hold of (1 - TI)^power.

    TI = (sum pg + smooth) / (sum pg + alpha sum p(1 - g) + beta sum (1 - p)g + smooth): alpha weighs what is predicted
    too much, beta what is missed. A power below 1 makes it the focal Tversky loss (Abraham and Khan 2019, whose gamma
    is 1 / power). With alpha = beta = 0.5, power 1 and half the smoothing it is the Dice loss.
    """
    overlap, predicted, actual = _sums(logits, labels)
    wrong = alpha * (predicted - overlap) + beta * (actual - overlap)
    missing = 1 - (overlap + smooth) / (overlap + wrong + smooth)
    # clamped: powers below 1 have no finite slope at 0
    return _mean_of_present(missing.clamp_min(1e-6) ** power, actual)


def _sums(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Per class over all processes' valid pixels: sum pg, sum p (both float32) and sum g (int64), each (C,)."""
    classes = logits.shape[1]
    labels = labels.long()
    valid = labels != ignore_index(classes)
    probabilities = logits.float().softmax(dim=1)
    # no one-hot labels: the overlap needs only each pixel's probability of its own class; and no selection by a mask,
    # whose size a GPU would have to report first: void pixels are summed up in a bin of their own, which is dropped
    of_label = probabilities.gather(1, labels.where(valid, 0)[:, None]).flatten()
    bins = labels.where(valid, classes).flatten()
    overlap = of_label.new_zeros(classes + 1).index_add(0, bins, of_label)[:classes]
    actual = bins.new_zeros(classes + 1).index_add(0, bins, torch.ones_like(bins))[:classes]
    with full_precision(logits.device):  # in float16 the sum over an image is infinite
        predicted = (probabilities.flatten(2) @ valid.to(probabilities.dtype).flatten(1)[:, :, None]).sum(dim=(0, 2))
    return total(overlap), total(predicted), total(actual)


def _mean_of_present(per_class: Tensor, actual: Tensor) -> Tensor:
    present = actual > 0
    return (per_class * present).sum() / present.sum().clamp_min(1)


def focal_loss(logits: Tensor, labels: Tensor, alpha: Tensor, gamma: float) -> Tensor:
    """Focal loss (Lin et al. 2017): -alpha_y (1 - p_y)^gamma log p_y, the mean over valid pixels; alpha (C,)."""
    labels = labels.long()
    valid = labels != ignore_index(logits.shape[1])
    index = labels.where(valid, 0)
    log_p = logits.float().log_softmax(dim=1).gather(1, index[:, None])[:, 0]
    # clamped: rounding may push p past 1, and powers below 1 have no finite slope at 0
    modulation = (1 - log_p.exp()).clamp_min(1e-6) ** gamma
    return total((-alpha[index] * modulation * log_p * valid).sum()) / total(valid.sum()).clamp_min(1)
