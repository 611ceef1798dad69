"""`python -m effiseg check`: what is wrong is told before anything runs, and nothing of it takes long."""

import hashlib
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from effiseg.data.dataset import open_dataset
from tests.pipeline.study import environment

TEACHER = "weights/teacher-b2.safetensors"


@pytest.fixture
def project(repository: Path, tmp_path: Path) -> Path:
    """A repository with what `check` looks at."""
    (tmp_path / "weights").mkdir()
    (tmp_path / TEACHER).symlink_to(repository / TEACHER)
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((repository / name).read_bytes())
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "--quiet", "--allow-empty", "-m", "begin")
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, env=environment(), check=True)


def edit(project: Path, *changes: tuple[str, str]) -> None:
    path = project / "params.yaml"
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")


def check(project: Path, repository: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "effiseg", "check"]
    return subprocess.run(
        command,
        cwd=project,
        env=environment(PYTHONPATH=str(repository), **variables),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_valid_study_is_told_in_one_line(project: Path, repository: Path) -> None:
    ran = check(project, repository)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "params.yaml is valid: 6 trainings on synthetic\n"


PINNED = "sha256: d6c7d2f8f0e9779b14c43f1363f7ef799ede29d86673f726bf9daa1b5180e6b1"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("root: data/synthetic", "root: /nowhere/at/all", "data.root: /nowhere/at/all is not a folder"),
        ("root: data/synthetic", "root: weights", "data.root weights (source synthetic): 1 problem: [1] no folder"),
        (
            "path: weights/",
            "path: elsewhere/",
            "start.path: elsewhere/teacher-b2.safetensors (row 'teacher')",
        ),
        (PINNED, "sha256: " + "e" * 64, f"start.sha256: {TEACHER} (row 'teacher') has d6c7d2f8"),
        ("experiments: [baseline,", "experiments: [nope,", "params.yaml: study.experiments: there is no row"),
        ("final_on: []", "final_on: [test]", "data set synthetic has no split 'test', only train, val: correct"),
    ],
)
def test_what_is_wrong_in_params_is_one_line(project: Path, repository: Path, old: str, new: str, told: str) -> None:
    edit(project, (old, new))
    assert_refused(check(project, repository), told)


def test_a_file_that_may_be_replaced_is_refused_outside_weights(
    project: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    edit(project, (PINNED, 'sha256: ""'))
    (project / TEACHER).unlink()
    (project / TEACHER).write_bytes(b"one")
    assert check(project, repository).returncode == 0  # DVC sees a change there
    file = tmp_path_factory.mktemp("far") / "x.pth"
    file.write_bytes(b"one")
    edit(project, (TEACHER, str(file)))
    told = f"start.path: {file} (row 'teacher') may be replaced, and no stage would notice; keep it in weights/, or set"
    assert_refused(check(project, repository), told)
    edit(project, ('sha256: ""\n    train', f"sha256: {hashlib.sha256(b'one').hexdigest()}\n    train"))
    assert check(project, repository).returncode == 0


def test_a_folder_that_mlflow_takes_for_an_address_is_a_warning(project: Path, repository: Path) -> None:
    folder = project / "x%20y"
    folder.mkdir()
    for name in ("params.yaml", "weights"):
        (project / name).rename(folder / name)
    ran = check(folder, repository)
    assert ran.returncode == 0
    assert ran.stderr.startswith(f"warning: {folder}: MLflow takes the % and what follows for a sign in an address")


def test_data_that_dvc_ignores_are_refused(project: Path, repository: Path) -> None:
    (project / ".dvcignore").write_text("/site\n")
    (project / "site/cam").mkdir(parents=True)
    edit(project, ("root: data/synthetic", "root: site/cam"))
    assert_refused(check(project, repository), "data.root: site/cam is left out by .dvcignore, so that DVC sees no")


def test_a_source_that_may_move_is_refused(project: Path, repository: Path) -> None:
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    edit(project, (PINNED, 'sha256: ""'), ("source: file\n", "source: huggingface\n      repo: a/b\n"))
    told = "start.repo: a/b (row 'teacher') may be replaced, and no stage would"
    assert_refused(check(project, repository, **nowhere), told)
    edit(project, ("repo: a/b\n", f"repo: a/b\n      revision: {'0a' * 20}\n"))
    ran = check(project, repository, **nowhere)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("huggingface a/b (teacher): to be downloaded: cannot be had now: ")


def test_without_git_or_a_commit_the_cure_is_told(project: Path, repository: Path, tmp_path_factory) -> None:
    away = tmp_path_factory.mktemp("away") / "git"
    (project / ".git").rename(away)
    ceiling = {"GIT_CEILING_DIRECTORIES": str(project.parent)}
    assert_refused(check(project, repository, **ceiling), f"{project}: not a git repository, where DVC keeps")
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "--quiet")
    assert_refused(check(project, repository, GIT_DIR=str(other / ".git"), **ceiling), f"{project}: not a git repo")
    git(project, "init", "--quiet")
    assert_refused(check(project, repository), f"{project}: a git repository without a commit; run `git add --all`")
    assert_refused(check(project, repository, PATH=""), "git cannot be run (No such file or directory); install it")
    assumed = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}  # git's own way to test its refusal
    told = f"{project}: git does not trust it, since another user owns it; run `git config --global --add safe."
    assert_refused(check(project, repository, **assumed), told)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS; run `git lfs pull`"),
        (b"rubbish" * 9, "no SQLite database; restore it"),
    ],
)
def test_a_database_that_is_none(project: Path, repository: Path, content: bytes, told: str) -> None:
    (project / "mlflow.db").write_bytes(content)
    assert_refused(check(project, repository), f"{project / 'mlflow.db'}: {told}, or move it away: a new one is made")


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("CREATE TABLE experiments (y)", "no database of MLflow's, or damaged (no such column: experiment_id)"),
        (
            "CREATE TABLE experiments AS "
            "SELECT 7 AS experiment_id, 'effiseg-synthetic' AS name, 'deleted' AS lifecycle_stage",
            "the experiment effiseg-synthetic was deleted; restore it with `mlflow experiments restore",
        ),
    ],
)
def test_a_database_that_mlflow_would_refuse(project: Path, repository: Path, sql: str, told: str) -> None:
    with sqlite3.connect(project / "mlflow.db") as database:
        database.execute(sql)
    database.close()
    assert_refused(check(project, repository), f"{project / 'mlflow.db'}: {told}")


def assert_refused(ran: subprocess.CompletedProcess[str], told: str) -> None:
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"error: {told}"), ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_table_outside_the_data_that_was_edited_is_told(project: Path, repository: Path, tmp_path_factory) -> None:
    elsewhere, data = tmp_path_factory.mktemp("tables"), tmp_path_factory.mktemp("data")
    table = elsewhere / "dataset.yaml"
    table.write_text(
        "name: mine\ntitle: Mine\nclasses: [{name: a, colour: [1, 2, 3], ids: 0}]\n"
        "splits: {train: {images: 't/{name}.jpg', labels: 't/{name}.png'}, val: {part_of: train, every: 2}}\n"
    )
    for name in ("a.jpg", "a.png", "b.jpg", "b.png"):
        (data / "t").mkdir(exist_ok=True)
        (data / "t" / name).touch()
    edit(project, ("source: synthetic", f"source: {table}"), ("root: data/synthetic", f"root: {data}"))
    (project / "prepared").mkdir()
    fingerprint = open_dataset(str(table)).fingerprint
    (project / "prepared/index.json").write_text(json.dumps({"space": {"name": "mine"}, "table": fingerprint}))
    assert check(project, repository).returncode == 0
    table.write_text(table.read_text().replace("ids: 0", "ids: 1"))
    assert_refused(
        check(project, repository), f"{table}: edited since the data were prepared, which DVC does not see outside"
    )
    table.rename(data / "dataset.yaml")
    edit(project, (str(table), str(data / "dataset.yaml")))
    assert check(project, repository).returncode == 0
