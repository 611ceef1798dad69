"""One PostgreSQL, one store and one MLflow server for all tests of this folder, and a tiny study that used them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pipeline.study import Study
from tests.services import Store, mlflow_server, postgres, s3


@dataclass(frozen=True)
class Tracked:
    """A study's first stages, tracked by a server."""

    study: Study
    server: str
    database: str
    store: Store


@pytest.fixture(scope="session")
def tracked(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracked]:
    with postgres() as database, s3() as store, mlflow_server(database, store) as server:
        study = Study.of_repository(repository, tmp_path_factory.mktemp("tracked") / "repository")
        study.dvc("repro", "evaluate@baseline-0", MLFLOW_TRACKING_URI=server)
        yield Tracked(study, server, database, store)
