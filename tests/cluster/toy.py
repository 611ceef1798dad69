"""A DVC project of tiny stages for the tests of the cluster: what a row 'learns' takes time, is checkpointed, and comes
out the same however often it was killed."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.pipeline.study import environment, ran

REPOSITORY = Path(__file__).parents[2]

DVC_YAML = """
stages:
  prepare:
    cmd: python stage.py prepare
    deps: [stage.py]
    outs: [prepared.json]
  train:
    matrix: {row: "${rows}"}
    cmd: python stage.py train ${item.row}
    deps: [stage.py, prepared.json]
    params: ["learn.${item.row}"]
    outs: ["models/${key}"]
  evaluate:
    matrix: {row: "${rows}"}
    cmd: python stage.py evaluate ${item.row}
    deps: [stage.py, "models/${key}/weights.json"]
    metrics: ["results/${key}.json"]
  report:
    cmd: python stage.py report
    deps: [stage.py, results]
    outs: [reports/table.txt: {cache: false}, reports/figures: {cache: false}]
"""

# training locks, checkpoints and ends with its owner by the project's own means
STAGE = """
import hashlib, json, os, signal, sys, time
from pathlib import Path

import yaml
from effiseg.cli import stage as cli
from effiseg.base.files import whole_folder, write_json
from effiseg.runs.checkpoints import checkpoints

def prepare():
    write_json(Path("prepared.json"), {"start": 1})

def train(row):
    settings = yaml.safe_load(Path("params.yaml").read_text())["learn"][row]
    value = json.loads(Path("prepared.json").read_text())["start"]
    identity = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    with checkpoints(row, identity) as folder, whole_folder(Path("models", row)) as out:
        state, step = folder / "COMPLETE", 0
        if state.exists():
            step, value = json.loads(state.read_text())["state"]
        begun = step
        print(f"{row} begins at step {step}", flush=True)
        while step < settings["steps"]:
            if step == settings.get("fails_at"):
                raise ValueError(f"{row} cannot go on")
            if step == settings.get("killed_at") and begun == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(settings["sleep"])
            step, value = step + 1, (value * 1103515245 + settings["seed"]) % 2**31
            write_json(state, {"state": [step, value]})
            if step == settings.get("killed_at"):
                time.sleep(settings.get("pause", 0.0))
        write_json(out / "weights.json", {"value": value})

def evaluate(row):
    weights = json.loads(Path("models", row, "weights.json").read_text())
    write_json(Path("results", f"{row}.json"), {"value": weights["value"]})

def report():
    rows = {path.stem: json.loads(path.read_text())["value"] for path in sorted(Path("results").glob("*.json"))}
    Path("reports/figures").mkdir(parents=True)
    Path("reports/table.txt").write_text("".join(f"{row} {value}\\n" for row, value in rows.items()))
    for row in rows:
        Path("reports/figures", row).write_text(row)

cli.run(lambda: globals()[sys.argv[1]](*sys.argv[2:]))
"""

RUN = """
import json, sys
from effiseg.cluster.study import run_study
from effiseg.cli import stage as cli
from effiseg.base.schema import Cluster

cli.run(lambda: run_study(Cluster.model_validate(json.loads(sys.argv[2])), sys.argv[1]))
"""

SETTINGS: dict[str, Any] = {
    "resources": {"default": {"cpus": 1, "gpus": 0, "memory_gb": 0.1}},
    "retries": 3,
    "remote": "",
}


class Toy:
    """The project in a folder of its own; `address` is the Ray cluster on which it runs."""

    def __init__(self, folder: Path, rows: int, address: str = "local", **learn: Any) -> None:
        self.folder, self.address = folder, address
        self.settings: dict[str, Any] = dict(SETTINGS)
        self.learn = {f"row{i}": {"seed": i, "steps": 4, "sleep": 0.02, **learn} for i in range(rows)}
        folder.mkdir(parents=True)
        for name, text in {"dvc.yaml": DVC_YAML, "stage.py": STAGE, "run.py": RUN}.items():
            (folder / name).write_text(text)
        (folder / ".gitignore").write_text(".ckpt/\nlogs/\nmodels/\nresults/\nprepared.json\n")
        self.edit({})
        for command in ("git init --quiet", "dvc init --quiet"):
            self.run(*command.split())
        self.run("git", "add", "--all")
        self.run("git", "-c", "user.name=toy", "-c", "user.email=toy@localhost", "commit", "--quiet", "-m", "Toy")

    def edit(self, learn: Mapping[str, Mapping[str, Any]]) -> None:
        """Change rows of params.yaml."""
        for row, changes in learn.items():
            self.learn[row] |= changes
        text = yaml.safe_dump({"rows": list(self.learn), "learn": self.learn})
        (self.folder / "params.yaml").write_text(text)

    def expected(self) -> dict[str, int]:
        """What every row learns when nothing disturbs it."""
        values = {}
        for row, settings in self.learn.items():
            value = 1
            for _ in range(settings["steps"]):
                value = (value * 1103515245 + settings["seed"]) % 2**31
            values[row] = value
        return values

    def table(self) -> dict[str, int]:
        """What the report says."""
        lines = (self.folder / "reports/table.txt").read_text().splitlines()
        return {row: int(value) for row, value in (line.split() for line in lines)}

    def log(self, stage: str) -> str:
        """What a stage printed."""
        return (self.folder / "logs" / f"{stage}.log").read_text()

    def lock(self) -> dict[str, Any]:
        """The stages of dvc.lock."""
        return yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"]

    def repro(self) -> list[str]:
        """Run `dvc repro` and return the stages that ran."""
        done = self.run("dvc", "repro")
        assert done.returncode == 0, done.stderr
        return ran(done.stdout)

    def study(self, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the study on the cluster."""
        done = self.run(*self.command())
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def start(self) -> subprocess.Popen[str]:
        """Start the study in a process group of its own."""
        return subprocess.Popen(
            self.command(),
            cwd=self.folder,
            env=variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # where the tests run in the background, Ctrl-C is ignored by all that they start
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def command(self) -> list[str]:
        import json

        return [sys.executable, "run.py", self.address, json.dumps(self.settings)]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder."""
        return subprocess.run(
            command, cwd=self.folder, env=variables(), capture_output=True, text=True, timeout=300, check=False
        )


def variables() -> dict[str, str]:
    """The environment of the project: its stages find the package that is tested, and git knows who commits."""
    return environment(PYTHONPATH=str(REPOSITORY), RAY_USAGE_STATS_ENABLED="0")


def done(output: str) -> set[str]:
    """The stages that a study finished, from what it printed."""
    return set(re.findall(r"^(\S+) done on ", output, re.MULTILINE))


def kill(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    """Send a signal to a study, and to nothing that it started in another session."""
    os.kill(process.pid, number)
