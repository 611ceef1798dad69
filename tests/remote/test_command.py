"""What `python -m effiseg.remote` trains, and what it says that it brings home."""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError
from effiseg.data.prepared import Prepared
from effiseg.remote import command
from effiseg.runs.places import Place


@pytest.fixture
def run(
    make_config: Callable[..., Config], data: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """Runs the command where every training is none; gives the runs that it wants."""
    config = make_config(study={"experiments": ["baseline"], "distillation": ["kd"], "seeds": [0, 1]})
    monkeypatch.chdir(tmp_path)
    Path("prepared").symlink_to(data.path)
    monkeypatch.setattr(command, "load_config", lambda: config)
    found: list[str] = []

    class Trainings:
        def __init__(self, *arguments: Any) -> None:
            found[:] = arguments[4]

        def run(self, *_: Any) -> None:
            pass

        def told(self) -> list[str]:
            return []

        def named(self, *_: str) -> list[str]:
            return []

    monkeypatch.setattr(command, "Trainings", Trainings)
    monkeypatch.setattr(command, "bring", lambda *_: "runs.tar: nothing")

    def run(runs: Sequence[str] = (), keep: Path | None = None) -> list[str]:
        arguments = argparse.Namespace(runs=runs, keep=keep, out=Path("runs.tar"), parallel=1, minutes=math.inf)
        command.train_packed({"trained": [], "commit": ""}, arguments, time.time())
        return found

    return run


def test_what_the_folder_has_is_not_trained_again_unless_named(
    run: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path("out")
    for name in ("teacher-0", "kd-0"):
        record = Place.of(name, folder).record
        record.parent.mkdir(parents=True)
        record.touch()
    assert run(keep=folder) == ["baseline-0", "baseline-1", "kd-1"]
    assert (
        "out: 2 of 5 runs kept; bring it home, and there `python -m effiseg keep DIR --root out`"
        in capsys.readouterr().out
    )
    assert run(["kd-0"], keep=folder) == ["kd-0"]
    assert run() == ["teacher-0", "baseline-0", "baseline-1", "kd-0", "kd-1"]


def test_a_folder_in_none_is_told_before_the_work(run: Callable[..., list[str]]) -> None:
    with pytest.raises(EffiSegError, match=r"^--keep: nowhere is no folder; make it, or name another$"):
        run(keep=Path("nowhere/kept"))
