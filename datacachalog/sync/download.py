"""One object on its way into the store: small ones as a whole, large ones in ranges.

A small object is received in one thread and stored by another. The ranges of a large one are
written in place by the threads that receive them, and hashed in order as they come. Nothing
is in the store before size, identity and checksums are verified. Used by `download_queue` and
`transfer`; knows storages and the store, but neither plans nor folders.
"""

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from datacachalog import events
from datacachalog.cache import files
from datacachalog.cache.file_lock import FileLock
from datacachalog.cache.store import Store
from datacachalog.checksums import Checksum, Hashes
from datacachalog.errors import CacheError, DatacachalogError, IntegrityError, ThrottledError
from datacachalog.model import RemoteObject
from datacachalog.storage.base import Storage
from datacachalog.sync.concurrency import ByteBudget, Concurrency, TaskGroup
from datacachalog.sync.retry import retrying

RANGE = 8 << 20
"""Objects above this many bytes are fetched in parallel ranges of this size."""

WHOLE = 1 << 20
"""Objects up to this many bytes are held in memory as a whole."""

_STREAM_BUFFERS = 1 << 20

Buffer = bytes | memoryview
Demand = Callable[[RemoteObject], Sequence[Checksum]]
"""Gives the checksums that the catalog and the lock demand of an object."""


class Stored(NamedTuple):
    """An object that lies verified in the store: where, and its blake3 (64 hex digits)."""

    path: str
    blake3: str
    is_downloaded: bool


@dataclass(slots=True, kw_only=True, eq=False)
class DownloadGroup(TaskGroup):
    """The downloads of one dataset: where from, where to, and what came of them.

    `stored` gets what is in the store, by URI. `skipped` gets large objects that another run is
    fetching, or has fetched meanwhile.
    """

    dataset: str
    storage: Storage
    store: Store
    demand: Demand
    report: events.Report
    temps: set[str]
    stored: dict[str, Stored] = field(default_factory=dict)
    skipped: list[RemoteObject] = field(default_factory=list)


class ByteRange:
    """Bytes `start` to `stop` of an object: how far they came, and what came and still waits."""

    __slots__ = ("at", "budget", "is_done", "start", "stop", "waiting")

    def __init__(self, start: int, stop: int) -> None:
        self.start = self.at = start
        self.stop = stop
        self.budget = 0
        self.is_done = False
        self.waiting: deque[Buffer] = deque()


class DownloadTask:
    """Brings one object into the store; a task of `group`, which it ends with `finish`.

    `lock` is that of a large object, where it is held already.
    """

    __slots__ = (
        "_budget", "_concurrency", "_error", "_fd", "_fingerprint", "_group", "_hashes", "_head",
        "_is_hashing", "_is_over", "_is_stored", "_lock", "_must_hash_again", "_mutex", "_open",
        "_temp", "object", "ranges",
    )  # fmt: skip

    def __init__(
        self,
        obj: RemoteObject,
        group: DownloadGroup,
        concurrency: Concurrency,
        budget: ByteBudget,
        lock: FileLock | None = None,
    ) -> None:
        self.object = obj
        self.ranges = [ByteRange(0, obj.size)] if obj.size <= WHOLE else []
        self._group = group
        self._concurrency = concurrency
        self._budget = budget
        self._lock = lock
        self._mutex = threading.Lock()
        self._error: BaseException | None = None
        self._temp = ""
        self._fd = -1
        self._is_over = self._is_stored = False

    @property
    def is_small(self) -> bool:
        """Tell whether the object is received and stored as a whole."""
        return self.object.size <= WHOLE

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more is to be done for it."""
        return self._is_over or self._group.is_over

    def fail(self, error: BaseException) -> None:
        """End the download, and the dataset's others, because of `error`."""
        if isinstance(error, OSError) and not isinstance(error, DatacachalogError):
            error = no_room(error, self._temp)
        self._is_over = True
        self._error = self._error or error
        self._group.fail(error)

    def finish(self) -> None:
        """Say that it is over, once for each download."""
        error = self._error if isinstance(self._error, DatacachalogError) else None
        if (error is not None and self._temp) or self._is_stored:
            event = events.TransferFinished(self._group.dataset, self.object, error)
            try:
                self._group.report(event)
            except BaseException as exc:  # noqa: BLE001 - a worker: `wait` raises it
                self._group.fail(exc)
        if self._lock is not None:
            self._lock.release()
        self._group.end()

    # --- receiving --------------------------------------------------------------------

    def receive(self, part: ByteRange, before_retry: Callable[[], None] = lambda: None) -> None:
        """Bring the bytes of a range; after a transient error only what is missing is asked for.

        Returns with it incomplete if the download is over.
        """

        def failed(error: DatacachalogError, attempt: int, delay: float) -> None:
            before_retry()
            uri = self.object.uri
            self._group.report(events.Retrying(self._group.dataset, uri, error, attempt, delay))

        retrying(partial(self._request, part), cancel=self._group.cancel, failed=failed)

    def _request(self, part: ByteRange) -> None:
        """Go on with a range where it ends."""
        obj, refusals = self.object, self._concurrency.refusals
        try:
            for buffer in self._group.storage.read(obj, part.at, part.stop):
                if self.is_over:
                    self._group.cancel.check()
                    return
                self._take(part, buffer)
            if part.at != part.stop:
                count = part.at - part.start
                raise IntegrityError(
                    f"'{obj.uri}' ended after {count} of {part.stop - part.start} bytes"
                )
        except ThrottledError:
            self._concurrency.lower(refusals)
            raise
        except IntegrityError as exc:
            if not exc.is_resumable:
                self._start_over(part)
            raise

    def _take(self, part: ByteRange, buffer: Buffer) -> None:
        """Keep the next bytes of a range; of a large object, write them, and hash what can be."""
        if part.at + len(buffer) > part.stop:
            raise IntegrityError(f"'{self.object.uri}' sent more bytes than it has")
        if self.is_small:
            part.waiting.append(buffer)
            part.at += len(buffer)
            return
        files.pwrite_all(self._fd, buffer, part.at)
        with self._mutex:
            part.waiting.append(buffer)
            part.at += len(buffer)
        self._report_bytes(len(buffer))
        self._hash_on()
        self._concurrency.record(0, len(buffer))

    def _start_over(self, part: ByteRange) -> None:
        """Forget what came of a range: nothing of it can be trusted."""
        with self._mutex:
            count, part.at = part.at - part.start, part.start
            part.waiting.clear()
        if not self.is_small:
            # Some of it may be hashed already.
            self._must_hash_again |= count > 0
            self._report_bytes(-count)

    def _report_bytes(self, count: int) -> None:
        self._group.report(events.Transferred(self._group.dataset, self.object, count))

    # --- small objects ----------------------------------------------------------------

    def store(self) -> None:
        """Verify a small object's bytes, which all came, and make them the stored object."""
        self._group.cancel.check()
        self._fingerprint = self.object.fingerprint(self._group.storage.endpoint)
        self._hashes = Hashes(self._group.demand(self.object))
        try:
            self._create()
            for buffer in self.ranges[0].waiting:
                files.write_all(self._fd, buffer)
                self._hashes.update(buffer)
            self._report_bytes(self.object.size)
            self._commit()
        finally:
            self._close()

    # --- large objects ----------------------------------------------------------------

    def begin(self, *, in_one: bool) -> None:
        """Open the download of a large object and set its `ranges`: none if it is not needed.

        With `in_one` there is one range: where there are many large objects, they are the parallel
        streams. Then it is finished with its last range.
        """
        obj = self.object
        self._fingerprint = obj.fingerprint(self._group.storage.endpoint)
        if obj.size > RANGE and not self._is_mine():
            self._group.skipped.append(obj)
            return
        self._hashes = Hashes(self._group.demand(obj))
        self._head = 0
        self._is_hashing = self._must_hash_again = False
        step = obj.size if in_one else RANGE
        try:
            self._create()
            # Before memory takes a range of each step: a listing may claim any size.
            _make_room(self._fd, obj.size)
            self.ranges = [ByteRange(i, min(i + step, obj.size)) for i in range(0, obj.size, step)]
            self._open = len(self.ranges)
        finally:
            if not self.ranges:
                self._close()

    def _is_mine(self) -> bool:
        """Take the object's lock, unless another run has it or has brought the object meanwhile.

        It saves bandwidth: where locks do nothing, both runs fetch and the second rename changes
        nothing.
        """
        if self._lock is not None:
            return True
        obj, store = self.object, self._group.store
        lock = FileLock(store.lock_path(self._fingerprint))
        if not lock.acquire(sleep=self._group.cancel.sleep):
            return False
        self._lock = lock
        return store.find(self._fingerprint, size=obj.size, mtime_ns=obj.mtime_ns) is None

    def memory(self, part: ByteRange) -> int:
        """Return how many bytes of a range may wait in memory to be hashed."""
        count = part.stop - part.start
        return min(count, _STREAM_BUFFERS) if len(self.ranges) == 1 else count

    def receive_range(self, part: ByteRange) -> None:
        """Bring one range into the file; the last one to end finishes the download."""
        try:
            if not self.is_over:
                self.receive(part)
            if part.at == part.stop:
                self._concurrency.record(1, 0)
                part.is_done = True
                self._hash_on()
        except BaseException as exc:  # noqa: BLE001 - a worker: `wait` raises it
            self.fail(exc)
        with self._mutex:
            self._open -= 1
            is_last = not self._open
        if is_last:
            self._end_ranges()
            self.finish()

    def _hash_on(self) -> None:
        """Hash the bytes that come next, as far as they are there.

        One thread at a time does it, for what the others bring, too.
        """
        with self._mutex:
            if self._is_hashing:
                return
            self._is_hashing = True
        while True:
            with self._mutex:
                buffer = self._next_buffer()
                if buffer is None:
                    self._is_hashing = False
                    return
            self._hashes.update(buffer)

    def _next_buffer(self) -> Buffer | None:
        """Return what is to be hashed next, if it is there; the mutex is held."""
        while self._head < len(self.ranges):
            part = self.ranges[self._head]
            if part.waiting:
                return part.waiting.popleft()
            if not part.is_done:
                return None
            self._release(part)
            self._head += 1
        return None

    def _release(self, part: ByteRange) -> None:
        count, part.budget = part.budget, 0
        self._budget.give_back(count)

    def _end_ranges(self) -> None:
        """Verify and store the object if all of it came; remove what is left."""
        try:
            if self._head == len(self.ranges) and not self._is_over:
                if self._must_hash_again:
                    self._hashes = Hashes(self._group.demand(self.object))
                    self._hashes.read(self._temp)
                self._commit()
        except BaseException as exc:  # noqa: BLE001 - a worker, as above
            self.fail(exc)
        self._close()
        for part in self.ranges:
            part.waiting.clear()
            self._release(part)

    # --- the file ---------------------------------------------------------------------

    def _create(self) -> None:
        store = self._group.store
        self._temp = store.temp()
        self._group.temps.add(self._temp)
        self._fd = store.create(self._temp)
        self._group.report(events.TransferStarted(self._group.dataset, self.object))

    def _commit(self) -> None:
        """Make the file the stored object if its checksums are right."""
        obj, store = self.object, self._group.store
        self._hashes.check(obj)
        fd, self._fd = self._fd, -1
        try:
            found = store.finalize(fd, obj.mtime_ns)
        finally:
            os.close(fd)  # a full disk can surface only here
        if found.size != obj.size:
            raise IntegrityError(f"'{obj.uri}' has {obj.size} bytes, but {found.size} were stored")
        store.adopt(self._temp, self._fingerprint)
        self._is_stored = True
        path = store.path(self._fingerprint)
        self._group.stored[obj.uri] = Stored(path, self._hashes.blake3, is_downloaded=True)

    def _close(self) -> None:
        """Close and remove the temporary file, where it did not become an object."""
        if not self._is_stored:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                with suppress(OSError):  # its bytes are not wanted
                    os.close(fd)
            with suppress(OSError):  # then it is swept later
                files.remove(self._temp)
        self._group.temps.discard(self._temp)


def no_room(exc: OSError, path: str) -> CacheError:
    """Return the error for a cache that cannot take a file, with `exc` as its cause."""
    error = CacheError(
        f"the cache cannot take the file: {exc.strerror} ('{os.path.dirname(path)}')",
        hint="make room (`dcl cache prune`), or set DCL_CACHE_DIR to a larger disk",
    )
    error.__cause__ = exc
    return error


def _make_room(fd: int, size: int) -> None:
    """Give an open file its size; raise OSError if the disk surely has no room for it.

    Not by `posix_fallocate`, which on some file systems touches every page: 0.3 s per GiB in
    which nothing arrives.
    """
    disk = os.fstatvfs(fd)
    if disk.f_blocks and disk.f_bavail * disk.f_frsize < size:  # some tell nothing
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(fd, size)
