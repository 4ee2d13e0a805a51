"""The pool: bounded, fair to the first error, and quick to end."""

import threading

import pytest

from datacachalog.errors import SourceUnreachableError
from datacachalog.sync.pool import Batch, Pool
from datacachalog.sync.retry import Cancel, Cancelled

LONG = 10.0
"""Seconds that nobody really waits: an upper bound for a test that would hang."""


class Gate:
    """Holds workers until the test lets them go, and counts who is inside."""

    def __init__(self) -> None:
        self.arrived = threading.Semaphore(0)
        self.open = threading.Event()
        self.inside = self.most = 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """Wait at the gate."""
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.arrived.release()
        assert self.open.wait(LONG)
        with self._lock:
            self.inside -= 1

    def await_arrivals(self, count: int) -> None:
        """Return once so many wait at the gate."""
        for _ in range(count):
            assert self.arrived.acquire(timeout=LONG)


def test_every_task_is_done() -> None:
    """Whatever the number of workers."""
    done: list[int] = []
    with Pool(3, Cancel()) as pool:
        pool.each(done.append, range(100))

    assert sorted(done) == list(range(100))


def test_no_more_than_so_many_run_at_once() -> None:
    """And no fewer, if there is work."""
    gate = Gate()
    with Pool(3, Cancel()) as pool:
        batch = pool.start([gate] * 10)
        gate.await_arrivals(3)
        gate.open.set()
        batch.wait()

    assert gate.most == 3


def test_batches_that_come_in_together_run_together() -> None:
    """An idle worker that was called for one must not be counted on for the next."""
    gate = Gate()
    with Pool(8, Cancel()) as pool:
        pool.each(lambda _: None, range(1))
        batches = [pool.start([gate]) for _ in range(8)]
        gate.await_arrivals(8)
        gate.open.set()
        for batch in batches:
            batch.wait()

    assert gate.most == 8


def test_an_error_stops_what_has_not_begun() -> None:
    """The first error is raised; the batch's other tasks are not worth it any more."""
    done: list[int] = []

    def task(n: int) -> None:
        if n == 2:
            raise SourceUnreachableError(f"task {n}")
        done.append(n)

    with Pool(1, Cancel()) as pool, pytest.raises(SourceUnreachableError, match="task 2"):
        pool.each(task, range(10))

    assert done == [0, 1]


def test_an_error_of_one_batch_does_not_stop_another() -> None:
    """They are other datasets'."""
    done: list[int] = []

    def fail(_: int) -> None:
        raise SourceUnreachableError("x")

    with Pool(2, Cancel()) as pool:
        bad = pool.start([lambda: fail(0)] * 5)
        good = pool.start([lambda: done.append(1)] * 5)
        good.wait()
        with pytest.raises(SourceUnreachableError):
            bad.wait()

    assert done == [1] * 5


def test_an_error_waits_for_tasks_that_run() -> None:
    """Nobody may work on after `wait` returned."""
    gate, ended = Gate(), threading.Event()

    def slow() -> None:
        gate()
        ended.set()

    def fail() -> None:
        gate.await_arrivals(1)
        gate.open.set()
        raise SourceUnreachableError("x")

    with Pool(2, Cancel()) as pool, pytest.raises(SourceUnreachableError):
        pool.start([slow, fail]).wait()

    assert ended.is_set()


def test_a_cancelled_run_does_not_wait_for_tasks_that_hang() -> None:
    """A request that is stuck in native code must not hold up Ctrl-C."""
    gate, cancel = Gate(), Cancel()
    with Pool(1, cancel) as pool:
        batch = pool.start([gate])
        gate.await_arrivals(1)
        cancel.set()
        with pytest.raises(Cancelled):
            batch.wait()
        gate.open.set()


def test_urgent_tasks_go_first_and_in_their_order() -> None:
    """Ranges of an object that is open already, before objects that are not."""
    gate, done = Gate(), list[str]()
    batch = Batch(Cancel())
    with Pool(1, Cancel()) as pool:
        pool.start([gate], batch)
        gate.await_arrivals(1)
        pool.start([lambda: done.append("later")], batch)
        pool.start([lambda: done.append("1"), lambda: done.append("2")], batch, first=True)
        gate.open.set()
        batch.wait()

    assert done == ["1", "2", "later"]


def test_workers_end_with_their_pool() -> None:
    """None is left behind by a call that is over."""
    with Pool(4, Cancel()) as pool:
        pool.each(lambda _: None, range(20))
    pool.join(LONG)

    assert not any(thread.is_alive() for thread in pool._threads)


def test_an_empty_batch_is_done() -> None:
    """And starts no thread."""
    with Pool(4, Cancel()) as pool:
        pool.each(lambda _: None, ())

    assert pool._threads == []
