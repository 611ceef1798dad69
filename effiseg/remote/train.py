"""The trainings of a packed study, each in a process of its own, so many at once."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from effiseg.base.config import Config
from effiseg.base.errors import EffiSegError
from effiseg.cli.owner import GRACE_SECONDS, OWNER
from effiseg.cli.progress import PROGRESS
from effiseg.cluster.watch import last_error
from effiseg.keep import is_scored, keep, refuse_edited
from effiseg.remote.plan import is_trained, to_score
from effiseg.runs.checkpoints import CKPT
from effiseg.runs.places import Place

POLL_SECONDS = 0.5
LOGS = Path("logs")


@contextmanager
def alone() -> Iterator[Path]:
    """The lock of the working folder: its file, which stays locked while this process lives, however it ends.

    Raises:
        EffiSegError: another process has it.
    """
    path = CKPT / "remote.lock"
    path.parent.mkdir(exist_ok=True)
    guard = FileLock(path)
    try:
        guard.acquire(timeout=1)  # a training whose owner was killed has the file for a moment
    except Timeout:
        raise EffiSegError(f"{path}: another process trains or unpacks here; wait for it or stop it") from None
    try:
        yield path
    finally:
        guard.release()


class Worker:
    """The process of one training, and its bar."""

    def __init__(self, name: str, slot: int, parallel: int, until: float, lock: Path, *options: str) -> None:
        """Start it; the arguments are those of `Trainings.run`. slot: the line of its bar. options: of the process."""
        self.name, self.log, self.progress = name, LOGS / f"{name}.log", CKPT / f"{name}.progress.json"
        self.log.parent.mkdir(exist_ok=True)
        self.progress.unlink(missing_ok=True)
        variables = {OWNER: str(lock.resolve()), PROGRESS: str(self.progress.resolve()), "TQDM_MININTERVAL": "20"}
        if parallel > 1:
            variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(max(1, _processors() // parallel)))
        command = [sys.executable, "-m", "effiseg.remote.worker", name, "--until", str(until), *options]
        with self.log.open("wb") as file:
            # in a session of its own: Ctrl-C is for the command, which then ends its trainings
            self.process = subprocess.Popen(
                command, env={**os.environ, **variables}, stdout=file, stderr=file, start_new_session=True
            )
        # where nobody watches, bars below each other would be a mess
        self.bar = tqdm(desc=name, unit="step", position=slot if sys.stderr.isatty() else 0)

    def show(self) -> None:
        """Bring the bar to where the training is."""
        if not self.progress.exists():
            return
        told = json.loads(self.progress.read_text(encoding="utf-8"))
        if not self.bar.total:
            self.bar.reset(told["steps"])
            self.bar.initial = self.bar.n = told["step"]
        self.bar.update(told["step"] - self.bar.n)

    def end(self) -> int:
        """Stop the process, if it still runs: its checkpoints stay. Returns its status."""
        self.process.terminate()
        try:
            self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.bar.close()
        self.progress.unlink(missing_ok=True)
        return self.process.wait()

    def reason(self) -> str:
        """Why it failed."""
        return last_error(self.log) or f"status {self.process.returncode}; {self.log} tells more"


class Trainings:
    """What is to be trained, and what became of it.

    Attributes:
        config, plan, folder: as they were given.
        states: of each run: done | waiting | running | unfinished | failed | not run.
    """

    def __init__(
        self,
        config: Config,
        data_digest: str,
        plan: Mapping[str, tuple[str, ...]],
        packed: Mapping[str, Any],
        wanted: Sequence[str],
        folder: Path | None = None,
    ) -> None:
        """What is done already, and what waits.

        Args:
            wanted: names of runs; what they read is trained too.
            folder: in which each run is kept as it ends, see `effiseg.keep`; all are scored then.
        """
        self.config, self.plan, self.folder = config, plan, folder
        chosen = set(wanted)
        for name in reversed(list(plan)):  # what is read comes before
            chosen.update(plan[name] if name in chosen else ())
        self.states: dict[str, str] = {}
        for name in (name for name in plan if name in chosen):
            self.states[name] = "done" if self._is_done(data_digest, packed, Place.of(name)) else "waiting"

    def _is_done(self, data_digest: str, packed: Mapping[str, Any], place: Place) -> bool:
        is_scored_here = all(map(is_scored, to_score(self.config, place, bool(self.folder))))
        if place.name in packed["trained"]:
            return is_scored_here or not place.model.exists()  # of what was trained at home lies here what others read
        if any(self.states[name] != "done" for name in self.plan[place.name]):
            return False
        return is_scored_here and is_trained(self.config, place, data_digest)

    def run(self, parallel: int, until: float, lock: Path) -> None:
        """Train until all is done, or until the time is over; whatever ends this, no process is left.

        Args:
            parallel: trainings at once.
            until: seconds since the epoch.
            lock: a file that is locked while this process lives.

        Raises:
            EffiSegError: the study cannot be kept in the folder; nothing is trained then.
        """
        if self.folder:
            for planned in self.states:
                refuse_edited(self.config, Place.of(planned))
            _keep(self.config, self.folder, self.named("done"))
        workers: dict[int, Worker] = {}
        options = ["--everywhere"] if self.folder else []
        try:
            while True:
                for slot in (slot for slot in range(parallel) if slot not in workers):
                    if time.time() < until and (name := self._next()):
                        workers[slot] = Worker(name, slot, parallel, until, lock, *options)
                        self.states[name] = "running"
                if not workers:
                    return
                time.sleep(POLL_SECONDS)
                for slot, worker in list(workers.items()):
                    worker.show()
                    if worker.process.poll() is not None:
                        self._take(workers.pop(slot))
        finally:
            for worker in workers.values():
                worker.end()

    def _next(self) -> str | None:
        for name, state in self.states.items():
            before = {self.states[other] for other in self.plan[name]}
            if state == "waiting" and before & {"failed", "not run"}:
                self.states[name] = "not run"
            elif state == "waiting" and before <= {"done"}:
                return name
        return None

    def _take(self, worker: Worker) -> None:
        self.states[worker.name] = {0: "done", os.EX_TEMPFAIL: "unfinished"}.get(worker.end(), "failed")
        reason = worker.reason() if self.states[worker.name] == "failed" else ""
        if self.folder and self.states[worker.name] == "done":
            try:
                _keep(self.config, self.folder, [worker.name])
            except EffiSegError as error:
                self.states[worker.name], reason = "failed", str(error)
        if reason:
            tqdm.write(f"{worker.name} failed: {reason}", file=sys.stderr)

    def named(self, *states: str) -> list[str]:
        """The runs in these states."""
        return [name for name, state in self.states.items() if state in states]

    def told(self) -> list[str]:
        """A line for each state in which there are runs."""
        return [f"{state}: {', '.join(self.named(state))}" for state in dict.fromkeys(self.states.values())]


def _keep(config: Config, folder: Path, names: Sequence[str]) -> None:
    try:
        keep(config, Path(), folder, names)
    except OSError as error:
        raise EffiSegError(f"{folder}: cannot be written ({error}); mend that, or give another place") from None


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
