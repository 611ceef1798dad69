"""The task: what one step computes, and what the teacher has no part in."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from effiseg.base.config import Config, read_yaml
from effiseg.base.objective import LossWeights
from effiseg.models import segformer
from effiseg.models.deployed import Deployed
from effiseg.models.segformer import Segmenter, build_model
from effiseg.training.task import Task
from tests.settings import CITYSCAPES

ALL_TERMS = {
    "weighted_ce": 0.5,
    "ce": 0.3,
    "dice": 2.0,
    "focal": 0.25,
    "tversky": 0.6,
    "focal_tversky": 1.5,
    "kl": 3.0,
    "cwd": 0.4,
    "dist": 0.8,
    "cskd": 0.1,
    "pekd": 0.7,
    "feature_mse": 0.2,
}
DEFAULT_ROWS = ("baseline", "tanh", "tanh_linear", "kd", "dice_focal", "combined")
SHIPPED_ROWS = tuple(read_yaml(Path(__file__).parents[2] / "params.yaml")["experiments"])

Batch = tuple[Tensor, Tensor]
MakeTask = Callable[..., Task]


class Spy:
    """Notes how the teacher was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[bool] = []
        self.head_runs = 0
        self.images: list[Tensor] = []
        self.made_by_inference: list[bool] = []
        outputs = Deployed.outputs

        def noted(deployed: Deployed, images: Tensor, *, with_logits: bool = True):
            self.asked.append(with_logits)
            self.images.append(images)
            hook = deployed.head.register_forward_hook(lambda *_: self.count_head())
            result = outputs(deployed, images, with_logits=with_logits)
            hook.remove()
            self.made_by_inference.append(result.features[0].is_inference())
            return result

        monkeypatch.setattr(Deployed, "outputs", noted)

    def count_head(self) -> None:
        self.head_runs += 1


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_the_rows_of_the_default_study_are_those_tested_at_full_width_here(shipped):
    assert tuple(name for name, _ in shipped.runs()) == DEFAULT_ROWS


@pytest.mark.parametrize("name", DEFAULT_ROWS)
def test_every_row_of_the_default_study_reaches_every_parameter_with_a_finite_gradient(
    make_task: MakeTask, batch: Batch, b2: Segmenter, name: str
):
    task = make_task(name, teacher=b2)
    task.train()
    result = task(*batch)
    result["loss"].backward()
    assert result["loss"].isfinite()
    for parameter_name, parameter in task.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
    assert task.student.network.segformer.stages[0].patch_embeddings.proj.weight.grad.abs().max() > 0


def test_the_terms_of_the_loss_can_all_be_active_together(make_task: MakeTask, batch: Batch):
    assert set(ALL_TERMS) == set(LossWeights.model_fields)
    result = make_task(loss={"weights": ALL_TERMS})(*batch)
    assert set(result) == {"loss", "logits", *ALL_TERMS}


def test_the_loss_is_the_weighted_sum_of_the_terms(make_task: MakeTask, batch: Batch):
    result = make_task(loss={"weights": ALL_TERMS})(*batch)
    expected = sum(weight * result[name].item() for name, weight in ALL_TERMS.items())
    assert result["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert min(result[name].item() for name in ALL_TERMS) > 0
    assert result["loss"].shape == ()


def test_a_term_without_weight_is_not_computed(make_task: MakeTask, batch: Batch):
    result = make_task("dice_focal")(*batch)
    assert set(result) == {"loss", "logits", "dice", "focal"}


def test_the_logits_are_the_students_at_a_quarter_of_the_size(make_task: MakeTask, batch: Batch):
    task = make_task().eval()
    logits = task(*batch)["logits"]
    assert logits.shape == (2, 19, 8, 16)
    assert torch.equal(logits, task.student(batch[0]))


def test_cross_entropy_uses_the_class_weights(make_task: MakeTask, batch: Batch):
    images, labels = batch
    weights = torch.rand(19).add(0.5).tolist()
    task = make_task(class_weights=weights).eval()
    logits = F.interpolate(task.student(images), size=(32, 64), mode="bilinear")
    expected = F.cross_entropy(logits, labels.long(), torch.tensor(weights), ignore_index=255)
    torch.testing.assert_close(task(images, labels)["loss"], expected)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch, make_config: Callable[..., Config]) -> Segmenter:
    """Makes `b0` narrow, and is a random teacher that is a little wider."""
    widths = {"hidden_sizes": [4, 8, 10, 16], "depths": [1, 1, 1, 1], "decoder_hidden_size": 12}
    monkeypatch.setitem(segformer.VARIANTS, "b0", widths)
    monkeypatch.setitem(segformer.VARIANTS, "b2", widths | {"hidden_sizes": [6, 10, 10, 24]})
    return build_model(make_config().row("teacher").model, CITYSCAPES.classes)


@pytest.mark.parametrize("name", SHIPPED_ROWS)
def test_every_shipped_row_has_a_loss_and_finite_gradients(
    make_task: MakeTask, batch: Batch, narrow: Segmenter, name: str
):
    task = make_task(name, teacher=narrow).train()
    result = task(*batch)
    result["loss"].backward()
    assert result["loss"].isfinite()
    assert result["loss"] > 0
    for parameter_name, parameter in task.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, parameter_name
        assert parameter.grad is None or parameter.grad.isfinite().all(), parameter_name
    first = next(task.student.network.segformer.stages[0].patch_embeddings.proj.parameters())
    assert first.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in narrow.parameters())


@pytest.mark.parametrize("name", SHIPPED_ROWS)
def test_a_batch_of_void_alone_gives_finite_losses_and_gradients(
    make_task: MakeTask, batch: Batch, narrow: Segmenter, name: str
):
    task = make_task(name, teacher=narrow).train()
    result = task(batch[0], torch.full_like(batch[1], 255))
    result["loss"].backward()
    assert all(value.isfinite().all() for value in result.values())
    assert all(parameter.grad.isfinite().all() for parameter in task.parameters() if parameter.requires_grad)


# --- resolution -------------------------------------------------------------------------------------------------------


def test_at_label_resolution_the_logits_are_upsampled(make_task: MakeTask, batch: Batch):
    images, labels = batch
    task = make_task(class_weights=[1.0] * 19).eval()
    upsampled = F.interpolate(task.student(images), scale_factor=4, mode="bilinear")
    expected = F.cross_entropy(upsampled, labels.long(), ignore_index=255)
    torch.testing.assert_close(task(images, labels)["loss"], expected)


def test_the_row_chooses_the_resolution(make_task: MakeTask, batch: Batch):
    images, labels = batch
    task = make_task(loss={"resolution": "quarter"}, class_weights=[1.0] * 19).eval()
    expected = F.cross_entropy(task.student(images), labels[:, ::4, ::4].long(), ignore_index=255)
    torch.testing.assert_close(task(images, labels)["loss"], expected)
    at_labels = make_task(class_weights=[1.0] * 19).eval()
    at_labels.load_state_dict(task.state_dict())
    assert (at_labels(images, labels)["loss"] - expected).abs() > 1e-5


# --- augmentation -----------------------------------------------------------------------------------------------------


def test_training_augments_and_evaluation_does_not(make_task: MakeTask, batch: Batch, spy: Spy):
    task = make_task("kd", train={"augment": {"flip": 0.5, "scale": [1.2, 1.5], "colour": 0.3}})
    task.eval()
    first, second = (task(*batch)["loss"] for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(images, batch[0]) for images in spy.images)
    task.train()
    task(*batch)
    assert not torch.allclose(spy.images[-1].float(), batch[0].float(), atol=5)


def test_teacher_and_student_see_the_same_pixels(make_task: MakeTask, batch: Batch, spy: Spy, monkeypatch):
    task = make_task("kd").train()
    seen: list[Tensor] = []
    outputs = task.student.outputs
    monkeypatch.setattr(task.student, "outputs", lambda images, *rest: seen.append(images) or outputs(images, *rest))
    task(*batch)
    assert torch.equal(seen[0], spy.images[0])


# --- the teacher ------------------------------------------------------------------------------------------------------


def test_the_teacher_is_in_no_parameter_buffer_state_or_module(make_task: MakeTask, b0: Segmenter):
    task = make_task("kd")
    own = {id(value) for value in (*task.parameters(), *task.buffers(), *task.modules())}
    teachers = {id(value) for value in (*b0.parameters(), *b0.buffers(), *b0.modules())}
    assert not own & teachers
    plain, projectors = make_task("baseline"), "terms."
    assert {name for name in task.state_dict() if not name.startswith(projectors)} == set(plain.state_dict())


def test_the_teacher_that_was_handed_over_stays_as_it_is(make_task: MakeTask, batch: Batch, b0: Segmenter):
    b0.train()
    before = {name: value.clone() for name, value in b0.state_dict().items()}
    task = make_task("kd", loss={"weights": ALL_TERMS}).train()
    task(*batch)["loss"].backward()
    assert all(module.training for module in b0.modules())
    assert all(torch.equal(value, before[name]) for name, value in b0.state_dict().items())
    assert all(parameter.grad is None for parameter in b0.parameters())


def test_the_teacher_runs_deployed_and_under_inference_mode(make_task: MakeTask, batch: Batch, spy: Spy):
    make_task("kd").train()(*batch)["loss"].backward()
    assert spy.made_by_inference == [True]


def test_what_the_losses_see_are_the_teachers_own_outputs(make_task: MakeTask, batch: Batch, b0: Segmenter):
    task = make_task("kd", loss={"weights": ALL_TERMS}).eval()
    found, expected = task._ask_teacher(batch[0]), b0.eval().outputs(batch[0])
    torch.testing.assert_close(found.logits, expected.logits)
    for ours, theirs in zip(
        [*found.features, *found.embeddings], [*expected.features, *expected.embeddings], strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_teachers_head_runs_only_for_terms_that_need_its_logits(make_task: MakeTask, batch: Batch, spy: Spy):
    make_task("kd")(*batch)
    assert (spy.asked, spy.head_runs) == ([False], 0)
    make_task("kd", loss={"weights": {"kl": 1.0}})(*batch)
    assert (spy.asked, spy.head_runs) == ([False, True], 1)


def test_without_distillation_the_teacher_is_never_asked(make_task: MakeTask, batch: Batch, spy: Spy):
    make_task("dice_focal").train()(*batch)
    make_task("dice_focal", teacher=None).train()(*batch)
    assert spy.asked == []


# --- projectors -------------------------------------------------------------------------------------------------------


def test_projectors_are_parameters_of_the_task_and_not_of_the_student(make_task: MakeTask, b2: Segmenter):
    task = make_task("kd", teacher=b2)
    names = {name for name, _ in task.named_parameters() if not name.startswith("student.")}
    assert names == {
        f"terms.{term}.projectors.{i}.{part}"
        for term in ("cskd", "pekd")
        for i in range(4)
        for part in ("weight", "bias")
    }
    assert task.terms["cskd"].projectors[3].weight.shape == (512, 256, 1, 1)
    assert task.terms["pekd"].projectors[0].weight.shape == (64, 32)


def test_rows_without_distillation_have_the_students_parameters_alone(make_task: MakeTask):
    assert all(name.startswith("student.") for name, _ in make_task("dice_focal").named_parameters())


def test_a_distilled_step_moves_the_projectors(make_task: MakeTask, batch: Batch):
    task = make_task("combined").train()
    before = {name: value.clone() for name, value in task.terms.named_parameters()}
    task(*batch)["loss"].backward()
    torch.optim.AdamW(task.parameters(), lr=1e-2).step()
    assert before
    assert all(not torch.equal(value, before[name]) for name, value in task.terms.named_parameters())
