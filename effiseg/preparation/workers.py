"""One function over many files, on all cores, with a bar and bounded memory."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import connection, parent_process
from typing import TypeVar

from tqdm import tqdm

from effiseg.base.errors import EffiSegError

_LARGEST_BATCH = 8  # jobs that go to a worker at once
_WAITING = 4  # batches for each worker

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_processes(
    work: Callable[[Job], Result], jobs: Iterable[Job], count: int, *, workers: int | None, desc: str
) -> Iterator[Result]:
    """`work(job)` of every one of `count` jobs, in order. Only a few of them wait at any time.

    Args:
        work: of a module, or a `partial` of such a function, since it goes to other processes.
        workers: processes; all cores where it is None, and 1 works in this process.
        desc: of the bar, which a terminal shows.

    Raises:
        EffiSegError: a worker was killed.
    """
    workers = min(workers or cores(), count)
    results = map(work, jobs) if workers <= 1 else _spread(work, jobs, count, workers)
    # on a terminal only: elsewhere an error is the one line on stderr
    yield from tqdm(results, total=count, desc=desc, unit="pair", disable=None)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _spread(work: Callable[[Job], Result], jobs: Iterable[Job], count: int, workers: int) -> Iterator[Result]:
    pool = ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(work,))
    waiting: deque[Future[list[Result]]] = deque()
    try:
        size, left = max(1, min(_LARGEST_BATCH, count // (_WAITING * workers))), iter(jobs)
        while batch := list(islice(left, size)):
            waiting.append(pool.submit(_work, batch))  # type: ignore[arg-type]
            if len(waiting) > _WAITING * workers:
                yield from waiting.popleft().result()
        for each in waiting:
            yield from each.result()
    except BrokenProcessPool:
        raise EffiSegError(
            "a worker process was killed, most likely for want of memory: close other programs and prepare again"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_the_work: Callable[..., object]


def _start_worker(work: Callable[..., object]) -> None:
    global _the_work  # sent once, since it may hold much
    _the_work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent ends the pool
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Workers whose parent was killed would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _work(batch: Iterable[object]) -> list[object]:
    return [_the_work(job) for job in batch]
