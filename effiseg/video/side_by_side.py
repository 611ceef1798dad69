"""A reader, the work and a writer at the same time, each in a thread, with a bounded number of items between them."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import islice
from queue import Empty, Full, Queue
from threading import Event
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_LOOK = 0.1  # seconds after which a waiting side looks whether another has ended all


def side_by_side(
    read: Iterable[Item],
    work: Callable[[list[Item]], Iterable[Result]],
    write: Callable[[Result], None],
    *,
    batch: int,
    ahead: int,
) -> None:
    """Read items, work on them in batches and write the results, in order; whatever ends one side ends all.

    Args:
        read: in a thread of its own.
        work: in this thread; the last batch may be smaller.
        write: in a thread of its own.
        batch: items of one call of `work`.
        ahead: items that may wait between two sides.

    Raises:
        Exception: the first that any side raised, when all have ended; Ctrl-C is such a one, and no further one is
            heeded until then, since what the sides use is closed after them.
    """
    stop = Event()
    todo, done = _Pipe[Item](ahead, stop), _Pipe[Result](ahead, stop)
    failures: list[BaseException] = []

    def reading() -> None:
        for item in read:
            todo.put(item)
        todo.end()

    def writing() -> None:
        for result in done:
            write(result)

    def working() -> None:
        items = iter(todo)
        while chosen := list(islice(items, batch)):
            for result in work(chosen):
                done.put(result)
        done.end()

    def attempt(side: Callable[[], object]) -> None:
        try:
            side()
        except _Stopped:
            pass
        except BaseException as error:  # Ctrl-C too, which comes to this thread
            failures.append(error)
            stop.set()

    with ThreadPoolExecutor(2) as pool:
        try:
            others = [pool.submit(attempt, side) for side in (reading, writing)]
            attempt(working)
            # not by joining the threads: of one whose join was interrupted Python believes that it has ended
            while not all(other.done() for other in others):
                attempt(lambda: wait(others))
        finally:
            stop.set()  # an interrupt between these lines must not leave a side waiting
    if failures:
        raise failures[0]


class _Stopped(Exception):  # noqa: N818 - no error of its own: another side's ended this one
    """Another side has ended all."""


class _End:
    """Stands behind the last item."""


class _Pipe(Generic[Item]):
    """A bounded queue from one thread to another, where neither waits for ever once `stop` is set."""

    def __init__(self, size: int, stop: Event) -> None:
        self._queue: Queue[Any] = Queue(size)
        self._stop = stop

    def put(self, item: Item) -> None:
        self._put(item)

    def end(self) -> None:
        self._put(_End)

    def _put(self, item: object) -> None:
        while not self._stop.is_set():
            try:
                return self._queue.put(item, timeout=_LOOK)
            except Full:
                continue
        raise _Stopped

    def __iter__(self) -> Iterator[Item]:
        while not self._stop.is_set():
            try:
                item = self._queue.get(timeout=_LOOK)
            except Empty:
                continue
            if item is _End:
                return
            yield item
        raise _Stopped
