"""One tiny study, run once by a real `dvc repro`; tests that change something work on copies of it."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.study import Study

# every Python process of a DVC stage writes down which modules it ended with, lazily imported ones included
RECORD_IMPORTS = """
import atexit, os, pathlib, sys

def write():
    names = [name for name in sys.modules if name.split(".")[0] in ("effiseg", "stages")]
    (pathlib.Path(__file__).parent / (os.environ["DVC_STAGE"] + ".txt")).write_text(" ".join(names))

if "DVC_STAGE" in os.environ:
    atexit.register(write)
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a module with a story come last: the story is told while the others run."""
    items.sort(key=_has_story)


@pytest.fixture(scope="session")
def imports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sitecustomize module; `<stage>.txt` appears in it for every stage that ran with it."""
    folder = tmp_path_factory.mktemp("imports")
    (folder / "sitecustomize.py").write_text(RECORD_IMPORTS)
    return folder


@pytest.fixture(scope="session")
def study(repository: Path, imports: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study after its first `dvc repro`. Not to be changed: take a copy."""
    # of a name in which SQLAlchemy, MLflow, DVC and shells find signs of theirs
    study = Study.of_repository(repository, tmp_path_factory.mktemp("study") / "q?mark it's 100% #1 [a] Mü")
    study.log = study.dvc("repro", PYTHONPATH=str(imports)).stdout
    study.commit("Results")
    return study


@pytest.fixture(scope="session", autouse=True)
def stories(
    study: Study, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Any]]]:
    """What each test module's `tell_story(study, folder)` returns; told one after another, beside the other tests."""
    modules = dict.fromkeys(item.module for item in request.session.items if _has_story(item))
    with ThreadPoolExecutor(1) as pool:
        folders = {module: tmp_path_factory.mktemp("story") for module in modules}
        yield {module.__name__: pool.submit(module.tell_story, study, folder) for module, folder in folders.items()}


@pytest.fixture(scope="module")
def story(stories: dict[str, Future[Any]], request: pytest.FixtureRequest) -> Any:
    """What this module's `tell_story` returned."""
    return stories[request.module.__name__].result()


@pytest.fixture
def copy(study: Study, tmp_path: Path) -> Study:
    """A copy of the study for one test."""
    return study.copy(tmp_path / "repository")


@pytest.fixture(scope="module")
def module_copy(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A copy of the study for the tests of one module."""
    return study.copy(tmp_path_factory.mktemp("module") / "repository")


def _has_story(item: pytest.Item) -> bool:
    return hasattr(getattr(item, "module", None), "tell_story")
