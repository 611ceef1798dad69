"""Rows that start from what another run of the study has learned."""

import pytest

from tests.pipeline.study import Study

START = {"source": "run", "run": "baseline-0"}


@pytest.fixture(scope="module")
def copy(module_copy: Study) -> Study:
    """A copy in which the rows below have run."""
    rows = {
        "experiments.same": {"start": START, "train": {"epochs": 0}},
        "experiments.again": {"start": START},
        "study": {"origin": "baseline-0", "continued": ["same", "again"]},
    }
    module_copy.edit(rows)
    module_copy.log = module_copy.dvc("repro", "evaluate_continued@same-0", "evaluate_continued@again-0").stdout
    return module_copy


def test_they_run_after_it_and_nothing_else_runs(copy: Study) -> None:
    ran = {
        "rows",
        "fetch",
        *(f"{stage}_continued@{row}-0" for stage in ("train", "evaluate") for row in ("same", "again")),
    }
    assert {line.split("'")[1] for line in copy.log.splitlines() if line.startswith("Running stage")} == ran


def test_one_that_is_not_trained_scores_what_the_run_scored_to_the_last_digit(copy: Study) -> None:
    same, origin = (copy.json(f"runs/{name}-0/metrics.json") for name in ("same", "baseline"))
    assert {key: same[key] for key in same if "best" not in key} == {
        key: origin[key] for key in origin if "best" not in key
    }
    record, before = (copy.json(f"runs/{name}-0/record.json") for name in ("same", "baseline"))
    assert record["weights_digest"] == record["start_digest"] == before["weights_digest"]
    assert (record["origin"], record["epochs"]) == ("run baseline-0", 0)


def test_one_that_is_trained_begins_there(copy: Study) -> None:
    again, origin = (copy.json(f"runs/{name}-0/record.json") for name in ("again", "baseline"))
    assert again["start_digest"] == origin["weights_digest"] != again["weights_digest"]
    assert again["start"].endswith("tensors loaded")


@pytest.mark.slow
def test_an_edit_of_the_run_reruns_them_and_what_others_start_from_reruns_nothing(copy: Study) -> None:
    copy.commit("Continued")
    copy.edit({"experiments.kd": {"start": {"source": "run", "run": "teacher-0"}, "loss": {"weights": {"cskd": 1.0}}}})
    stale = copy.stale()
    assert {"distill@kd-0", "evaluate_distilled@kd-0"} <= stale
    of_others = [stage for stage in stale if stage.split("@")[-1] in ("baseline-0", "same-0", "teacher-0")]
    assert [stage for stage in of_others if stage.startswith(("train", "teach", "evaluate"))] == []
    copy.git("checkout", "params.yaml")
    copy.edit({"experiments.baseline": {"train": {"optimizer": {"lr": 0.002}}}})
    assert {"train_continued@same-0", "train_continued@again-0"} <= copy.stale()
