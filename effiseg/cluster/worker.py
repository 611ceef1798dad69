"""What a Ray worker does with one stage. It travels by value, so it stands on DVC, Ray and the standard library alone.

Each worker process has a checkout of its own; the stage's inputs come into it from DVC's cache, its outputs leave it
there, and its lines of dvc.lock go back to the study.
"""

import io
import os
import shutil
import socket
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import ray

from effiseg.cluster import watch
from effiseg.cluster.carried import Carried

SCRATCH = Path(".dvc/tmp/effiseg")  # checkouts, below the workspace where all machines see it
FEW = 10  # stages to look for one by one


class Job(TypedDict):
    """One stage to run.

    Attributes:
        study: the study's id, part of every path, so that studies on one cluster do not mix.
        home: the same for every study of one working folder.
        snapshot: a list of one reference to the checkout's content, fetched by the first job of a worker alone.
        entries: lines of dvc.lock of the stage's upstream, whose outputs it needs, and its own earlier ones.
        upstream: those stages.
        variables: environment of the stage.
        workspace: the folder that all machines see; empty where files travel by `remote`.
        remote: name of a DVC remote, or empty. cache: DVC's cache, where all machines see it.
    """

    study: str
    home: str
    stage: str
    attempt: int
    snapshot: list[Any]
    entries: dict[str, Any]
    upstream: list[str]
    variables: dict[str, str]
    workspace: str
    remote: str
    cache: str


class Outcome(TypedDict):
    """What became of a job.

    Attributes:
        entry: the stage's lines of dvc.lock. files: a tar of the outputs that DVC does not cache.
        error: why it failed, or empty. killed: its process was killed, so that another try may do better.
        log: what the stage printed, where no shared folder keeps it.
    """

    entry: dict[str, Any]
    files: bytes
    error: str
    killed: bool
    log: str
    host: str
    seconds: float


class Board:
    """What runs where, and how far it is: workers tell, the study reads. A Ray actor."""

    def __init__(self) -> None:
        self.running: dict[str, dict[str, Any]] = {}

    def tell(self, stage: str, facts: dict[str, Any]) -> None:
        """Add facts to what is known of a stage."""
        self.running.setdefault(stage, {}).update(facts)

    def drop(self, stage: str) -> None:
        """Forget a stage that has ended."""
        self.running.pop(stage, None)

    def read(self) -> dict[str, dict[str, Any]]:
        """Everything that is known, by stage."""
        return self.running


def run_stage(job: Job, board: Any) -> Outcome:
    """Run one stage in this worker's checkout, or take its outputs from DVC's run cache."""
    started, host = time.monotonic(), socket.gethostname()
    outcome = Outcome(entry={}, files=b"", error="", killed=False, log="", host=host, seconds=0.0)
    if job["workspace"] and not (Path(job["workspace"]) / SCRATCH / job["study"]).is_dir():
        outcome["error"] = (
            f"{host} does not see {job['workspace']}; put the repository on a file system that all machines share, or "
            "set cluster.remote in params.yaml to a DVC remote"
        )
        return outcome
    base = scratch(job["workspace"], job["study"])
    own = base / f"{host}-{ray.get_runtime_context().get_worker_id()[:12]}"
    log = (Path(job["workspace"]) / "logs" if job["workspace"] else base / "logs") / f"{job['stage']}.log"
    board.tell.remote(job["stage"], {"host": host, "since": time.time()})
    try:
        checkout = open_checkout(own, job)
        carried = Carried(checkout, f"{job['home']}/{job['stage']}") if job["remote"] else None
        title = f"{job['stage']}, try {job['attempt']}, {host}, {time.ctime()}"

        def tell(facts: dict[str, Any]) -> None:
            board.tell.remote(job["stage"], facts)

        # what is not shared is handed on after each try
        with (
            watch.printed_to(log, title, add=bool(job["workspace"])),
            watch.alive(checkout) as owner,
            watch.watched(checkout, tell, carried) as progress,
        ):
            variables = {**job["variables"], "EFFISEG_OWNER": str(owner), "EFFISEG_PROGRESS": str(progress)}
            # `python` of the stage's command is this interpreter
            variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
            if job["workspace"]:
                variables["DVC_ROOT"] = job["workspace"]
            outcome["entry"], outcome["files"] = reproduce(checkout, job, variables)
        if carried:
            carried.remove()
    except Exception as error:
        outcome["error"] = watch.last_error(log) or f"{type(error).__name__}: {' '.join(str(error).split())}"
        outcome["killed"] = watch.was_killed(str(error), log)
        shutil.rmtree(own, ignore_errors=True)  # with all that the stage left there
    if not job["workspace"] and log.exists():
        outcome["log"] = log.read_text(encoding="utf-8", errors="replace")
    outcome["seconds"] = time.monotonic() - started
    return outcome


def scratch(workspace: str, study: str) -> Path:
    """Where the checkouts of a study lie on this machine."""
    return Path(workspace) / SCRATCH / study if workspace else Path(tempfile.gettempdir()) / f"effiseg-{study}"


def open_checkout(folder: Path, job: Job) -> Path:
    """This worker's checkout; its first job makes it."""
    ready = folder / ".dvc/tmp/ready"
    if not ready.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(ray.get(job["snapshot"][0]))) as archive:
            archive.extractall(folder, filter="fully_trusted")
        _configure(folder, job)
        ready.parent.mkdir(exist_ok=True)
        ready.touch()
    return folder


def _configure(folder: Path, job: Job) -> None:
    from dvc.repo import Repo

    with Repo(str(folder)) as repo, repo.config.edit("local") as settings:
        settings["cache"]["dir"] = job["cache"] or str(folder.parent / "cache")
        if job["remote"]:
            settings["core"]["remote"] = job["remote"]
    if job["remote"]:
        with Repo(str(folder)) as repo:
            repo.stage_cache.pull(job["remote"])


def reproduce(checkout: Path, job: Job, variables: dict[str, str]) -> tuple[dict[str, Any], bytes]:
    """What `dvc repro --single-item` does, its inputs fetched before and its outputs handed on afterwards.

    Returns:
        The stage's lines of dvc.lock, and a tar of the outputs that DVC does not cache.
    """
    from dvc.repo import Repo
    from dvc.utils.serialize import dump_yaml, load_yaml

    os.chdir(checkout)
    dump_yaml("dvc.lock", {"schema": "2.0", "stages": job["entries"]})
    with Repo(str(checkout)) as repo, repo.lock:
        stage, *upstream = load_stages(repo, [job["stage"], *job["upstream"]])
        for other in upstream:
            if job["remote"]:
                _pull(repo, other)
            other.checkout(force=True)
        runs = _run_cache(repo) if job["remote"] else set()
        if stage.reproduce(run_env=variables, interactive=False, pull=bool(job["remote"])):
            stage.dump(update_pipeline=False)
        if job["remote"]:
            _push(repo, stage, _run_cache(repo) - runs)
        files = io.BytesIO()
        with tarfile.open(fileobj=files, mode="w") as archive:
            for out in stage.outs:
                if not out.use_cache and out.is_in_repo:
                    archive.add(out.def_path)
        for other in (*upstream, stage):
            for out in other.outs:
                if out.use_cache:
                    out.remove()  # the next job finds nothing but its own inputs
    return load_yaml("dvc.lock")["stages"][job["stage"]], files.getvalue()


def load_stages(repo: Any, names: Sequence[str]) -> list[Any]:
    """Stages of DVC by their names. One alone is found in a tenth of the time of all, and many among all of them."""
    if len(names) <= FEW:
        return [repo.stage.get_target(name) for name in names]
    stages = {stage.addressing: stage for stage in repo.index.stages}
    return [stages[name] for name in names]


def _pull(repo: Any, stage: Any) -> None:
    for objects in stage.get_used_objs().values():
        repo.cloud.pull(objects)


def _push(repo: Any, stage: Any, runs: set[Path]) -> None:
    """Send a stage's outputs, then the lines by which the run cache knows them."""
    for objects in stage.get_used_objs().values():
        repo.cloud.push(objects)
    store = repo.cloud.get_remote_odb(None, "push", hash_name="md5-dos2unix")
    for path in runs:
        there = store.fs.join(store.path, *path.relative_to(repo.cache.legacy.path).parts)
        store.fs.makedirs(store.fs.parent(there))
        store.fs.put_file(str(path), there)


def _run_cache(repo: Any) -> set[Path]:
    return {path for path in (Path(repo.cache.legacy.path) / "runs").rglob("*") if path.is_file()}


def clean(workspace: str, study: str) -> None:
    """Remove the study's checkouts from this machine."""
    shutil.rmtree(scratch(workspace, study), ignore_errors=True)
