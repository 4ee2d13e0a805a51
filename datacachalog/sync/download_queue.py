"""The queue of downloads of a run, and the threads that work on it.

Some threads take downloads from the queue and do nothing but ask storages; one more thread
does the files of small objects. A thread that did both would pass Python's lock on several times
for each object, which costs more than the work itself. How many threads ask is found out
(`concurrency`). Used by `run` and `transfer`.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from datacachalog import events
from datacachalog.cache.file_lock import FileLock
from datacachalog.model import RemoteObject
from datacachalog.sync.concurrency import ByteBudget, Concurrency
from datacachalog.sync.download import Buffer, Destination, ObjectDownload, Range, Transport
from datacachalog.sync.pool import Batch
from datacachalog.sync.retry import Cancel

BUDGET = 48 << 20
"""Bytes that memory may hold of all downloads under way."""

OVERHEAD = 16 << 10
"""Bytes that a small object counts besides its own: what is around it takes memory, too, and what
waits to be written should not be far ahead of the thread that writes."""

STREAMS = 4
"""While more large objects than this wait, each comes in one range: they are the parallel ones."""

_LOT = 16
_LOT_SECONDS = 0.01
"""So many small objects are handed over at once, or what came in so many seconds."""

_TICK = 0.2
"""Seconds after which a thread that waits for room looks whether the run has ended."""

_Target = Callable[[], None]
_Whole = tuple[ObjectDownload, list[Buffer]]
_Part = tuple[ObjectDownload, Range]


class DownloadQueue:
    """All downloads of one run, at most `most` requests at a time; closed at the run's end.

    Threads are daemons: after Ctrl-C a request that hangs in native code must not keep the
    process alive.
    """

    def __init__(
        self, *, most: int, cancel: Cancel, report: events.Report, temps: set[str]
    ) -> None:
        self._concurrency = Concurrency(most)
        self._budget = ByteBudget(BUDGET)
        self._transport = Transport(
            cancel, report, temps, self._budget, self._concurrency, self._note
        )
        self._waiting: deque[ObjectDownload | _Part] = deque()
        self._received: queue.SimpleQueue[list[_Whole] | None] = queue.SimpleQueue()
        self._mutex = threading.Lock()
        self._askers = 0
        self._large = 0  # large objects not yet begun
        self._threads: list[threading.Thread] = []
        self._has_writer = False

    def add(
        self,
        objects: Sequence[RemoteObject],
        to: Destination,
        batch: Batch,
        *,
        lock: FileLock | None = None,
    ) -> None:
        """Queue the downloads of `objects`, each a task of `batch`.

        Large ones first: the last to finish then are small. `lock` is held for the one object.
        """
        ordered = sorted(objects, key=lambda obj: -obj.size)
        downloads = [ObjectDownload(obj, to, self._transport, batch, lock) for obj in ordered]
        batch.expect(len(downloads))
        with self._mutex:
            self._waiting.extend(downloads)
            self._large += sum(not download.is_whole for download in downloads)
            if not self._askers:
                self._concurrency.restart()
            if not self._has_writer:
                self._start(self._write)
                self._has_writer = True
        self._start_askers()

    def close(self) -> None:
        """Let the threads end when they are done."""
        self._received.put(None)

    def join(self, seconds: float) -> None:
        """Wait for the threads to end, at most that long in all."""
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    # --- asking -------------------------------------------------------------------

    def _start_askers(self) -> None:
        """Start as many threads as there is work and leave for."""
        with self._mutex:
            missing = min(self._concurrency.limit - self._askers, len(self._waiting))
            for _ in range(missing):
                try:
                    self._start(self._ask)
                except RuntimeError:  # the system gives no more threads: those that run must do
                    if not self._askers:
                        raise
                    return
                self._askers += 1

    def _start(self, target: _Target) -> None:
        thread = threading.Thread(target=target, daemon=True, name="dcl-download")
        thread.start()
        self._threads.append(thread)

    def _note(self, answers: int, count: int) -> None:
        """Note what came; more threads may ask from now on."""
        before = self._concurrency.limit
        self._concurrency.note(answers, count)
        if self._concurrency.limit > before:
            self._start_askers()

    def _next(self, lot: "_Lot") -> ObjectDownload | _Part | None:
        """Return what is to be done next, once memory has room for it; None ends the thread.

        Room is taken in the order of the queue: ranges are hashed in order, so a later one that
        took the room of an earlier one would never give it back.
        """
        while True:
            with self._mutex:
                if not self._waiting or self._askers > self._concurrency.limit:
                    self._askers -= 1
                    return None
                count = _memory(self._waiting[0])
                if self._budget.take(count):
                    task = self._waiting.popleft()
                    break
            lot.hand_over()
            self._budget.wait(count, _TICK)
        if isinstance(task, tuple):
            task[1].held = count
        return task

    def _ask(self) -> None:
        """Ask for one download after another, until there are no more or fewer threads suffice."""
        lot = _Lot(self)
        while (task := self._next(lot)) is not None:
            if isinstance(task, tuple):
                lot.hand_over()
                download, part = task
                download.receive_range(part)
            elif task.is_whole:
                self._receive(task, lot)
            else:
                lot.hand_over()
                self._begin(task)
        lot.hand_over()

    def _receive(self, download: ObjectDownload, lot: "_Lot") -> None:
        """Ask for a small object."""
        try:
            self._transport.cancel.check()
            body = [] if download.is_over else download.receive(lot.hand_over)
        except BaseException as exc:  # noqa: BLE001 - a worker: `wait` raises it
            download.fail(exc)
        if download.is_over:
            self._budget.give_back(_whole(download))
            download.finish()
        else:
            lot.add(download, body)

    def _begin(self, download: ObjectDownload) -> None:
        """Begin a large object; its ranges go first, so that few are open at a time."""
        with self._mutex:
            in_one = self._large > STREAMS
            self._large -= 1
        parts: Sequence[Range] = ()
        try:
            if not download.is_over:
                parts = download.begin(in_one=in_one)
        except BaseException as exc:  # noqa: BLE001 - a worker: `wait` raises it
            download.fail(exc)
        if not parts:
            download.finish()
            return
        with self._mutex:
            self._waiting.extendleft((download, part) for part in reversed(parts))
        self._start_askers()

    # --- writing ------------------------------------------------------------------

    def hand_over(self, lot: list[_Whole]) -> None:
        """Give the writing thread what was received."""
        self._received.put(lot)
        self._note(len(lot), sum(download.object.size for download, _ in lot))

    def _write(self) -> None:
        """Store what is received, until the run ends."""
        while (lot := self._received.get()) is not None:
            for download, body in lot:
                try:
                    self._transport.cancel.check()
                    download.store(body)
                except BaseException as exc:  # noqa: BLE001 - a worker, as above
                    download.fail(exc)
                download.finish()
            self._budget.give_back(sum(_whole(download) for download, _ in lot))


def _memory(task: ObjectDownload | _Part) -> int:
    """Return how many bytes memory will hold of a task."""
    if isinstance(task, tuple):
        download, part = task
        return 0 if download.is_over else download.buffered(part)
    return _whole(task) if task.is_whole else 0


def _whole(download: ObjectDownload) -> int:
    """Return how many bytes memory holds of a small object that waits to be stored."""
    return download.object.size + OVERHEAD


class _Lot:
    """What one thread has received and not yet handed over."""

    __slots__ = ("_began", "_queue", "_received")

    def __init__(self, owner: DownloadQueue) -> None:
        self._queue = owner
        self._received: list[_Whole] = []
        self._began = time.monotonic()

    def add(self, download: ObjectDownload, body: list[Buffer]) -> None:
        """Keep one object; hand all over if that is enough, or took long."""
        self._received.append((download, body))
        is_full = len(self._received) >= _LOT
        if is_full or time.monotonic() - self._began > _LOT_SECONDS:
            self.hand_over()

    def hand_over(self) -> None:
        """Hand over what there is."""
        if self._received:
            self._queue.hand_over(self._received)
        self._received, self._began = [], time.monotonic()
