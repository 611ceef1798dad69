"""Rows and the teacher: the base merged with what they say, and nothing of it to be changed afterwards."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from effiseg.base.config import merge


def test_a_row_is_the_base_but_for_what_it_says(shipped):
    base, row = shipped.row("baseline"), shipped.row("tanh")
    assert (base.model, base.start, base.loss, base.train) == (
        shipped.model,
        shipped.start,
        shipped.loss,
        shipped.train,
    )
    assert row.model.norms.patch_embedding == "dyt"
    assert row.model.norms.block == base.model.norms.block
    assert row.model.model_dump(exclude={"norms"}) == base.model.model_dump(exclude={"norms"})
    assert (row.start, row.loss, row.train) == (base.start, base.loss, base.train)


def test_a_change_of_the_base_reaches_every_row_that_does_not_overrule_it(load, edited):
    row = {"train": {"optimizer": {"lr": 0.5}}}
    config = load(edited({"train.optimizer.lr": 0.25, "train.optimizer.eps": 0.125, "experiments.own": row}))
    assert config.row("kd").train.optimizer.lr == 0.25
    assert config.row("own").train.optimizer.lr == 0.5
    assert config.row("own").train.optimizer.eps == 0.125


def test_mappings_merge_key_by_key_and_all_else_is_replaced():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 2, "e": {"f": 1}}
    assert merge(base, {"a": {"c": [3]}, "d": {"x": 1}, "e": 5, "new": 6}) == {
        "a": {"b": 1, "c": [3]},
        "d": {"x": 1},
        "e": 5,
        "new": 6,
    }


TREES = st.recursive(
    st.integers() | st.lists(st.integers()),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=8,
)
MAPPINGS = st.dictionaries(st.sampled_from("abc"), TREES)


@given(MAPPINGS, MAPPINGS)
def test_merging_changes_neither_side_and_the_second_wins(base, differences):
    before = copy.deepcopy((base, differences))
    merged = merge(base, differences)
    assert (base, differences) == before
    assert merge(merged, differences) == merged
    assert merge(base, {}) == base
    assert merge({}, differences) == differences
    assert merged.keys() == base.keys() | differences.keys()


def test_the_teacher_is_the_base_but_for_its_lines(shipped, shipped_content):
    row, lines = shipped.row("teacher"), shipped_content["experiments"]["teacher"]
    assert lines["train"]["optimizer"]["lr"] != shipped.train.optimizer.lr
    assert row.train.model_dump() == merge(shipped.train.model_dump(), lines["train"])
    assert row.start.model_dump() == merge(shipped.start.model_dump(), lines["start"])
    assert (row.model.variant, shipped.model.variant) == ("b2", "b0")
    assert row.model.model_dump(exclude={"variant"}) == shipped.model.model_dump(exclude={"variant"})
    assert set(row.model.norms.model_dump().values()) == {"layernorm"}
    assert row.loss == shipped.loss


def test_the_teachers_lines_are_its_alone_and_merge_deeply(load, shipped, edited):
    own = {"mean": [0.0, 0.5, 1.0], "std": [1.0, 2.0, 3.0]}
    lines = {"model": own, "train": {"optimizer": {"lr": 0.5}}}
    config = load(edited({"model.norms.block": "dyl", "experiments.teacher": lines}))
    row, other = config.row("teacher"), config.row("baseline")
    assert (row.model.mean, row.model.std) == (own["mean"], own["std"])
    assert (other.model.mean, other.model.std) == (shipped.model.mean, shipped.model.std)
    assert row.model.norms.block == other.model.norms.block == "dyl"
    assert (row.train.optimizer.lr, other.train.optimizer.lr) == (0.5, shipped.train.optimizer.lr)
    assert row.train.optimizer.betas == shipped.train.optimizer.betas


def distilling_base(edited: Callable[..., dict[str, Any]], **teacher: Any) -> dict[str, Any]:
    study = {"study.experiments": [], "study.distillation": ["baseline"]}
    return edited({"loss.weights.kl": 1.0, "experiments.teacher": teacher, **study})


def test_a_trained_teacher_must_learn_from_labels_alone_even_when_the_base_distils(load, refused, edited):
    told = "study.teachers: row 'teacher' has a distillation weight (kl) and so needs the teacher; set it to 0"
    refused(distilling_base(edited), told)
    config = load(distilling_base(edited, loss={"weights": {"kl": 0.0}}))
    assert config.row("teacher").loss.weights.active() == {"weighted_ce": 1.0}
    assert not config.row("teacher").loss.needs_teacher
    assert config.row("baseline").loss.needs_teacher


def test_a_fetched_teacher_learns_nothing_so_a_base_that_distils_serves(load, edited):
    config = load(distilling_base(edited, start={"source": "file", "path": "x"}, train={"epochs": 0}))
    assert "loss" not in config.row("teacher").used()
    assert config.teacher_of("baseline") == ("teacher", 0)


@pytest.mark.parametrize(
    "path", ["data", "data.root", "model.norms.block", "train.optimizer.lr", "study.seeds", "experiments"]
)
def test_no_attribute_can_be_set(shipped, path):
    *parents, last = path.split(".")
    section = shipped
    for name in parents:
        section = getattr(section, name)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(section, last, getattr(section, last))


def test_a_row_cannot_be_changed_and_shares_nothing_with_the_configuration(load, shipped_content):
    config = load(shipped_content)
    row = config.row("kd")
    with pytest.raises(ValidationError, match="frozen"):
        row.train.epochs = 1
    row.train.optimizer.betas[0] = 0.0
    row.loss.weights.active()["kl"] = 1.0
    assert config.row("kd").train.optimizer.betas == shipped_content["train"]["optimizer"]["betas"]
