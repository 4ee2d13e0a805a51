"""The bounded pool of worker threads, and batches of tasks that are waited for together.

Workers are daemons: after Ctrl-C a request that hangs in native code must not keep the
process alive. Work is handed over in batches; a batch stops at its first error.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Self, TypeVar

from datacachalog.sync.retry import Cancel, Cancelled

T = TypeVar("T")


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
            self.fail(exc)
        self.end()

    def fail(self, error: BaseException) -> None:
        """Keep the first error there is; a task that failed still has to `end`."""
        with self._condition:
            if self.error is None:
                self.error = error

    def end(self) -> None:
        """Note that one task is over."""
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
                try:
                    thread.start()
                except RuntimeError:  # the system gives no more: those that run must do
                    if not self._threads:
                        raise
                    break
                self._threads.append(thread)
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
