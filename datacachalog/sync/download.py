"""One object on its way into the store: whole if it is small, else in ranges.

A small object is received in one thread and stored by another. The ranges of a large one are
written in place by the threads that receive them, and hashed in order as they come. Nothing
is in the store before size, identity and checksums are verified. Used by `download_queue`; knows
storages and the store, but neither plans nor folders.
"""

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
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
from datacachalog.sync.concurrency import ByteBudget, Concurrency
from datacachalog.sync.pool import Batch
from datacachalog.sync.retry import Cancel, retrying

RANGE = 8 << 20
"""Objects above this many bytes are fetched in parallel ranges of this size."""

WHOLE = 1 << 20
"""Objects up to this many bytes are held in memory as a whole."""

_STREAM_BUFFERS = 1 << 20

Buffer = bytes | memoryview


class Transport(NamedTuple):
    """What all downloads of a run share: its end, its events, its limits.

    `note(answers, count)` is told of requests that ended and of bytes that came.
    """

    cancel: Cancel
    report: events.Report
    temps: set[str]
    budget: ByteBudget
    concurrency: Concurrency
    note: Callable[[int, int], None]


class Destination(NamedTuple):
    """What the downloads of one dataset share: where from, where to, and who is told what.

    `demand` gives the checksums that an object must have. Called from any thread, in place of
    a download that is not needed: `busy(obj)`, another run is fetching it, and `found(obj)`, it
    is in the store by now; else `arrived(obj, fingerprint, blake3)` at its end.
    """

    dataset: str
    storage: Storage
    store: Store
    endpoint: str
    demand: Callable[[RemoteObject], Sequence[Checksum]]
    arrived: Callable[[RemoteObject, str, str], None]
    busy: Callable[[RemoteObject], None]
    found: Callable[[RemoteObject], None]


class Range:
    """Bytes `start` to `stop` of an object: how far they came, and what is still to be hashed."""

    __slots__ = ("at", "held", "is_done", "start", "stop", "waiting")

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop
        self.at = start
        self.held = 0
        self.is_done = False
        self.waiting: deque[Buffer] = deque()


class ObjectDownload:
    """Brings one object into the store; a task of `batch`, which it ends with `finish`.

    `lock` is that of a large object, where it is held already.
    """

    __slots__ = (
        "_batch", "_error", "_fd", "_fingerprint", "_hashes", "_head", "_is_hashing", "_is_over",
        "_is_stored", "_left", "_lock", "_must_hash_again", "_mutex", "_ranges", "_temp", "_to",
        "_transport", "object",
    )  # fmt: skip

    def __init__(
        self,
        obj: RemoteObject,
        to: Destination,
        transport: Transport,
        batch: Batch,
        lock: FileLock | None = None,
    ) -> None:
        self.object = obj
        self._to = to
        self._transport = transport
        self._batch = batch
        self._lock = lock
        self._error: BaseException | None = None
        self._temp = ""
        self._fd = -1
        self._is_over = self._is_stored = False

    @property
    def is_whole(self) -> bool:
        """Tell whether the object is received and stored as a whole."""
        return self.object.size <= WHOLE

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more is to be done for it."""
        return self._is_over or self._batch.has_failed or self._transport.cancel.is_set

    def fail(self, error: BaseException) -> None:
        """End the download, and the dataset's others, because of `error`."""
        self._is_over = True
        self._error = self._error or error
        self._batch.fail(error)

    def finish(self) -> None:
        """Say that it is over, once for each download."""
        error = self._error if isinstance(self._error, DatacachalogError) else None
        if (error is not None and self._temp) or self._is_stored:
            event = events.TransferFinished(self._to.dataset, self.object, error)
            try:
                self._transport.report(event)
            except BaseException as exc:  # noqa: BLE001 - a worker: `wait` raises it
                self._batch.fail(exc)
        if self._lock is not None:
            self._lock.release()
        self._batch.end()

    # --- as a whole -----------------------------------------------------------------

    def receive(self, before_retry: Callable[[], None]) -> list[Buffer]:
        """Return the object's bytes; after a transient error only what is missing is asked for."""
        body: list[Buffer] = []

        def failed(error: DatacachalogError, attempt: int, delay: float) -> None:
            before_retry()
            self._note_retry(error, attempt, delay)

        retrying(lambda: self._receive(body), cancel=self._transport.cancel, failed=failed)
        return body

    def _receive(self, body: list[Buffer]) -> None:
        """Go on with `body` where it ends."""
        obj, concurrency = self.object, self._transport.concurrency
        count = sum(map(len, body))
        refusals = concurrency.refusals
        try:
            for buffer in self._to.storage.read(obj, count, obj.size):
                body.append(buffer)
                count += len(buffer)
            if count != obj.size:
                raise _wrong_length(obj, count, obj.size)
        except ThrottledError:
            concurrency.lower(refusals)
            raise
        except IntegrityError as exc:
            if not exc.is_resumable:
                body.clear()
            raise

    def store(self, body: Sequence[Buffer]) -> None:
        """Verify the object's bytes and make them the stored object."""
        obj, report = self.object, self._transport.report
        self._fingerprint = obj.fingerprint(self._to.endpoint)
        self._hashes = Hashes(self._to.demand(obj))
        try:
            self._open()
            for buffer in body:
                files.write_all(self._fd, buffer)
                self._hashes.update(buffer)
            report(events.Transferred(self._to.dataset, obj, obj.size))
            self._commit()
        except DatacachalogError:
            raise
        except OSError as exc:
            raise no_room(exc, self._temp) from exc
        finally:
            self._close()

    # --- in ranges ------------------------------------------------------------------

    def begin(self, *, in_one: bool) -> list[Range]:
        """Open the download of a large object; return its ranges, none if it is not needed.

        With `in_one` there is one range: where there are many large objects, they are the parallel
        streams. Then it is finished with its last range.
        """
        obj, store = self.object, self._to.store
        self._fingerprint = obj.fingerprint(self._to.endpoint)
        if self._lock is None and obj.size > RANGE:
            # It saves bandwidth: where locks do nothing, both runs fetch and the second rename
            # changes nothing.
            self._lock = FileLock(store.lock_path(self._fingerprint))
            if not self._lock.acquire(sleep=self._transport.cancel.sleep):
                self._to.busy(obj)
                return []
            if store.find(self._fingerprint, size=obj.size, mtime_ns=obj.mtime_ns):
                # It arrived after the plan was made.
                self._lock.release()
                self._to.found(obj)
                return []
        step = obj.size if in_one else RANGE
        self._mutex = threading.Lock()
        self._hashes = Hashes(self._to.demand(obj))
        self._head = 0
        self._is_hashing = self._must_hash_again = False
        self._ranges: list[Range] = []
        try:
            self._open()
            # Before memory takes a range of each step: a listing may claim any size.
            _make_room(self._fd, obj.size)
            self._ranges = [Range(at, min(at + step, obj.size)) for at in range(0, obj.size, step)]
        except OSError as exc:
            raise no_room(exc, self._temp) from exc
        finally:
            if not self._ranges:
                self._close()
        self._left = len(self._ranges)
        return self._ranges

    def buffered(self, part: Range) -> int:
        """Return how many bytes of a range may wait in memory to be hashed."""
        count = part.stop - part.start
        return min(count, _STREAM_BUFFERS) if len(self._ranges) == 1 else count

    def receive_range(self, part: Range) -> None:
        """Bring one range into the file; the last one to end finishes the download."""
        try:
            if not self.is_over:
                attempt = partial(self._attempt, part)
                retrying(attempt, cancel=self._transport.cancel, failed=self._note_retry)
        except BaseException as exc:  # noqa: BLE001 - a worker: `wait` raises it
            self.fail(exc)
        with self._mutex:
            self._left -= 1
            is_last = not self._left
        if is_last:
            self._clean_up()
            self.finish()

    def _attempt(self, part: Range) -> None:
        """Go on with a range; return with it incomplete if the download is over."""
        concurrency = self._transport.concurrency
        refusals = concurrency.refusals
        try:
            for buffer in self._to.storage.read(self.object, part.at, part.stop):
                if self.is_over:
                    self._transport.cancel.check()
                    return
                self._take(part, buffer)
                self._transport.note(0, len(buffer))
            if part.at != part.stop:
                raise _wrong_length(self.object, part.at - part.start, part.stop - part.start)
        except ThrottledError:
            concurrency.lower(refusals)
            raise
        except IntegrityError as exc:
            if not exc.is_resumable:
                self._start_over(part)
            raise
        self._transport.note(1, 0)
        part.is_done = True
        self._hash_on()

    def _take(self, part: Range, buffer: Buffer) -> None:
        """Write the next bytes of a range in place, and hash what can be."""
        if part.at + len(buffer) > part.stop:
            wanted = part.stop - part.start
            raise _wrong_length(self.object, part.at - part.start + len(buffer), wanted)
        try:
            files.pwrite_all(self._fd, buffer, part.at)
        except OSError as exc:
            raise no_room(exc, self._temp) from exc
        with self._mutex:
            part.waiting.append(buffer)
            part.at += len(buffer)
        self._advance(len(buffer))
        self._hash_on()

    def _start_over(self, part: Range) -> None:
        """Forget what came of a range: nothing of it can be trusted."""
        with self._mutex:
            count, part.at = part.at - part.start, part.start
            part.waiting.clear()
            # Some of it may be hashed already.
            self._must_hash_again |= count > 0
        self._advance(-count)

    def _hash_on(self) -> None:
        """Hash the bytes that come next, as far as they are there; commit after the last.

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
                    is_complete = self._head == len(self._ranges) and not self._is_over
                    # After the last byte nobody begins again: it would be committed twice.
                    self._is_hashing = is_complete
                    break
            self._hashes.update(buffer)
        if is_complete:
            self._commit_ranges()

    def _next_buffer(self) -> Buffer | None:
        """Return what is to be hashed next, if it is there; the mutex is held."""
        while self._head < len(self._ranges):
            part = self._ranges[self._head]
            if part.waiting:
                return part.waiting.popleft()
            if not part.is_done:
                return None
            self._let_go(part)
            self._head += 1
        return None

    def _let_go(self, part: Range) -> None:
        count, part.held = part.held, 0
        self._transport.budget.give_back(count)

    def _commit_ranges(self) -> None:
        """Verify and store the object, in the thread that hashed its last bytes."""
        if self._must_hash_again:
            self._hashes = Hashes(self._to.demand(self.object))
            self._hashes.read_range(self._fd, 0, self.object.size)
        try:
            self._commit()
        except DatacachalogError:
            raise
        except OSError as exc:
            raise no_room(exc, self._temp) from exc

    def _clean_up(self) -> None:
        """Remove what is left, and give back what was held."""
        self._close()
        for part in self._ranges:
            part.waiting.clear()
            self._let_go(part)

    # --- the file -------------------------------------------------------------------

    def _open(self) -> None:
        store = self._to.store
        self._temp = store.temp()
        self._transport.temps.add(self._temp)
        self._fd = store.create(self._temp)
        self._transport.report(events.TransferStarted(self._to.dataset, self.object))

    def _commit(self) -> None:
        """Make the file the stored object if its checksums are right; raises plain OSError."""
        obj, store = self.object, self._to.store
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
        self._to.arrived(obj, self._fingerprint, self._hashes.blake3)

    def _close(self) -> None:
        """Close and remove the temporary file, where it did not become an object."""
        if not self._is_stored:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                with suppress(OSError):  # its bytes are not wanted
                    os.close(fd)
            with suppress(OSError):  # then it is swept later
                files.remove(self._temp)
        self._transport.temps.discard(self._temp)

    # --- what is said ---------------------------------------------------------------

    def _advance(self, count: int) -> None:
        self._transport.report(events.Transferred(self._to.dataset, self.object, count))

    def _note_retry(self, error: DatacachalogError, attempt: int, delay: float) -> None:
        event = events.Retrying(self._to.dataset, self.object.uri, error, attempt, delay)
        self._transport.report(event)


def no_room(exc: OSError, path: str) -> CacheError:
    """Return the error for a cache that cannot take a file."""
    return CacheError(
        f"the cache cannot take the file: {exc.strerror} ('{os.path.dirname(path)}')",
        hint="make room (`dcl cache prune`), or set DCL_CACHE_DIR to a larger disk",
    )


def _wrong_length(obj: RemoteObject, count: int, wanted: int) -> IntegrityError:
    if count > wanted:
        return IntegrityError(f"'{obj.uri}' sent more bytes than it has")
    return IntegrityError(f"'{obj.uri}' ended after {count} of {wanted} bytes")


def _make_room(fd: int, size: int) -> None:
    """Give an open file its size; raise OSError if the disk surely has no room for it.

    Not by `posix_fallocate`, which on some file systems touches every page: 0.3 s per GiB in
    which nothing arrives.
    """
    disk = os.fstatvfs(fd)
    if disk.f_blocks and disk.f_bavail * disk.f_frsize < size:  # some tell nothing
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(fd, size)
