"""What a row's weights depend on: a setting that a row does not use must not change it, one that it uses must."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from effiseg.base.config import Config

Load, Edited = Callable[[Any], Config], Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def changed(load: Load, edited: Edited) -> Callable[[dict[str, Any]], set[str]]:
    """The rows whose used settings an edit of the shipped file changes."""

    def find(changes: dict[str, Any]) -> set[str]:
        before, after = load(edited({})), load(edited(changes))
        return {name for name in before.experiments if before.row(name).used() != after.row(name).used()}

    return find


@pytest.fixture(scope="session")
def rows_with(shipped_content: dict[str, Any]) -> Callable[..., set[str]]:
    """The rows that set one of these weights above 0, as the file says."""

    def find(*terms: str) -> set[str]:
        weights = {name: row.get("loss", {}).get("weights", {}) for name, row in shipped_content["experiments"].items()}
        return {name for name, own in weights.items() if any(own.get(term, 0) > 0 for term in terms)}

    return find


@pytest.mark.parametrize(
    ("key", "value", "terms"),
    [
        ("loss.dice.smooth", 2.0, ["dice"]),
        ("loss.focal.gamma", 3.0, ["focal"]),
        ("loss.tversky.alpha", 0.4, ["tversky", "focal_tversky"]),
        ("loss.tversky.smooth", 2.0, ["tversky", "focal_tversky"]),
        ("loss.focal_tversky.gamma", 2.0, ["focal_tversky"]),
        ("loss.kl.temperature", 8.0, ["kl"]),
        ("loss.cwd.temperature", 2.0, ["cwd"]),
        ("loss.dist.beta", 2.0, ["dist"]),
        ("loss.cskd.lambda_m", 0.25, ["cskd"]),
        ("loss.cskd.stage_weights", [1.0, 1.0, 1.0, 0.5], ["cskd"]),
        ("loss.pekd.stage_weights", [1.0, 1.0, 1.0, 1.0], ["pekd"]),
        ("loss.feature_mse.stage_weights", [0.5, 1.0, 1.0, 1.0], ["feature_mse"]),
    ],
)
def test_a_terms_settings_are_used_by_the_rows_with_the_term_alone(changed, rows_with, key, value, terms):
    expected = rows_with(*terms)
    assert expected
    overruled = {"kl_t4", "kd_kl"} if key == "loss.kl.temperature" else set()  # which have their own
    assert changed({key: value}) == expected - overruled


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.optimizer.lr", 1e-3),
        ("train.augment.flip", 0.25),
        ("train.batch_size", 4),
        ("train.precision", "bf16"),
        ("loss.weights.ce", 0.125),
        ("loss.resolution", "quarter"),
    ],
)
def test_what_training_follows_is_used_by_every_trained_row_and_by_no_fetched_one(changed, shipped, key, value):
    overruled = {"loss.weights.ce": {"ce"}, "loss.resolution": {"quarter"}}.get(key, set())
    assert changed({key: value}) == set(shipped.experiments) - {"teacher"} - overruled


def test_a_weight_of_the_base_is_used_by_the_rows_that_do_not_overrule_it(changed, rows_with, shipped):
    plain = {name for name in shipped.experiments if shipped.row(name).loss.weights.weighted_ce} - {"teacher"}
    assert {"baseline", "tanh", "kd"} <= plain
    assert "dice" not in plain
    assert changed({"loss.weights.weighted_ce": 0.5}) == plain


def test_the_networks_settings_are_used_by_every_row(changed, shipped):
    assert changed({"model.mean": [0.5, 0.5, 0.5]}) == set(shipped.experiments)


def test_a_rows_own_line_is_used_by_it_alone(changed):
    assert changed({"experiments.tanh.model.norms.block": "dyt"}) == {"tanh"}
    assert changed({"experiments.kd.loss.weights.pekd": 0.5}) == {"kd"}
    assert changed({"experiments.teacher.start.part": "selected"}) == {"teacher"}
    # seen by what is fetched, not by where it is fetched from
    assert changed({"experiments.teacher.start.path": "elsewhere"}) == set()
    assert changed({"experiments.teacher.start.sha256": "a" * 64}) == set()
    assert changed({"experiments.teacher.train.optimizer.lr": 0.5}) == set()  # not trained


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("start.path", "x"),  # of no use to drawn weights, and the teacher has its own
        ("start.url", "http://x"),
        ("start.gdrive_id", "x"),
        ("start.repo", "a/b"),
        ("start.revision", "v2"),
        ("start.sha256", "b" * 64),
        ("start.run", "baseline-0"),
        ("train.early_stop.share", 0.5),  # nothing stops early
        ("data.root", "/x"),
        ("study.seeds", [5]),
        ("study.min_teacher_miou", 0.5),
        ("profile.repeats", 9),
        ("report.panels", 2),
    ],
)
def test_what_no_row_uses_changes_none(changed, key, value):
    assert changed({key: value}) == set()


SHA256 = "c" * 64
START = {"repo": "a/b", "revision": "v2", "gdrive_id": "id", "url": "http://x", "path": "x", "sha256": SHA256}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("drawn", {}),
        ("run", {}),
        ("file", {"source": "file", "path": "x", "sha256": SHA256}),
        ("url", {"source": "url", "url": "http://x", "sha256": SHA256}),
        ("gdrive", {"source": "gdrive", "gdrive_id": "id", "sha256": SHA256}),
        ("huggingface", {"source": "huggingface", "repo": "a/b", "revision": "v2", "sha256": SHA256}),
    ],
)
def test_the_address_holds_what_the_source_reads_and_the_settings_which_part(
    load: Load, edited: Edited, source: str, expected: dict
):
    row = load(edited({"experiments.new": {"start": START | {"source": source, "run": "baseline-0"}}})).row("new")
    assert row.start.address == expected
    assert row.used()["start"] == ({"source": "drawn"} if source == "drawn" else {"part": "network"})


def test_a_fetched_row_uses_its_network_and_its_part_alone(shipped: Config):
    row = shipped.row("teacher")
    assert row.used() == {
        "model": row.model.model_dump(exclude={"draw", "alpha_init"}),
        "start": {"part": "network"},
        "train": {"epochs": 0},
    }


def test_a_trained_row_names_its_terms_with_their_settings(shipped: Config):
    tversky = {"alpha": 0.3, "beta": 0.7, "smooth": 1.0}
    assert shipped.row("ce").used()["loss"] == {"resolution": "label", "weights": {"ce": 1.0}}
    assert shipped.row("focal_tversky").used()["loss"] == {
        "resolution": "label",
        "weights": {"focal_tversky": 1.0},
        "tversky": tversky,
        "focal_tversky": {"gamma": 1.3333},
    }
    assert shipped.row("tversky").used()["loss"] == {
        "resolution": "label",
        "weights": {"tversky": 1.0},
        "tversky": tversky,
    }
    assert shipped.row("kd").used()["train"] == shipped.train.model_dump(exclude={"early_stop"})
    assert shipped.row("kd").used()["start"] == {"source": "drawn"}


def test_what_is_used_goes_through_json_unchanged(shipped: Config):
    for name in shipped.experiments:
        used = shipped.row(name).used()
        assert json.loads(json.dumps(used)) == used


def test_alphas_first_value_is_used_where_a_norm_has_an_alpha(changed):
    with_alpha = changed({"model.alpha_init": 0.25})
    assert {"tanh", "tanh_linear", "derf", "combined"} <= with_alpha
    assert not {"baseline", "kd", "teacher"} & with_alpha


def test_iterations_stand_in_place_of_epochs_and_what_stops_counts_where_something_does(load: Load, edited: Edited):
    train = load(edited({"train.iterations": 9, "train.early_stop.patience": 2})).row("baseline").used()["train"]
    assert "epochs" not in train
    assert train["early_stop"] == {"patience": 2, "share": 0.1}
