"""The cluster: how to reach it, and what a stage takes of its machines."""

import logging
import os
import signal
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

# before ray is imported: nothing of what runs here is told to anybody
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.exceptions import RayError

from effiseg.base.errors import EffiSegError
from effiseg.base.schema import Cluster
from effiseg.cluster.view import warn

LOCAL = "local"
CONNECT_SECONDS = 10.0
GIB = 2**30
OBJECT_STORE = GIB // 4  # of a local cluster: nothing but a checkout's content and some tables pass through it


@contextmanager
def connected(address: str) -> Iterator[str]:
    """A connection to the cluster at `address`; "local" starts one of this machine, which ends with the block.

    Yields:
        The address of Ray's dashboard.

    Raises:
        EffiSegError: there is no cluster that answers.
    """
    local: dict[str, Any] = {"include_dashboard": True, "object_store_memory": OBJECT_STORE} if address == LOCAL else {}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        _answers(address)
        context = ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except (RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise EffiSegError(
            f"--ray {address}: no Ray cluster to be had there ({reason}); start one (`ray start --head`), set "
            "RAY_AUTH_MODE=token if it asks for a token, or leave the address out for a cluster of this machine"
        ) from None
    signal.signal(signal.SIGTERM, on_sigterm)  # Ray sets one that hides the status of a terminated process
    try:
        yield f"http://{context.dashboard_url}" if context.dashboard_url else ""
    finally:
        ray.shutdown()


def _answers(address: str) -> None:
    """Ask the address at once; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()


def check_names(settings: Cluster, names: Iterable[str]) -> None:
    """Whether settings name stages that there are.

    Raises:
        EffiSegError: one has another name.
    """
    names = sorted(set(names))
    unknown = sorted(set(settings.resources) - {*names, "default"})
    if unknown:
        raise EffiSegError(f"cluster.resources.{unknown[0]}: no stage has this name; stages are: {', '.join(names)}")


def demand(settings: Cluster, kinds: Iterable[str], address: str) -> dict[str, dict[str, Any]]:
    """What Ray has to set aside for a stage of each kind, in its own words.

    Raises:
        EffiSegError: this machine has not what a stage takes. A cluster elsewhere may grow, and is only warned of.
    """
    kinds = sorted(kinds)
    alive = [node for node in ray.nodes() if node["Alive"]]
    if len({node["NodeManagerHostname"] for node in alive}) > 1 and "MLFLOW_TRACKING_URI" not in os.environ:
        warn("the machines of this cluster will all write to ./mlflow.db; set MLFLOW_TRACKING_URI to a tracking server")
    nodes = [node["Resources"] for node in alive]
    wanted = {kind: _of_ray(settings, kind, nodes) for kind in kinds}
    for kind, resources in wanted.items():
        needs = {"CPU": resources["num_cpus"], "GPU": resources["num_gpus"], "memory": resources["memory"]}
        if not any(all(node.get(key, 0) >= amount for key, amount in needs.items()) for node in nodes):
            message = (
                f"cluster.resources: stage {kind} takes {needs['CPU']:g} CPUs, {needs['GPU']:g} GPUs and "
                f"{needs['memory'] / GIB:.1f} GB, and no machine of the cluster has that now"
            )
            if address == LOCAL:
                raise EffiSegError(f"{message}; lower it in params.yaml")
            warn(f"{message}; it waits for one that has")
    return wanted


def _of_ray(settings: Cluster, kind: str, nodes: list[dict[str, float]]) -> dict[str, Any]:
    own = settings.of(kind)
    whole = min((node["CPU"] for node in nodes if node.get("CPU")), default=1)
    gpus = float(any(node.get("GPU") for node in nodes)) if own.gpus == "auto" else own.gpus
    assert own.memory_gb is not None
    return {
        "num_cpus": whole if own.cpus == "all" else own.cpus,
        "num_gpus": gpus,
        "memory": int(own.memory_gb * GIB),
    }
