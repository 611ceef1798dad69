"""dvc.yaml declares what the stages use: code that DVC does not know of leaves stale results behind."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pipeline.study import Study

STAGES = [
    "synthesize",
    "prepare",
    "teacher",
    "train",
    "distill",
    "evaluate",
    "evaluate_distilled",
    "profile",
    "profile_distilled",
    "deploy",
    "deploy_distilled",
    "predict",
    "deployment",
    "report",
]
SCRIPTS = {
    "distill": "train",
    "evaluate_distilled": "evaluate",
    "profile_distilled": "profile",
    "deploy_distilled": "deploy",
}
# a row is merged from these; its own lines are declared as experiments.<row>
ROW = {"model", "loss", "train", "experiments"}
METHODS = {
    "row": ROW,
    "teacher_row": {"teacher", "loss", "train"},
    "stage_of": set(),
    "run_path": set(),
    "runs": {"study", "experiments"},
}
# sections that a stage reads but need not declare, since DVC sees the same change elsewhere
SEEN_ELSEWHERE = {
    "synthesize": {"data"},  # data.source names the study in MLflow
    "teacher": {"data", "study"},  # data: through prepared; study.launcher stands in the command
    "train": {"data", "study"},
    "distill": {"data", "study"},
    "evaluate": {"data", *ROW},  # through prepared; the row: through the trained model
    "evaluate_distilled": {"data", *ROW},
    "profile": {"study", *ROW},  # study.seeds[0] stands in the deps; the row: through the model's config.json
    "profile_distilled": {"study", *ROW},
    "deploy": {"data", *ROW},  # through prepared and the trained model, as above
    "deploy_distilled": {"data", *ROW},
}


@pytest.fixture(scope="session")
def code(study: Study) -> Path:
    """The code that ran, which a work in progress beside the tests does not change."""
    return study.folder


@pytest.fixture(scope="session")
def graph(code: Path) -> dict[str, Any]:
    return yaml.safe_load((code / "dvc.yaml").read_text())["stages"]


@pytest.fixture(scope="session")
def imported(code: Path, imports: Path) -> dict[str, set[str]]:
    """By stage: the source files of the project that its process had imported when it ended."""
    found: dict[str, set[str]] = {}
    for record in imports.glob("*.txt"):
        files = (Path(*name.split(".")) for name in record.read_text().split() if name != "__main__")
        packages = [file / "__init__.py" if (code / file).is_dir() else file.with_suffix(".py") for file in files]
        found.setdefault(record.stem.split("@")[0], set()).update(str(file) for file in packages)
    return found


def test_every_stage_is_checked(graph: dict[str, Any], imported: dict[str, set[str]]) -> None:
    assert set(graph) == set(STAGES) == set(imported)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_code_that_it_imports(
    stage: str, graph: dict[str, Any], imported: dict[str, set[str]], code: Path
) -> None:
    deps = graph[stage]["deps"]
    needed = {f"stages/{SCRIPTS.get(stage, stage)}.py"} | {
        file for file in imported[stage] if not _does_nothing(code / file)
    }
    missing = {file for file in needed if not any(file == dep or file.startswith(f"{dep}/") for dep in deps)}

    # it sets environment defaults of the process, which change no result
    assert missing - {"stages/__init__.py"} == set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_parameters_that_it_reads(
    stage: str, graph: dict[str, Any], imported: dict[str, set[str]], code: Path
) -> None:
    script = f"stages/{SCRIPTS.get(stage, stage)}.py"
    # only these get the whole configuration; prepare takes nothing but a figure from the report
    packages = ("effiseg/pipeline/", "effiseg/report/") if stage == "report" else ("effiseg/pipeline/",)
    readers = {script} | {file for file in imported[stage] if file.startswith(packages)}
    read: set[str] = set()
    for file in readers:
        for name in re.findall(r"\bconfig\.(\w+)", (code / file).read_text()):
            read |= METHODS.get(name, {name})
    declared = {str(param).split(".")[0] for param in graph[stage].get("params", [])}

    assert read - declared - SEEN_ELSEWHERE.get(stage, set()) == set()


def test_a_parameter_that_the_run_cache_passes_over_is_declared_by_itself(graph: dict[str, Any], code: Path) -> None:
    params = yaml.safe_load((code / "params.yaml").read_text())
    passed_over = {".".join(path) for path in _paths(params) if path[-1] in ("size", "nfiles")}

    assert passed_over == {"data.size", "profile.size"}
    for stage, content in graph.items():
        declared = content.get("params", [])
        assert {name for name in passed_over if name.split(".")[0] in declared} <= set(declared), stage


def _paths(content: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """All keys of nested mappings, each with those above it."""
    found = []
    for key, value in content.items():
        found.append((*above, key))
        if isinstance(value, dict):
            found += _paths(value, (*above, key))
    return found


def _does_nothing(file: Path) -> bool:
    """A package's __init__ with nothing but a docstring and constants, such as the version."""
    body = ast.parse(file.read_text()).body
    return file.name == "__init__.py" and all(isinstance(getattr(node, "value", None), ast.Constant) for node in body)
