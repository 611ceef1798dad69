"""One Ray cluster for all tests of the cluster: a head that runs nothing, and two machines of one processor each."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.toy import Toy, variables


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """The cluster, whose machines are processes of this one."""
    os.environ |= variables()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=2**27)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def toy(cluster: Any, tmp_path: Path) -> Toy:
    """A project of three rows that has not run yet."""
    return Toy(tmp_path / "toy", 3, cluster.address)
