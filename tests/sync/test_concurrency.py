"""Worker threads, how many requests are under way, and how many bytes of them memory holds."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from datacachalog.errors import SourceUnreachableError
from datacachalog.sync.concurrency import ByteBudget, Concurrency, TaskGroup, WorkerPool
from datacachalog.sync.retry import Cancel, Cancelled

LONG = 10.0
"""Seconds that nobody really waits: an upper bound for a test that would hang."""


@contextmanager
def workers(size: int, cancel: Cancel | None = None) -> Iterator[WorkerPool]:
    """Provide a pool of so many threads."""
    pool = WorkerPool(size, cancel or Cancel())
    yield pool
    pool.close()


class Gate:
    """Holds workers until the test lets them go, and counts who is inside."""

    def __init__(self) -> None:
        self.arrived = threading.Semaphore(0)
        self.open = threading.Event()
        self.inside = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, item: object = None) -> None:
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


def test_every_task_is_done_and_the_threads_end() -> None:
    """Whatever the number of workers; none is left behind by a call that is over."""
    done: list[int] = []
    with workers(3) as pool:
        pool.each(done.append, range(100))
    pool.join(LONG)

    assert sorted(done) == list(range(100))
    assert not any(thread.is_alive() for thread in pool._threads)


def test_no_more_than_so_many_run_at_once() -> None:
    """And no fewer, if there is work, also if it comes in one by one."""
    gate, cancel = Gate(), Cancel()
    with workers(3, cancel) as pool:
        groups = [TaskGroup(cancel) for _ in range(10)]
        for group in groups:
            pool.start(gate, [1], group)
        gate.await_arrivals(3)
        gate.open.set()
        for group in groups:
            group.wait()

    assert gate.most == 3


def test_an_error_stops_what_has_not_begun() -> None:
    """The first error is raised; the group's other tasks are not worth it any more."""
    done: list[int] = []

    def task(n: int) -> None:
        if n == 2:
            raise SourceUnreachableError(f"task {n}")
        done.append(n)

    with workers(1) as pool, pytest.raises(SourceUnreachableError, match="task 2"):
        pool.each(task, range(10))

    assert done == [0, 1]


def test_an_error_of_one_group_does_not_stop_another() -> None:
    """They are other datasets'."""
    done: list[int] = []

    def fail(n: int) -> None:
        raise SourceUnreachableError("x")

    with workers(2) as pool:
        bad, good = TaskGroup(Cancel()), TaskGroup(Cancel())
        pool.start(fail, range(5), bad)
        pool.start(done.append, range(5), good)
        good.wait()
        with pytest.raises(SourceUnreachableError):
            bad.wait()

    assert sorted(done) == list(range(5))


def test_an_error_waits_for_tasks_that_run() -> None:
    """Nobody may work on after `wait` returned."""
    gate, ended = Gate(), threading.Event()

    def task(is_slow: bool) -> None:
        if is_slow:
            gate()
            ended.set()
        else:
            gate.await_arrivals(1)
            gate.open.set()
            raise SourceUnreachableError("x")

    with workers(2) as pool, pytest.raises(SourceUnreachableError):
        pool.each(task, [True, False])

    assert ended.is_set()


def test_a_cancelled_run_does_not_wait_for_tasks_that_hang() -> None:
    """A request that is stuck in native code must not hold up Ctrl-C; the rest is not begun."""
    gate, cancel = Gate(), Cancel()
    with workers(1, cancel) as pool:
        group = TaskGroup(cancel)
        pool.start(gate, range(3), group)
        gate.await_arrivals(1)
        cancel.set()
        with pytest.raises(Cancelled):
            group.wait()
        gate.open.set()
    pool.join(LONG)

    assert gate.most == 1
    with pytest.raises(Cancelled):
        group.wait()


def test_nothing_to_do_is_done() -> None:
    """And starts no thread."""
    with workers(4) as pool:
        pool.each(lambda n: None, ())

    assert pool._threads == []


# --- requests -----------------------------------------------------------------------------------


class Server:
    """A clock, and a limit that is told of rounds of answers that come at some rate."""

    def __init__(self, most: int = 256) -> None:
        self.now = 0.0
        self.limit = Concurrency(most, clock=lambda: self.now)

    def round(self, rate: float) -> int:
        """Let as many answers come as are under way, `rate` a second; return the limit then."""
        answers = max(self.limit.limit, int(rate * 0.06))
        self.now += answers / rate
        self.limit.record(answers, 0)
        return self.limit.limit

    def window(self, rate: float) -> int:
        """Let a limit take effect, and a window pass at `rate` answers a second under it."""
        self.round(rate)
        return self.round(rate)


def test_it_doubles_while_that_brings_more() -> None:
    """Far from the server every doubling doubles the rate, up to the most."""
    server = Server(most=100)
    limits = [server.round(30.0 * server.limit.limit) for _ in range(12)]

    assert limits == [8, 8, 16, 16, 32, 32, 64, 64, 100, 100, 100, 100]


def test_what_brings_nothing_is_taken_back_and_tried_twice() -> None:
    """Next to the server four are enough, whatever is tried."""
    server = Server()
    limits = [server.round(20_000.0) for _ in range(16)]

    assert limits == [8, 8, 4, 4, 8, 8, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4]


def test_a_little_more_is_not_worth_it() -> None:
    """Less than a fifth is noise."""
    server = Server()
    server.round(1000.0)

    assert server.window(1190.0) == 4


def test_a_slow_moment_does_not_make_the_next_look_fast() -> None:
    """What a limit brings is compared with the best that was seen."""
    server = Server()
    server.round(1000.0)
    server.window(1000.0)
    server.window(500.0)

    assert server.limit.limit == 8
    assert server.window(1000.0) == 4


def test_a_window_needs_as_many_answers_as_are_under_way() -> None:
    """The first answers of a burst tell nothing yet."""
    server = Server()
    server.now += 0.06
    server.limit.record(3, 0)
    before = server.limit.limit
    server.limit.record(1, 0)

    assert (before, server.limit.limit) == (4, 8)


def test_long_bodies_are_measured_on_the_way() -> None:
    """What takes minutes to end does not take minutes to be judged."""
    server = Server()
    server.now += 0.6
    server.limit.record(0, 50 << 20)

    assert server.limit.limit == 8


def test_throttling_halves_it_once_for_all_that_was_refused_together() -> None:
    """Down to one, never to none."""
    limit = Server().limit
    under_way = limit.refusals
    for _ in range(16):
        limit.lower(under_way)
    once = limit.limit
    for _ in range(10):
        limit.lower(limit.refusals)

    assert (once, limit.limit) == (2, 1)


def test_after_throttling_it_is_opened_again_slowly() -> None:
    """One more for each round of answers, and never above the most."""
    limit = Concurrency(6)
    limit.lower(limit.refusals)
    limits = []
    for _ in range(8):
        limit.record(limit.limit, 0)
        limits.append(limit.limit)

    assert limits == [3, 4, 5, 6, 6, 6, 6, 6]


@pytest.mark.parametrize("most", [1, 3])
def test_it_never_exceeds_what_is_allowed(most: int) -> None:
    """`--jobs 1` means one."""
    server = Server(most)
    limits = {server.round(50.0 * server.limit.limit) for _ in range(6)}

    assert limits == {most}


# --- bytes --------------------------------------------------------------------------------------


def test_bytes_are_bounded_together() -> None:
    """What does not fit waits until something is given back."""
    budget = ByteBudget(100)
    budget.take(60)
    fits = budget.take(41), budget.take(40), budget.take(1)
    thread = threading.Thread(target=lambda: budget.wait(50, LONG), daemon=True)
    thread.start()
    budget.give_back(60)
    thread.join(LONG / 2)

    assert fits == (False, True, False)
    assert not thread.is_alive()
    assert budget.take(50)


def test_what_is_larger_than_all_room_passes_alone() -> None:
    """Or it would never move."""
    budget = ByteBudget(100)

    assert budget.take(1000)
    assert not budget.take(1)
