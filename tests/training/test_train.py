"""Trainings of one row: what they write, that they repeat bit for bit, and that they go on where they stopped."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerState

from effiseg.base.errors import EffiSegError
from effiseg.data.prepared import Prepared, Split
from effiseg.evaluation.evaluate import evaluate
from effiseg.models.deployed import deploy
from effiseg.models.segformer import load_model
from effiseg.training import COMPLETE, trainer
from effiseg.training.train import Training, epoch_history, latest_checkpoint
from effiseg.weights.source import Checkpoint, Source

# 10 images in batches of 4: 3 steps an epoch, the last filled up with 2 images of the first
SETTINGS = {"train": {"epochs": 3, "augment": {"scale": [0.8, 1.5]}}}
MODELS = {"last/config.json", "last/model.safetensors", "best/config.json", "best/model.safetensors"}

Train = Callable[..., Any]


@pytest.fixture(scope="module")
def unbroken(train: Train) -> dict[str, Any]:
    """A plain and a distilled row, trained in one go."""
    return {name: train(name, **SETTINGS) for name in ("baseline", "kd")}


def assert_same_results(run: Any, other: Any) -> None:
    files = run.files()
    assert files.keys() == other.files().keys()
    assert [name for name, content in other.files().items() if content != files[name]] == []
    pd.testing.assert_frame_equal(run.training.history, other.training.history, check_exact=True)


# --- repeating --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["baseline", "kd"])
def test_the_same_seed_gives_the_same_bits(train: Train, unbroken: dict, name: str):
    torch.rand(3)  # what happened before must not matter
    assert_same_results(train(name, **SETTINGS), unbroken[name])


def test_another_seed_gives_other_weights(train: Train, unbroken: dict):
    other = train(seed=1, **SETTINGS)
    ours, theirs = (load_file(run.out / "last/model.safetensors") for run in (other, unbroken["baseline"]))
    same = [name for name in ours if ours[name].ndim > 1 and torch.equal(ours[name], theirs[name])]
    assert same == []


# --- going on ---------------------------------------------------------------------------------------------------------

STOPS = {
    "before any checkpoint": lambda metrics, step: step == 2,
    "after scoring epoch 2, before its checkpoint": lambda metrics, step: step == 6 and "miou" in metrics,
    "after the last checkpoint": lambda metrics, step: "train_loss" in metrics,
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_an_interrupted_training_goes_on_to_the_same_bits(train: Train, unbroken: dict, stop: Callable):
    run = train(stop=stop, **SETTINGS)
    assert run.training is None
    assert not run.out.exists()
    assert_same_results(train(again=run, **SETTINGS), unbroken["baseline"])


def test_an_interrupted_distillation_goes_on_with_its_projectors_its_log_and_its_clock(train: Train, unbroken: dict):
    run = train("kd", stop=lambda _, step: step == 5, **SETTINGS)
    (run.checkpoints / "checkpoint-3" / COMPLETE).write_text('{"seconds": 3600}')
    run.logs.clear()
    assert_same_results(train("kd", again=run, **SETTINGS), unbroken["kd"])
    assert min(step for _, step in run.logs) == 4
    assert 60 < run.training.train_minutes < 61
    assert run.training.images_per_second == pytest.approx(36 / (60 * run.training.train_minutes))


@pytest.mark.parametrize(
    ("pieces", "changes"),
    [
        (3, {}),
        pytest.param(99, {"ema": 0.9, "evaluate_every": 2}, marks=pytest.mark.slow),
        pytest.param(99, {"sampling": "class_uniform", "accumulation": 2, "iterations": 8}, marks=pytest.mark.slow),
        pytest.param(99, {"early_stop": {"patience": 1, "share": 0.2}}, marks=pytest.mark.slow),
    ],
    ids=["an epoch", "average", "iterations", "early stop"],
)
def test_a_training_in_pieces_of_one_step_ends_with_the_same_bits(
    train: Train, unbroken: dict, pieces: int, changes: dict
):
    settings = {"train": SETTINGS["train"] | changes}
    run, ends = train("kd", until=0.0, **settings), []
    while run.training is None:
        ends.append(max(int(path.name.split("-")[1]) for path in run.checkpoints.glob("checkpoint-*")))
        train("kd", again=run, until=0.0 if len(ends) < pieces else math.inf, **settings)
    assert ends == list(range(1, len(ends) + 1))
    assert_same_results(run, train("kd", **settings) if changes else unbroken["kd"])


def test_a_half_written_checkpoint_is_deleted_and_the_one_before_it_used(train: Train, unbroken: dict):
    run = train(stop=lambda _, step: step == 8, **SETTINGS)
    (run.checkpoints / "checkpoint-6" / COMPLETE).unlink()
    (run.checkpoints / "checkpoint-6" / "model.safetensors").write_bytes(b"half")
    run.logs.clear()
    assert_same_results(train(again=run, **SETTINGS), unbroken["baseline"])
    assert min(step for _, step in run.logs) == 4


def test_the_newest_whole_checkpoint_is_told_by_its_number_and_broken_ones_are_deleted(tmp_path: Path):
    assert latest_checkpoint(tmp_path / "nowhere") is None
    for step in (9, 10, 100, 101, 102):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name, missing_at in (("trainer_state.json", 101), (COMPLETE, 102)):
            if step != missing_at:
                (folder / name).touch()
    (tmp_path / "best").mkdir()
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-100"
    assert {path.name for path in tmp_path.iterdir()} == {"best", "checkpoint-9", "checkpoint-10", "checkpoint-100"}


def test_a_training_that_diverged_is_one_error_and_writes_nothing(train: Train):
    settings = {"train": {"epochs": 1, "optimizer": {"lr": 1e30, "grad_clip": 0.0}}}
    diverged = r"^row baseline: the training diverged: \d+ of \d+ tensors .*lr \(1e\+30\) or its grad_clip \(0\)$"
    with pytest.raises(EffiSegError, match=diverged):
        train(**settings)


# --- what is written --------------------------------------------------------------------------------------------------


def test_projectors_are_written_for_distilled_rows_alone_and_apart_from_the_models(unbroken: dict):
    assert unbroken["baseline"].files().keys() == MODELS
    assert unbroken["kd"].files().keys() == MODELS | {"projectors.safetensors"}
    projectors = load_file(unbroken["kd"].out / "projectors.safetensors")
    assert set(projectors) == {
        f"{term}.projectors.{i}.{part}" for term in ("cskd", "pekd") for i in range(4) for part in ("weight", "bias")
    }
    # under its own architecture each loads strictly, so neither holds more or less
    plain, distilled = (load_model(run.out / "last").state_dict().keys() for run in unbroken.values())
    assert plain == distilled


@pytest.mark.parametrize("name", ["baseline", "kd"])
def test_last_and_best_score_as_the_history_says(unbroken: dict, data: Prepared, name: str):
    run = unbroken[name]
    history = run.training.history.set_index("epoch")
    for which, epoch in (("last", 3), ("best", run.training.best_epoch)):
        model = load_model(run.out / which)
        scores = evaluate(model, data.val, data.classes, batch_size=4, device=torch.device("cpu")).headline()
        assert scores == history.loc[epoch, list(scores)].to_dict()
    assert history["miou"].max() == history.loc[run.training.best_epoch, "miou"]


def test_best_is_the_first_epoch_with_the_highest_score(train: Train, monkeypatch: pytest.MonkeyPatch):
    scripted, students = [0.1, 0.3, 0.2, 0.3], []

    def evaluate(student: torch.nn.Module, *_: object, **__: object) -> SimpleNamespace:
        miou = scripted[len(students)]
        students.append({name: value.clone() for name, value in student.state_dict().items()})
        return SimpleNamespace(headline=lambda: {"miou": miou, "miou_quarter": miou, "pixel_accuracy": 0.5})

    monkeypatch.setattr(trainer, "evaluate", evaluate)
    run = train(train={"epochs": 4})
    assert run.training.best_epoch == 2
    assert run.training.history["miou"].tolist() == scripted

    def is_saved(student: dict[str, Tensor], which: str) -> bool:
        saved = deploy(load_model(run.out / which)).state_dict()
        return all(torch.equal(value, student[name]) for name, value in saved.items())

    assert [is_saved(student, "best") for student in students] == [False, True, False, False]
    assert [is_saved(student, "last") for student in students] == [False, False, False, True]


def test_without_any_score_the_first_epoch_is_the_best(train: Train, data: Prepared):
    void = Split(data.val.images, np.full_like(data.val.labels, 255), data.val.names)
    run = train(data=replace(data, val=void))
    assert run.training.history["miou"].isna().tolist() == [True, True]
    assert run.training.best_epoch == 1
    assert run.files().keys() == MODELS


# --- first weights from a file ----------------------------------------------------------------------------------------

FILE = {"source": "file", "path": "x"}


def last_of(run: Any) -> Checkpoint:
    return Checkpoint(run.out / "last/model.safetensors", Source(origin="a file", licence="mit"))


@pytest.mark.parametrize("weights", [{}, {"kl": 1.0}], ids=["plain", "a distillation term"])
def test_a_row_of_no_epochs_is_what_it_starts_from_bit_by_bit(train: Train, unbroken: dict, weights: dict):
    run = train(start=FILE, checkpoint=last_of(unbroken["baseline"]), train={"epochs": 0}, loss={"weights": weights})
    expected = load_file(unbroken["baseline"].out / "last/model.safetensors")
    assert run.files().keys() == MODELS
    for which in ("last", "best"):
        found = load_model(run.out / which).state_dict()
        original = load_model(unbroken["baseline"].out / "last").state_dict()
        assert found.keys() == original.keys()
        assert all(torch.equal(value, original[name]) for name, value in found.items())
        saved = load_file(run.out / which / "model.safetensors")
        assert saved.keys() == expected.keys()
    training = run.training
    assert (training.epochs, training.steps, training.best_epoch, training.train_minutes) == (0, 0, 0, 0)
    assert (training.origin, training.licence) == ("a file", "mit")
    assert list(training.history) == ["epoch", "step", "loss", "lr", "miou", "miou_quarter", "pixel_accuracy"]
    assert training.history.empty
    assert run.logs == []
    assert not run.checkpoints.exists()


def test_a_training_goes_on_from_the_weights_of_a_file(train: Train, unbroken: dict):
    still = {"epochs": 1, "optimizer": {"lr": 1e-12, "weight_decay": 0.0}}  # too small a step to move a weight
    run = train(start=FILE, checkpoint=last_of(unbroken["baseline"]), train=still)
    before, after, drawn = (
        load_file(folder / "last/model.safetensors")
        for folder in (unbroken["baseline"].out, run.out, train(train=still).out)
    )
    parameters = [name for name in before if name.endswith("weight") and before[name].ndim > 1]
    assert parameters
    for name in parameters:
        torch.testing.assert_close(after[name], before[name], rtol=1e-6, atol=1e-10)
        assert not torch.allclose(drawn[name], before[name], rtol=1e-3, atol=1e-6)
    assert run.training.origin == "a file"
    assert run.training.steps == 3


# --- the record -------------------------------------------------------------------------------------------------------


def test_the_record_says_what_was_done(unbroken: dict):
    training: Training = unbroken["kd"].training
    assert (training.epochs, training.steps, training.processes) == (3, 9, 1)
    assert (training.precision, training.origin) == ("fp32", "")
    assert training.images_per_second == pytest.approx(36 / (60 * training.train_minutes))
    assert training.peak_memory_mb > 100


@pytest.mark.parametrize(("name", "terms"), [("baseline", ["weighted_ce"]), ("kd", ["weighted_ce", "cskd", "pekd"])])
def test_the_history_has_a_line_per_epoch_with_the_mean_of_what_was_logged(unbroken: dict, name: str, terms: list[str]):
    run = unbroken[name]
    history = run.training.history
    scores = ["miou", "miou_quarter", "pixel_accuracy"]
    assert list(history) == ["epoch", "step", "loss", *terms, "lr", *scores]
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["step"].tolist() == [3, 6, 9]
    for column in ("loss", *terms):
        logged = np.array(run.logged(column))
        assert logged.shape == (9,)
        np.testing.assert_allclose(history[column], logged.reshape(3, 3).mean(axis=1))
    assert history["lr"].tolist() == run.logged("learning_rate")[2::3]
    for column in scores:
        assert history[column].tolist() == run.logged(column)
    np.testing.assert_allclose(history["loss"], history[terms].sum(axis=1), rtol=1e-6)


def test_losses_logged_over_more_steps_weigh_more():
    state = TrainerState()
    state.log_history = [
        {"epoch": 0.5, "step": 4, "loss": 1.0, "dice": 2.0, "learning_rate": 0.4},
        {"epoch": 1.0, "step": 5, "loss": 6.0, "dice": 7.0, "learning_rate": 0.3},
        {"epoch": 1.0, "step": 5, "eval_miou": 0.1, "eval_miou_quarter": 0.2, "eval_pixel_accuracy": 0.3},
        {"epoch": 1.8, "step": 9, "loss": 3.0, "dice": 3.0, "learning_rate": 0.2},
        {"epoch": 2.0, "step": 10, "loss": 8.0, "dice": 13.0, "learning_rate": 0.1},
        {"epoch": 2.0, "step": 10, "eval_miou": 0.4, "eval_miou_quarter": 0.5, "eval_pixel_accuracy": 0.6},
        {"epoch": 2.0, "step": 10, "train_loss": 9.0},
    ]
    history = epoch_history(state, ["dice"])
    assert history.to_dict("list") == {
        "epoch": [1, 2],
        "step": [5, 10],
        "loss": [2.0, 4.0],
        "dice": [3.0, 5.0],
        "lr": [0.3, 0.1],
        "miou": [0.1, 0.4],
        "miou_quarter": [0.2, 0.5],
        "pixel_accuracy": [0.3, 0.6],
    }
