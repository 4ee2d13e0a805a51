"""The queue of downloads of a run, and the threads that work on it.

Some threads take downloads from the queue and do nothing but request bytes; one more thread
writes the files of small objects. A thread that did both would pass Python's lock on several times
for each object, which costs more than the work itself. How many threads there are is found out
(`concurrency`). Used by `run` and `transfer`.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Sequence

from datacachalog.cache.file_lock import FileLock
from datacachalog.model import RemoteObject
from datacachalog.sync.concurrency import ByteBudget, Concurrency, join_all, start_daemon
from datacachalog.sync.download import ByteRange, DownloadGroup, DownloadTask

BUDGET = 48 << 20
"""Bytes that memory may hold of all downloads under way."""

OVERHEAD = 16 << 10
"""Bytes that a small object counts besides its own: what is around it takes memory, too, and what
waits to be written should not be far ahead of the thread that writes."""

STREAMS = 4
"""While more large objects than this wait, each comes in one range: they are the parallel ones."""

_BATCH = 16
_BATCH_SECONDS = 0.01
"""So many small objects go to the writing thread at once, or what came in so many seconds."""

_TICK = 0.2
"""Seconds after which a thread that waits for room looks whether the run has ended."""


class DownloadQueue:
    """All downloads of one run, at most `most` requests at a time; closed at the run's end."""

    def __init__(self, most: int) -> None:
        self._concurrency = Concurrency(most, raised=self._start_requesters)
        self._budget = ByteBudget(BUDGET)
        # A large object waits without a range until it is begun.
        self._waiting: deque[tuple[DownloadTask, ByteRange | None]] = deque()
        self._received: queue.SimpleQueue[list[DownloadTask] | None] = queue.SimpleQueue()
        self._mutex = threading.Lock()
        self._requesters = 0
        self._large = 0  # large objects not yet begun
        self._threads: list[threading.Thread] = []
        self._has_writer = False

    def add(
        self,
        objects: Sequence[RemoteObject],
        group: DownloadGroup,
        *,
        lock: FileLock | None = None,
    ) -> None:
        """Queue the downloads of `objects`, each a task of `group`.

        Large ones first: the last to finish then are small. `lock` is held for the one object.
        """
        tasks = [
            DownloadTask(obj, group, self._concurrency, self._budget, lock)
            for obj in sorted(objects, key=lambda obj: -obj.size)
        ]
        group.add(len(tasks))
        with self._mutex:
            self._waiting.extend((task, task.ranges[0] if task.ranges else None) for task in tasks)
            self._large += sum(not task.is_small for task in tasks)
            if not self._requesters:
                self._concurrency.restart()
            if not self._has_writer:
                self._threads.append(start_daemon(self._write))
                self._has_writer = True
        self._start_requesters()

    def close(self) -> None:
        """Let the threads end when they are done."""
        self._received.put(None)

    def join(self, seconds: float) -> None:
        """Wait for the threads to end, at most that long in all."""
        join_all(self._threads, seconds)

    # --- requesting ---------------------------------------------------------------

    def _start_requesters(self) -> None:
        """Start as many threads as there is work and leave for."""
        with self._mutex:
            missing = min(self._concurrency.limit - self._requesters, len(self._waiting))
            for _ in range(missing):
                try:
                    self._threads.append(start_daemon(self._request))
                except RuntimeError:  # the system gives no more threads: those that run must do
                    if not self._requesters:
                        raise
                    return
                self._requesters += 1

    def _request(self) -> None:
        """Do one download after another, until there are no more or fewer threads suffice."""
        batch = _Batch(self)
        while (found := self._next(batch)) is not None:
            task, part = found
            if part is None:
                batch.hand_over()
                self._begin(task)
            elif task.is_small:
                self._receive(task, part, batch)
            else:
                batch.hand_over()
                task.receive_range(part)
        batch.hand_over()

    def _next(self, batch: "_Batch") -> tuple[DownloadTask, ByteRange | None] | None:
        """Return what is to be done next, once memory has room for it; None ends the thread.

        Room is taken in the order of the queue: ranges are hashed in order, so a later one that
        took the room of an earlier one would never give it back.
        """
        while True:
            with self._mutex:
                if not self._waiting or self._requesters > self._concurrency.limit:
                    self._requesters -= 1
                    return None
                task, part = self._waiting[0]
                count = _memory(task, part)
                if self._budget.take(count):
                    self._waiting.popleft()
                    if part is not None:
                        part.budget = count
                    return task, part
            batch.hand_over()
            self._budget.wait(count, _TICK)

    def _receive(self, task: DownloadTask, part: ByteRange, batch: "_Batch") -> None:
        """Request a small object."""
        try:
            if not task.is_over:
                task.receive(part, batch.hand_over)
        except BaseException as exc:  # noqa: BLE001 - a worker: `wait` raises it
            task.fail(exc)
        if task.is_over:
            self._budget.give_back(part.budget)
            task.finish()
        else:
            batch.add(task)

    def _begin(self, task: DownloadTask) -> None:
        """Begin a large object; its ranges go first, so that few are open at a time."""
        with self._mutex:
            in_one = self._large > STREAMS
            self._large -= 1
        try:
            if not task.is_over:
                task.begin(in_one=in_one)
        except BaseException as exc:  # noqa: BLE001 - a worker: `wait` raises it
            task.fail(exc)
        if not task.ranges:
            task.finish()
            return
        with self._mutex:
            self._waiting.extendleft((task, part) for part in reversed(task.ranges))
        self._start_requesters()

    # --- writing ------------------------------------------------------------------

    def write(self, tasks: list[DownloadTask]) -> None:
        """Give the writing thread what was received."""
        self._received.put(tasks)
        self._concurrency.record(len(tasks), sum(task.object.size for task in tasks))

    def _write(self) -> None:
        """Store what is received, until the run ends."""
        while (tasks := self._received.get()) is not None:
            for task in tasks:
                try:
                    task.store()
                except BaseException as exc:  # noqa: BLE001 - a worker, as above
                    task.fail(exc)
                task.finish()
            self._budget.give_back(sum(task.ranges[0].budget for task in tasks))


def _memory(task: DownloadTask, part: ByteRange | None) -> int:
    """Return how many bytes memory will hold of what is requested next."""
    if task.is_small:
        return task.object.size + OVERHEAD
    return 0 if part is None or task.is_over else task.memory(part)


class _Batch:
    """What one thread has received and not yet handed over to be written."""

    __slots__ = ("_began", "_queue", "_tasks")

    def __init__(self, owner: DownloadQueue) -> None:
        self._queue = owner
        self._tasks: list[DownloadTask] = []
        self._began = time.monotonic()

    def add(self, task: DownloadTask) -> None:
        """Keep one object; hand all over if that is enough, or took long."""
        self._tasks.append(task)
        if len(self._tasks) >= _BATCH or time.monotonic() - self._began > _BATCH_SECONDS:
            self.hand_over()

    def hand_over(self) -> None:
        """Hand over what there is."""
        if self._tasks:
            self._queue.write(self._tasks)
        self._tasks, self._began = [], time.monotonic()
