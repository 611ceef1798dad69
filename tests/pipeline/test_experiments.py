"""DVC experiments: new rows and changed settings from the command line, in a temporary folder, and in the queue."""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.study import Study, ran, restored

NEW_ROW = ("-S", "+experiments.mine={train: {optimizer: {lr: 0.002}}}", "-S", "study.experiments=[baseline,mine]")
MINE = {"rows", "train@mine-0", "evaluate@mine-0", "profile@mine-0", "deploy@mine-0"}
QUEUED = {"weak": ("-S", "experiments.kd.loss.weights.cskd=0.5"), "fresh": NEW_ROW}


@pytest.fixture(scope="module")
def queued(module_copy: Study) -> Iterator[Study]:
    """A changed loss and a new row, queued and run by two workers."""
    for name, settings in QUEUED.items():
        module_copy.dvc("exp", "run", "--queue", "--name", name, *settings)
    # as many threads as without a setting, so that the two trainings really compete
    module_copy.dvc("queue", "start", "--jobs", "2", OMP_NUM_THREADS=str(os.cpu_count()))
    try:
        _wait_for_queue(module_copy)
        yield module_copy
    finally:
        module_copy.dvc("queue", "stop", "--kill", check=False)


@pytest.fixture(scope="module")
def shown(queued: Study) -> dict[str, Any]:
    """Experiment name -> what `dvc exp show` tells of it."""
    table = json.loads(queued.dvc("exp", "show", "--json").stdout)
    experiments = [experiment for commit in table for experiment in commit["experiments"] or []]
    return {experiment["name"]: experiment["revs"][0]["data"] for experiment in experiments}


def test_queued_experiments_both_succeed(queued: Study) -> None:
    assert _queue(queued) == dict.fromkeys(QUEUED, "Success")


def test_a_new_row_from_the_command_line_runs_alone(queued: Study) -> None:
    log = queued.dvc("queue", "logs", "fresh").stdout

    assert set(ran(log)) == {*MINE, "fetch", "predict", "deployment", "report"}


def test_experiments_are_in_the_repositorys_mlflow_under_their_names(queued: Study) -> None:
    names = [name for (name,) in queued.query("SELECT name FROM runs WHERE name LIKE '%/%'")]
    ends = ("predict", "deployment", "report")
    weak = {f"{stage}/weak" for stage in ("kd-0", *ends)}
    fresh = {f"{stage}/fresh" for stage in ("mine-0", *ends)}

    assert Counter(names) == Counter(weak | fresh)


def test_artifacts_of_experiments_stay_in_the_repository(queued: Study) -> None:
    places = queued.query("SELECT name, artifact_uri FROM runs WHERE name LIKE 'report/%'")

    assert {name for name, _ in places} == {"report/weak", "report/fresh"}
    for _, place in places:
        assert place.startswith((queued.folder / "mlartifacts").as_uri())
        assert list(Path(place.removeprefix("file://")).rglob("comparison.csv"))


def test_parallel_trainings_do_not_choke_each_other(queued: Study) -> None:
    minutes = dict(
        queued.query(
            "SELECT name, value FROM runs JOIN latest_metrics USING (run_uuid) "
            "WHERE key = 'train_minutes' AND name IN ('kd-0', 'kd-0/weak', 'baseline-0', 'mine-0/fresh')"
        )
    )

    assert minutes["kd-0/weak"] < 10 * minutes["kd-0"]
    assert minutes["mine-0/fresh"] < 10 * minutes["baseline-0"]


def test_experiments_are_shown_with_their_settings_and_scores(shown: dict[str, Any]) -> None:
    assert set(shown) == set(QUEUED)
    assert shown["weak"]["params"]["params.yaml"]["data"]["experiments"]["kd"]["loss"]["weights"]["cskd"] == 0.5
    assert 0 <= shown["fresh"]["metrics"]["runs/mine-0/metrics.json"]["data"]["miou"] <= 1


def test_metrics_of_an_experiment_differ_from_those_of_the_study(queued: Study) -> None:
    difference = json.loads(queued.dvc("metrics", "diff", "--json", "main", "weak").stdout)

    assert set(difference) == {"runs/kd-0/metrics.json"}


def test_plots_are_written(queued: Study) -> None:
    queued.dvc("plots", "show", "--out", "plots")

    assert "baseline-0" in (queued.folder / "plots/index.html").read_text()


def test_an_experiment_in_the_workspace_changes_its_params_and_report(queued: Study) -> None:
    done = queued.dvc("exp", "run", "--name", "here", *NEW_ROW).stdout

    assert set(restored(done)) == {*MINE, "predict"}
    assert set(ran(done)) == {"fetch", "deployment", "report"}  # what persists is in no run cache
    assert "mine" in queued.git("diff", "params.yaml")
    assert "mine" in (queued.folder / "reports/comparison.csv").read_text()


@pytest.mark.slow
def test_the_same_experiment_in_a_temporary_folder_comes_from_the_run_cache(queued: Study) -> None:
    """The last of all here, as it adds to what DVC and MLflow show."""
    done = queued.dvc("exp", "run", "--temp", "--name", "again", *NEW_ROW).stdout

    assert set(restored(done)) == {*MINE, "predict"}
    assert set(ran(done)) == {"fetch", "deployment", "report"}  # what persists is in no run cache
    # what comes from the run cache makes no second run
    names = [name for (name,) in queued.query("SELECT name FROM runs WHERE name LIKE '%/again'")]
    assert Counter(names) == Counter(["report/again", "deployment/again"])


def _queue(study: Study) -> dict[str, str]:
    """Name -> status of every queued experiment."""
    lines = (line.split() for line in study.dvc("queue", "status").stdout.splitlines())
    return {words[1]: words[-1] for words in lines if len(words) > 2 and words[1] in QUEUED}


def _wait_for_queue(study: Study) -> None:
    # asking DVC would take as much of the processor as a training
    last = "SELECT count(*) FROM runs WHERE (name LIKE 'report/%' OR name LIKE 'deployment/%') AND end_time IS NOT NULL"
    for _ in range(600):
        (ended,) = study.query(last)
        if ended[0] == 2 * len(QUEUED):
            break
        time.sleep(0.5)
    for _ in range(20):
        statuses = _queue(study)
        if not {"Queued", "Running"} & set(statuses.values()):
            return
        time.sleep(1)
    raise AssertionError(f"the queue still runs: {statuses}")
