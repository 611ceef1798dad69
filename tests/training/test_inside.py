"""The task tells the terms what of its batch is image: neither padding nor void passes for the other."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from effiseg.base.objective import DISTILLATION_TERMS
from effiseg.models.outputs import Outputs
from effiseg.training.task import Task

WEIGHTS = {"weights": {"ce": 1.0, **dict.fromkeys(DISTILLATION_TERMS, 1.0)}}

Batch = tuple[Tensor, Tensor]
MakeTask = Callable[..., Task]


def zoomed(make_task: MakeTask, scale: float) -> Task:
    return make_task("kd", loss=WEIGHTS, train={"augment": {"scale": [scale, scale]}}).train()


def spoilt(x: Tensor, pixels: Tensor, positions: tuple[int, int]) -> Tensor:
    """A map (N, C, h, w), or its tokens, with something else where a position sees nothing of the image."""
    blocks = pixels.unflatten(2, (positions[0], -1)).unflatten(4, (positions[1], -1))  # N, 1, h, H / h, w, W / w
    sees = blocks.any(dim=(3, 5))
    assert not sees.all()
    return x.where(sees if x.ndim == 4 else sees.flatten(2).mT, 9 * torch.randn_like(x))


def test_what_lies_outside_the_images_teaches_nothing(
    make_task: MakeTask, batch: Batch, monkeypatch: pytest.MonkeyPatch
):
    task = zoomed(make_task, 0.4)
    draws = task.draw([1, 2], batch[0].device)
    expected = task(*batch, draws)
    pixels = task.augmentation.inside((32, 64), draws.augment)
    grids = [tuple(x.shape[2:]) for x in task.student.outputs(batch[0]).features][:3]  # all of 1/32 sees something

    def spoils(network: Callable[..., Outputs]) -> Callable[..., Outputs]:
        def outputs(*given: Any) -> Outputs:
            found = network(*given)
            found.logits = spoilt(found.logits, pixels, grids[0])
            for maps in (found.features, found.embeddings):
                maps[:3] = [spoilt(x, pixels, grid) for x, grid in zip(maps, grids, strict=False)]
            return found

        return outputs

    monkeypatch.setattr(task.student, "outputs", spoils(task.student.outputs))
    monkeypatch.setattr(task, "_ask_teacher", spoils(task._ask_teacher))
    found = task(*batch, draws)
    for name in DISTILLATION_TERMS:
        torch.testing.assert_close(found[name], expected[name])


def test_what_the_teacher_says_of_void_within_the_images_counts(make_task: MakeTask, batch: Batch):
    images, labels = batch
    task = zoomed(make_task, 0.8)
    draws = task.draw([1, 2], images.device)
    expected, found = (task(images, each, draws) for each in (labels, torch.full_like(labels, 255)))
    assert found["ce"] == 0 < expected["ce"]
    assert all(torch.equal(found[name], expected[name]) for name in DISTILLATION_TERMS)
