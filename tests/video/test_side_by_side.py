"""Reader, work and writer at the same time: in order, bounded, and ended together."""

import os
import signal
import threading
import time

import pytest

from effiseg.base.errors import EffiSegError
from effiseg.video.side_by_side import side_by_side


def test_all_items_come_through_in_order_and_in_whole_batches():
    batches, found = [], []

    def work(items):
        batches.append(len(items))
        return [10 * item for item in items]

    side_by_side(range(10), work, found.append, batch=4, ahead=3)
    assert (batches, found) == ([4, 4, 2], [10 * i for i in range(10)])


def test_reader_and_writer_go_on_while_the_work_does_not():
    """Each side waits for the others: alone, none of them could."""
    read, written = threading.Event(), threading.Event()

    def items():
        for i in range(8):
            if i == 6:
                read.set()
            yield i

    def work(chosen):
        if chosen == [2, 3]:
            assert read.wait(10) and written.wait(10)
        return chosen

    side_by_side(items(), work, lambda item: written.set(), batch=2, ahead=4)


def test_the_reader_does_not_run_far_ahead():
    count, ahead = [], []

    def items():
        for i in range(50):
            count.append(i)
            yield i

    def work(chosen):
        time.sleep(0.01)
        ahead.append(len(count) - chosen[-1])
        return chosen

    side_by_side(items(), work, lambda item: None, batch=2, ahead=3)
    assert max(ahead) <= 3 + 2


@pytest.mark.parametrize("side", ["read", "work", "write"])
@pytest.mark.timeout(30)
def test_an_error_of_one_side_ends_all(side):
    done = []

    def fail_at(name, number, item):
        if name == side and item == number:
            raise EffiSegError(name)
        return item

    def work(chosen):
        return [fail_at("work", 20, item) for item in chosen]

    def write(item):
        time.sleep(0.001)
        done.append(fail_at("write", 5, item))

    before = threading.active_count()
    with pytest.raises(EffiSegError, match=f"^{side}$"):
        side_by_side((fail_at("read", 20, i) for i in range(10**6)), work, write, batch=4, ahead=8)
    assert done == list(range(len(done))) and len(done) <= 20
    assert threading.active_count() == before


@pytest.mark.timeout(30)
def test_ctrl_c_again_and_again_ends_no_side_before_the_others(ctrl_c):
    """What closes the files that the sides use comes after this, and must not meet one of them at work."""
    reading, interrupted, over = threading.Event(), threading.Event(), threading.Event()

    def items():
        yield from range(2)
        reading.set()
        assert interrupted.wait(10)
        time.sleep(0.3)
        over.set()

    def interrupt():
        for _ in range(3):
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)
        interrupted.set()

    def work(chosen):
        assert reading.wait(10)
        threading.Thread(target=interrupt).start()
        time.sleep(10)
        return chosen

    with pytest.raises(KeyboardInterrupt):
        side_by_side(items(), work, lambda item: None, batch=2, ahead=4)
    assert over.is_set()
