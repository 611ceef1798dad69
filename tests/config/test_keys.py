"""Keys of params.yaml: unknown, missing and odd ones, and what cannot be any key's value."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from effiseg.base.config import Config, load_config, read_yaml
from effiseg.base.errors import EffiSegError


def sections_of(kind: type[BaseModel], path: str = "") -> list[tuple[str, type[BaseModel]]]:
    found = [(path, kind)]
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += sections_of(field.annotation, f"{path}.{name}".lstrip("."))
    return found


SECTIONS = sections_of(Config)
ROWS = tuple(read_yaml(Path(__file__).parents[2] / "params.yaml")["experiments"])
KEYS = [f"{path}.{name}".lstrip(".") for path, kind in SECTIONS for name in kind.model_fields]


@pytest.mark.parametrize(("path", "kind"), SECTIONS, ids=[path or "top" for path, _ in SECTIONS])
def test_an_unknown_key_of_any_section_is_named_beside_the_allowed_ones(refused, edited, path, kind):
    key = f"{path}.typo".lstrip(".")
    refused(edited({key: 1}), f" {key}: unknown key; allowed here: {', '.join(kind.model_fields)}")


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("experiments.kd.typo", "model, start, loss and train"),
        ("experiments.kd.name", "model, start, loss and train"),
        ("experiments.kd.data", "model, start, loss and train"),
        ("experiments.kd.model.typo", "variant, embedding, norms"),
        ("experiments.kd.model.norms.typo", "patch_embedding, block"),
        (
            "experiments.kd.loss.weights.typo",
            "weighted_ce, ce, dice, focal, tversky, focal_tversky, kl, cwd, dist, cskd, pekd, feature_mse",
        ),
        ("experiments.kd.train.optimizer.typo", "lr, head_lr, layer_decay, weight_decay"),
        ("experiments.kd.start.typo", "source, part, repo, revision, gdrive_id, url, path, run, sha256"),
        ("experiments.kd.train.train", "epochs, iterations, evaluate_every, batch_size"),
        ("experiments.kd.train.augment.typo", "flip, scale, crop, colour"),
    ],
)
def test_an_unknown_key_of_a_row_is_named_beside_the_allowed_ones(refused, edited, key, allowed):
    refused(edited({key: {}}), f" {key}: unknown key", allowed)


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key_is_named(refused, edited, key):
    refused(edited({key: ...}), f" {key}: missing")


@pytest.mark.parametrize("value", [None, [None], {"a": {1, 2}}], ids=["null", "list", "mapping"])
@pytest.mark.parametrize("key", KEYS)
def test_what_cannot_be_any_value_is_refused_at_every_key(refused, edited, key, value):
    refused(edited({key: value}), f" {key}")


@pytest.mark.parametrize("key", [1, 1.5, None, True])
def test_a_key_that_is_no_text_is_refused_wherever_it_stands(refused, shipped_content, edited, key):
    refused({**shipped_content, key: 1}, "should be")
    refused(edited({"experiments": {**shipped_content["experiments"], key: {}}}), "should be")
    for path in ("data", "experiments.kd", "experiments.kd.model", "experiments.teacher.start", "loss.weights"):
        parent = shipped_content
        for part in path.split("."):
            parent = parent.get(part, {})
        refused(edited({path: {**parent, key: 1}}), f" {path}.", "should be")


PIECES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@given(key=st.sampled_from([*KEYS, *(f"experiments.{name}" for name in ROWS)]), value=PIECES)
def test_any_value_anywhere_loads_or_is_refused_in_one_line(edited, write_yaml, tmp_path_factory, key, value):
    path = tmp_path_factory.mktemp("any") / "params.yaml"
    write_yaml(edited({key: value}), path)
    try:
        load_config(path)
    except EffiSegError as error:
        assert "\n" not in str(error)
