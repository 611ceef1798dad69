"""Two ways of one work, each in a process of its own: what one leaves to the memory allocator would help the other."""

import multiprocessing
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager

import torch

Work = Callable[[], object]

_work: list[Work] = []


@contextmanager
def apart(*builds: Callable[[], Work]) -> Iterator[list[Work]]:
    """The works that `builds` build, which a process can be sent, as calls that wait for their results."""
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pools = [stack.enter_context(ProcessPoolExecutor(1, spawn, _build, (build,))) for build in builds]
        for pool in pools:
            pool.submit(_ready).result()
        yield [lambda pool=pool: pool.submit(_do).result() for pool in pools]  # type: ignore[misc]


def _build(build: Callable[[], Work]) -> None:
    warnings.simplefilter("ignore")  # the libraries' advice
    torch.manual_seed(0)
    _work.append(build())


def _ready() -> None:
    """What a process is asked first waits until the work is built."""


def _do() -> object:
    return _work[0]()
