"""What a study on a cluster is made of, part by part."""

import fcntl
import io
import json
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from rich.console import Console

from effiseg.base.errors import EffiSegError
from effiseg.base.schema import Cluster
from effiseg.cli.progress import PROGRESS, with_progress
from effiseg.cluster import nodes
from effiseg.cluster.graph import Graph, Stage, declared, read_graph
from effiseg.cluster.lock import read_lock, write_lock
from effiseg.cluster.snapshot import LIMIT, pack
from effiseg.cluster.view import View
from effiseg.cluster.watch import last_error, was_killed
from tests.cluster.toy import SETTINGS, Toy, variables

WAITS = """
import time
from pathlib import Path
from effiseg.cli import stage as cli

def main():
    print("begun", flush=True)
    try:
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)

cli.run(main)
"""


# --- stages -----------------------------------------------------------------------------------------------------------


def test_a_stage_ends_in_order_when_its_owner_is_gone(tmp_path: Path) -> None:
    owner = tmp_path / "alive"
    with owner.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        stage = subprocess.Popen(
            [sys.executable, "-c", WAITS],
            env=variables() | {"EFFISEG_OWNER": str(owner)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert stage.stdout is not None and stage.stdout.readline() == "begun\n"
        time.sleep(0.5)
        assert stage.poll() is None
    output, _ = stage.communicate(timeout=10)

    assert (stage.returncode, output) == (143, "cleaned up\n")


def test_progress_is_written_where_somebody_watches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, logged = tmp_path / "progress.json", []
    assert with_progress(logged.append, 10, 4) == logged.append  # type: ignore[arg-type]

    monkeypatch.setenv(PROGRESS, str(path))
    log = with_progress(lambda metrics, step: logged.append((metrics, step)), steps=10, batch_size=4)
    log({"loss": 1.0}, 2)
    time.sleep(0.1)
    log({"loss": 0.5}, 4)
    told = json.loads(path.read_text())

    assert logged == [({"loss": 1.0}, 2), ({"loss": 0.5}, 4)]
    assert (told["step"], told["steps"]) == (4, 10)
    assert 20 < told["images_per_second"] <= 2 * 4 / 0.1


@pytest.mark.parametrize(("end", "killed"), [("os.kill(os.getpid(), signal.SIGKILL)", True), ("sys.exit(1)", False)])
def test_a_process_of_a_launcher_that_is_killed_counts_as_killed(tmp_path: Path, end: str, killed: bool) -> None:
    script, log = tmp_path / "rank.py", tmp_path / "rank.log"
    script.write_text(f"import os, signal, sys, time\nif os.environ['RANK'] == '1':\n    {end}\ntime.sleep(60)\n")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    with log.open("w") as file:
        file.write("=== train@a-0, try 1\n")
        file.flush()
        done = subprocess.run(launcher, env=variables(), stderr=file, check=False)

    assert done.returncode == 1
    assert last_error(log) == ""
    assert was_killed("failed to run: torchrun, exited with 1", log) == killed
    with log.open("a") as file:
        file.write("=== train@a-0, try 2\nerror: out of memory\n")
    assert not was_killed("failed to run: torchrun, exited with 1", log)
    assert last_error(log) == "out of memory"


@pytest.mark.parametrize(("status", "killed"), [(-9, True), (137, True), (143, True), (1, False), (130, False)])
def test_a_status_tells_whether_a_stage_was_killed(tmp_path: Path, status: int, killed: bool) -> None:
    assert was_killed(f"failed to run: python train.py, exited with {status}", tmp_path / "no.log") == killed


# --- the graph --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dep", "needed"),
    [
        ("models/kd-0", True),
        ("models/kd-0/last/config.json", True),
        ("models", False),  # gathered: a folder that holds what others made, too
        ("models/kd-00", False),
    ],
)
def test_a_stage_needs_an_output_or_a_part_of_one(dep: str, needed: bool) -> None:
    writer = Stage("train@kd-0", (), (), ("history/kd-0.json", "models/kd-0"), runs=True)
    reader = Stage("report", ("train@kd-0",), ("stages/report.py", dep), (), runs=True)

    assert reader.reads(writer) == needed


def test_a_teacher_holds_up_more_than_a_row() -> None:
    needs = {"prepare": (), "train": ("prepare",), "teacher": ("prepare",), "distill": ("prepare", "teacher")}
    needs |= {"score": ("train",), "score_distilled": ("distill",), "report": ("score", "score_distilled")}
    graph = Graph({name: Stage(name, upstream, (), (), True) for name, upstream in needs.items()}, frozenset(), "")

    assert graph.waiting_for() == {
        "prepare": 6,
        "teacher": 3,
        "train": 2,
        "distill": 2,
        "score": 1,
        "score_distilled": 1,
        "report": 0,
    }


def test_new_lines_of_the_lock_follow_the_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_lock({"b": {"cmd": "old"}}, ["a", "b", "c"])
    write_lock({"c": {"cmd": "new"}, "b": {"cmd": "newer"}, "a": {"cmd": "first"}}, ["a", "b", "c"])

    assert list(read_lock()) == ["b", "a", "c"]
    assert read_lock()["b"] == {"cmd": "newer"}


# --- the machines -----------------------------------------------------------------------------------------------------


def test_machines_that_would_share_one_sqlite_file_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # all machines that a test can start have the name of this one
    resources = {"CPU": 4.0, "memory": 2.0**33}
    machines = [{"Alive": True, "NodeManagerHostname": name, "Resources": resources} for name in ("n1", "n2")]
    monkeypatch.setattr(nodes.ray, "nodes", lambda: machines)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://n0:5000")
    nodes.demand(Cluster.model_validate(SETTINGS), ["train"], "auto")
    assert capsys.readouterr().err == ""

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    nodes.demand(Cluster.model_validate(SETTINGS), ["train"], "auto")
    assert "will all write to ./mlflow.db; set MLFLOW_TRACKING_URI" in capsys.readouterr().err


def test_all_processors_are_those_of_the_smallest_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = ({"CPU": 4.0, "GPU": 2.0}, {"CPU": 2.0}, {})  # the last is a head that runs nothing
    machines = [{"Alive": True, "NodeManagerHostname": "n", "Resources": {**size, "memory": 2.0**33}} for size in sizes]
    monkeypatch.setattr(nodes.ray, "nodes", lambda: machines)
    resources = {"default": {"cpus": 1, "gpus": "auto", "memory_gb": 1}, "profile": {"cpus": "all", "gpus": 0.5}}
    settings = Cluster.model_validate({**SETTINGS, "resources": resources})

    assert nodes.demand(settings, ["profile", "train"], "auto") == {
        "profile": {"num_cpus": 2.0, "num_gpus": 0.5, "memory": 2**30},
        "train": {"num_cpus": 1, "num_gpus": 1.0, "memory": 2**30},
    }


def test_a_stage_without_rows_may_keep_its_resources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy(tmp_path / "toy", 0)
    monkeypatch.chdir(toy.folder)
    kinds = {stage.kind for stage in read_graph().stages.values()}
    assert "train" not in kinds
    machines = [{"Alive": True, "NodeManagerHostname": "n", "Resources": {"CPU": 1.0, "memory": 2.0**33}}]
    monkeypatch.setattr(nodes.ray, "nodes", lambda: machines)
    resources = SETTINGS["resources"] | {"train": {"cpus": 999}}
    settings = Cluster.model_validate({**SETTINGS, "resources": resources})

    nodes.check_names(settings, {*kinds, *declared()})
    assert set(nodes.demand(settings, kinds, "local")) == kinds


# --- the checkout -----------------------------------------------------------------------------------------------------


def test_a_checkout_is_the_commit_and_what_is_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy(tmp_path / "toy", 1)
    commit = toy.run("git", "rev-parse", "HEAD").stdout
    (toy.folder / "run.py").unlink()
    (toy.folder / "new.py").write_text("new")
    (toy.folder / "models").mkdir()
    (toy.folder / "models/ignored").write_text("ignored")
    (toy.folder / ".dvc/config.local").write_text("[core]\n    remote = mine\n")
    monkeypatch.chdir(toy.folder)
    with tarfile.open(fileobj=io.BytesIO(pack())) as archive:
        archive.extractall(tmp_path / "checkout", filter="data")

    checkout = Toy.__new__(Toy)
    checkout.folder = tmp_path / "checkout"
    assert checkout.run("git", "rev-parse", "HEAD").stdout == commit
    assert checkout.run("git", "status", "--porcelain").stdout.split() == ["D", "run.py", "??", "new.py"]
    assert (checkout.folder / ".dvc/config.local").exists()
    assert not (checkout.folder / "models").exists()


@pytest.mark.parametrize("path", ["models/data", "../data", "models"])
def test_what_workers_would_miss_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    toy = Toy(tmp_path / "toy", 1)
    (toy.folder / "models").mkdir()
    (toy.folder / "models/data").write_text("ignored")
    monkeypatch.chdir(toy.folder)
    with pytest.raises(EffiSegError, match=f"^{path}: a stage reads it, and no worker will find it"):
        pack(["stage.py", path])


def test_a_folder_too_large_to_travel_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy(tmp_path / "toy", 1)
    with (toy.folder / "forgotten.bin").open("wb") as file:
        file.truncate(LIMIT)
    monkeypatch.chdir(toy.folder)
    with pytest.raises(EffiSegError, match=r"^forgotten.bin: the largest .* together they are 256 MB"):
        pack()


def test_sources_are_what_no_stage_makes() -> None:
    reads = ("stage.py", "/data/camvid", "../camvid", "code", "prepared/train.npy", "models", "data/mine")
    stages = [
        Stage("data/mine.dvc", (), (), ("data/mine",), runs=False),
        Stage("prepare", (), (), ("prepared", "runs/teacher-0/model"), runs=True),
        Stage("train", ("prepare",), reads, ("models/a",), runs=True),
    ]
    graph = Graph({stage.name: stage for stage in stages}, frozenset(), "")

    assert graph.sources() == {"stage.py", "../camvid", "code"}


def test_a_folder_without_a_commit_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EffiSegError, match="the study needs a git repository with at least one commit"):
        pack()


# --- what is shown ----------------------------------------------------------------------------------------------------


@pytest.fixture
def view() -> View:
    states = {"train@a-0": "done", "train@b-0": "submitted", "train@c-0": "submitted", "evaluate@b-0": "waiting"}
    return View(dict(states), "", console=Console(file=io.StringIO(), width=120))


def test_a_summary_counts_stages_and_images(view: View) -> None:
    now = time.time()
    view.running = {"train@b-0": {"host": "n1", "since": now, "step": 5, "steps": 10, "images_per_second": 12.5}}

    assert view.summary().startswith("1/4 done, 1 running, 2 waiting, 12.5 images/s; 0:00:00 so far, ETA")


def test_the_time_to_come_is_that_of_stages_of_the_same_kind(view: View) -> None:
    view.seconds = {"train": [50.0, 70.0], "evaluate": [20.0]}
    view.running = {
        "train@b-0": {"since": time.time() - 30, "step": 5, "steps": 10},  # 30 s more by its own pace
        "train@c-0": {"since": time.time() - 10},  # 50 s more of the usual 60
    }

    assert view.eta() == "0:00:50"  # 30 + 50 + 20, two at a time
    del view.seconds["evaluate"]
    assert view.eta() == "at least 0:00:40"


def test_a_terminal_shows_what_runs_where_and_how_far_it_is() -> None:
    states = {f"train@row{i}-0": "submitted" for i in range(40)} | {"prepare": "done"}
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=100)
    view, now = View(states, "http://127.0.0.1:8265", console=console), time.time()
    facts = {"since": now - 60, "step": 30, "steps": 120, "images_per_second": 12.34}
    with view.shown():
        view.refresh({f"train@row{i}-0": {"host": f"node{i}", **facts} for i in range(35)})
    shown = console.file.getvalue()  # type: ignore[attr-defined]

    assert shown.splitlines()[0] == "41 stages to run; Ray's dashboard: http://127.0.0.1:8265; logs: logs/<stage>.log"
    assert re.search(r"train@row29-0 +node29 +0:01:00 +25% +12\.3", shown)
    assert re.search(r"^━+╸? *$", shown, re.MULTILINE)
    assert "train@row30-0" not in shown
    assert "and 5 more" in shown
    assert "1/41 done, 35 running, 5 waiting, 431.9 images/s; 0:00:00 so far, ETA at least 0:03:00" in shown
