"""Rows and the teacher: the base merged with what they say, and nothing of it to be changed afterwards."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from effiseg.config import merge


def test_a_row_is_the_base_but_for_what_it_says(shipped):
    base, row = shipped.row("baseline"), shipped.row("tanh")
    assert (base.model, base.loss, base.train) == (shipped.model, shipped.loss, shipped.train)
    assert row.model.norms.patch_embedding == "dyt"
    assert row.model.norms.block == base.model.norms.block
    assert row.model.model_dump(exclude={"norms"}) == base.model.model_dump(exclude={"norms"})
    assert (row.loss, row.train) == (base.loss, base.train)


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


def test_the_teacher_trains_as_the_baseline_but_for_its_overrides(shipped, load, shipped_content, edited):
    row = shipped.teacher_row()
    assert row.train.optimizer.lr == shipped_content["teacher"]["overrides"]["optimizer"]["lr"]
    own = {"optimizer": {"lr": row.train.optimizer.lr}}
    assert row.train.model_dump() == merge(shipped.train.model_dump(), own)
    assert row.model.variant == "b2"
    assert set(row.model.norms.model_dump().values()) == {"layernorm"}
    deep = load(edited({"teacher.overrides": {"optimizer": {"lr": 0.5}}})).teacher_row().train
    assert deep.optimizer.lr == 0.5
    assert deep.optimizer.betas == shipped.train.optimizer.betas


def test_the_teacher_has_plain_norms_and_its_own_normalisation(load, edited):
    changes = {"model.norms.block": "dyl", "teacher.mean": [0.0, 0.5, 1.0], "teacher.std": [1.0, 2.0, 3.0]}
    model = load(edited(changes)).teacher_row().model
    assert set(model.norms.model_dump().values()) == {"layernorm"}
    assert (model.mean, model.std) == ([0.0, 0.5, 1.0], [1.0, 2.0, 3.0])


def distilling_base(edited: Callable[..., dict[str, Any]], own: float) -> dict[str, Any]:
    study = {"study.experiments": [], "study.distillation": ["baseline"]}
    return edited({"loss.weights.kl": 1.0, "loss.weights.weighted_ce": own, **study})


def test_the_teacher_learns_from_labels_alone_even_when_the_base_distils(load, refused, edited):
    row = load(distilling_base(edited, own=1.0)).teacher_row()
    assert row.loss.weights.active() == {"weighted_ce": 1.0}
    assert not row.loss.needs_teacher
    refused(distilling_base(edited, own=0.0), "teacher", "labels alone", "loss.weights")


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
