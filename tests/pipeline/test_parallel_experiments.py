"""Two experiments of DVC's queue side by side: neither chokes the other, and what they leave is told apart."""

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.pipeline.study import Study
from tests.pipeline.test_experiments import NEW_ROW, queue_of, run_queue

pytestmark = pytest.mark.slow
QUEUED = {"weak": ("-S", "experiments.kd.loss.weights.cskd=0.5"), "fresh": NEW_ROW}


@pytest.fixture(scope="module")
def queued(module_copy: Study) -> Iterator[Study]:
    """A changed loss and a new row, queued and run by two workers."""
    yield from run_queue(module_copy, QUEUED, jobs=2)


def test_both_succeed(queued: Study) -> None:
    assert queue_of(queued) == dict.fromkeys(QUEUED, "Success")


def test_experiments_are_in_the_repositorys_mlflow_under_their_names(queued: Study) -> None:
    names = [name for (name,) in queued.query("SELECT name FROM runs WHERE name LIKE '%/%'")]
    ends = ("predict", "deployment", "report")
    weak = {f"{stage}/weak" for stage in ("kd-0", *ends)}
    fresh = {f"{stage}/fresh" for stage in ("mine-0", *ends)}

    assert Counter(names) == Counter(weak | fresh)


def test_parallel_trainings_do_not_choke_each_other(queued: Study) -> None:
    minutes = dict(
        queued.query(
            "SELECT name, value FROM runs JOIN latest_metrics USING (run_uuid) "
            "WHERE key = 'train_minutes' AND name IN ('kd-0', 'kd-0/weak', 'baseline-0', 'mine-0/fresh')"
        )
    )

    assert minutes["kd-0/weak"] < 10 * minutes["kd-0"]
    assert minutes["mine-0/fresh"] < 10 * minutes["baseline-0"]


def test_metrics_of_an_experiment_differ_from_those_of_the_study(queued: Study) -> None:
    difference = json.loads(queued.dvc("metrics", "diff", "--json", "main", "weak").stdout)

    assert set(difference) == {"runs/kd-0/metrics.json"}
