"""The one bounded pool of worker threads, and the valve that throttling turns down.

Workers are daemons: after Ctrl-C a request that hangs in native code must not keep the
process alive. Work is handed over in batches; a batch stops at its first error.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

from datacachalog.errors import ThrottledError
from datacachalog.retry import Cancel, Cancelled

T = TypeVar("T")


LARGEST_BUFFER = 4 << 20
"""What a storage holds of one request at a time, in bytes, at most."""

MOST_BUFFERED = 64 << 20
"""What all requests under way may hold together."""


class Valve:
    """Bounds how many requests are under way; throttling halves it, success reopens it slowly.

    Additive increase, multiplicative decrease, as TCP does (RFC 5681). Requests that were
    under way together and are throttled together count once. Bounds their buffers, too,
    so that memory does not grow with the number of jobs.
    """

    def __init__(self, limit: int) -> None:
        self._most = limit
        self._limit = float(limit)
        self._under_way = 0
        self._buffered = 0
        self._turns = 0
        self._condition = threading.Condition()

    @property
    def limit(self) -> int:
        """Return how many may be under way now."""
        return max(1, int(self._limit))

    @contextmanager
    def passing(self, cancel: Cancel, size: int = 0) -> Iterator[None]:
        """Wait for a place and hold it during the block; its end moves the limit.

        `size` is how many bytes the request is about.
        """
        buffer = min(size, LARGEST_BUFFER)
        with self._condition:
            while not self._has_room(buffer):
                cancel.check()
                self._condition.wait(0.5)
            self._under_way += 1
            self._buffered += buffer
            turns = self._turns
        try:
            yield
        except ThrottledError:
            self._turn_down(turns)
            raise
        else:
            self._turn_up()
        finally:
            with self._condition:
                self._under_way -= 1
                self._buffered -= buffer
                self._condition.notify_all()

    def _has_room(self, buffer: int) -> bool:
        if self._under_way >= self.limit:
            return False
        return not self._under_way or self._buffered + buffer <= MOST_BUFFERED

    def _turn_down(self, turns: int) -> None:
        with self._condition:
            if turns == self._turns:
                self._turns += 1
                self._limit = max(1.0, self._limit / 2)

    def _turn_up(self) -> None:
        with self._condition:
            if self._limit < self._most:
                self._limit = min(self._most, self._limit + 1 / self._limit)


class Batch:
    """Some tasks that belong together; the first error stops those not yet begun."""

    def __init__(self, cancel: Cancel) -> None:
        self._cancel = cancel
        self._open = 0
        self._condition = threading.Condition()
        self.error: BaseException | None = None

    @property
    def has_failed(self) -> bool:
        """Tell whether some task failed, so that the others may stop."""
        return self.error is not None

    def run(self, task: Callable[[], None]) -> None:
        """Run one task of this batch in the calling thread; keep its error."""
        try:
            if not self.has_failed:
                self._cancel.check()
                task()
        except BaseException as exc:  # noqa: BLE001 - the worker: raised again in `wait`
            with self._condition:
                if self.error is None:
                    self.error = exc
        with self._condition:
            self._open -= 1
            if self._open == 0:
                self._condition.notify_all()

    def expect(self, tasks: int) -> None:
        """Announce tasks before they are handed over."""
        with self._condition:
            self._open += tasks

    def wait(self) -> None:
        """Return when all tasks ended; raise the first error there was.

        A cancelled run does not wait for tasks stuck in a request.
        """
        with self._condition:
            while self._open and not (isinstance(self.error, Cancelled)):
                self._condition.wait(0.2)
                if self._open:
                    self._cancel.check()
        if self.error is not None:
            raise self.error


class Pool:
    """At most `size` daemon threads, started as work comes in."""

    def __init__(self, size: int, cancel: Cancel) -> None:
        self.size = size
        self._cancel = cancel
        self._queue: deque[tuple[Batch, Callable[[], None]]] = deque()
        self._ready = threading.Condition()
        self._idle = 0
        self._threads: list[threading.Thread] = []
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    def join(self, seconds: float) -> None:
        """Wait for the workers to end, at most that long in all."""
        for thread in self._threads:
            thread.join(max(0.0, seconds / len(self._threads)))

    def start(
        self,
        tasks: Iterable[Callable[[], None]],
        batch: Batch | None = None,
        *,
        first: bool = False,
    ) -> Batch:
        """Queue tasks (`first`: before all others) and return their batch, to be waited for."""
        batch = batch or Batch(self._cancel)
        items = [(batch, task) for task in tasks]
        batch.expect(len(items))
        with self._ready:
            if first:
                self._queue.extendleft(reversed(items))
            else:
                self._queue.extend(items)
            # Not by the number of items: idle workers may have been called for others already.
            missing = min(len(self._queue) - self._idle, self.size - len(self._threads))
            for _ in range(missing):
                thread = threading.Thread(target=self._work, daemon=True, name="dcl-worker")
                self._threads.append(thread)
                thread.start()
            self._ready.notify(len(items))
        return batch

    def each(self, action: Callable[[T], None], items: Iterable[T]) -> None:
        """Run `action` on every item and return when all are done; raise the first error."""
        self.start([_bind(action, item) for item in items]).wait()

    def _work(self) -> None:
        while True:
            with self._ready:
                while not self._queue:
                    if self._closed:
                        return
                    self._idle += 1
                    self._ready.wait()
                    self._idle -= 1
                batch, task = self._queue.popleft()
            batch.run(task)


def _bind(action: Callable[[T], None], item: T) -> Callable[[], None]:
    return lambda: action(item)
