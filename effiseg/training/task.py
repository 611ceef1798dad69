"""What is trained: student, frozen teacher, projectors and the sum of loss terms, in one module."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from effiseg.base.objective import Loss
from effiseg.base.schema import Row
from effiseg.data.augment import Augmentation
from effiseg.evaluation.evaluate import shrink_labels
from effiseg.losses.inside import on_grids
from effiseg.losses.terms import LOSSES, Setting, Signals
from effiseg.models.deployed import Deployed, deploy
from effiseg.models.draws import Draws
from effiseg.models.initial import FIRST_WEIGHTS
from effiseg.models.outputs import Outputs
from effiseg.models.segformer import Segmenter


class Task(nn.Module):
    """One training step's forward pass: images and labels in, the loss and every term's value out.

    The trainer sees only this module, so that mixed precision, several processes, accumulation and checkpoints cover
    the projectors too. The teacher is no submodule: it is in no checkpoint and no optimiser. It runs in its deployed
    form and before the student, so that its own activations are gone when the student's pile up.
    """

    def __init__(
        self, student: Segmenter, teacher: Segmenter | Deployed | None, row: Row, class_weights: Sequence[float]
    ) -> None:
        super().__init__()
        self.student = student
        self.augmentation = Augmentation(row.train.augment)
        self.resolution = row.loss.resolution
        self.weights = row.loss.weights.active()
        self.terms = nn.ModuleDict(build_terms(row.loss, student, teacher, class_weights))
        FIRST_WEIGHTS[row.model.draw](self.terms)
        self.teacher_logits = any(LOSSES[name].needs_teacher_logits for name in self.weights)
        self._teacher = (deploy(teacher),) if teacher and row.loss.needs_teacher else ()

    def forward(self, images: Tensor, labels: Tensor, draws: Draws | None = None) -> dict[str, Tensor]:
        """One step.

        Args:
            images: uint8 (N, 3, H, W). labels: (N, H, W) of `label_type`, trainIds and the index of void.
            draws: what is random in training, see `draw`; of seeds from torch's global generator if not given.

        Returns:
            loss: the weighted sum; logits (N, C, h/4, w/4); and each active term's value under its name.
        """
        inside = None
        if not self.training:
            draws = None
        else:
            draws = draws or self.draw(torch.randint(2**62, (len(images),)).tolist(), images.device)
            if self._teacher:
                inside = self.augmentation.inside(images.shape[2:], draws.augment)
            images, labels = self.augmentation(images, labels, draws.augment)
        teacher = self._ask_teacher(images)
        student = self.student.outputs(images, draws)
        assert student.logits is not None
        if self.resolution == "quarter":
            labels = shrink_labels(labels, student.logits.shape[2:])
        signals = Signals(student.logits, labels, student, teacher, on_grids(inside, student.features))
        values = {name: term(signals) for name, term in self.terms.items()}
        loss = torch.stack([self.weights[name] * value for name, value in values.items()]).sum()
        return {"loss": loss, "logits": student.logits, **values}

    @torch.compiler.disable
    def draw(self, seeds: Sequence[int], device: torch.device) -> Draws:
        """All that is random about a step's samples, each by its own seed: on no process is it drawn otherwise."""
        return self.student.draw(seeds, self.augmentation.settings.crop, self.augmentation.draws, device)

    def _ask_teacher(self, images: Tensor) -> Outputs:
        for teacher in self._teacher:
            teacher.to(images.device)
            with torch.inference_mode():
                outputs = teacher.outputs(images, with_logits=self.teacher_logits)
            return outputs.copied()  # a loss may save them for its backward pass, which inference tensors refuse
        return Outputs()


def build_terms(
    loss: Loss, student: Segmenter, teacher: Segmenter | Deployed | None, class_weights: Sequence[float]
) -> dict[str, nn.Module]:
    """The active terms of an objective, their projectors freshly initialised."""
    setting = Setting(
        class_weights=torch.tensor(class_weights, dtype=torch.float32),
        student_channels=student.channels,
        teacher_channels=(teacher or student).channels,
    )
    return {name: LOSSES[name](loss, setting) for name in loss.weights.active()}  # type: ignore[misc]
