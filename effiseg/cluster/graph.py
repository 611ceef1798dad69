"""The study as DVC knows it: its stages, what each needs, and which are stale."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

# this process only reads and checks out
os.environ.setdefault("DVC_NO_ANALYTICS", "1")

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.utils.serialize import load_yaml

from effiseg.base.errors import EffiSegError


@dataclass(frozen=True)
class Stage:
    """A stage by its address; paths are relative to the repository, with slashes.

    Attributes:
        upstream: the stages whose outputs it reads.
        runs: False for data that DVC keeps (a .dvc file) but nothing makes.
    """

    name: str
    upstream: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    runs: bool

    @property
    def kind(self) -> str:
        """Its name in dvc.yaml, which all rows and seeds share."""
        return self.name.split("@")[0]

    def reads(self, other: "Stage") -> bool:
        """Whether it needs an output of `other`, or a part of one.

        A folder into which many stages write (results/) is not needed but gathered: with less in it, there is less to
        gather.
        """
        places = [PurePosixPath(dep) for dep in self.deps]
        outs = [PurePosixPath(out) for out in other.outs]
        return any(place == out or out in place.parents for place in places for out in outs)


@dataclass(frozen=True)
class Graph:
    """Every stage in the order in which `dvc repro` would run them.

    Attributes:
        stale: the stages whose own inputs or outputs are not those of dvc.lock.
        cache: DVC's cache folder.
    """

    stages: dict[str, Stage]
    stale: frozenset[str]
    cache: str

    def doubtful(self) -> list[str]:
        """The stale stages and all that comes after them, in order."""
        found: dict[str, None] = {}
        for stage in self.stages.values():
            if stage.runs and (stage.name in self.stale or any(name in found for name in stage.upstream)):
                found[stage.name] = None
        return list(found)

    def waiting_for(self) -> dict[str, int]:
        """How many stages wait for each one, directly or not."""
        after: dict[str, set[str]] = {name: set() for name in self.stages}
        for name, stage in reversed(self.stages.items()):
            for other in stage.upstream:
                after[other] |= {name} | after[name]
        return {name: len(others) for name, others in after.items()}

    def sources(self) -> set[str]:
        """What stages read and no stage makes, with absolute paths left out."""
        made = {out for stage in self.stages.values() for out in stage.outs}
        holding = {str(parent) for out in made for parent in PurePosixPath(out).parents}
        read = {dep for stage in self.stages.values() for dep in stage.deps}
        return {
            dep
            for dep in read - made - holding
            if not Path(dep).is_absolute() and not any(str(parent) in made for parent in PurePosixPath(dep).parents)
        }


@contextmanager
def opened() -> Iterator[Any]:
    """DVC's repository in the working folder; what DVC has to say against it is one line."""
    try:
        with Repo() as repo:
            yield repo
    except DvcException as error:
        raise EffiSegError(f"dvc: {' '.join(str(error).split())}") from None


def read_graph() -> Graph:
    """The graph of the repository in the working folder.

    Raises:
        EffiSegError: DVC does not take dvc.yaml, or dvc itself is busy in this folder.
    """
    with opened() as repo:
        graph = get_active_graph(repo.index.graph)
        stages = {node.addressing: _stage(node, graph) for node in plan_repro(graph)}
        return Graph(stages, frozenset(repo.status()), str(repo.cache.legacy.path))


def declared() -> list[str]:
    """The stages' names in dvc.yaml, also of those that have no row now and so are not in the graph."""
    return list(load_yaml("dvc.yaml")["stages"])


def _stage(node: Any, graph: Any) -> Stage:
    return Stage(
        name=node.addressing,
        upstream=tuple(sorted(other.addressing for other in graph.successors(node))),
        deps=tuple(str(dep.def_path) for dep in node.deps),
        outs=tuple(str(out.def_path) for out in node.outs),
        runs=bool(node.cmd),
    )
