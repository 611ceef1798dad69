"""Real servers for tests, on this machine alone: PostgreSQL, an S3-compatible store, and MLflow on top of both."""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import boto3
import pgserver
from moto.server import ThreadedMotoServer

from tests.pipeline.study import environment

SERVE = Path(__file__).parents[1] / "deploy/services/serve.py"


@dataclass(frozen=True)
class Store:
    """An S3-compatible store with one bucket.

    Attributes:
        variables: what a process needs in its environment to use it.
    """

    endpoint: str
    bucket: str

    @property
    def variables(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )

    def keys(self, prefix: str = "") -> list[str]:
        """The names of all objects that begin so."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


@contextmanager
def postgres() -> Iterator[str]:
    """The address of an empty database on a new PostgreSQL server, which listens on a socket in its own folder."""
    # run as root, pgserver opens every folder above its data and its programs to all users: note how they were
    folder = Path(tempfile.mkdtemp(prefix="postgres"))
    opened = {path: path.stat().st_mode for path in (*folder.parents, *Path(pgserver.__file__).parents)}
    server = None
    try:
        server = pgserver.get_server(folder / "data")
        server.psql("CREATE DATABASE mlflow")
        yield server.get_uri("mlflow")
    finally:
        if server:
            server.cleanup()
        for path, mode in opened.items():
            if path.stat().st_mode != mode:
                path.chmod(mode)
        shutil.rmtree(folder)


@contextmanager
def s3() -> Iterator[Store]:
    """A store with an empty bucket, in threads of this process."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line for every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        # a bucket of its own: all stores of one process share what they hold
        store = Store(f"http://{host}:{port}", f"effiseg-{port}")
        store.client().create_bucket(Bucket=store.bucket)
        yield store
    finally:
        server.stop()


@contextmanager
def mlflow_server(database: str, store: Store, **variables: str) -> Iterator[str]:
    """The address of the MLflow server of deploy/services, started by its own script, with `variables` for it."""
    port = free_port()
    settings = {
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{store.bucket}/mlflow",
        "MLFLOW_S3_ENDPOINT_URL": store.endpoint,
        "MLFLOW_PORT": str(port),
        "MLFLOW_WORKERS": "1",
    }
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            [sys.executable, str(SERVE)],
            env=environment(**(store.variables | settings | variables)),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_until_healthy(f"http://127.0.0.1:{port}", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            stop(server)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process that leads a group, and all that it started."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)
        os.killpg(process.pid, signal.SIGKILL)  # whoever stayed behind
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    except ProcessLookupError:
        process.wait()


def _wait_until_healthy(address: str, server: subprocess.Popen[bytes], log: Any) -> None:
    for _ in range(600):
        try:
            with urlopen(f"{address}/health", timeout=5):
                return
        except (URLError, OSError):
            if server.poll() is not None:
                break
            time.sleep(0.2)
    log.seek(0)
    raise AssertionError(f"the MLflow server does not answer:\n{log.read()[-3000:]}")
