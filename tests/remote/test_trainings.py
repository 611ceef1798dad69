"""In which order a packed study is trained, what an end in time leaves, and what a failure takes with it."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError
from effiseg.remote import train
from effiseg.remote.plan import planned
from effiseg.remote.train import Trainings, alone

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
    ) -> tuple[dict[str, str], list[str], int]:
        begun, running, most = [], set(), 0

        class Worker:
            def __init__(self, name: str, *_: Any) -> None:
                nonlocal most
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
        trainings = Trainings(config, "0" * 64, plan, {"trained": packed}, wanted or list(plan))
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


def test_a_second_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with alone(), pytest.raises(EffiSegError, match="another process trains or unpacks here"), alone():
        pass
