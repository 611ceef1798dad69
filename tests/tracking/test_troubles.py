"""A store that cannot be used is one line with what helps, and passwords stay out of it."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from effiseg.base.errors import EffiSegError
from effiseg.tracking import EXPERIMENT
from effiseg.tracking.tracker import track, track_run
from effiseg.tracking.troubles import masked
from tests.pipeline.study import environment

ODD = "q?mark x%20y it's #1 [a] {b} Mü"


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of an odd name with the runs of two experiments, one of a name with a quote."""
    folder = tmp_path_factory.mktemp("store") / ODD
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with track("prepare", "synthetic") as tracker:
            tracker.artifact(Path(shutil.copy(__file__, folder / "kept.txt")))
        patch.setenv("DVC_EXP_NAME", "it's")
        for score in (0.1, 0.2):
            with track_run("kd-0", "0a1b", "synthetic", tags={}) as tracker:
                tracker.metrics({"miou": score})
    return folder


def ask(folder: Path, sql: str) -> list[tuple]:
    database = sqlite3.connect(folder / "mlflow.db")
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


def test_in_a_folder_of_any_name_the_store_lies_in_it(made: Path) -> None:
    assert {path.name for path in made.parent.iterdir()} == {ODD}
    assert {"mlflow.db", "mlartifacts"} <= {path.name for path in made.iterdir()}
    assert [path.name for path in (made / "mlartifacts").rglob("*.txt")] == ["kept.txt"]


def test_an_experiment_of_any_name_finds_its_run_again(made: Path) -> None:
    assert ask(made, "SELECT name FROM runs ORDER BY start_time") == [("prepare",), ("kd-0/it's",)]
    assert ask(made, "SELECT value FROM latest_metrics WHERE key = 'miou'") == [(0.2,)]


@pytest.fixture
def copy(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the database in a repository of its own, in which the test works."""
    shutil.copy(made / "mlflow.db", tmp_path)
    # in place of the working directory: MLflow keeps a store open by its address, which would be the same words
    monkeypatch.setattr("effiseg.tracking.store.repository", lambda: tmp_path)
    return tmp_path


def change(folder: Path, sql: str) -> None:
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.execute(sql)
    database.close()


DELETED = f"UPDATE experiments SET lifecycle_stage = 'deleted' WHERE name = '{EXPERIMENT.format('synthetic')}'"


@pytest.mark.parametrize(
    ("sql", "cure"),
    [
        (DELETED, "restore it with `mlflow experiments restore --experiment-id"),
        (
            "UPDATE alembic_version SET version_num = '451aebb31d03'",
            "keep a copy and run `mlflow db upgrade",
        ),
        ("UPDATE alembic_version SET version_num = 'ffffffffffff'", "it is of a newer MLflow than this one"),
    ],
)
def test_a_database_in_another_state(copy: Path, sql: str, cure: str) -> None:
    change(copy, sql)
    assert_told(cure)


@pytest.mark.parametrize(
    ("content", "cure"),
    [
        (b"rubbish" * 999, "the file is damaged: move it away, and a new one is made"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS: run `git lfs pull`"),
    ],
)
def test_a_file_that_is_no_database(copy: Path, content: bytes, cure: str) -> None:
    (copy / "mlflow.db").write_bytes(content)
    assert_told(cure)
    assert (copy / "mlflow.db").read_bytes() == content


@pytest.mark.parametrize(
    ("uri", "cure"),
    [
        ("http://me:a s3cret@127.0.0.1:9", "start that server, or unset MLFLOW_TRACKING_URI"),
        ("http://[me:s3cret@127.0.0.1", "start that server, or unset MLFLOW_TRACKING_URI"),
        pytest.param(
            "http://me:s3cret@127.0.0.1:9",
            "start that server, or unset MLFLOW_TRACKING_URI",
            marks=pytest.mark.slow,
        ),
        ("postgresql://me:s3cret@127.0.0.1:9/x", "`pip install` the package of the module psycopg"),
    ],
)
def test_a_server(copy: Path, monkeypatch: pytest.MonkeyPatch, uri: str, cure: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    message = assert_told(cure)
    assert "s3cret" not in message and "://***@127.0.0.1" in message


def assert_told(cure: str) -> str:
    with pytest.raises(EffiSegError) as caught, track("prepare", "synthetic"):
        pass
    message = str(caught.value)
    assert message.startswith("MLflow at ") and cure in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "text",
    [
        "http://me:s3cret@host/x",
        "at 'http://s3cret@host:1' and postgresql+psycopg2://me:a@s3cret@h/db",
        "x://s3cret:@h",
    ],
)
def test_passwords_are_masked(text: str) -> None:
    assert "s3cret" not in masked(text)
    assert masked("http://x/?token=s3cret: not there") == "http://x/?token=***: not there"
    assert masked("see https://mlflow.org/a?b=1, or me@host") == "see https://mlflow.org/a?b=1, or me@host"


def test_what_another_job_left_in_the_environment_decides_nothing(repository: Path) -> None:
    code = "import effiseg.tracking, os; print([name for name in os.environ if name.startswith('MLFLOW_')])"
    left = {"MLFLOW_RUN_ID": "1", "MLFLOW_EXPERIMENT_NAME": "x", "MLFLOW_EXPERIMENT_ID": "1"}
    command = [sys.executable, "-c", code]
    told = subprocess.check_output(command, cwd=repository, env=environment(**left), text=True)
    assert not any(name in told for name in left)
