"""One PostgreSQL, one store and one MLflow server for all tests of this folder, and a tiny study that used them all."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.pipeline.study import Study
from tests.services import Store, mlflow_server, postgres, s3

STAGES = ("synthesize", "prepare", "rows", "train", "evaluate")


@dataclass(frozen=True)
class Tracked:
    """A study's first stages, run by Ray workers that share no folder: files went by the store, runs to the server."""

    study: Study
    server: str
    database: str
    store: Store


@pytest.fixture(scope="session")
def tracked(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracked]:
    with postgres() as database, s3() as store, mlflow_server(database, store) as server:
        study = Study.of_repository(repository, tmp_path_factory.mktemp("tracked") / "repository")
        graph = YAML().load(study.folder / "dvc.yaml")
        graph["stages"] = {name: graph["stages"][name] for name in STAGES}
        YAML().dump(graph, study.folder / "dvc.yaml")
        study.dvc("remote", "add", "store", f"s3://{store.bucket}/dvc")
        study.dvc("remote", "modify", "store", "endpointurl", store.endpoint)
        resources = {"default": {"cpus": 1, "gpus": "auto", "memory_gb": 0.5}}
        study.edit({"cluster": {"remote": "store", "resources": resources}})
        study.commit("Machines share nothing but the services")
        command = ("-m", "effiseg", "study", "--ray")
        study.run(sys.executable, *command, MLFLOW_TRACKING_URI=server, **store.variables)
        yield Tracked(study, server, database, store)
