"""`python -m benchmarks.cluster`: what the study on a cluster costs against one command after another.

`rows` trains tiny rows for real: `dvc repro` against the study, with the same threads and with one row a core. `sleep`
simulates a larger cluster on this machine: many workers, stages that sleep in place of training. `graph` times what
grows with the number of rows: DVC's look at the whole study, once, and at one stage, once for each. Each adds lines to
cluster.csv, and prints them.
"""

import argparse
import csv
import io
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import chdir, redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from ruamel.yaml import YAML

from effiseg.base.schema import Cluster

REPOSITORY = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("cluster.csv")
STAGES = ("synthesize", "prepare", "rows", "train")  # of the tiny rows
TINY: dict[str, Any] = {
    "synthesize": {"train": 8, "val": 4, "height": 64},
    "data": {"size": [32, 64]},
    "train": {"epochs": 2, "augment": {"crop": [32, 64]}},
    "study": {"min_teacher_miou": 0.0},
}
SLEEPING = """
stages:
  train:
    matrix: {row: "${rows}"}
    cmd: sleep ${seconds} && mkdir -p models && echo ${item.row} > models/${key}
    params: [seconds]
    outs: ["models/${key}"]
  report:
    cmd: ls models > report.txt
    deps: [models]
    outs: [report.txt: {cache: false}]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    rows = commands.add_parser("rows")
    rows.add_argument("--rows", type=int, default=40)
    sleep = commands.add_parser("sleep")
    sleep.add_argument("--rows", type=int, default=200)
    sleep.add_argument("--workers", type=int, default=32)
    sleep.add_argument("--seconds", type=float, default=30.0)
    graph = commands.add_parser("graph")
    graph.add_argument("--rows", type=int, nargs="+", default=[200, 2000])
    arguments = parser.parse_args()
    if arguments.command == "rows":
        tiny_rows(arguments.rows)
    elif arguments.command == "graph":
        growing_graph(arguments.rows)
    else:
        sleeping_rows(arguments.rows, arguments.workers, arguments.seconds)


def tiny_rows(rows: int) -> None:
    """`dvc repro`, then the study with all cores for one stage at a time, then with a core for each stage."""
    cores = os.cpu_count() or 1
    with TemporaryDirectory() as scratch:
        seconds, weights = {}, {}
        for way, cpus in {"sequential": 0, "same_threads": cores, "row_per_core": 1}.items():
            folder = Path(scratch, way)
            _tiny_repository(folder, rows, cpus or 1)
            command = ["effiseg", "study", "--ray"] if cpus else ["dvc", "repro"]
            variables = os.environ | ({} if cpus else {"OMP_NUM_THREADS": str(cores)})
            started = time.monotonic()
            subprocess.run([sys.executable, "-m", *command], cwd=folder, env=variables, check=True, capture_output=True)
            seconds[way] = time.monotonic() - started
            files = sorted((folder / "runs").glob("*/model/last/model.safetensors"))
            assert len(files) == rows, f"{len(files)} rows of {rows}"
            weights[way] = [file.read_bytes() for file in files]
            ratio = seconds[way] / seconds["sequential"]
            same = sum(ours == theirs for ours, theirs in zip(weights[way], weights["sequential"], strict=True))
            note = f"{rows} tiny rows ({', '.join(STAGES)}); ratio to dvc repro; weights bit for bit of {same} rows"
            _tell(f"rows_{way}", rows, seconds[way], ratio, note)


def sleeping_rows(rows: int, workers: int, seconds: float) -> None:
    """A study of sleeping stages on simulated machines of four workers each, against the time without any cost."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster as RayCluster

    from effiseg.cluster.study import run_study

    settings = Cluster.model_validate(
        {"resources": {"default": {"cpus": 1, "gpus": 0, "memory_gb": 0.001}}, "retries": 3, "remote": ""}
    )
    cluster = RayCluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(workers // 4):
        cluster.add_node(num_cpus=4, object_store_memory=2**27)
    try:
        with TemporaryDirectory() as scratch, chdir(scratch), redirect_stderr(io.StringIO()):
            _sleeping_repository(rows, seconds)
            started, driver, everything = time.monotonic(), time.process_time(), _cpu_seconds()
            run_study(settings, cluster.address)
            wall, driver = time.monotonic() - started, time.process_time() - driver
            everything = _cpu_seconds() - everything
            made = len(Path("report.txt").read_text(encoding="utf-8").split())
            assert made == rows, f"{made} rows of {rows}"
    finally:
        cluster.shutdown()
    ideal = rows * seconds / workers
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cost = (
        f"a stage costs {1000 * driver / rows:.0f} ms of the driver, {everything / rows:.2f} s of processors in all; "
        f"{memory:.0f} MB of the driver at its peak"
    )
    note = f"{rows} rows of {seconds:g} s on {workers} workers, ideal {ideal:.0f} s; {cost}; ratio to ideal"
    _tell(f"sleep_{rows}", rows, wall, wall / ideal if ideal else float("nan"), note)


def growing_graph(sizes: Sequence[int]) -> None:
    """How long DVC takes to read a study of so many rows, as the driver does, and one stage of it, as a worker does."""
    from dvc.repo import Repo

    from effiseg.cluster.graph import read_graph
    from effiseg.cluster.worker import load_stages

    first: dict[str, float] = {}
    for rows in sizes:
        with TemporaryDirectory() as scratch, chdir(scratch):
            _sleeping_repository(rows, 1.0)
            started = time.monotonic()
            read_graph()
            seconds = {"graph": time.monotonic() - started}
            started = time.monotonic()
            with Repo() as repo:
                load_stages(repo, ["train@row0"])
            seconds["stage"] = time.monotonic() - started
        for what, each in seconds.items():
            first.setdefault(what, each)
            note = {"graph": "the whole study, once", "stage": "one stage, on its worker"}[what]
            _tell(f"{what}_{rows}", rows, each, each / first[what], f"DVC reads {note}; ratio to {sizes[0]} rows")


def _tiny_repository(folder: Path, rows: int, cpus: int) -> None:
    """The project's code under git, with `rows` rows that differ in their learning rate, and the first stages alone."""
    subprocess.run(["git", "clone", "--quiet", REPOSITORY.as_uri(), str(folder)], check=True)
    yaml = YAML()
    params, graph = yaml.load(folder / "params.yaml"), yaml.load(folder / "dvc.yaml")
    names = [f"row{i}" for i in range(rows)]
    for section, changes in TINY.items():
        params[section].update({key: value for key, value in changes.items() if not isinstance(value, dict)})
        for key, value in changes.items():
            if isinstance(value, dict):
                params[section][key].update(value)
    params["experiments"] = {
        name: {"train": {"optimizer": {"lr": 1e-3 * (i + 1) / rows}}} for i, name in enumerate(names)
    }
    params["study"].update({"experiments": names, "distillation": []})
    params["cluster"]["resources"] = {"default": {"cpus": cpus, "gpus": 0, "memory_gb": 0.5}}
    graph["stages"] = {name: graph["stages"][name] for name in STAGES}
    yaml.dump(params, folder / "params.yaml")
    yaml.dump(graph, folder / "dvc.yaml")
    (folder / "dvc.lock").unlink()
    _commit(folder)


def _sleeping_repository(rows: int, seconds: float) -> None:
    Path("dvc.yaml").write_text(SLEEPING, encoding="utf-8")
    YAML().dump({"rows": [f"row{i}" for i in range(rows)], "seconds": seconds}, Path("params.yaml"))
    Path(".gitignore").write_text("models/\n.ckpt/\nlogs/\n", encoding="utf-8")
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, check=True)
    _commit(Path())


def _commit(folder: Path) -> None:
    author = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost"]
    subprocess.run(["git", "add", "--all"], cwd=folder, check=True)
    subprocess.run(["git", *author, "commit", "--quiet", "--message", "Benchmark"], cwd=folder, check=True)


def _cpu_seconds() -> float:
    """Processor time of this process and all that it started, as far as they live."""
    total = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
        except psutil.NoSuchProcess:
            continue
    return total


def _tell(name: str, rows: int, seconds: float, ratio: float, note: str) -> None:
    print(f"{name}: {seconds:.2f} s, ratio {ratio:.2f} ({note})", flush=True)
    line: Sequence[object] = (name, rows, round(seconds, 2), round(ratio, 3), note, f"{os.cpu_count()} cores")
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(("name", "rows", "seconds", "ratio", "note", "machine"))
        writer.writerow(line)


if __name__ == "__main__":
    main()
