"""deploy/services for real: PostgreSQL, an S3-compatible store, MLflow by its own script, and a DVC remote."""

import json
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psycopg2
import pytest

from tests.deploy.conftest import Tracked
from tests.pipeline.study import environment
from tests.services import SERVE

pytestmark = pytest.mark.slow

LOAD = """
import mlflow, numpy
model = mlflow.pyfunc.load_model("runs:/{run}/model")
print(model.predict(numpy.zeros((2, 32, 64, 3), numpy.uint8)).shape)
"""


def test_runs_and_metrics_are_in_postgresql(tracked: Tracked) -> None:
    runs = _query(tracked, "SELECT name, status FROM runs")
    metrics = dict(
        _query(
            tracked,
            "SELECT m.key, m.value FROM latest_metrics m JOIN runs r ON m.run_uuid = r.run_uuid WHERE r.name = %s",
            "baseline-0",
        )
    )
    written = tracked.study.json("runs/baseline-0/metrics.json")

    assert {name for name, _ in runs} >= {"prepare", "baseline-0"}, runs
    assert {status for _, status in runs} == {"FINISHED"}
    assert metrics, runs
    assert any(value == pytest.approx(metrics.get("miou", -1)) for value in _numbers(written))
    assert not (tracked.study.folder / "mlflow.db").exists()


def test_artifacts_and_the_model_are_in_the_store(tracked: Tracked) -> None:
    keys = tracked.store.keys("mlflow/")

    assert any(key.endswith("/history.csv") for key in keys), keys
    assert any(key.endswith("/MLmodel") for key in keys)
    assert any(key.endswith("/model.safetensors") for key in keys)
    assert not (tracked.study.folder / "mlartifacts").exists()


def test_the_page_and_the_rest_interface_answer(tracked: Tracked) -> None:
    with urlopen(tracked.server) as page:
        assert b"<html" in page.read()
    found = _search(tracked)

    assert "effiseg-synthetic" in {experiment["name"] for experiment in found["experiments"]}


def test_another_name_for_the_server_is_refused(tracked: Tracked) -> None:
    with pytest.raises(HTTPError, match="403"):
        _search(tracked, Host="elsewhere.example.com")


def test_a_client_without_keys_loads_the_model(tracked: Tracked) -> None:
    [(run,)] = _query(tracked, "SELECT run_uuid FROM runs WHERE name = 'baseline-0'")
    done = tracked.study.run(sys.executable, "-c", LOAD.format(run=run), MLFLOW_TRACKING_URI=tracked.server)

    assert done.stdout.splitlines()[-1] == "(2, 32, 64)"


def test_what_the_workers_made_is_up_to_date_here(tracked: Tracked) -> None:
    assert tracked.study.repro() == []


def test_the_store_brings_everything_back(tracked: Tracked) -> None:
    study = tracked.study
    outputs = [study.folder / name for name in ("data", "prepared", "rows", "runs")]
    before = _contents(outputs)
    for folder in (study.folder / ".dvc/cache", *outputs):
        shutil.rmtree(folder)

    study.dvc("pull", "--remote", "store", **tracked.store.variables)

    assert tracked.store.keys("dvc/")
    assert _contents(outputs) == before


def test_the_server_says_what_is_not_set() -> None:
    done = subprocess.run(
        [sys.executable, str(SERVE)], env=environment(AWS_ACCESS_KEY_ID=""), capture_output=True, text=True
    )

    assert done.returncode == 1
    assert "MLFLOW_BACKEND_STORE_URI" in done.stderr
    assert done.stderr.count("\n") == 1


def _query(tracked: Tracked, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(tracked.database)) as connection, connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()


def _search(tracked: Tracked, **headers: str) -> Any:
    question = Request(
        f"{tracked.server}/api/2.0/mlflow/experiments/search",
        data=b'{"max_results": 10}',
        headers={"Content-Type": "application/json", **headers},
    )
    with urlopen(question) as answer:
        return json.load(answer)


def _contents(folders: list[Path]) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for inner in value.values() for number in _numbers(inner)]
    return [value] if isinstance(value, float) else []
