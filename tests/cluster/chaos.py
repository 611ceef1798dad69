"""Studies whose stages, workers, machines and driver are killed at random moments.

`python -m tests.cluster.chaos 20` runs twenty and tells what was killed.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from tests.cluster.toy import Toy, variables

KILLS = 6  # per study
STARTS = 12  # of the driver, at most


def disturb(toy: Toy, cluster: Any, seed: int) -> Counter[str]:
    """Run the study until it succeeds, while its parts are killed at random; returns what was killed how often.

    `cluster` keeps as many machines as it had: a new one comes for each that is killed.
    """
    chance, killed = random.Random(seed), Counter[str]()
    for _ in range(STARTS):
        study = toy.start()
        while study.poll() is None:
            time.sleep(chance.uniform(0.2, 2.5))
            if killed.total() < KILLS and study.poll() is None:
                killed.update(_kill_something(toy, cluster, study, chance))
        output, _ = study.communicate()
        assert "failed: " not in output, output
        if study.returncode == 0:
            return killed
        killed["restart"] += 1
    raise AssertionError(f"not done after {STARTS} starts: {dict(killed)}\n{output}")


def _kill_something(toy: Toy, cluster: Any, study: subprocess.Popen[str], chance: random.Random) -> list[str]:
    what = chance.choice(["stage", "stage", "worker", "worker", "machine", "driver"])
    if what == "driver":
        os.kill(study.pid, signal.SIGKILL)
    elif what == "machine":
        cluster.remove_node(chance.choice(cluster.list_all_nodes()[1:]), allow_graceful=False)
        cluster.add_node(num_cpus=1, object_store_memory=2**27)
    else:
        found = [process for process in psutil.process_iter(["cmdline", "cwd"]) if _is(process, what, toy)]
        if not found:
            return []
        try:
            chance.choice(found).kill()
        except psutil.NoSuchProcess:
            return []
    return [what]


def _is(process: psutil.Process, what: str, toy: Toy) -> bool:
    command, folder = " ".join(process.info["cmdline"] or []), process.info["cwd"] or ""
    mark = "stage" if what == "stage" else "ray::"
    return mark in command and str(toy.folder) in folder


def check(toy: Toy) -> None:
    """The disturbed study ended as an undisturbed one does, and left nothing running."""
    assert toy.table() == toy.expected()
    assert toy.repro() == []
    assert list((toy.folder / ".ckpt").glob("*/")) == []
    assert list((toy.folder / ".dvc/tmp/effiseg").glob("*")) == []


def main(studies: int) -> None:
    os.environ |= variables()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(3):
        cluster.add_node(num_cpus=1, object_store_memory=2**27)
    with TemporaryDirectory() as scratch:
        for seed in range(studies):
            started = time.monotonic()
            toy = Toy(Path(scratch, str(seed)), 5, cluster.address, steps=25, sleep=0.1)
            toy.settings |= {"retries": 20}
            killed = disturb(toy, cluster, seed)
            check(toy)
            print(f"study {seed}: same results after {dict(killed)}, {time.monotonic() - started:.0f} s", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
