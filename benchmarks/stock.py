"""The other way: what a careful user of transformers writes. Stock networks, the same losses, the same optimiser."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SegformerForSemanticSegmentation

from effiseg.base.schema import Model, Row
from effiseg.data.augment import Augmentation
from effiseg.losses.terms import Signals
from effiseg.models.outputs import Outputs
from effiseg.models.segformer import Segmenter, transformers_config
from effiseg.training.task import build_terms


class Stock(nn.Module):
    """transformers' SegFormer behind its usual input normalisation: uint8 (N, 3, H, W) -> logits."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: Model, classes: Sequence[str]) -> None:
        super().__init__()
        self.network = SegformerForSemanticSegmentation(transformers_config(model, classes))
        self.register_buffer("mean", 255 * torch.tensor(model.mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(model.std).view(1, 3, 1, 1))
        self.embeddings: list[Tensor] = []
        for stage in self.network.segformer.stages:
            stage.patch_embeddings.register_forward_hook(lambda _module, _args, output: self._note(output[0]))

    def _note(self, embedding: Tensor) -> None:
        self.embeddings.append(embedding)

    def forward(self, images: Tensor) -> Tensor:
        self.embeddings.clear()
        logits: Tensor = self.network((images - self.mean) / self.std).logits
        return logits

    def outputs(self, images: Tensor, *, with_head: bool = True) -> Outputs:
        """Logits, stage outputs and patch embeddings; without the head only when the caller thinks of it."""
        self.embeddings.clear()
        pixels = (images - self.mean) / self.std
        if not with_head:
            features = self.network.segformer(pixels, output_hidden_states=True).hidden_states
            return Outputs(None, list(features), list(self.embeddings))
        found = self.network(pixels, output_hidden_states=True)
        return Outputs(found.logits, list(found.hidden_states), list(self.embeddings))


class StockTask(nn.Module):
    """A row's training step as `Task` does it: uint8 images and labels in, `{"loss": ...}` out."""

    def __init__(
        self,
        student: Stock,
        teacher: Stock | None,
        row: Row,
        class_weights: Sequence[float],
        *,
        teacher_head: bool = True,
    ) -> None:
        super().__init__()
        self.student, self.teacher_head = student, teacher_head
        self.augmentation = Augmentation(row.train.augment)
        self.weights = row.loss.weights.active()
        networks = [
            Segmenter(model.network, row.model.mean, row.model.std) if model else None for model in (student, teacher)
        ]
        assert networks[0] is not None
        self.terms = nn.ModuleDict(build_terms(row.loss, networks[0], networks[1], class_weights))
        self._teacher = (teacher.eval().requires_grad_(False),) if teacher else ()

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        images, labels = self.augmentation(images, labels)
        student, teacher = self.student.outputs(images), Outputs()
        assert student.logits is not None
        for model in self._teacher:
            with torch.no_grad():
                teacher = model.outputs(images, with_head=self.teacher_head)
        logits = F.interpolate(student.logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
        signals = Signals(logits, labels, student, teacher)
        values = [self.weights[name] * term(signals) for name, term in self.terms.items()]
        return {"loss": torch.stack(values).sum()}


def training_step(task: nn.Module, images: Tensor, labels: Tensor, *, bf16: bool = False) -> Callable[[], None]:
    """A step of AdamW (fused, gradients clipped) on one batch, the same for both ways."""
    parameters = list(task.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01, fused=True)

    def step() -> None:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            loss = task(images, labels)["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step
