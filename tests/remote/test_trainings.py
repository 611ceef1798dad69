"""In which order a packed study is trained, what an end in time leaves, and what a failure takes with it."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError
from effiseg.remote import train
from effiseg.remote.__main__ import parse
from effiseg.remote.plan import planned, to_score
from effiseg.remote.train import Trainings, alone
from effiseg.runs.places import Place

STUDY = {"experiments": ["baseline"], "distillation": ["kd"], "continued": ["selected"], "seeds": [0, 1]}


@pytest.fixture
def study(make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a packed study whose trainings are none; gives its states, what began, in order, and how many at once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "POLL_SECONDS", 0.0)

    def run(
        *wanted: str,
        parallel: int = 1,
        seconds: float = 60.0,
        statuses: dict[str, int] | None = None,
        packed: tuple[str, ...] = (),
        folder: Path | None = None,
    ) -> tuple[dict[str, str], list[str], int]:
        begun, running, most = [], set(), 0

        class Worker:
            def __init__(self, name: str, *arguments: Any) -> None:
                nonlocal most
                assert ("--everywhere" in arguments) == (folder is not None)
                self.name, self.process, self.looks = name, self, 0
                begun.append(name)
                running.add(name)
                most = max(most, len(running))

            def poll(self) -> int | None:
                self.looks += 1
                return 0 if self.looks > 2 else None

            def show(self) -> None:
                pass

            def end(self) -> int:
                running.discard(self.name)
                return (statuses or {}).get(self.name, 0)

            def reason(self) -> str:
                return "it is a test"

        monkeypatch.setattr(train, "Worker", Worker)
        config = make_config(study=STUDY)
        plan = planned(config)
        trainings = Trainings(config, "0" * 64, plan, {"trained": packed}, wanted or list(plan), folder)
        trainings.run(parallel, time.time() + seconds, Path("lock"))
        assert not running
        return trainings.states, begun, most

    return run


def test_what_is_read_is_trained_before_its_readers(study: Callable[..., Any]) -> None:
    states, begun, most = study()
    assert begun == ["teacher-0", "baseline-0", "baseline-1", "kd-0", "kd-1", "selected-0", "selected-1"]
    assert (set(states.values()), most) == ({"done"}, 1)


def test_so_many_run_at_once_and_readers_wait(study: Callable[..., Any]) -> None:
    _, begun, most = study(parallel=3)
    assert begun[:3] == ["teacher-0", "baseline-0", "baseline-1"]
    assert most == 3


def test_chosen_runs_bring_what_they_read(study: Callable[..., Any]) -> None:
    assert study("kd-1")[1] == ["teacher-0", "kd-1"]


def test_what_was_trained_at_home_is_not_trained_again(study: Callable[..., Any]) -> None:
    states, begun, _ = study(packed=("teacher-0", "baseline-0"))
    assert begun == ["baseline-1", "kd-0", "kd-1", "selected-0", "selected-1"]
    assert set(states.values()) == {"done"}


def test_a_failure_stops_its_readers_alone(study: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    states, _, _ = study(statuses={"teacher-0": 1, "baseline-1": -9})
    assert states == {
        "teacher-0": "failed",
        "baseline-0": "done",
        "baseline-1": "failed",
        **dict.fromkeys(["kd-0", "kd-1", "selected-0", "selected-1"], "not run"),
    }
    assert "teacher-0 failed: it is a test" in capsys.readouterr().err


def test_the_end_of_the_time_leaves_the_rest_waiting(study: Callable[..., Any]) -> None:
    assert study(seconds=-1)[1] == []
    states, _, _ = study("kd-0", statuses={"teacher-0": os.EX_TEMPFAIL})
    assert states == {"teacher-0": "unfinished", "kd-0": "waiting"}


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The runs that were to be kept, call by call; kd-0 cannot be."""
    calls: list[tuple[str, ...]] = []

    def keep(_config: Config, _root: Path, folder: Path, names: Sequence[str]) -> None:
        calls.append(tuple(names))
        if "kd-0" in names:
            raise EffiSegError(f"{folder}: kd-0 does not belong there")
        if "kd-1" in names:
            raise OSError("No space left on device")

    monkeypatch.setattr(train, "keep", keep)
    monkeypatch.setattr(train, "refuse_edited", lambda *_: None)
    return calls


def test_each_run_is_kept_as_it_ends(study: Callable[..., Any], kept: list[tuple[str, ...]]) -> None:
    states, *_ = study("baseline-1", "teacher-0", folder=Path("out"), statuses={"baseline-1": os.EX_TEMPFAIL})
    assert kept == [(), ("teacher-0",)]
    assert states == {"teacher-0": "done", "baseline-1": "unfinished"}


def test_what_was_trained_at_home_is_kept_at_once(study: Callable[..., Any], kept: list[tuple[str, ...]]) -> None:
    study("baseline-0", "baseline-1", packed=("baseline-0",), folder=Path("out"))
    assert kept == [("baseline-0",), ("baseline-1",)]


def test_a_run_that_cannot_be_kept_failed(
    study: Callable[..., Any], kept: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    states, *_ = study("kd-0", "kd-1", folder=Path("out"))
    assert states == {"teacher-0": "done", "kd-0": "failed", "kd-1": "failed"}
    told = capsys.readouterr().err
    assert "kd-0 failed: out: kd-0 does not belong there" in told
    assert "kd-1 failed: out: cannot be written (No space left on device); mend that" in told


def test_nothing_is_trained_for_a_folder_of_another_study(
    study: Callable[..., Any], kept: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(EffiSegError, match="kd-0 does not belong there"):
        study("kd-0", packed=("teacher-0", "kd-0"), folder=Path("out"))
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)  # the repository may hold rows of a study
    with pytest.raises(EffiSegError, match=r"^rows/teacher\.json: not found, though params\.yaml has the row"):
        study("kd-0", folder=Path("out"))


def test_where_runs_are_scored(make_config: Callable[..., Config]) -> None:
    config = make_config(study=STUDY, data={"final_on": ["test"]})
    teacher, row = Place.of("teacher-0"), Place.of("kd-1")
    assert (to_score(config, teacher, False), to_score(config, row, False)) == ([teacher], [])
    assert to_score(config, row, True) == [row, Place("kd", 1, split="test")]


def test_an_archive_or_a_folder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, found in (([], (Path("runs.tar"), None)), (["--keep", "a"], (Path("runs.tar"), Path("a")))):
        monkeypatch.setattr("sys.argv", ["remote", *arguments])
        assert (parse().out, parse().keep) == found
    monkeypatch.setattr("sys.argv", ["remote", "--keep", "a", "--out", "runs.tar"])
    with pytest.raises(SystemExit, match="2"):
        parse()
    assert "argument --out: not allowed with argument --keep" in capsys.readouterr().err


def test_a_second_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with alone(), pytest.raises(EffiSegError, match="another process trains or unpacks here"), alone():
        pass
