"""Evaluation of one model on one split: streaming, at the labels' full resolution and on the quarter grid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from effiseg.data.prepared import Split
from effiseg.evaluation.metrics import Scores, confusion_matrix, scores


@dataclass(frozen=True)
class Evaluation:
    """Confusion matrices of a split, int64.

    Attributes:
        images: (N, classes, classes), one per image at its labels' full resolution, which is the official protocol.
        quarter: (classes, classes), of all images on the logits' 1/4 grid.
    """

    images: Tensor
    quarter: Tensor
    classes: Sequence[str]

    @property
    def full(self) -> Tensor:
        """The whole split's counts (classes, classes)."""
        return self.images.sum(dim=0)

    @property
    def scores(self) -> Scores:
        """Scores at the labels' full resolution."""
        return scores(self.full, self.classes)

    @property
    def quarter_scores(self) -> Scores:
        """Scores on the logits' 1/4 grid, the protocol of the paper."""
        return scores(self.quarter, self.classes)

    def headline(self) -> dict[str, float]:
        """The three numbers that curves and tables show."""
        return {
            "miou": self.scores.miou,
            "miou_quarter": self.quarter_scores.miou,
            "pixel_accuracy": self.scores.pixel_accuracy,
        }

    def report(self, suffix: str = "") -> dict[str, Any]:
        """The headline, the official mean and every class's IoU, with `suffix` after each name."""
        metrics = {**self.headline(), "miou_official": self.scores.miou_official, "iou": self.scores.iou}
        return {name + suffix: value for name, value in metrics.items()}


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    split: Split,
    classes: Sequence[str],
    *,
    batch_size: int,
    device: torch.device,
    progress: bool = False,
    across_processes: bool = False,
    on_prediction: Callable[[int, Tensor], None] = lambda *_: None,
) -> Evaluation:
    """Count a model's predictions on `split`. Memory grows by one confusion matrix for each image.

    Args:
        model: uint8 images (N, 3, H, W) to logits (N, classes, H/4, W/4), on `device`; a trained model's deployed form
            is the fastest.
        across_processes: each process of torch.distributed counts its share of the images, and the counts are summed;
            all of them must call.
        on_prediction: gets each image's index and class map (H, W), uint8, at its labels' full resolution.
    """
    was_training = model.training
    model.eval()
    # the quarter grid's counts stand behind those of the images, so that one message sums both over processes
    confusion = torch.zeros(len(split) + 1, len(classes), len(classes), dtype=torch.int64, device=device)
    rank, world = _rank_and_world() if across_processes else (0, 1)
    indices = range(rank, len(split), world)
    starts = range(0, len(indices), batch_size)
    for start in tqdm(starts, desc="evaluate", unit="batch", disable=not progress, leave=False):
        batch = indices[start : start + batch_size]
        images, labels = (torch.from_numpy(array).to(device) for array in split.read(batch))
        logits = model(images).float()
        quarter_labels = F.interpolate(labels[:, None], size=logits.shape[2:], mode="nearest")[:, 0]
        confusion[-1] += confusion_matrix(predict_classes(logits, logits.shape[2:]), quarter_labels, len(classes))
        # one image at a time: full-resolution logits are the largest tensors of all
        for index, image_logits, image_labels in zip(batch, logits, labels, strict=True):
            prediction = predict_classes(image_logits[None], image_labels.shape)[0]
            confusion[index] = confusion_matrix(prediction, image_labels, len(classes))
            on_prediction(index, prediction)
    if world > 1:
        torch.distributed.all_reduce(confusion)
    model.train(was_training)
    confusion = confusion.cpu()
    return Evaluation(confusion[:-1], confusion[-1], classes)


def predict_classes(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Logits (N, C, h, w) -> class map (N, H, W) uint8 at `size`, upsampled bilinearly before the argmax.

    One class after the other against the best so far: the upsampled logits of all classes never exist together.
    """
    best, classes = logits.new_full((len(logits), 1, *size), -torch.inf), logits.new_zeros(1, dtype=torch.uint8)
    classes = classes.expand(best.shape).contiguous()
    for index, logit in enumerate(logits.split(1, dim=1)):
        upsampled = F.interpolate(logit, size=tuple(size), mode="bilinear", align_corners=False)
        classes.masked_fill_(upsampled > best, index)
        torch.maximum(best, upsampled, out=best)
    return classes[:, 0]


def _rank_and_world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
