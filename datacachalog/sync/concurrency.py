"""How much runs at once: worker threads, requests under way, and the bytes memory holds of them.

Used by `run`, `download` and `download_queue`.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from datacachalog.sync.retry import Cancel

T = TypeVar("T")

FIRST = 4
"""Requests under way to begin with: enough for a server nearby, and for two processors."""

_CLEARLY = 1.2
_TRIALS = 2
_SHORTEST_WINDOW = 0.05
_LONGEST_WINDOW = 0.5
_UNIT = 1 << 20


@dataclass(slots=True, eq=False)
class TaskGroup:
    """Tasks that belong together: the first error stops those that have not begun."""

    cancel: Cancel
    _open: int = field(default=0, init=False)
    _error: BaseException | None = field(default=None, init=False)
    _condition: threading.Condition = field(default_factory=threading.Condition, init=False)

    @property
    def is_over(self) -> bool:
        """Tell whether tasks need not go on: one failed, or the run was ended."""
        return self._error is not None or self.cancel.is_set()

    def add(self, tasks: int) -> None:
        """Count tasks, before they can end."""
        with self._condition:
            self._open += tasks

    def run(self, action: Callable[[T], None], item: T) -> None:
        """Run one task in the calling thread; keep its error."""
        try:
            if not self.is_over:
                action(item)
        except BaseException as exc:  # noqa: BLE001 - a worker: raised again in `wait`
            self.fail(exc)
        self.end()

    def fail(self, error: BaseException) -> None:
        """Keep the first error there is; a task that failed still has to `end`."""
        with self._condition:
            self._error = self._error or error

    def end(self) -> None:
        """Count one task as ended."""
        with self._condition:
            self._open -= 1
            if not self._open:
                self._condition.notify_all()

    def wait(self) -> None:
        """Return when all tasks ended; raise the first error there was.

        A cancelled run does not wait for tasks that hang in a request.
        """
        with self._condition:
            while self._open:
                self.cancel.check()
                self._condition.wait(0.2)
        if self._error is not None:
            raise self._error
        self.cancel.check()


class WorkerPool:
    """At most `size` threads, started as tasks come in.

    They are daemons, unlike those of `concurrent.futures`, which every program joins at its end:
    neither a request that hangs in native code nor the copy of a huge file may hold up Ctrl-C.
    """

    def __init__(self, size: int, cancel: Cancel) -> None:
        self._size = size
        self._cancel = cancel
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._mutex = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self, action: Callable[[T], None], items: Iterable[T], group: TaskGroup) -> None:
        """Run `action` on every item, as tasks of `group`; return at once."""
        tasks = [partial(group.run, action, item) for item in items]
        group.add(len(tasks))
        with self._mutex:
            for _ in range(min(len(tasks), self._size - len(self._threads))):
                try:
                    self._threads.append(start_daemon(self._work))
                except RuntimeError:  # the system gives no more: those that run must do
                    if not self._threads:
                        raise
                    break
        for task in tasks:
            self._tasks.put(task)

    def each(self, action: Callable[[T], None], items: Iterable[T]) -> None:
        """Run `action` on every item and return when all are done; raise the first error."""
        group = TaskGroup(self._cancel)
        self.start(action, items, group)
        group.wait()

    def close(self) -> None:
        """Let the threads end after what they were given."""
        for _ in self._threads:
            self._tasks.put(None)

    def join(self, seconds: float) -> None:
        """Wait for the threads to end, at most that long in all."""
        join_all(self._threads, seconds)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()


def start_daemon(target: Callable[[], None]) -> threading.Thread:
    """Start a thread that does not keep the process alive."""
    thread = threading.Thread(target=target, daemon=True, name="dcl-worker")
    thread.start()
    return thread


def join_all(threads: Iterable[threading.Thread], seconds: float) -> None:
    """Wait for threads to end, at most that long in all."""
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


class Concurrency:
    """The limit on requests under way; thread-safe.

    By Little's law few requests suffice next to a server and hundreds are needed far from it, so
    the number is found out. It is doubled for as long as that brings clearly more, and taken back
    where it does not, until two trials have failed. Once the server throttles, it is halved each
    time and raised again slowly: additive increase, multiplicative decrease, as TCP does (RFC
    5681). Throughput counts each response as one, and one more for each MiB, so that ranges and
    small objects have one measure. `raised` is called when more requests may be under way.
    """

    def __init__(
        self,
        most: int,
        *,
        raised: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._raised = raised
        self._clock = clock
        self._most = most
        self._limit = float(min(FIRST, most))
        self._proven = self._limit
        self._best = 0.0
        self._failures = 0
        self._is_settling = False
        self._refusals = 0
        self._is_throttled = False
        self._mutex = threading.Lock()
        self._start_window(clock())

    @property
    def limit(self) -> int:
        """Return how many requests may be under way now."""
        return int(self._limit)

    @property
    def refusals(self) -> int:
        """Return how often the limit was lowered: to be read when a request begins."""
        return self._refusals

    def restart(self) -> None:
        """Begin to measure now: nothing was under way before."""
        with self._mutex:
            self._start_window(self._clock())

    def record(self, responses: int, count: int) -> None:
        """Count `responses` that ended, and `count` bytes that came."""
        with self._mutex:
            before = self.limit
            self._responses += responses
            self._throughput += responses + count / _UNIT
            if self._is_throttled:
                # One request more for each round of responses.
                self._limit = min(float(self._most), self._limit + responses / self._limit)
            else:
                self._judge(self._clock())
            is_raised = self.limit > before
        if is_raised:
            self._raised()

    def lower(self, refusals: int) -> None:
        """Halve the limit, as the server asks for less.

        `refusals` is what the property was when the refused request began: requests that were under
        way together and are refused together count once.
        """
        with self._mutex:
            if refusals == self._refusals:
                self._refusals += 1
                self._is_throttled = True
                self._limit = self._proven = max(1.0, self._limit / 2)

    def _judge(self, now: float) -> None:
        """Compare the window that has passed, if it tells enough, with the best before it."""
        seconds = now - self._begun
        has_all = self._responses >= self.limit
        if self._is_settling:
            # What began under another limit says nothing about this one.
            if has_all or seconds >= _LONGEST_WINDOW:
                self._start_window(now)
            return
        if seconds < (_SHORTEST_WINDOW if has_all else _LONGEST_WINDOW):
            return
        rate = self._throughput / max(1e-6, seconds)
        best, self._best = self._best, max(self._best, rate)
        limit = self._limit
        if limit > self._proven and rate <= best * _CLEARLY:
            self._failures += 1
            self._limit = self._proven
        else:
            self._proven = limit
            if self._failures < _TRIALS:
                self._limit = min(float(self._most), limit * 2)
        self._start_window(now)
        self._is_settling = self._limit != limit

    def _start_window(self, now: float) -> None:
        self._begun, self._throughput, self._responses = now, 0.0, 0
        self._is_settling = False


class ByteBudget:
    """Bounds the bytes that are under way and in memory, so that no setting can exhaust it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._condition = threading.Condition()

    def take(self, count: int) -> bool:
        """Take `count` bytes if there is room; what is larger than all of it passes alone."""
        with self._condition:
            if not self._has_room(count):
                return False
            self._used += count
            return True

    def wait(self, count: int, seconds: float) -> None:
        """Wait until there may be room for `count` bytes, at most so many seconds."""
        with self._condition:
            if not self._has_room(count):
                self._condition.wait(seconds)

    def give_back(self, count: int) -> None:
        """Return `count` bytes."""
        with self._condition:
            self._used -= count
            if self._used <= self._size * 3 // 4:  # not for every little that comes free
                self._condition.notify_all()

    def _has_room(self, count: int) -> bool:
        return not self._used or self._used + count <= self._size
