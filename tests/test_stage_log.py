"""logs/stages.csv: one line for every stage, however it ends."""

import csv
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

STAGE = """
import sys, time
import stages
from effiseg.base.errors import EffiSegError
from effiseg.cli import stage as cli

def main():
    time.sleep(0.2)
    if sys.argv[1] == "wrong":
        raise EffiSegError("this is wrong")
    if sys.argv[1] == "waits":
        print("begun", flush=True)
        time.sleep(60)

cli.run(main)
"""


class Project:
    """A folder with a stage script `dull`, which does what its argument says."""

    def __init__(self, folder: Path, repository: Path) -> None:
        self.folder, self.log = folder, folder / "logs/stages.csv"
        kept = {key: value for key, value in os.environ.items() if not re.match(r"(DVC|EFFISEG)_|RANK$", key)}
        self.environment = kept | {"PYTHONPATH": str(repository)}
        (folder / "dull.py").write_text(STAGE)

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def lines(self) -> list[dict[str, str]]:
        with self.log.open(newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def project(tmp_path: Path, repository: Path) -> Project:
    return Project(tmp_path, repository)


def test_every_run_appends_its_line(project: Project) -> None:
    well = project.run("dull.py", "well", DVC_STAGE="train@kd-0")
    wrong = project.run("dull.py", "wrong")

    assert (well.returncode, wrong.returncode) == (0, 1)
    assert wrong.stderr == "error: this is wrong\n"
    assert project.log.read_text().startswith("started,stage,seconds,status\n")
    assert [(line["stage"], line["status"]) for line in project.lines()] == [("train@kd-0", "0"), ("dull", "1")]
    for line in project.lines():
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line["started"])
        assert 0.2 <= float(line["seconds"]) < 60


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_stage_has_its_line(project: Project, sent: signal.Signals, status: int) -> None:
    command = [sys.executable, "dull.py", "waits"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    # a shell starts what runs in the background with Ctrl-C ignored, and this process may be such a one
    streams["preexec_fn"] = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, cwd=project.folder, env=project.environment, text=True, **streams) as stage:
        assert stage.stdout.readline() == "begun\n"
        stage.send_signal(sent)

    assert stage.returncode == status
    assert [line["status"] for line in project.lines()] == [str(status)]


def test_stages_that_end_together_write_one_header(project: Project) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: project.run("dull.py", "well"), range(4)))

    assert len(project.log.read_text().splitlines()) == 5
    assert [line["status"] for line in project.lines()] == 4 * ["0"]


@pytest.mark.parametrize(("copy", "owner"), [("parent/.dvc/tmp/exps/x", "parent"), ("parent/nested", "parent/nested")])
def test_the_log_is_that_of_the_repository_which_dvc_copied(
    tmp_path: Path, repository: Path, copy: str, owner: str
) -> None:
    """And of its own folder where DVC_ROOT was inherited by accident."""
    (tmp_path / copy).mkdir(parents=True)

    Project(tmp_path / copy, repository).run("dull.py", "well", DVC_ROOT=str(tmp_path / "parent"))

    assert list(tmp_path.rglob("stages.csv")) == [tmp_path / owner / "logs/stages.csv"]


def test_what_a_locale_cannot_write_does_not_end_a_stage(project: Project) -> None:
    (project.folder / "dull.py").write_text(STAGE.replace("this is wrong", "M\\u00fcnster \\u2013 wrong"))

    wrong = project.run("dull.py", "wrong", PYTHONIOENCODING="ascii")

    assert (wrong.returncode, wrong.stderr) == (1, "error: M\\xfcnster \\u2013 wrong\n")


def test_a_log_that_cannot_be_written_harms_nothing(project: Project) -> None:
    (project.folder / "logs").write_text("in the way")

    done = project.run("dull.py", "well")

    assert (done.returncode, done.stderr) == (0, "")


def test_only_the_first_process_and_only_stages_are_logged(project: Project) -> None:
    second = project.run("dull.py", "well", RANK="1")
    command = project.run("-m", "effiseg", "times")

    assert (second.returncode, command.returncode, command.stdout) == (0, 0, "")
    assert not project.log.exists()


def test_times_adds_up_what_ran_since(project: Project) -> None:
    project.log.parent.mkdir()
    project.log.write_text(
        "started,stage,seconds,status\n"
        "2030-01-01T09:59:59,prepare,5.0,0\n"
        "2030-01-01T10:00:00,teach@teacher-0,20.5,0\n"
        "2030-01-01T10:00:21,train@kd-0,100.0,0\n"
    )

    told = project.run("-m", "effiseg", "times", "--since", "2030-01-01T10:00:00").stdout

    assert [line.split()[:2] for line in told.splitlines()] == [
        ["seconds", "stage"],
        ["100.0", "train@kd-0"],
        ["20.5", "teach@teacher-0"],
        ["120.5", "in"],
    ]
