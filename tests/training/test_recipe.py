"""What a recipe may ask for beyond epochs of all images: iterations, an average, an early end, rarer classes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from effiseg.base.errors import EffiSegError
from effiseg.data.prepared import Prepared, Split
from effiseg.evaluation.evaluate import evaluate
from effiseg.models.segformer import load_model
from effiseg.training.average import WeightAverage
from effiseg.training.held_out import hold_out, part_of
from effiseg.training.sampler import EpochSampler, images_by_class
from effiseg.weights.source import Checkpoint, Source

Train = Callable[..., Any]
STEPS = 3  # an epoch's: ten images in batches of four


def weights(run: Any, which: str = "last") -> dict[str, torch.Tensor]:
    return load_model(run.out / which).state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


# --- iterations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("iterations", "epochs"), [(2, 1), (3, 1), (4, 2), pytest.param(8, 3, marks=pytest.mark.slow)])
def test_iterations_end_a_training_within_an_epoch_too(train: Train, iterations: int, epochs: int):
    run = train(train={"iterations": iterations, "epochs": 1, "schedule": {"warmup_ratio": 0.0}})
    assert (run.training.steps, run.training.epochs) == (iterations, epochs)
    assert run.training.history["epoch"].tolist() == list(range(1, epochs + 1))
    assert run.training.history["miou"].notna().all()
    rates = run.logged("learning_rate")
    np.testing.assert_allclose(np.diff(rates), np.diff(rates)[0])  # down to 0 over all of them
    assert rates[-1] == pytest.approx(rates[0] / iterations)


@pytest.mark.slow
def test_iterations_of_whole_epochs_are_those_epochs(train: Train):
    by_epochs, by_steps = train(train={"epochs": 2}), train(train={"iterations": 2 * STEPS, "epochs": 9})
    assert same(weights(by_epochs), weights(by_steps))


@pytest.mark.parametrize(
    "settings",
    [
        {"iterations": 4, "epochs": 1, "ema": 0.9},
        pytest.param({"epochs": 20, "early_stop": {"patience": 1, "share": 0.2}}, marks=pytest.mark.slow),
    ],
    ids=["iterations", "early end"],
)
def test_a_training_that_was_killed_after_its_last_checkpoint_is_finished_without_another_step(
    train: Train, settings: dict[str, Any]
):
    settings = {"optimizer": {"lr": 1e-9}} | settings
    whole = train(train=settings)
    cut = train(train=settings, stop=lambda metrics, _: "train_runtime" in metrics)
    assert cut.training is None
    train(again=cut, train=settings)
    assert (cut.training.steps, cut.training.epochs) == (whole.training.steps, whole.training.epochs)
    assert cut.training.history.equals(whole.training.history)
    for which in ("last", "best"):
        assert same(weights(cut, which), weights(whole, which))


@pytest.mark.slow
def test_epochs_without_a_score_stand_in_the_history_and_the_last_has_one(train: Train):
    plain, seldom = train(train={"epochs": 3}), train(train={"epochs": 3, "evaluate_every": 2})
    history = seldom.training.history
    assert history["step"].tolist() == [3, 6, 9]
    assert history["miou"].notna().tolist() == [False, True, True]
    assert history["loss"].tolist() == plain.training.history["loss"].tolist()
    assert same(weights(plain), weights(seldom))
    assert seldom.training.best_epoch in (2, 3)
    cut = train(train={"epochs": 3, "evaluate_every": 2}, stop=lambda metrics, step: step > 3 and "loss" in metrics)
    assert list(cut.checkpoints.glob("checkpoint-*")) == []


# --- an average of the weights ----------------------------------------------------------------------------------------


def test_the_average_is_the_sum_that_it_should_be():
    model = torch.nn.Linear(3, 2)
    average = WeightAverage(model, 0.5, None)
    average.on_train_begin()
    expected: torch.Tensor | None = None
    for step in range(40):
        with torch.no_grad():
            model.weight.normal_()
        average.on_step_end()
        now = model.weight.detach().clone()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = now if expected is None else decay * expected + (1 - decay) * now
    torch.testing.assert_close(average.network.weight, expected)


def test_the_average_is_scored_and_kept_and_is_not_what_is_trained(train: Train, data: Prepared):
    plain, averaged = train(), train(train={"ema": 0.9})
    assert plain.logged("loss") == averaged.logged("loss")
    assert not same(weights(plain), weights(averaged))
    model = load_model(averaged.out / "last")
    scored = evaluate(model, data.val, data.classes, batch_size=4, device=torch.device("cpu"))
    assert averaged.training.history["miou"].iloc[-1] == pytest.approx(scored.scores.miou, abs=1e-6)


@pytest.mark.slow
def test_a_training_with_an_average_goes_on_where_it_stopped(train: Train):
    settings = {"train": {"ema": 0.9, "epochs": 3, "early_stop": {"patience": 2, "share": 0.2}}}
    whole = train(**settings)
    cut = train(stop=lambda metrics, step: step > STEPS and "loss" in metrics, **settings)
    assert cut.training is None
    train(again=cut, **settings)
    assert cut.training.steps == whole.training.steps
    for which in ("last", "best"):
        assert same(weights(cut, which), weights(whole, which))


# --- an early end -----------------------------------------------------------------------------------------------------


def grouped(split: Split, *groups: str) -> Split:
    return replace(split, groups=tuple((group, -frame) for frame, group in enumerate(groups)))


def test_the_last_frames_of_each_group_are_held_out(data: Prepared):
    alone = replace(data.train, groups=())
    assert hold_out(alone, 0.2) == (list(range(8)), [8, 9])
    drives = grouped(data.train, *"aaaaabbbbb")  # whose frames run backwards
    assert hold_out(drives, 0.2) == ([1, 2, 3, 4, 6, 7, 8, 9], [0, 5])
    part = part_of(drives, [0, 5])
    assert len(part) == 2
    images, labels = part.read([1])
    assert np.array_equal(images[0], data.train.images[5])
    assert np.array_equal(labels[0], data.train.labels[5])
    for share in (0.01, 0.99):
        with pytest.raises(EffiSegError, match=r"^train\.early_stop\.share: .* of 10 training images in 2 groups hol"):
            hold_out(drives, share)


def test_a_training_that_gets_no_better_ends_and_keeps_its_best_epoch(train: Train, data: Prepared):
    # a rate of nothing: soon nothing gets better
    stop = {"patience": 2, "share": 0.2}
    run = train(train={"epochs": 20, "optimizer": {"lr": 1e-12}, "early_stop": stop})
    history = run.training.history
    best = int(history["held_out_miou"].argmax())
    assert len(history) == best + 1 + 2 < 20
    assert (run.training.epochs, run.training.steps, run.training.best_epoch) == (best + 3, 2 * (best + 3), best + 1)
    learned, held_out = hold_out(data.train, 0.2)
    assert len(learned) == 8  # in two batches
    assert same(weights(run, "last"), weights(run, "best"))
    part = part_of(data.train, held_out)
    model = load_model(run.out / "last")
    scored = evaluate(model, part, data.classes, batch_size=4, device=torch.device("cpu"))
    assert history["held_out_miou"].iloc[best] == pytest.approx(scored.scores.miou, abs=1e-6)


# --- sampling ---------------------------------------------------------------------------------------------------------


def test_class_uniform_sampling_shows_each_class_alike_and_only_what_is_learned(data: Prepared):
    learned = [0, 1, 2, 3, 4, 5]
    by_class = images_by_class(data.train, learned, data.num_classes)
    present = {int(each) for index in learned for each in np.unique(data.train.labels[index])} - {255}
    assert len(by_class) == len(present)
    for held, each in zip(by_class, sorted(present), strict=True):
        assert held.tolist() == [index for index in learned if (data.train.labels[index] == each).any()]
    rare = [np.array([3]), np.array([0, 1, 2, 3, 4, 5])]
    sampler = EpochSampler(learned, 4, 0, rare)
    seen: list[int] = []
    for epoch in range(200):
        sampler.set_epoch(epoch)
        seen += [image for image, _ in sampler]
    assert len(seen) == 200 * len(sampler) == 200 * 8
    assert set(seen) == set(learned)
    assert np.mean(np.array(seen) == 3) == pytest.approx(1 / 2 + 1 / 12, abs=0.04)


@pytest.mark.slow
def test_a_training_by_class_uniform_sampling_repeats_and_differs(train: Train):
    uniform, one, other = train(), *(train(train={"sampling": "class_uniform"}) for _ in range(2))
    assert one.logged("loss") == other.logged("loss") != uniform.logged("loss")


# --- all of it together -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_half_precision_and_accumulation_go_with_a_start_and_its_recipe(train: Train, data: Prepared):
    first = train()
    checkpoint = Checkpoint(first.out / "last/model.safetensors", Source(origin="a run", classes=list(data.classes)))
    recipe = {"ema": 0.9, "sampling": "class_uniform", "optimizer": {"head_lr": 10.0, "layer_decay": 0.9}}
    run = train(
        "tanh_linear",
        checkpoint=checkpoint,
        start={"source": "file", "path": "x"},
        train={"precision": "bf16", "accumulation": 2, "epochs": 1, "augment": {"colour": 0.3, "hue": 0.1}, **recipe},
    )
    assert (run.training.precision, run.training.origin) == ("bf16", "a run")
    assert "norms are fitted to the checkpoint's LayerNorms, by 10 images" in run.training.start
    assert all(value.isfinite().all() for value in weights(run).values())
