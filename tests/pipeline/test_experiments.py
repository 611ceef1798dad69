"""DVC experiments: new rows and changed settings from the command line, in a temporary folder, and in the queue."""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.study import Study, ran, restored

NEW_ROW = ("-S", "+experiments.mine={train: {optimizer: {lr: 0.002}}}", "-S", "study.experiments=[baseline,mine]")
MINE = {"rows", "train@mine-0", "evaluate@mine-0", "profile@mine-0", "deploy@mine-0"}
QUEUED = {"fresh": NEW_ROW}


@pytest.fixture(scope="module")
def queued(module_copy: Study) -> Iterator[Study]:
    """A new row, queued and run."""
    yield from run_queue(module_copy, QUEUED, jobs=1)


def run_queue(study: Study, queued: Mapping[str, Sequence[str]], jobs: int) -> Iterator[Study]:
    """Queue experiments, by name their settings, run them by so many workers, and give the study."""
    for name, settings in queued.items():
        study.dvc("exp", "run", "--queue", "--name", name, *settings)
    # as many threads as without a setting, so that trainings side by side really compete
    study.dvc("queue", "start", "--jobs", str(jobs), OMP_NUM_THREADS=str(os.cpu_count()))
    try:
        _wait_for_queue(study, len(queued))
        yield study
    finally:
        study.dvc("queue", "stop", "--kill", check=False)


@pytest.fixture(scope="module")
def shown(queued: Study) -> dict[str, Any]:
    """Experiment name -> what `dvc exp show` tells of it."""
    table = json.loads(queued.dvc("exp", "show", "--json").stdout)
    experiments = [experiment for commit in table for experiment in commit["experiments"] or []]
    return {experiment["name"]: experiment["revs"][0]["data"] for experiment in experiments}


@pytest.mark.slow
def test_a_queued_experiment_succeeds(queued: Study) -> None:
    assert queue_of(queued) == dict.fromkeys(QUEUED, "Success")


@pytest.mark.slow
def test_a_new_row_from_the_command_line_runs_alone(queued: Study) -> None:
    log = queued.dvc("queue", "logs", "fresh").stdout

    assert set(ran(log)) == {*MINE, "fetch", "predict", "deployment", "report"}


@pytest.mark.slow
def test_artifacts_of_experiments_stay_in_the_repository(queued: Study) -> None:
    places = queued.query("SELECT name, artifact_uri FROM runs WHERE name LIKE 'report/%'")

    assert {name for name, _ in places} == {"report/fresh"}
    for _, place in places:
        assert place.startswith((queued.folder / "mlartifacts").as_uri())
        assert list(Path(place.removeprefix("file://")).rglob("comparison.csv"))


@pytest.mark.slow
def test_experiments_are_shown_with_their_settings_and_scores(shown: dict[str, Any]) -> None:
    assert set(shown) == set(QUEUED)
    assert shown["fresh"]["params"]["params.yaml"]["data"]["experiments"]["mine"]["train"]["optimizer"]["lr"] == 0.002
    assert 0 <= shown["fresh"]["metrics"]["runs/mine-0/metrics.json"]["data"]["miou"] <= 1


@pytest.mark.slow
def test_plots_are_written(queued: Study) -> None:
    queued.dvc("plots", "show", "--out", "plots")

    assert "baseline-0" in (queued.folder / "plots/index.html").read_text()


def test_an_experiment_in_the_workspace_changes_its_params_and_report(module_copy: Study) -> None:
    done = module_copy.dvc("exp", "run", "--name", "here", *NEW_ROW).stdout

    # restored where the queue has run it before; what persists is in no run cache
    assert {*ran(done), *restored(done)} == {*MINE, "fetch", "predict", "deployment", "report"}
    assert "mine" in module_copy.git("diff", "params.yaml")
    assert "mine" in (module_copy.folder / "reports/comparison.csv").read_text()


@pytest.mark.slow
def test_the_same_experiment_in_a_temporary_folder_comes_from_the_run_cache(queued: Study) -> None:
    """The last of all here, as it adds to what DVC and MLflow show."""
    done = queued.dvc("exp", "run", "--temp", "--name", "again", *NEW_ROW).stdout

    assert set(restored(done)) == {*MINE, "predict"}
    assert set(ran(done)) == {"fetch", "deployment", "report"}  # what persists is in no run cache
    # what comes from the run cache makes no second run
    names = [name for (name,) in queued.query("SELECT name FROM runs WHERE name LIKE '%/again'")]
    assert Counter(names) == Counter(["report/again", "deployment/again"])


def queue_of(study: Study) -> dict[str, str]:
    """Name -> status of every queued experiment."""
    lines = (line.split() for line in study.dvc("queue", "status").stdout.splitlines())
    return {words[1]: words[-1] for words in lines if words and words[-1] in ("Queued", "Running", "Success", "Failed")}


def _wait_for_queue(study: Study, count: int) -> None:
    # asking DVC would take as much of the processor as a training
    last = "SELECT count(*) FROM runs WHERE (name LIKE 'report/%' OR name LIKE 'deployment/%') AND end_time IS NOT NULL"
    for _ in range(600):
        (ended,) = study.query(last)
        if ended[0] == 2 * count:
            break
        time.sleep(0.5)
    for _ in range(20):
        statuses = queue_of(study)
        if not {"Queued", "Running"} & set(statuses.values()):
            return
        time.sleep(1)
    raise AssertionError(f"the queue still runs: {statuses}")
