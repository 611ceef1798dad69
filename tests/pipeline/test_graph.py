"""dvc.yaml declares what the stages use: code that DVC does not know of leaves stale results behind."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pipeline.study import Study

# dvc.yaml's stages that run one script: those of other lists of rows
SCRIPTS = dict.fromkeys(["teach", "distill", "distill_assisted", "train_continued"], "train") | {
    f"{script}_{rows}": script
    for script in ("evaluate", "profile", "deploy")
    for rows in ("teachers", "distilled", "assisted", "continued")
    if (script, rows) != ("deploy", "teachers")
}
# those of data.final_on, of which the tests' study has none: see test_final.py
FINALS = [
    "prepare_final",
    *(f"evaluate_final{rows}" for rows in ("", "_teachers", "_distilled", "_assisted", "_continued")),
]
STAGES = [
    "synthesize",
    "prepare",
    "rows",
    "fetch",
    "train",
    "evaluate",
    "profile",
    "deploy",
    "predict",
    "deployment",
    "report",
]
# what runs in the tests' study, which has no assistant
RAN = [*STAGES, *(stage for stage in SCRIPTS if not stage.endswith(("assisted", "continued")))]
# code that changes no number: an edit there runs no stage that does not list it; paths stand in dvc.yaml too
SILENT = ("effiseg/cli/", "effiseg/tracking/", "effiseg/runs/places.py")
ROW = {"model", "start", "loss", "train", "experiments"}
METHODS = {
    "row": ROW,
    "runs": {"study", "experiments"},
    "teachers": {"study", "experiments"},
    "teacher_of": {"study"},
}
# sections that a stage reads but need not declare, since DVC sees the same change elsewhere
SEEN_ELSEWHERE = {
    "synthesize": {"data"},  # data.source names the study in MLflow
    "train": {"data", "study", *ROW},  # prepared, the command, rows/<row>.json
    "evaluate": {"data", "study", *ROW},  # prepared; the row: the trained model; study: evaluate_teachers declares it
    "profile": {*ROW},
    "deploy": {"data", "study", *ROW},
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
    assert set(graph) == {*STAGES, *SCRIPTS, *FINALS}
    assert set(imported) == set(RAN)


@pytest.mark.parametrize("stage", RAN)
def test_a_stage_depends_on_all_code_that_it_imports(
    stage: str, graph: dict[str, Any], imported: dict[str, set[str]], code: Path
) -> None:
    deps = graph[stage]["deps"]
    needed = {f"stages/{SCRIPTS.get(stage, stage)}.py"} | {
        file for file in imported[stage] if not _does_nothing(code / file)
    }
    missing = {file for file in needed if not any(file == dep or file.startswith(f"{dep}/") for dep in deps)}

    # a training's record and lock are of effiseg/runs, its weights are not
    silent = (*SILENT, "effiseg/runs/") if SCRIPTS.get(stage, stage) == "train" else SILENT
    # stages/__init__.py sets environment defaults of the process, which change no result
    assert {file for file in missing if not file.startswith(silent)} - {"stages/__init__.py"} == set()


def test_a_final_split_depends_on_what_the_validation_split_does(graph: dict[str, Any]) -> None:
    def deps(stage: str) -> set[str]:
        return {dep.replace("${key}", "${item.experiment}-${item.seed}") for dep in graph[stage]["deps"]}

    assert deps("prepare_final") - {"prepared", "stages/prepare_final.py"} == deps("prepare") - {"stages/prepare.py"}
    for stage in FINALS[1:]:
        assert deps(stage) - {"finals/${item.split}"} == deps("evaluate") - {"prepared"}, stage


def test_trainings_depend_on_no_room_above_them(graph: dict[str, Any]) -> None:
    rooms = ("cli", "tracking", "runs", "report", "deployment", "cluster", "preparation")
    above = {f"effiseg/{room}/" for room in rooms}
    for stage in ("train", "teach", "distill", "distill_assisted", "train_continued"):
        assert not {f"{dep}/" for dep in graph[stage]["deps"]} & above


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_parameters_that_it_reads(
    stage: str, graph: dict[str, Any], imported: dict[str, set[str]], code: Path
) -> None:
    # only these get the whole configuration
    packages = ("effiseg/runs/", "effiseg/report/") if stage == "report" else ("effiseg/runs/",)
    readers = {f"stages/{stage}.py"} | {file for file in imported[stage] if file.startswith(packages)}
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
