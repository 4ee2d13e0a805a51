"""One object on its way into the store: its temporary file, ranges, hashes and lock.

What arrives in one range is hashed as it does. Parallel ranges are written in place, and
hashed in order from the page cache while others still arrive. Nothing is in the store
before size, identity and checksums are verified. Used by `transfer`; knows storages and the
store, but neither plans nor folders.
"""

import errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from datacachalog import events
from datacachalog.cache import files
from datacachalog.cache.locks import Lock
from datacachalog.cache.store import Store
from datacachalog.checksums import Checksum, Hashes
from datacachalog.errors import CacheError, DatacachalogError, IntegrityError
from datacachalog.model import RemoteObject
from datacachalog.retry import retrying
from datacachalog.run import Run
from datacachalog.storage.lane import UnexpectedAnswerError
from datacachalog.storage.protocol import Request, Storage

RANGE = 16 << 20
"""Objects above this many bytes are fetched in parallel ranges of this size."""


class _TooManyBytesError(IntegrityError):
    """A body went on after its end, so nothing of this attempt can be trusted."""


@dataclass(slots=True)
class _Span:
    """A range of bytes, and how far it has come."""

    start: int
    stop: int
    at: int = field(init=False)

    def __post_init__(self) -> None:
        self.at = self.start

    @property
    def is_complete(self) -> bool:
        return self.at == self.stop


Carefully = Callable[[Callable[[], None]], None]
"""Runs a task in the pool, which repeats and explains; its error is the batch's."""


class Arrival:
    """Brings one object into the store; `arrived(obj, fingerprint, blake3)` at the end.

    Either `fetch` it in one thread, or run `tasks` in many, or let lanes carry `orders`.
    Whoever stops before all of them ended calls `give_up`. With `in_one`, also a large object
    comes in one range: where there are many, they are the parallel streams.
    """

    def __init__(
        self,
        obj: RemoteObject,
        fingerprint: str,
        *,
        dataset: str,
        storage: Storage,
        store: Store,
        run: Run,
        demanded: Sequence[Checksum],
        arrived: Callable[[RemoteObject, str, str], None],
        in_one: bool = False,
    ) -> None:
        self.object = obj
        self._fingerprint = fingerprint
        self._dataset = dataset
        self._storage = storage
        self._store = store
        self._run = run
        self._demanded = demanded
        self._arrived = arrived
        self._lock = Lock(store.lock_path(fingerprint)) if is_large(obj) else None
        self._mutex = threading.Lock()
        self._temp: str | None = None
        self._fd = -1
        self._hashes = Hashes(demanded)
        step = max(1, obj.size) if in_one else RANGE
        starts = range(0, max(1, obj.size), step)
        self._spans = [_Span(start, min(start + step, obj.size)) for start in starts]
        self._inside = 0
        self._is_over = False
        self._is_stored = False
        self._error: BaseException | None = None
        self._landed = [False] * len(self._spans)
        self._hashed = 0  # spans hashed so far, in order
        self._is_hashing = False

    def claim(self, *, wait: float) -> bool:
        """Take the lock of a large object; False if another run has it and `wait` is over.

        Locks only save bandwidth: where they do not work, both runs fetch, and the second
        rename changes nothing.
        """
        return self._lock is None or self._lock.acquire(wait=wait, sleep=self._run.cancel.sleep)

    def release(self) -> None:
        """Give the lock up."""
        if self._lock is not None:
            self._lock.release()

    def fetch(self) -> None:
        """Bring the object into the store, in this thread alone."""
        try:
            for task in self.tasks():
                task()
        finally:
            self.give_up()

    def tasks(self) -> list[Callable[[], None]]:
        """Return the tasks that together bring the object into the store, one per range."""
        return [partial(self.run_span, i) for i in range(len(self._spans))]

    def orders(self, carefully: "Carefully") -> "list[SpanOrder]":
        """Return the same for lanes; `carefully` gets the task of a range that a lane gave up."""
        return [SpanOrder(self, i, span, carefully) for i, span in enumerate(self._spans)]

    def give_up(self) -> None:
        """Clean up if the object did not arrive; tasks that are not begun do nothing.

        Where tasks still run, the last of them cleans up.
        """
        with self._mutex:
            self._is_over = True
            is_idle = not self._inside
        if is_idle:
            self._clean_up()

    # --- ranges -------------------------------------------------------------------

    def run_span(self, i: int) -> None:
        """Bring one range, from where it stands; do nothing if the arrival is over."""

        def bring() -> None:
            if self.open() and self._receive(i) and self.mark_landed(i):
                self.hash_on()

        self._run_inside(bring)

    def _run_inside(self, action: Callable[[], None]) -> None:
        """Run `action` as a part of the arrival, which ends if it fails; not if it is over."""
        if not self.enter():
            return
        try:
            action()
        except BaseException as exc:
            self.fail(exc)
            raise
        finally:
            self.leave()

    def enter(self) -> bool:
        """Count a range as under way; return False if the arrival is over."""
        with self._mutex:
            if not self._is_over:
                self._inside += 1
            return not self._is_over

    def leave(self) -> None:
        """Count a range as ended; clean up if nothing else is left to do."""
        with self._mutex:
            self._inside -= 1
            is_idle = self._is_over and not self._inside
        if is_idle:
            self._clean_up()

    def fail(self, exc: BaseException) -> None:
        """End the arrival, because of the first error there was."""
        with self._mutex:
            self._is_over = True
            self._error = self._error or exc

    def open(self) -> bool:
        """Make the temporary file, once; return False if the arrival was given up meanwhile."""
        with self._mutex:
            if self._is_over or self._fd >= 0:
                return not self._is_over
            self._temp = temp = self._store.temp()
            self._run.temps.add(temp)
            try:
                self._fd = self._store.create(temp)
                if is_large(self.object):
                    _make_room(self._fd, self.object.size)
            except OSError as exc:
                self._is_over = True
                raise no_room(exc, temp) from exc
        self._run.report(events.TransferStarted(self._dataset, self.object))
        return True

    def _receive(self, i: int) -> bool:
        """Write one range in place; return whether it is complete, or the arrival was given up."""
        span = self._spans[i]
        retrying(lambda: self._attempt(span), cancel=self._run.cancel, failed=self._note)
        return span.is_complete

    def _attempt(self, span: "_Span") -> None:
        """Go on with a range from where it stands."""
        if span.is_complete:
            return
        try:
            with self._run.valve.passing(self._run.cancel, span.stop - span.at):
                for buffer in self._storage.read(self.object, span.at, span.stop):
                    self._run.cancel.check()
                    if self._is_over:
                        return
                    self._write(buffer, span)
                    del buffer  # or it would live on while the next one is made
        except _TooManyBytesError:
            self._start_over(span)
            raise
        if not span.is_complete:
            raise IntegrityError(
                f"'{self.object.uri}' ended after {span.at - span.start}"
                f" of {span.stop - span.start} bytes"
            )

    def _start_over(self, span: "_Span") -> None:
        """Forget what came of a range: it cannot be trusted."""
        self._advance(span.start - span.at)
        span.at = span.start
        if self.is_in_order:
            self._hashes = Hashes(self._demanded)

    def request(self, span: "_Span") -> Request:
        """Return the GET of what is missing of a range."""
        request = self._storage.request(self.object, span.at, span.stop)
        if request is None:
            raise UnexpectedAnswerError("no lane leads there")
        return request

    def take(self, buffer: memoryview, span: "_Span") -> None:
        """Take the next bytes of a range from a lane."""
        if self._is_over:
            raise UnexpectedAnswerError("nobody waits for it any more")
        self._write(buffer, span)

    def distrust(self, i: int) -> None:
        """Forget what came of a range: the answer was not as it should be."""
        self._start_over(self._spans[i])

    def _write(self, buffer: bytes | memoryview, span: "_Span") -> None:
        if span.at + len(buffer) > span.stop:
            raise _TooManyBytesError(f"'{self.object.uri}' sent more bytes than it has")
        try:
            files.pwrite_all(self._fd, buffer, span.at)
        except OSError as exc:
            raise no_room(exc, str(self._temp)) from exc
        if self.is_in_order:
            self._hashes.update(buffer)
        span.at += len(buffer)
        self._advance(len(buffer))

    def mark_landed(self, i: int) -> bool:
        """Note that a range is complete; return whether the caller is to `hash_on`."""
        with self._mutex:
            self._landed[i] = True
            if self._is_hashing:
                return False
            self._is_hashing = True
            return True

    def hash_on(self) -> None:
        """Hash the ranges that are complete, in order, while others still arrive; then commit.

        One thread hashes at a time, from the page cache, and goes on for as long as the next
        range is there.
        """
        while True:
            with self._mutex:
                n = self._hashed
                is_all = n == len(self._spans)
                if is_all or not self._landed[n] or self._is_over:
                    self._is_hashing = False
                    break
            if not self.is_in_order:
                self._hashes.read_range(self._fd, self._spans[n].start, self._spans[n].stop)
            with self._mutex:
                self._hashed += 1
        if is_all and not self._is_over:
            self._commit()

    def hash_aside(self) -> None:
        """Run `hash_on` as a task of its own."""
        self._run_inside(self.hash_on)

    @property
    def is_in_order(self) -> bool:
        """Tell whether the object comes in one range, and is hashed as it does."""
        return len(self._spans) == 1

    # --- the end ------------------------------------------------------------------

    def _commit(self) -> None:
        """Verify, close, and rename into the store: runs once, in the task that ends last."""
        obj, temp = self.object, self._temp
        assert temp is not None
        self._hashes.check(obj)
        try:
            fd, self._fd = self._fd, -1
            put_away(self._store, fd, temp, obj, self._fingerprint)
        except DatacachalogError:
            raise
        except OSError as exc:
            raise no_room(exc, temp) from exc
        self._arrived(obj, self._fingerprint, self._hashes.blake3)
        with self._mutex:
            self._is_over = self._is_stored = True

    def _clean_up(self) -> None:
        """Close and remove what is left, and say that it is over; harmless if repeated."""
        with self._mutex:
            temp, self._temp = self._temp, None
        self.release()
        if temp is None:
            return
        try:
            self._close()
        finally:
            if not self._is_stored:
                files.remove(temp)
            self._run.temps.discard(temp)
            error = self._error if isinstance(self._error, DatacachalogError) else None
            if error is not None or self._is_stored:
                self._run.report(events.TransferFinished(self._dataset, self.object, error))

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)  # a full disk can surface only here

    def _advance(self, count: int) -> None:
        self._run.report(events.Transferred(self._dataset, self.object, count))

    def _note(self, error: DatacachalogError, attempt: int, delay: float) -> None:
        self._run.report(events.Retrying(self._dataset, self.object.uri, error, attempt, delay))


class SpanOrder:
    """One range of an arrival, for a lane.

    A range that does not go smoothly goes on from where it stands, in the pool.
    """

    __slots__ = ("_arrival", "_carefully", "_i", "_is_inside", "_span", "length")

    def __init__(self, arrival: Arrival, i: int, span: _Span, carefully: Carefully) -> None:
        self.length = span.stop - span.start
        self._arrival = arrival
        self._i = i
        self._span = span
        self._carefully = carefully
        self._is_inside = False

    def request(self) -> Request:
        """Return the GET of the range; the arrival's file is made."""
        # Asked twice if the first connection was hung up.
        self._is_inside = self._is_inside or self._arrival.enter()
        if not self._is_inside or not self._open():
            raise UnexpectedAnswerError("nobody waits for it any more")
        return self._arrival.request(self._span)

    def take(self, data: memoryview) -> None:
        """Write the next bytes in place."""
        self._arrival.take(data, self._span)

    def complete(self) -> None:
        """Have hashed what can be; the object is stored after its last range."""
        try:
            if self._arrival.mark_landed(self._i):
                if self._arrival.is_in_order:
                    self._arrival.hash_on()
                else:  # this thread has others to receive
                    self._carefully(self._arrival.hash_aside)
        except Exception as exc:  # noqa: BLE001 - raised again where the batch sees it
            self._end(exc)
        finally:
            self._leave()

    def fail(self, error: BaseException) -> None:
        """Let the pool go on with the range, unless the run was ended."""
        if isinstance(error, UnexpectedAnswerError):
            self._arrival.distrust(self._i)
        self._leave()
        if isinstance(error, Exception):
            self._carefully(partial(self._arrival.run_span, self._i))

    def _open(self) -> bool:
        try:
            return self._arrival.open()
        except DatacachalogError as exc:
            self._end(exc)
            return False

    def _end(self, error: Exception) -> None:
        self._arrival.fail(error)
        self._carefully(partial(_throw, error))

    def _leave(self) -> None:
        if self._is_inside:
            self._is_inside = False
            self._arrival.leave()


def _throw(error: Exception) -> None:
    raise error


def put_away(store: Store, fd: int, temp: str, obj: RemoteObject, fingerprint: str) -> None:
    """Make the verified file at `temp`, open as `fd`, the stored `obj`; close it in any case.

    Raises plain OSError, and `IntegrityError` if the disk does not hold all bytes.
    """
    try:
        found = store.seal(fd, obj.mtime_ns)
    finally:
        os.close(fd)  # a full disk can surface only here
    if found.size != obj.size:
        raise IntegrityError(f"'{obj.uri}' has {obj.size} bytes, but {found.size} were stored")
    store.adopt(temp, fingerprint)


def is_large(obj: RemoteObject) -> bool:
    """Tell whether the object is fetched in parallel ranges."""
    return obj.size > RANGE


def no_room(exc: OSError, path: str) -> CacheError:
    """Return the error for a cache that cannot take a file."""
    return CacheError(
        f"the cache cannot take the file: {exc.strerror} ('{os.path.dirname(path)}')",
        hint="make room (`dcl cache prune`), or set DCL_CACHE_DIR to a larger disk",
    )


def _make_room(fd: int, size: int) -> None:
    """Give an open file its size; raise OSError if the disk surely has no room for it.

    Not by `posix_fallocate`, which on some file systems touches every page: 0.3 s per GiB in
    which nothing arrives.
    """
    disk = os.fstatvfs(fd)
    if disk.f_blocks and disk.f_bavail * disk.f_frsize < size:  # some tell nothing
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(fd, size)
