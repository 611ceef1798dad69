"""What comes home: taken as it is, or refused by name with nothing changed."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError
from effiseg.base.files import write_json
from effiseg.cluster.graph import Graph, Stage
from effiseg.data.prepared import Prepared
from effiseg.remote import unpack as module
from effiseg.remote.bring import bring
from effiseg.remote.plan import identity_at
from effiseg.remote.unpack import unpack
from effiseg.runs.checkpoints import checkpoint_folder, exclusive
from effiseg.runs.identity import digests_of, weights_digest
from effiseg.runs.places import Place
from effiseg.runs.records import RunRecord, write_record

TEACHER = {"start": {"source": "drawn", "path": "", "sha256": ""}, "train": {"epochs": 1}}


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, float], int]]:
    """What MLflow would have heard: (run, numbers, step)."""
    heard: list[tuple[str, dict[str, float], int]] = []

    @contextmanager
    def track(_config: Any, _row: Any, _data: Any, place: Place, *_: Any, **__: Any) -> Iterator[Any]:
        yield lambda metrics, step: heard.append((place.name, metrics, step))

    monkeypatch.setattr(module, "track_training", track)
    return heard


@pytest.fixture
def stale(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The stages that DVC takes as stale: all trainings, until a test says otherwise."""
    found = {"teach@teacher-0", "train@baseline-0", "distill@kd-0"}

    def read_graph() -> Graph:
        outs = {name: (f"runs/{name.split('@')[1]}/record.json",) for name in found}
        outs |= {"score@teacher-0": ("runs/teacher-0/metrics.json",)}
        stages = {name: Stage(name, (), (), made, True) for name, made in sorted(outs.items())}
        return Graph(stages, frozenset(stale), "")

    stale = set(found)
    monkeypatch.setattr(module, "read_graph", read_graph)
    return stale


@pytest.fixture
def config(
    make_config: Callable[..., Config], data: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Config:
    """Of a study in `home` and in `there`; the working folder is `there`."""
    config = make_config(study={"experiments": ["baseline"], "distillation": ["kd"]}, experiments={"teacher": TEACHER})
    for name in ("home", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "prepared").symlink_to(data.path)
    monkeypatch.chdir(tmp_path / "there")
    return config


def train(config: Config, data: Prepared, name: str, weights: str) -> None:
    """Leave the files of a run in the working folder, as if it had been trained."""
    place = Place.of(name)
    row = config.row(place.row)
    for folder in (place.last, place.best):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_text(weights)
    place.history.write_text("epoch,step,loss,lr,miou\n1,3,2.5,0.1,0.2\n2,6,2.0,0.05,\n")
    write_json(Path(f"rows/{row.name}.json"), row.used())
    known: dict[str, Any] = dict.fromkeys(RunRecord.model_fields, "x") | {
        **dict.fromkeys(("seed", "epochs", "steps", "best_epoch", "processes", "threads"), 1),
        **dict.fromkeys(("train_minutes", "images_per_second", "peak_memory_mb"), 1.0),
        **digests_of(config, row, data.digest, weights_digest),
        "identity": identity_at(config, place, data.digest),
        "weights_digest": weights_digest(place),
    }
    write_record(place.record, RunRecord.model_validate(known))


def begin(config: Config, data: Prepared, name: str, step: int) -> Path:
    """Leave a checkpoint of a run in the working folder, and a broken one."""
    place = Place.of(name)
    write_json(Path(f"rows/{place.row}.json"), config.row(place.row).used())
    folder = checkpoint_folder(name, identity_at(config, place, data.digest))
    for number in (step, step + 1):
        (folder / f"checkpoint-{number}").mkdir(parents=True)
        (folder / f"checkpoint-{number}" / "model").write_text(str(number))
    (folder / f"checkpoint-{step}" / "COMPLETE").touch()
    return folder


@pytest.fixture
def archive(config: Config, data: Prepared, stale: set[str], logged: list, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Teacher and baseline are trained, kd has begun; the working folder is `home` from here on."""
    train(config, data, "teacher-0", "taught")
    train(config, data, "baseline-0", "learned")
    begin(config, data, "kd-0", 5)
    told = bring(config, data.digest, {"trained": [], "commit": "c0ffee"}, Path("runs.tar"))
    assert told.startswith("runs.tar: 2 finished, 1 begun; bring it home")
    monkeypatch.chdir("../home")
    return Path("../there/runs.tar").resolve()


def files() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_runs_and_checkpoints_come_home_and_the_command_is_told(
    config: Config, archive: Path, logged: list[tuple[str, dict[str, float], int]]
) -> None:
    assert unpack(config, archive) == [
        "brought home: teacher-0, baseline-0",
        "to go on from a checkpoint: kd-0",
        "now run: dvc commit --force teach@teacher-0 && dvc repro --single-item score@teacher-0 && "
        "dvc commit --force train@baseline-0",
    ]
    there = archive.parent
    for name in ("runs/baseline-0/model/last/model.safetensors", "runs/teacher-0/record.json"):
        assert Path(name).read_bytes() == (there / name).read_bytes()
    (kept,) = Path(".ckpt").glob("kd-0-*/checkpoint-*")
    assert (kept.name, kept.parent.name) == ("checkpoint-5", next((there / ".ckpt").glob("kd-0-*[!k]")).name)
    assert [(run, step, line["learning_rate"]) for run, line, step in logged if run == "baseline-0"] == [
        ("baseline-0", 3, 0.1),
        ("baseline-0", 6, 0.05),
    ]
    assert not [name for name in files() if "partial" in name or "unpacked" in name]


def test_what_is_here_already_is_left_alone(config: Config, archive: Path, logged: list, stale: set[str]) -> None:
    unpack(config, archive)
    before = files()
    logged.clear()
    assert unpack(config, archive)[:2] == ["here already: teacher-0, baseline-0", "no further than here: kd-0"]
    stale.clear()
    assert unpack(config, archive) == ["here already: teacher-0, baseline-0", "no further than here: kd-0"]
    assert (files(), logged) == (before, [])


def test_stale_runs_and_older_checkpoints_give_way(config: Config, data: Prepared, archive: Path) -> None:
    train(config, data, "teacher-0", "taught")
    train(config, data, "baseline-0", "of other settings")
    folder = begin(config, data, "kd-0", 2)
    assert unpack(config, archive)[0] == "brought home: baseline-0"
    assert Path("runs/baseline-0/model/last/model.safetensors").read_text() == "learned"
    assert [path.name for path in folder.iterdir()] == ["checkpoint-5"]


def test_a_run_that_was_trained_here_to_other_weights_is_refused(
    config: Config, data: Prepared, archive: Path, stale: set[str]
) -> None:
    train(config, data, "baseline-0", "otherwise")
    stale.discard("train@baseline-0")
    refused(config, archive, r"^runs/baseline-0: baseline-0 has been trained here already, to other weights .*; remove")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train": {"epochs": 9}}, r"^baseline-0: trained with baseline\.train\.epochs 2, here it is 9; unpack where"),
        ({"study": {"distillation": []}}, r"runs\.tar: run 'kd-0': the study here has none of that name"),
        ({"study": {"launcher": "torchrun"}}, r"^teacher-0: trained with other code, .* commit c0ffee\); check that"),
    ],
)
def test_another_study_is_refused(
    make_config: Callable[..., Config], config: Config, archive: Path, changes: dict[str, Any], told: str
) -> None:
    settings = {"study": {"experiments": ["baseline"], "distillation": ["kd"]}, "experiments": {"teacher": TEACHER}}
    for section, values in changes.items():
        settings[section] = settings.get(section, {}) | values
    refused(make_config(**settings), archive, told)


def test_other_data_are_refused(config: Config, archive: Path, data: Prepared) -> None:
    Path("prepared").unlink()
    shutil.copytree(data.path, "prepared")
    index = Path("prepared/index.json")
    index.write_text(index.read_text().replace(data.digest, "f" * 64))
    refused(config, archive, r"^teacher-0: data_digest is \w{12}, and here f{12}; unpack where they are the same$")


def test_a_student_of_another_teacher_is_refused(
    config: Config, data: Prepared, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(archive.parent)
    train(config, data, "kd-0", "student")
    bring(config, data.digest, {"trained": ["teacher-0"], "commit": ""}, archive)  # as if home had taught
    monkeypatch.chdir("../home")
    refused(config, archive, r"^kd-0: it reads teacher-0, which is neither here nor in the archive$")
    train(config, data, "teacher-0", "taught otherwise")
    refused(config, archive, r"^kd-0: teacher_digest is \w{12}, and here \w{12}; unpack where they are the same$")


def test_a_damaged_archive_is_refused(config: Config, archive: Path) -> None:
    whole = archive.read_bytes()
    archive.write_bytes(whole.replace(b"learned", b"leaned!"))
    refused(config, archive, r"runs\.tar: damaged, .*\(runs/baseline-0/model/\w+/model\.safetensors is not as it was\)")
    archive.write_bytes(whole[: whole.index(b"brought.json")])  # between two of its files
    refused(config, archive, r"runs\.tar: damaged, .*\(no whole brought\.json\); copy it again$")


def test_a_training_that_runs_here_is_not_disturbed(config: Config, data: Prepared, archive: Path) -> None:
    with exclusive(checkpoint_folder("baseline-0", identity_at(config, Place.of("baseline-0"), data.digest))):
        refused(config, archive, "another process is training baseline-0")


def refused(config: Config, archive: Path, told: str) -> None:
    before = files()
    with pytest.raises(EffiSegError, match=told):
        unpack(config, archive)
    assert files() == before
