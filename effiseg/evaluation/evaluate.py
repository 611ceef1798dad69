"""Evaluation of one model on one split: streaming, at the labels' full resolution and on the quarter grid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from effiseg.base.schema import ignore_index, label_type
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
        on_prediction: gets each image's index and class map (H, W) at its labels' full resolution.
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
        images, labels = split.read(batch)
        logits = model(torch.from_numpy(images).to(device)).float()
        quarters = predict_classes(logits, logits.shape[2:])
        # one image at a time: full-resolution logits are the largest tensors of all
        for index, image_logits, quarter, label in zip(batch, logits, quarters, labels, strict=True):
            truth, frame = torch.from_numpy(label).to(device), split.frame(index)
            confusion[-1] += confusion_matrix(
                quarter, _on_grid(truth, frame, quarter.shape, len(classes)), len(classes)
            )
            prediction = predict_classes(image_logits[None], truth.shape, frame)[0]
            confusion[index] = confusion_matrix(prediction, truth, len(classes))
            on_prediction(index, prediction)
    if world > 1:
        torch.distributed.all_reduce(confusion)
    model.train(was_training)
    confusion = confusion.cpu()
    return Evaluation(confusion[:-1], confusion[-1], classes)


def predict_classes(logits: Tensor, size: Sequence[int], frame: Sequence[int] | None = None) -> Tensor:
    """Logits (N, C, h, w) -> class map (N, H, W) of `label_type` at `size`, upsampled bilinearly before the argmax.

    Args:
        frame: what the logits cover in pixels of the class map, which is its upper left part; the whole by default.

    One class after the other against the best so far: the upsampled logits of all classes never exist together.
    """
    height, width = size
    best = logits.new_full((len(logits), 1, height, width), -torch.inf)
    classes = torch.zeros_like(best, dtype=getattr(torch, label_type(logits.shape[1])))
    for index, logit in enumerate(logits.split(1, dim=1)):
        upsampled = F.interpolate(logit, size=tuple(frame or size), mode="bilinear", align_corners=False)
        upsampled = upsampled[..., :height, :width]
        classes.masked_fill_(upsampled > best, index)
        torch.maximum(best, upsampled, out=best)
    return classes[:, 0]


def shrink_labels(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Labels (N, H, W) at `size`, by the nearest pixel."""
    if labels.dtype == torch.uint8:
        return F.interpolate(labels[:, None], size=tuple(size), mode="nearest")[:, 0]
    return F.interpolate(labels[:, None].float(), size=tuple(size), mode="nearest")[:, 0].to(labels.dtype)


def _on_grid(label: Tensor, frame: Sequence[int], grid: Sequence[int], classes: int) -> Tensor:
    """A label (H, W), in its frame with void beside it, on the logits' grid."""
    beside = (0, frame[1] - label.shape[1], 0, frame[0] - label.shape[0])
    if any(beside):
        label = F.pad(label, beside, value=ignore_index(classes))
    return shrink_labels(label[None], grid)[0]


def _rank_and_world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
