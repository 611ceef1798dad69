"""What goes into an archive, and what has to be up to date for it."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError
from effiseg.cluster.graph import Graph, Stage
from effiseg.data.prepared import Prepared
from effiseg.remote import pack as module
from effiseg.remote.pack import pack
from effiseg.runs.places import Place

TEACHER = Place.of("teacher-0")
FINAL = Place("teacher", 0, split="test")
SCORES = ("metrics.json", "scores/images.npz", "scores/norms.npz", "scores/confusion.csv")


@pytest.fixture
def stale(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The stages that DVC takes as stale; a test may add more."""
    outs = {
        "prepare": "prepared",
        "rows": "rows",
        "fetch": "starts",
        "prepare_final@test": "finals/test",
        **{f"train@{name}": f"runs/{name}/record.json" for name in ("teacher-0", "baseline-0", "kd-0")},
        **{f"evaluate@{name}": f"runs/{name}/metrics.json" for name in ("teacher-0", "baseline-0", "kd-0")},
        "evaluate_final_teachers@teacher-0-test": str(FINAL.metrics),
    }
    stages = {name: Stage(name, (), (), (out,), True) for name, out in outs.items()}
    found = {"train@kd-0", "evaluate@kd-0"}
    monkeypatch.setattr(module, "read_graph", lambda: Graph(stages, frozenset(found), ""))
    monkeypatch.setattr(module, "package_files", dict)
    return found


@pytest.fixture
def config(
    make_config: Callable[..., Config], data: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stale: set[str]
) -> Config:
    """Of a study whose teacher and baseline are trained and scored, in the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("prepared").symlink_to(data.path)
    names = ["params.yaml", "dvc.lock", "starts.json", "floors.json", "finals/test/index.json"]
    for run in ("teacher-0", "baseline-0"):
        names += [f"runs/{run}/{name}" for name in ("model/last/model.safetensors", "record.json", "history.csv")]
        for folder in (f"runs/{run}", f"runs/{run}/finals/test"):
            scores = ("predictions.zip", "images.npz", "norms.npz", "confusion.csv")
            names += [f"{folder}/metrics.json", *(f"{folder}/scores/{name}" for name in scores)]
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    study = {"experiments": ["baseline"], "distillation": ["kd"]}
    return make_config(study=study, data={"final_on": ["test"]})


def packed(config: Config) -> set[str]:
    assert pack(config, Path("it.tar")) == ["kd-0"]
    with tarfile.open("it.tar") as tar:
        return {name.removeprefix("it/") for name in tar.getnames() if not name.startswith("it/effiseg/")}


def test_what_a_run_is_scored_on_goes_along_and_what_others_read_with_its_scores(config: Config) -> None:
    names = packed(config)
    assert {"floors.json", "finals/test/index.json", "dvc.lock", "packed.json"} <= names
    scores = [f"{place}/{name}" for place in (TEACHER.folder, FINAL.metrics.parent) for name in SCORES]
    runs = {name for name in names if name.startswith("runs/")}
    files = ("model/last/model.safetensors", "record.json", "history.csv")
    assert runs == {*(f"runs/teacher-0/{name}" for name in files), *scores}  # nobody reads the baseline


def test_scores_that_are_stale_stay(config: Config, stale: set[str]) -> None:
    stale.add("evaluate_final_teachers@teacher-0-test")
    names = packed(config)
    assert TEACHER.metrics.as_posix() in names and not [name for name in names if "teacher-0/finals" in name]


@pytest.mark.parametrize("name", ["prepare_final@test", "rows"])
def test_what_is_not_up_to_date_is_named_with_the_command(config: Config, stale: set[str], name: str) -> None:
    stale.add(name)
    told = rf"^not up to date: {name}; run `dvc repro prepare rows fetch prepare_final@test` first$"
    with pytest.raises(EffiSegError, match=told):
        pack(config, Path("it.tar"))
    assert not Path("it.tar").exists()
