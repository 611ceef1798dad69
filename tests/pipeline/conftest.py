"""One tiny study, run once by a real `dvc repro`; tests that change something work on copies of it."""

from pathlib import Path

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


@pytest.fixture(scope="session")
def imports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sitecustomize module; `<stage>.txt` appears in it for every stage that ran with it."""
    folder = tmp_path_factory.mktemp("imports")
    (folder / "sitecustomize.py").write_text(RECORD_IMPORTS)
    return folder


@pytest.fixture(scope="session")
def study(repository: Path, imports: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study after its first `dvc repro`. Not to be changed: take a copy."""
    study = Study.of_repository(repository, tmp_path_factory.mktemp("study") / "repository")
    study.log = study.dvc("repro", PYTHONPATH=str(imports)).stdout
    study.commit("Results")
    return study


@pytest.fixture
def copy(study: Study, tmp_path: Path) -> Study:
    """A copy of the study for one test."""
    return study.copy(tmp_path / "repository")


@pytest.fixture(scope="module")
def module_copy(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A copy of the study for the tests of one module."""
    return study.copy(tmp_path_factory.mktemp("module") / "repository")
