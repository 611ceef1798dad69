"""A repository of its own that holds the project's code: its params are edited, DVC and the stages run in it."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

LIMIT = 900  # seconds of a command that hangs: three times what the whole study takes on two slow cores
TINY = {
    "synthesize": {"train": 8, "val": 4, "height": 64},
    "data.size": [32, 64],
    "train": {"epochs": 2, "batch_size": 4},
    "train.augment.crop": [32, 64],
    "experiments.teacher.start": {"source": "drawn", "path": "", "sha256": ""},
    "experiments.teacher.train": {"epochs": 1},
    "experiments.teacher.model": {"variant": "b0"},  # a B2 is 110 MB, in every place that keeps it
    "profile": {"size": [64, 128], "repeats": 2},
    "study": {"experiments": ["baseline"], "distillation": ["kd"], "min_teacher_miou": 0.0},
}


class Study:
    """A folder with the project's code under git."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = ""  # what the first `dvc repro` printed
        self.edges: list[tuple[str, str]] = []  # of its graph, once asked for

    @classmethod
    def of_repository(cls, repository: Path, folder: Path) -> "Study":
        """Everything of the repository that git does not ignore, as it stands now, committed with tiny parameters."""
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=repository,
            env=environment(),
            capture_output=True,
            check=True,
        )
        for name in listed.stdout.decode().split("\0"):
            # dvc.lock and reports/ belong to the shipped parameters
            if (repository / name).is_file() and name != "dvc.lock" and not name.startswith("reports/"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(repository / name, folder / name)
        study = cls(folder)
        study.edit(TINY)
        study.git("init", "--quiet", "--initial-branch=main")
        study.git("config", "user.name", "tests")
        study.git("config", "user.email", "tests@localhost")
        study.commit("The code, with tiny parameters")
        return study

    def copy(self, folder: Path) -> "Study":
        """A copy with data, results, cache and MLflow runs, whose new artifacts stay in the copy."""
        shutil.copytree(self.folder, folder, symlinks=True, copy_function=_link_or_copy)
        if (folder / "mlflow.db").exists():
            with sqlite3.connect(folder / "mlflow.db") as database:
                values = {"old": self.folder.as_uri(), "new": folder.as_uri()}
                for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
                    database.execute(f"UPDATE {table} SET {column} = replace({column}, :old, :new)", values)
            database.close()
        return Study(folder)

    def edit(self, changes: Mapping[str, Any]) -> None:
        """Change params.yaml: dotted keys, mappings merged one level deep."""
        yaml = YAML()
        path = self.folder / "params.yaml"
        content = yaml.load(path)
        for key, value in changes.items():
            *parents, last = key.split(".")
            section = content
            for parent in parents:
                section = section[parent]
            if isinstance(value, Mapping) and last in section:
                section[last].update(value)
            else:
                section[last] = value
        yaml.dump(content, path)

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments).stdout.strip()

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def dvc(self, *arguments: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `dvc` with `variables` in its environment."""
        return self.run(sys.executable, "-m", "dvc", *arguments, check=check, **variables)

    def stage(self, *arguments: str, check: bool = False, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m stages.<arguments>` by hand."""
        return self.run(sys.executable, "-m", f"stages.{arguments[0]}", *arguments[1:], check=check, **variables)

    def python(self, code: str) -> Any:
        """Run a script in the folder and return the JSON that it prints last."""
        return json.loads(self.run(sys.executable, "-c", code).stdout.splitlines()[-1])

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own; output goes to a pipe."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder, with `variables` in its environment."""
        done = subprocess.run(
            command, cwd=self.folder, env=environment(**variables), capture_output=True, text=True, timeout=LIMIT
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro` and return the stages that ran, in order."""
        return ran(self.dvc("repro", *arguments).stdout)

    def stale(self) -> set[str]:
        """What `dvc repro` would run after `rows`, `fetch` and `prepare`: with changed inputs, and all after them."""
        self.dvc("repro", "rows", "fetch", "prepare")
        found = set(json.loads(self.dvc("status", "--json").stdout))
        if not self.edges:  # no edit that is asked about changes the graph
            self.edges = re.findall(r'"([^"]+)" -> "([^"]+)"', self.dvc("dag", "--full", "--dot").stdout)
        while more := {after for before, after in self.edges if before in found} - found:
            found |= more
        return found

    def json(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask mlflow.db."""
        database = sqlite3.connect(self.folder / "mlflow.db")
        try:
            return database.execute(sql, values).fetchall()
        finally:
            database.close()


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without what would lead DVC, MLflow or git elsewhere; `python` is this interpreter."""
    kept = {key: value for key, value in os.environ.items() if not re.match(r"(DVC|MLFLOW|GIT|EFFISEG)_", key)}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # one thread each: tests run side by side, and trainings that share cores with more threads than cores crawl
    return kept | {"PATH": path, "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"} | variables


def _link_or_copy(source: str, target: str) -> None:
    """A link where a file is never written twice: git's objects, DVC's cache, models in MLflow."""
    if any(folder in source for folder in ("/.git/objects/", "/.dvc/cache/files/", "/mlartifacts/models/")):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def ran(output: str) -> list[str]:
    """The stages that DVC ran, from what it printed."""
    return re.findall(r"^Running stage '(.+)':$", output, re.MULTILINE)


def restored(output: str) -> list[str]:
    """The stages whose outputs DVC took from the run cache."""
    return re.findall(r"^Stage '(.+)' is cached - skipping run", output, re.MULTILINE)
