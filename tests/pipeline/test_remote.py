"""A study that is trained where there is torch alone, cut off again and again, comes home as if it had not left."""

import os
import signal
import subprocess
import sys
import tarfile
import time
import venv
from pathlib import Path

import pytest

from effiseg.remote.packages import closure
from tests.pipeline.study import Study, environment

pytestmark = pytest.mark.slow

RUNS = ("teacher-0", "baseline-0", "kd-0")
TRAININGS = ("teach@teacher-0", "train@baseline-0", "distill@kd-0")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The Python of an environment that has torch, what that needs, and nothing else."""
    folder = tmp_path / "bare"
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for each in closure(["torch"]):
        for name in {file.parts[0] for file in each.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            (site / name).symlink_to(Path(str(each.locate_file(name))).resolve())
    return folder / "bin/python"


def remote(bare: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [bare, "-m", "effiseg.remote", *arguments],
        cwd=folder,
        env={key: value for key, value in environment().items() if key != "PYTHONPATH"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def checkpoints(folder: Path) -> list[Path]:
    return list(folder.glob(".ckpt/*/checkpoint-*/COMPLETE"))


def unpacked(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / archive.stem


def test_a_study_trained_elsewhere_is_the_same(study: Study, bare: Path, tmp_path: Path) -> None:
    home, plain = study.copy(tmp_path / "at home"), study.copy(tmp_path / "plain")
    for each in (home, plain):
        each.edit({"train": {"epochs": 12}, "experiments.teacher.train": {"epochs": 12}})
        each.dvc("repro", "rows")
    told = home.run(sys.executable, "-m", "effiseg", "pack", str(tmp_path / "it goes.tar"))
    assert "to train teacher-0, baseline-0, kd-0; unpack it there" in told.stdout
    there = unpacked(tmp_path / "it goes.tar", tmp_path / "elsewhere")
    assert subprocess.run([bare, "-c", "import transformers"], capture_output=True, check=False).returncode

    killed = remote(bare, there, "--parallel", "2")
    while not checkpoints(there):
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.1)
    second, _ = (process := remote(bare, there)).communicate(timeout=60)
    assert (process.returncode, "another process trains or unpacks here" in second) == (1, True)
    os.kill(killed.pid, signal.SIGKILL)

    for minutes in ("0.2", "0.2", "60"):
        output, _ = (process := remote(bare, there, "--minutes", minutes, "--parallel", "2")).communicate(timeout=300)
        assert process.returncode in (0, os.EX_TEMPFAIL), output
    assert process.returncode == 0, output

    told = home.run(sys.executable, "-m", "effiseg", "unpack", str(there / "runs.tar"))
    assert f"brought home: {', '.join(RUNS)}" in told.stdout
    home.run("sh", "-c", told.stdout.split("now run: ")[1])
    assert home.dvc("status", *TRAININGS).stdout.strip().endswith("up to date.")
    plain.dvc("repro", *TRAININGS)
    for name in RUNS:
        for file in ("model/last/model.safetensors", "model/best/model.safetensors", "history.csv"):
            assert (home.folder / "runs" / name / file).read_bytes() == (
                plain.folder / "runs" / name / file
            ).read_bytes()
        record = home.json(f"runs/{name}/record.json")
        assert record["git_commit"].split()[0] == home.git("rev-parse", "HEAD")
        assert record["device"].startswith(("CPU", "NVIDIA"))
    assert not set(home.repro()) & set(TRAININGS)
    statuses = home.query("SELECT name, status FROM runs WHERE name IN ('teacher-0', 'baseline-0', 'kd-0')")
    assert {status for _, status in statuses} == {"FINISHED"}


def test_scores_kept_elsewhere_are_those_of_here(study: Study, bare: Path, tmp_path: Path) -> None:
    home, told = study.copy(tmp_path / "at home"), "not up to date: prepare, "
    # generated scenes have no third split; the teacher has epochs of its own, and so is trained already
    home.edit({"data": {"final_on": ["train"], "allow_overlap": True}, "train": {"epochs": 3}})
    pack = (sys.executable, "-m", "effiseg", "pack", str(tmp_path / "it.tar"))
    refused = home.run(*pack, check=False)
    assert (refused.returncode, told in refused.stderr) == (1, True), refused.stderr
    home.run("sh", "-c", refused.stderr.split("run `")[1].split("`")[0])
    assert "to train baseline-0, kd-0; unpack it there" in home.run(*pack).stdout
    there = unpacked(tmp_path / "it.tar", tmp_path / "elsewhere")

    for minutes in ("0.2", "0.2", "60"):
        process = remote(bare, there, "--keep", "kept", "--minutes", minutes, "--parallel", "2")
        output, _ = process.communicate(timeout=300)
        assert process.returncode in (0, os.EX_TEMPFAIL), output
    assert process.returncode == 0, output
    assert "kept: 3 of 3 runs kept; bring it home, and there `python -m effiseg keep DIR --root kept`" in output
    kept = [path for path in (there / "kept").rglob("*") if path.is_file()]
    assert not [path for path in kept if path.suffix in (".safetensors", ".npy", ".zip", ".partial")]
    assert not (there / "runs.tar").exists()

    merge = (sys.executable, "-m", "effiseg", "keep", "reports/mine")
    assert "kept teacher-0, baseline-0, kd-0" in home.run(*merge, "--root", str(there / "kept")).stdout
    assert home.run(sys.executable, "-m", "effiseg", "report", "reports/mine").stdout.strip().endswith("index.html")
    home.repro("evaluate_final_teachers@teacher-0-train", "evaluate_final@baseline-0-train", "evaluate@baseline-0")
    home.repro("evaluate_final_distilled@kd-0-train", "evaluate_distilled@kd-0")
    for run in RUNS:
        for name in ("metrics.json", "finals/train/metrics.json", "scores/confusion.csv"):
            assert (home.folder / "reports/mine/runs" / run / name).read_bytes() == (
                home.folder / "runs" / run / name
            ).read_bytes()
    assert "has all finished runs already" in home.run(*merge).stdout

    Study(there).edit({"train": {"epochs": 4}})
    output, _ = (process := remote(bare, there, "--keep", "another")).communicate(timeout=60)
    told = "rows/baseline.json: baseline.train.epochs is 3, and 4 in params.yaml, which was edited since"
    assert (process.returncode, told in output) == (1, True), output
