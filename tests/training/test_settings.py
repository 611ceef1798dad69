"""What the settings of a training do: schedule, decay, accumulation, precision, compilation, odd batch sizes."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError
from effiseg.data.prepared import Prepared, Split
from effiseg.models.segformer import load_model
from effiseg.training.task import Task
from effiseg.training.trainer import RowTrainer, training_arguments

Train = Callable[..., Any]
MakeTask = Callable[..., Task]

STANDING_STILL = {"optimizer": {"lr": 1e-12}}
STILL_IMAGES = {"flip": 0.0, "scale": [1.0, 1.0], "colour": 0.0}


def first(split: Split, count: int) -> Split:
    return Split(split.images[:count], split.labels[:count], split.names[:count])


@pytest.fixture
def make_trainer(make_task: MakeTask, make_config: Callable[..., Config], data: Prepared, tmp_path) -> Callable:
    def make(name: str, **changes: Any) -> RowTrainer:
        train = make_config(**changes).row(name).train
        arguments = training_arguments(train, 0, tmp_path, len(data.train), 1)
        trainer = RowTrainer(make_task(name, **changes), arguments, data, [], train, learned=range(len(data.train)))
        trainer.create_optimizer()
        return trainer

    return make


# --- the optimiser ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("warmup", "power"), [(0.05, 1.0), (0.3, 2.0), (0.99, 1.0)])
def test_the_learning_rate_warms_up_linearly_and_falls_polynomially_to_zero(train: Train, warmup: float, power: float):
    run = train(train={"optimizer": {"lr": 0.01}, "schedule": {"warmup_ratio": warmup, "power": power}})
    steps = 6
    warm = min(math.ceil(steps * warmup), steps - 1)
    expected = [
        0.01 * done / warm if done < warm else 0.01 * (1 - (done - warm) / (steps - warm)) ** power
        for done in range(steps)
    ]
    np.testing.assert_allclose(run.logged("learning_rate"), expected)


def test_a_warm_up_of_steps_counts_before_that_of_a_share(train: Train):
    schedule = {"warmup_ratio": 0.99, "warmup_steps": 2}
    run = train(train={"optimizer": {"lr": 0.01}, "schedule": schedule})
    np.testing.assert_allclose(run.logged("learning_rate")[:3], [0.0, 0.005, 0.01])


def test_the_head_has_a_learning_rate_of_its_own_and_decays_as_ever(make_trainer: Callable):
    plain = make_trainer("kd", train={"optimizer": {"lr": 0.01, "weight_decay": 0.1}})
    trainer = make_trainer("kd", train={"optimizer": {"lr": 0.01, "weight_decay": 0.1, "head_lr": 10.0}})
    assert len(plain.optimizer.param_groups) == 2
    rates = {
        id(p): (group["lr"], group["weight_decay"]) for group in trainer.optimizer.param_groups for p in group["params"]
    }
    names = dict(trainer.task.named_parameters())
    assert len(rates) == len(names) == sum(len(group["params"]) for group in plain.optimizer.param_groups)
    for name, parameter in names.items():
        expected = (pytest.approx(0.1 if "decode_head." in name else 0.01), 0.1 if parameter.ndim > 1 else 0.0)
        assert rates[id(parameter)] == expected, name


def test_one_step_in_all_trains(train: Train):
    run = train(train={"optimizer": {"lr": 0.01}, "epochs": 1, "batch_size": 16})
    assert run.logged("learning_rate") == [0.01]


def test_matrices_and_convolutions_decay_and_norms_biases_and_alphas_do_not(make_trainer: Callable):
    trainer = make_trainer("combined", train={"optimizer": {"weight_decay": 0.123}})
    groups = {group["weight_decay"]: {id(p) for p in group["params"]} for group in trainer.optimizer.param_groups}
    assert set(groups) == {0.123, 0.0}
    names = {id(parameter): name for name, parameter in trainer.task.named_parameters()}
    decaying, free = ({names[key] for key in groups[decay]} for decay in (0.123, 0.0))
    assert decaying | free == set(names.values())
    assert len(decaying) + len(free) == len(names)
    weights = {
        f"{name}.weight" for name, module in trainer.task.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)
    }
    assert decaying == weights
    assert sum(name.endswith(".alpha") for name in free) == 26
    assert "terms.cskd.projectors.0.weight" in decaying
    assert "terms.pekd.projectors.0.bias" in free


def test_the_optimiser_holds_the_task_and_nothing_of_the_teacher(make_trainer: Callable, b0: nn.Module):
    trainer = make_trainer("kd")
    held = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in trainer.task.parameters()}
    assert not held & {id(parameter) for parameter in b0.parameters()}


def test_the_optimiser_is_adamw_as_set(make_trainer: Callable):
    settings = {"lr": 0.02, "betas": [0.8, 0.95], "eps": 1e-6, "grad_clip": 0.0}
    trainer = make_trainer("baseline", train={"optimizer": settings})
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    for group in trainer.optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (0.02, (0.8, 0.95), 1e-6)
    assert trainer.args.max_grad_norm == 0


# --- accumulation -----------------------------------------------------------------------------------------------------


@pytest.fixture
def without_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains in eval mode: no augmentation, no dropout, batch norm by its running statistics."""
    monkeypatch.setattr(Task, "train", lambda self, mode=True: nn.Module.train(self, False))


@pytest.mark.usefixtures("without_chance")
def test_accumulated_gradients_are_those_of_the_whole_batch(train: Train):
    # KL is a plain mean over pixels: the mean of two halves is the whole
    kl = {"weights": {"weighted_ce": 0.0, "cskd": 0.0, "pekd": 0.0, "kl": 1.0}}
    whole, halves = (
        train("kd", loss=kl, train={"epochs": 1, "accumulation": accumulation, **STANDING_STILL})
        for accumulation in (1, 2)
    )
    assert len(whole.logged("grad_norm")) == 3
    for name in ("grad_norm", "loss", "kl", "learning_rate"):
        np.testing.assert_allclose(halves.logged(name), whole.logged(name), rtol=1e-4)


@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_steps_and_logged_losses_do_not_depend_on_accumulation(train: Train, accumulation: int):
    run = train("dice_focal", train={"accumulation": accumulation, "epochs": 1, **STANDING_STILL})
    assert run.training.steps == 3
    loss, dice, focal = (np.array(run.logged(name)) for name in ("loss", "dice", "focal"))
    np.testing.assert_allclose(loss, 0.5 * dice + 0.5 * focal, rtol=1e-5)
    assert (dice > 0.5).all()  # of a random network


# --- precision and compilation ----------------------------------------------------------------------------------------


def test_bf16_trains_to_nearly_the_same_losses_and_keeps_full_precision_weights(train: Train):
    full, half = (
        train("combined", train={"precision": precision, "epochs": 1, "augment": STILL_IMAGES})
        for precision in ("fp32", "bf16")
    )
    assert half.training.precision == "bf16"
    np.testing.assert_allclose(half.logged("loss"), full.logged("loss"), rtol=0.02)
    assert half.logged("loss") != full.logged("loss")
    state = load_model(half.out / "last").state_dict()
    assert all(value.isfinite().all() for value in state.values())
    assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}


def test_fp16_without_a_gpu_is_refused_at_once(train: Train, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EffiSegError, match=r"train\.precision: fp16 needs a GPU.*use fp32 or bf16"):
        train(train={"precision": "fp16"})


@pytest.mark.slow
def test_a_compiled_training_writes_the_same_model(train: Train, data: Prepared, monkeypatch: pytest.MonkeyPatch):
    compiled, plain_compile = [], torch.compile

    def compile(model: Any = None, **settings: Any) -> Any:
        compiled.append(settings["backend"])
        # the same graphs, run without the minutes that a CPU's code generator takes
        return plain_compile(model, **{**settings, "backend": "eager"})

    monkeypatch.setattr(torch, "compile", compile)
    one_batch = replace(data, train=first(data.train, 4))
    plain, run = (train(data=one_batch, train={"compile": choice, "augment": STILL_IMAGES}) for choice in (False, True))
    assert compiled == ["inductor"]
    assert run.files().keys() == plain.files().keys()
    np.testing.assert_allclose(run.logged("loss"), plain.logged("loss"), rtol=1e-3)
    ours, theirs = (load_model(one.out / "last").state_dict() for one in (run, plain))
    assert ours.keys() == theirs.keys()


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("processes", "accumulation"), [(3, 1), (2, 4), (8, 1)])
def test_a_batch_that_does_not_divide_is_refused_with_what_would(
    train: Train, monkeypatch: pytest.MonkeyPatch, processes: int, accumulation: int
):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    with pytest.raises(EffiSegError, match=rf"train\.batch_size: 4 .* use a multiple of {processes * accumulation}$"):
        train(train={"accumulation": accumulation})


def test_a_training_set_smaller_than_the_batch_gives_one_step_an_epoch(train: Train):
    run = train(train={"batch_size": 32, "accumulation": 2})
    assert run.training.steps == 2
    assert run.training.history["step"].tolist() == [1, 2]
    assert run.training.history["loss"].notna().all()


def test_a_single_image_trains(train: Train, data: Prepared):
    run = train(data=replace(data, train=first(data.train, 1)), train={"batch_size": 1})
    assert run.training.steps == 2


def test_batches_of_void_alone_leave_the_weights_finite(train: Train, data: Prepared):
    labels = data.train.labels.copy()
    labels[:8] = 255  # with one image a batch, most batches
    split = Split(data.train.images, labels, data.train.names)
    run = train("dice_focal", data=replace(data, train=split), train={"batch_size": 1, "epochs": 1})
    assert run.training.steps == 10
    assert run.training.history["loss"].between(0, 10).all()
    assert all(value.isfinite().all() for value in load_model(run.out / "last").state_dict().values())
