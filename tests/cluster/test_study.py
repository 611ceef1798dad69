"""A study on a Ray cluster ends as a sequential `dvc repro` does."""

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cluster.toy import Toy, done, kill


@pytest.fixture(scope="module")
def finished(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Toy, str]:
    """A project of three rows after its study, and what that printed. Not to be changed."""
    toy = Toy(tmp_path_factory.mktemp("finished") / "toy", 3, cluster.address)
    return toy, toy.study().stderr


def test_every_stage_runs_once(finished: tuple[Toy, str]) -> None:
    toy, output = finished
    rows = {f"{kind}@row{i}" for kind in ("train", "evaluate") for i in range(3)}

    assert done(output) == {"prepare", "report", *rows}
    assert "8/8 done, 0 running, 0 waiting" in output.splitlines()[-1]
    assert toy.table() == toy.expected()


def test_dvc_repro_finds_everything_up_to_date(finished: tuple[Toy, str]) -> None:
    toy, _ = finished
    assert toy.repro() == []
    assert toy.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."


def test_dvc_lock_is_that_of_a_sequential_run(finished: tuple[Toy, str], tmp_path: Path) -> None:
    sequential = Toy(tmp_path / "toy", 3)
    sequential.repro()

    assert finished[0].lock() == sequential.lock()


def test_a_second_study_runs_nothing(finished: tuple[Toy, str]) -> None:
    # not even a cluster
    toy, _ = finished
    again = toy.run(*[word.replace(toy.address, "127.0.0.1:1") for word in toy.command()])
    assert (again.returncode, again.stdout) == (0, "the study is up to date\n")


def test_every_stage_has_a_log(finished: tuple[Toy, str]) -> None:
    assert "row1 begins at step 0" in finished[0].log("train@row1")


def test_nothing_is_left_of_the_checkouts(finished: tuple[Toy, str]) -> None:
    assert not (finished[0].folder / ".dvc/tmp/effiseg").exists()


@pytest.mark.slow
def test_an_edited_row_runs_alone(toy: Toy) -> None:
    toy.study()
    toy.edit({"row1": {"steps": 6}})
    output = toy.study().stderr

    assert done(output) == {"train@row1", "evaluate@row1", "report"}
    assert toy.table() == toy.expected()
    assert toy.repro() == []


@pytest.mark.slow
def test_what_comes_out_as_before_runs_nothing_behind_it(toy: Toy) -> None:
    toy.study()
    toy.edit({"row1": {"sleep": 0.0}})

    assert done(toy.study().stderr) == {"train@row1"}
    assert toy.repro() == []


@pytest.mark.slow
def test_a_row_that_is_given_up_leaves_the_folder_and_comes_back_from_the_cache(toy: Toy) -> None:
    toy.study()
    kept, own = dict(toy.learn), toy.folder / "models/mine"
    own.write_text("of no stage")
    del toy.learn["row1"], toy.learn["row2"]
    (toy.folder / "results/row2.json").unlink()
    (toy.folder / "results/row2.json").write_text("edited by hand")
    toy.edit({})
    fewer = toy.study()

    assert "removed what 3 stages made that are no longer in the study" in fewer.stdout
    assert not (toy.folder / "models/row1").exists()
    assert not (toy.folder / "results/row1.json").exists()
    assert own.exists()
    assert (toy.folder / "results/row2.json").read_text() == "edited by hand"
    assert toy.table() == toy.expected()

    (toy.folder / "results/row2.json").unlink()
    assert toy.repro() in ([], ["report"])
    toy.learn = kept
    toy.edit({})
    toy.study()
    assert "begins" not in toy.log("train@row1")
    assert toy.table() == toy.expected()
    assert toy.repro() == []


def test_a_row_that_fails_does_not_stop_the_others(toy: Toy) -> None:
    toy.edit({"row1": {"fails_at": 2}})
    failed = toy.study(check=False)

    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == (
        "error: failed: train@row1; not run for want of them: evaluate@row1; the same command tries again"
    )
    assert "train@row1 failed: unexpected ValueError: row1 cannot go on" in failed.stderr
    assert set(toy.table()) == {"row0", "row2"}

    toy.edit({"row1": {"fails_at": None}})
    again = toy.study().stderr
    assert done(again) == {"train@row1", "evaluate@row1", "report"}
    assert toy.table() == toy.expected()
    assert toy.repro() == []


def test_a_killed_process_is_tried_again_from_its_checkpoint(toy: Toy) -> None:
    toy.edit({"row1": {"killed_at": 2}})
    output = toy.study().stderr

    assert "train@row1: its process was killed on" in output
    assert "row1 begins at step 0" in toy.log("train@row1")
    assert "row1 begins at step 2" in toy.log("train@row1")
    assert toy.table() == toy.expected()


@pytest.mark.slow
def test_a_process_killed_every_time_is_given_up(toy: Toy) -> None:
    toy.settings |= {"retries": 0}
    toy.edit({"row1": {"killed_at": 2}})
    failed = toy.study(check=False)

    assert failed.returncode == 1
    assert "train@row1 failed: its process was killed" in failed.stderr


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_an_interrupted_study_stops_its_workers_and_goes_on_later(toy: Toy, number: int, status: int) -> None:
    toy.edit({f"row{i}": {"sleep": 0.2, "steps": 20} for i in range(3)})
    study = toy.start()
    _wait_until(lambda: study.poll() is not None or list((toy.folder / ".ckpt").glob("row0-*/COMPLETE")))
    kill(study, number)
    output, _ = study.communicate(timeout=60)

    assert study.returncode == status, output
    assert ("error: interrupted; the same command goes on" in output) == (number == signal.SIGINT)
    assert "Traceback" not in output
    _wait_until(lambda: not _stages_of(toy))
    assert "prepare" in toy.lock()

    toy.study()
    assert "begins at step 0" not in toy.log("train@row0")  # the log begins anew with each study
    assert toy.table() == toy.expected()
    assert toy.repro() == []


@pytest.mark.slow
def test_a_second_study_in_one_folder_is_refused(toy: Toy) -> None:
    toy.edit({"row0": {"sleep": 0.2, "steps": 20}})
    study = toy.start()
    _wait_for(toy, "train@row0", "begins", study)
    refused = toy.study(check=False)
    study.communicate(timeout=120)

    assert (study.returncode, refused.returncode) == (0, 1)
    assert "another study runs in this folder" in refused.stderr
    assert toy.table() == toy.expected()


@pytest.mark.slow
def test_two_studies_on_one_cluster_do_not_mix(toy: Toy, tmp_path: Path) -> None:
    other = Toy(tmp_path / "other", 3, toy.address, steps=7)
    studies = [toy.start(), other.start()]
    for study in studies:
        output, _ = study.communicate(timeout=120)
        assert study.returncode == 0, output

    assert (toy.table(), other.table()) == (toy.expected(), other.expected())
    assert toy.table() != other.table()


@pytest.mark.slow
def test_files_travel_by_a_remote_where_machines_share_no_folder(toy: Toy, tmp_path: Path) -> None:
    toy.run("dvc", "remote", "add", "--local", "store", str(tmp_path / "store"))
    toy.settings |= {"remote": "store"}
    refused = toy.study(check=False)
    assert "set MLFLOW_TRACKING_URI" in refused.stderr

    toy.edit({"row1": {"killed_at": 2, "pause": 3.0}})
    study = toy.run("env", "MLFLOW_TRACKING_URI=http://127.0.0.1:1", *toy.command())
    assert study.returncode == 0, study.stderr
    assert toy.table() == toy.expected()
    assert toy.repro() == []
    assert "row1 begins at step 2" in toy.log("train@row1")

    # by its run cache, another clone needs no training
    other = Toy(tmp_path / "other", 3, toy.address)
    other.edit({"row1": {"killed_at": 2, "pause": 3.0}})
    other.run("dvc", "remote", "add", "--local", "store", str(tmp_path / "store"))
    other.settings = toy.settings
    study = other.run("env", "MLFLOW_TRACKING_URI=http://127.0.0.1:1", *other.command())
    assert study.returncode == 0, study.stderr
    assert "begins" not in other.log("train@row0")
    assert other.table() == toy.expected()


def test_a_cluster_that_is_not_there_is_one_error(toy: Toy) -> None:
    toy.address = "127.0.0.1:1"
    refused = toy.study(check=False)

    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith("error: --ray 127.0.0.1:1: no Ray cluster to be had there")


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"trian": {"cpus": 1}}, "cluster.resources.trian: no stage has this name; stages are: evaluate, prepare"),
        ({"train": {"cpus": 999}}, "cluster.resources: stage train takes 999 CPUs, 0 GPUs and 0.1 GB, and no machine"),
    ],
)
def test_resources_that_fit_nothing_are_one_error(tmp_path: Path, resources: dict[str, Any], message: str) -> None:
    toy = Toy(tmp_path / "toy", 1)
    toy.settings["resources"] = toy.settings["resources"] | resources
    refused = toy.study(check=False)

    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(f"error: {message}")


def _stages_of(toy: Toy) -> list[psutil.Process]:
    """Processes that run a stage of the project, in whatever checkout."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if "stage.py" in (process.info["cmdline"] or []) and str(toy.folder) in (process.info["cwd"] or "")
    ]


def _wait_for(toy: Toy, stage: str, text: str, study: subprocess.Popen[str]) -> None:
    path = toy.folder / "logs" / f"{stage}.log"
    _wait_until(lambda: study.poll() is not None or (path.exists() and text in path.read_text()))
    assert study.poll() is None, study.communicate()[0]


def _wait_until(condition: Any) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("not within a minute")
