"""`python -m effiseg study --ray`: every stale stage as a Ray task, as soon as what it needs is there."""

import hashlib
import io
import os
import shutil
import signal
import socket
import tarfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import SIG_IGN, SIGINT, SIGTERM
from typing import Any

import ray
from filelock import FileLock, Timeout
from ray.exceptions import RayError, RayTaskError

from effiseg.base.errors import EffiSegError
from effiseg.base.schema import Cluster
from effiseg.cluster import carried, watch, worker
from effiseg.cluster.graph import Graph, Stage, declared, read_graph
from effiseg.cluster.lock import bring_back, read_lock, remove_leftovers, write_lock
from effiseg.cluster.nodes import check_names, connected, demand
from effiseg.cluster.snapshot import pack
from effiseg.cluster.view import View

POLL_SECONDS = 0.5
SAVE_SECONDS = 10.0  # between two writes of dvc.lock, and twenty times what one takes
FORWARDED = ("MLFLOW_", "AWS_", "GOOGLE_", "HF_", "EFFISEG_")  # variables that stages on other machines need too

for module in (worker, watch, carried):
    ray.cloudpickle.register_pickle_by_value(module)


def run_study(settings: Cluster, address: str) -> None:
    """Bring every stale stage of the repository in the working folder up to date on a Ray cluster.

    Args:
        address: "local" for a cluster of this machine alone, else what `ray.init` takes.

    Raises:
        EffiSegError: the cluster cannot be reached, another study runs here, workers would miss a file, or a stage
            failed for good.
    """
    with _alone(), _signals_kept() as signals:
        if leftovers := remove_leftovers():
            print(f"removed what {len(leftovers)} stages made that are no longer in the study; DVC's cache keeps it")
        graph = read_graph()
        if not graph.doubtful():
            print("the study is up to date")
            return
        if settings.remote and "MLFLOW_TRACKING_URI" not in os.environ:
            raise EffiSegError(
                "cluster.remote is set, so machines share no folder: set MLFLOW_TRACKING_URI to a tracking server too"
            )
        kinds = {stage.kind for stage in graph.stages.values() if stage.runs}
        check_names(settings, {*kinds, *declared()})  # of stages too of which the study has no row now
        packed = pack(graph.sources())
        with connected(address) as dashboard:
            demands = demand(settings, kinds, address)
            Study(graph, settings, demands, dashboard).run(packed, signals)


@contextmanager
def _alone() -> Iterator[None]:
    path = Path(".ckpt/study.lock")
    path.parent.mkdir(exist_ok=True)
    guard = FileLock(path)
    try:
        guard.acquire(timeout=0)
    except Timeout:
        raise EffiSegError(f"{path}: another study runs in this folder; wait for it or stop it") from None
    try:
        yield
    finally:
        guard.release()


@contextmanager
def _signals_kept() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM, kept for whoever asks, and raised when the block ends.

    An exception in the midst of one of Ray's callbacks, or of git's, would be lost, and the study would go on.
    """
    kept: list[int] = []
    # a study that a script started with & ignores Ctrl-C, and goes on doing so
    heard = [number for number in (SIGINT, SIGTERM) if signal.getsignal(number) is not SIG_IGN]
    handlers = {number: signal.signal(number, lambda it, _: kept.append(it)) for number in heard}
    try:
        yield kept
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for it in kept:
        signal.raise_signal(it)


class Study:
    """One run over the graph: what is submitted, what came back, and what goes into dvc.lock."""

    def __init__(self, graph: Graph, settings: Cluster, demands: dict[str, dict[str, Any]], dashboard: str) -> None:
        self.graph, self.settings, self.demands = graph, settings, demands
        self.id = uuid.uuid4().hex[:12]
        self.stale = set(graph.stale)
        # first what most others wait for: a teacher that began last would keep its students waiting at the end
        waiting_for = graph.waiting_for()
        self.states = dict.fromkeys(sorted(graph.doubtful(), key=lambda name: -waiting_for[name]), "waiting")
        # what reads these may have been made without them, whatever they say in dvc.lock
        self.absent = {name for name in self.states if not all(Path(out).exists() for out in graph.stages[name].outs)}
        self.readers: dict[str, list[str]] = {name: [] for name in graph.stages}
        for stage in graph.stages.values():
            for name in stage.upstream:
                self.readers[name].append(stage.name)
        self.view = View(self.states, dashboard)
        self.entries = read_lock()
        self.unsaved: dict[str, Any] = {}
        self.finished: list[str] = []
        self.tries: dict[str, int] = {}
        self.errors: dict[str, str] = {}
        self.tasks: dict[Any, str] = {}
        self.next_save = time.monotonic() + SAVE_SECONDS
        self.home = hashlib.sha256(f"{socket.gethostname()}{Path.cwd()}".encode()).hexdigest()[:12]
        self.workspace = "" if settings.remote else str(Path.cwd())

    def run(self, packed: bytes, signals: Sequence[int]) -> None:
        """Run until nothing is left to run; whatever ends it, what is finished is kept.

        Args:
            packed: the content of the workers' checkouts.
            signals: end the study as soon as there is one.

        Raises:
            EffiSegError: a stage failed for good.
        """
        shutil.rmtree(worker.SCRATCH, ignore_errors=True)  # of a study that was killed
        (Path(worker.SCRATCH) / self.id).mkdir(parents=True)
        self.snapshot = ray.put(packed)
        self.board = ray.remote(worker.Board).options(num_cpus=0, max_restarts=-1).remote()
        self.run_stage = ray.remote(worker.run_stage)
        try:
            with self.view.shown():
                while not signals and ("waiting" in self.states.values() or self.tasks):
                    self._submit_ready()
                    self._collect()
                    self._save_now_and_then()
            if signals:
                self.view.say("stopping the workers; the same command goes on from what is done")
        finally:
            for task in self.tasks:
                ray.cancel(task, force=True)
            self._keep()
        self.view.say(self.view.summary())
        if self.errors:
            lost = [name for name, state in self.states.items() if state == "not run"]
            also = f"; not run for want of them: {', '.join(lost)}" if lost else ""
            raise EffiSegError(f"failed: {', '.join(self.errors)}{also}; the same command tries again")

    def _submit_ready(self) -> None:
        for name, state in self.states.items():
            if state != "waiting":
                continue
            stage = self.graph.stages[name]
            before = [self.states.get(other, "done") for other in stage.upstream]
            if "waiting" in before or "submitted" in before:
                continue
            missing = [other for other in stage.upstream if self.states.get(other, "done") != "done"]
            if any(stage.reads(self.graph.stages[other]) for other in missing):
                self.states[name] = "not run"
            elif missing or name in self.stale:
                self._submit(stage)
            else:
                self.states[name] = "done"  # what it reads came out as it was

    def _submit(self, stage: Stage) -> None:
        upstream = [name for name in stage.upstream if self.states.get(name, "done") == "done"]
        self.tries[stage.name] = self.tries.get(stage.name, 0) + 1
        if self.tries[stage.name] == 1:
            Path("logs", f"{stage.name}.log").unlink(missing_ok=True)
        resources = self.demands[stage.kind]
        variables = {key: value for key, value in os.environ.items() if key.startswith(FORWARDED)}
        variables["OMP_NUM_THREADS"] = str(max(1, int(resources["num_cpus"])))
        if not resources["num_gpus"]:
            variables["CUDA_VISIBLE_DEVICES"] = ""
        job = worker.Job(
            study=self.id,
            home=self.home,
            stage=stage.name,
            attempt=self.tries[stage.name],
            snapshot=[self.snapshot],
            entries={name: self.entries[name] for name in (*upstream, stage.name) if name in self.entries},
            upstream=upstream,
            variables=variables,
            workspace=self.workspace,
            remote=self.settings.remote,
            cache="" if self.settings.remote else self.graph.cache,
        )
        task = self.run_stage.options(name=stage.name, max_retries=0, **resources).remote(job, self.board)
        self.tasks[task] = stage.name
        self.states[stage.name] = "submitted"

    def _collect(self) -> None:
        if not self.tasks:
            return
        ray.wait(list(self.tasks), timeout=POLL_SECONDS)
        ready, _ = ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=0)
        for task in ready:
            name = self.tasks.pop(task)
            try:
                outcome = ray.get(task)
            except RayTaskError as error:
                self._fail(name, f"{type(error.cause).__name__}: {' '.join(str(error.cause).split())}")
            except RayError as error:
                self._try_again(name, f"its worker died ({type(error).__name__})")
            else:
                self._take(name, outcome)
            self.board.drop.remote(name)
        self.view.refresh(self._running())

    def _running(self) -> dict[str, dict[str, Any]]:
        try:
            return ray.get(self.board.read.remote(), timeout=POLL_SECONDS)
        except RayError:
            return {}  # the board's machine died; it is made anew elsewhere

    def _take(self, name: str, outcome: worker.Outcome) -> None:
        if outcome["log"]:
            path = Path("logs", f"{name}.log")
            path.parent.mkdir(exist_ok=True)
            with path.open("a", encoding="utf-8") as log:
                log.write(outcome["log"])
        if outcome["killed"]:
            self._try_again(name, f"its process was killed on {outcome['host']}")
        elif outcome["error"]:
            self._fail(name, outcome["error"])
        else:
            if name in self.absent or outcome["entry"].get("outs") != self.entries.get(name, {}).get("outs"):
                self.stale.update(self.readers[name])
            self.entries[name] = self.unsaved[name] = outcome["entry"]
            self.finished.append(name)
            self.states[name] = "done"
            self.view.finished(name, outcome["host"], outcome["seconds"])
            _unpack(outcome["files"], self.graph.stages[name].outs)

    def _try_again(self, name: str, reason: str) -> None:
        left = 1 + self.settings.retries - self.tries[name]
        if left <= 0:
            self._fail(name, f"{reason}, as in every try before")
            return
        self.states[name] = "waiting"
        self.view.say(f"{name}: {reason}; it is tried again, {left} more times at the most")

    def _fail(self, name: str, reason: str) -> None:
        self.states[name], self.errors[name] = "failed", reason
        self.view.say(f"{name} failed: {reason} (logs/{name}.log)")

    def _save_now_and_then(self) -> None:
        started = time.monotonic()
        if started > self.next_save:
            self._save()
            now = time.monotonic()
            self.next_save = now + max(SAVE_SECONDS, 20 * (now - started))

    def _save(self) -> None:
        write_lock(self.unsaved, self.graph.stages)
        self.unsaved = {}

    def _keep(self) -> None:
        """Leave the working folder as `dvc repro` would, with all that is finished."""
        self._save()
        bring_back(self.finished, self.errors, self.settings.remote)
        if self.settings.remote:
            each_machine = ray.remote(worker.clean).options(num_cpus=0, scheduling_strategy="SPREAD")
            ray.wait([each_machine.remote(self.workspace, self.id) for _ in ray.nodes()], timeout=POLL_SECONDS)
        shutil.rmtree(worker.SCRATCH, ignore_errors=True)


def _unpack(files: bytes, outs: Iterable[str]) -> None:
    """Replace those of `outs` that DVC does not cache by what a worker made."""
    with tarfile.open(fileobj=io.BytesIO(files)) as archive:
        for path in map(Path, set(outs) & set(archive.getnames())):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        archive.extractall(filter="data")
