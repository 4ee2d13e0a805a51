"""Doing what the plan says: bytes into the store, files into place, state last.

The order is what makes a crash harmless:

    temp file -> size, identity, checksums verified -> renamed into the store
    -> all objects of the dataset there -> linked into `data/` -> state written

so that old data stays until all of the new is verified, and whatever a killed run left
is either a temporary file, a valid object, or a file that equals an object. Called by
`catalog`; knows plans, storages and the cache, but not how objects were resolved.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from filelock import FileLock, Timeout

from datacachalog import events
from datacachalog.cache import files
from datacachalog.cache.disk import Disk
from datacachalog.cache.files import FileStat
from datacachalog.cache.placement import Folder
from datacachalog.cache.state import PlacedFile, PlacedFiles
from datacachalog.checksums import Checksum, Hashes
from datacachalog.errors import (
    CacheError,
    ChecksumMismatchError,
    DatacachalogError,
    IntegrityError,
    LocalFileConflictError,
    ThrottledError,
)
from datacachalog.model import RemoteObject
from datacachalog.plan import Download, Link, Plan
from datacachalog.pool import Pool, Valve
from datacachalog.retry import Cancel, retrying
from datacachalog.storage.protocol import Storage

RANGE = 16 << 20
"""Objects above this many bytes are fetched in parallel ranges of this size."""

LOCK_WAIT = 15 * 60.0
"""Seconds to wait for another run that fetches the same large object; then fetch it too."""

_PLACE_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that lies verified in the store: where, and its blake3 (64 hex digits)."""

    path: str
    blake3: str
    downloaded: bool


@dataclass(frozen=True, slots=True)
class Result:
    """What a transfer did: the files as they now stand, and counts for the report."""

    placed: PlacedFiles
    downloaded: int
    downloaded_bytes: int
    linked: int
    dropped: int


class Demand(Protocol):
    """What the catalog or a lock demands of an object's bytes."""

    def __call__(self, obj: RemoteObject) -> Sequence[Checksum]:
        """Return the checksums that the object must have; empty if none is known."""


@dataclass(slots=True)
class Run:
    """What all transfers of one run share: the pool, the valve, the flag and the ear."""

    pool: Pool
    valve: Valve
    cancel: Cancel
    report: events.Report
    temps: set[str] = field(default_factory=set)

    def discard_temps(self) -> None:
        """Remove what cancelled workers could not: called after Ctrl-C."""
        for temp in list(self.temps):
            files.remove(temp)


@dataclass(slots=True)
class Transfer:
    """Carries out the plan of one dataset."""

    dataset: str
    plan: Plan
    storage: Storage
    disk: Disk
    run: Run
    demand: Demand
    before: PlacedFiles

    def execute(self) -> Result:
        """Fetch what is missing, then put everything in place; return what stands there.

        Raises the first error, with the folder as it was; `ObjectChangedError` asks the
        caller to resolve again. Objects that did arrive stay in the store.
        """
        refuse_conflicts(self.plan, self.disk.folder)
        stored = self.fetch()
        dropped = self._drop()
        placed = self._place(stored)
        downloads = [s.object for s in self.plan.downloads if stored[s.object.uri].downloaded]
        return Result(
            placed=PlacedFiles.of(placed),
            downloaded=len(downloads),
            downloaded_bytes=sum(obj.size for obj in downloads),
            linked=len(placed) - len(self.plan.hits) - len(downloads),
            dropped=dropped,
        )

    # --- into the store ---------------------------------------------------------

    def fetch(self) -> dict[str, Stored]:
        """Bring every object of the plan's links and downloads into the store, verified.

        Returns them by URI.
        """
        found: dict[str, Stored] = {}
        busy: list[_Arrival] = []
        tasks = [self.vouching(link, found) for link in self.plan.links]
        # Large ones first: the last to finish then are small.
        for step in sorted(self.plan.downloads, key=lambda s: -s.object.size):
            arrival = _Arrival(self, step.object, found)
            if not arrival.claim(wait=0):
                busy.append(arrival)
                continue
            tasks.extend(arrival.tasks())
        self.run.pool.start(tasks).wait()
        for arrival in busy:
            # Another run fetches it. Nothing else is held while waiting: no deadlock.
            arrival.claim(wait=LOCK_WAIT)
            self.run.pool.start(arrival.tasks()).wait()
        return found

    def vouching(self, link: Link, found: dict[str, Stored]) -> Callable[[], None]:
        """Return the task that checks an object which lies in the store already."""

        def vouch() -> None:
            obj = link.object
            fingerprint = obj.fingerprint(self.disk.endpoint)
            path = self.disk.store.path(fingerprint)
            known = self.before.find(obj.relpath)
            if known is not None and known.blake3 and known.object.is_same_as(obj):
                hashes = Hashes(self.demand(obj), known=known.blake3)
            else:
                hashes = Hashes(self.demand(obj))
            try:
                if hashes.must_read:
                    hashes.read(path)
                hashes.check(obj)
            except (ChecksumMismatchError, FileNotFoundError):
                # What lies in the store is not what is demanded: fetch it afresh, once.
                self.disk.store.discard(fingerprint)
                arrival = _Arrival(self, obj, found)
                for task in arrival.tasks():
                    task()
                return
            self.disk.store.touch(fingerprint, obj.mtime_ns)
            found[obj.uri] = Stored(path, hashes.blake3, downloaded=False)

        return vouch

    # --- into place -------------------------------------------------------------

    def _drop(self) -> int:
        folder = self.disk.folder
        return sum(
            folder.drop(step.relpath, size=step.over.size, mtime_ns=step.over.mtime_ns)
            for step in self.plan.drops
        )

    def _place(self, stored: Mapping[str, Stored]) -> list[PlacedFile]:
        placed = [self._kept(hit.object, hit.row) for hit in self.plan.hits]
        steps: list[Link | Download] = [*self.plan.links, *self.plan.downloads]
        lots = [steps[i : i + _PLACE_AT_ONCE] for i in range(0, len(steps), _PLACE_AT_ONCE)]

        def place_lot(lot: Sequence[Link | Download]) -> None:
            self.run.cancel.check()
            placed.extend([self._place_one(step, stored[step.object.uri]) for step in lot])

        if len(lots) == 1:
            place_lot(lots[0])
        else:
            self.run.pool.each(place_lot, lots)
        self.disk.folder.sweep()
        return placed

    def _place_one(self, step: Link | Download, stored: Stored) -> PlacedFile:
        obj, folder = step.object, self.disk.folder
        try:
            st = folder.place(stored.path, obj.relpath, over=step.over, mtime_ns=obj.mtime_ns)
        except LocalFileConflictError:
            # Another run of ours, with another resolution, was here since the plan?
            found = folder.look(obj.relpath)
            if found is None or not self.disk.is_ours(obj.relpath, found):
                raise
            st = folder.place(stored.path, obj.relpath, over=found, mtime_ns=obj.mtime_ns)
        return PlacedFile(obj, stored.blake3, st.mtime_ns)

    def _kept(self, obj: RemoteObject, row: int) -> PlacedFile:
        old = self.before.row(row)
        if old.object.version_id is None and obj.version_id is not None:
            return PlacedFile(obj, old.blake3, old.mtime_ns)
        return old

    # --- shared by arrivals -----------------------------------------------------

    def note_failure(self, uri: str, error: DatacachalogError, attempt: int, delay: float) -> None:
        """Tell the run that an attempt failed and another will follow."""
        if isinstance(error, ThrottledError):
            self.run.valve.turn_down()
        self.run.report(events.Retrying(self.dataset, uri, error, attempt, delay))


def refuse_conflicts(plan: Plan, folder: Folder) -> None:
    """Raise `LocalFileConflictError` if files that are not ours are in the way."""
    if not plan.conflicts:
        return
    first, *rest = plan.conflicts
    more = f" (and {len(rest)} more)" if rest else ""
    raise LocalFileConflictError(
        f"'{folder.path(first.relpath)}'{more} was {first.reason}; nothing was changed",
        hint="move it away (or delete it), then run the command again",
    )


class _Arrival:
    """One object on its way into the store: its temporary file, ranges, hashes and lock."""

    def __init__(self, transfer: Transfer, obj: RemoteObject, found: dict[str, Stored]) -> None:
        self._transfer = transfer
        self._object = obj
        self._found = found
        self._fingerprint = obj.fingerprint(transfer.disk.endpoint)
        self._lock: FileLock | None = None
        self._mutex = threading.Lock()
        self._temp: str | None = None
        self._fd = -1
        self._hashes = Hashes(transfer.demand(obj))
        self._spans = [(a, min(a + RANGE, obj.size)) for a in range(0, obj.size, RANGE)] or [(0, 0)]
        self._left = len(self._spans)
        self._landed = [False] * len(self._spans)
        self._hashed = 0  # spans hashed so far, in order
        self._is_hashing = False
        self._failed = False

    @property
    def _is_large(self) -> bool:
        return len(self._spans) > 1

    def claim(self, *, wait: float) -> bool:
        """Take the lock of a large object; False if another run has it and `wait` is over.

        Locks only save bandwidth: where they do not work, or the wait is over, both
        runs fetch and the second rename changes nothing.
        """
        if not self._is_large:
            return True
        lock = FileLock(self._transfer.disk.store.lock_path(self._fingerprint), thread_local=False)
        try:
            lock.acquire(timeout=wait, poll_interval=0.1, cancel_check=self._is_cancelled)
        except Timeout:
            self._transfer.run.cancel.check()
            return wait > 0
        except OSError:
            return True
        self._lock = lock
        return True

    def _is_cancelled(self) -> bool:
        return self._transfer.run.cancel.is_set

    def tasks(self) -> Iterator[Callable[[], None]]:
        """Return the tasks that together bring the object into the store, one per range."""
        known = self._transfer.disk.find(self._object) if self._lock is not None else None
        if known is not None:
            # It arrived while we waited for the lock: look again, then only vouch for it.
            self._release()
            link = Link(self._object, "fetched by another run")
            yield self._transfer.vouching(link, self._found)
            return
        for i in range(len(self._spans)):
            yield partial(self._run_span, i)

    def _run_span(self, i: int) -> None:
        try:
            if not self._failed:
                self._open()
                self._receive(i)
        except BaseException:
            self._failed = True
            raise
        finally:
            with self._mutex:
                self._left -= 1
                is_last = self._left == 0
            if is_last:
                self._finish()

    def _open(self) -> None:
        with self._mutex:
            if self._temp is not None:
                return
            temp = self._transfer.disk.store.temp()
            self._transfer.run.temps.add(temp)
            self._temp = temp
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self._fd = os.open(temp, flags, 0o600)
                if self._is_large:
                    _preallocate(self._fd, self._object.size)
            except OSError as exc:
                raise _no_room(exc, temp) from exc
        report = self._transfer.run.report
        report(events.TransferStarted(self._transfer.dataset, self._object))

    def _receive(self, i: int) -> None:
        start, stop = self._spans[i]
        at = start

        def attempt() -> None:
            nonlocal at
            with self._transfer.run.valve.passing(self._transfer.run.cancel):
                for buffer in self._transfer.storage.read(self._object, at, stop):
                    self._transfer.run.cancel.check()
                    if self._failed:
                        return
                    if at + len(buffer) > stop:
                        raise IntegrityError(f"'{self._object.uri}' sent more bytes than it has")
                    self._write(buffer, at)
                    at += len(buffer)
                    self._advance(len(buffer))
            if at != stop:
                raise IntegrityError(
                    f"'{self._object.uri}' ended after {at - start} of {stop - start} bytes"
                )

        if start < stop:
            retrying(attempt, cancel=self._transfer.run.cancel, failed=self._note)
        if self._is_large and not self._failed:
            self._hash_what_landed(i)

    def _write(self, buffer: bytes | memoryview, at: int) -> None:
        try:
            files.pwrite_all(self._fd, buffer, at)
        except OSError as exc:
            raise _no_room(exc, str(self._temp)) from exc
        if not self._is_large:
            self._hashes.update(buffer)

    def _hash_what_landed(self, i: int) -> None:
        """Hash the ranges that are complete, in order, while others still arrive.

        One thread hashes at a time, from the page cache; it goes on for as long as the
        next range is there.
        """
        with self._mutex:
            self._landed[i] = True
            if self._is_hashing:
                return
            self._is_hashing = True
        while True:
            with self._mutex:
                n = self._hashed
                if n == len(self._spans) or not self._landed[n] or self._failed:
                    self._is_hashing = False
                    return
            self._hashes.read_range(self._fd, *self._spans[n])
            with self._mutex:
                self._hashed += 1

    def _finish(self) -> None:
        """Close, verify and adopt; or clean up after a failure. Runs once, in the last task."""
        error: DatacachalogError | None = None
        try:
            if not self._failed and self._temp is not None:
                self._commit(self._temp)
        except DatacachalogError as exc:
            error = exc
            raise
        finally:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            if self._temp is not None:
                if self._object.uri not in self._found:
                    files.remove(self._temp)
                self._transfer.run.temps.discard(self._temp)
                done = events.TransferFinished(self._transfer.dataset, self._object, error)
                self._transfer.run.report(done)
            self._release()

    def _commit(self, temp: str) -> None:
        obj, store = self._object, self._transfer.disk.store
        self._hashes.check(obj)
        st: FileStat = store.adopt(temp, self._fingerprint, mtime_ns=obj.mtime_ns, fd=self._fd)
        if st.size != obj.size:
            store.discard(self._fingerprint)
            raise IntegrityError(f"'{obj.uri}' has {obj.size} bytes, but {st.size} were stored")
        path = store.path(self._fingerprint)
        self._found[obj.uri] = Stored(path, self._hashes.blake3, downloaded=True)

    def _advance(self, count: int) -> None:
        report = self._transfer.run.report
        report(events.Transferred(self._transfer.dataset, self._object, count))

    def _note(self, error: DatacachalogError, attempt: int, delay: float) -> None:
        self._transfer.note_failure(self._object.uri, error, attempt, delay)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _preallocate(fd: int, size: int) -> None:
    allocate = getattr(os, "posix_fallocate", None)
    if allocate is not None:
        try:
            allocate(fd, 0, size)  # a full disk surfaces here, not at close()
            return
        except OSError as exc:
            if exc.errno not in files.NOT_SUPPORTED:
                raise
    os.ftruncate(fd, size)


def _no_room(exc: OSError, path: str) -> CacheError:
    return CacheError(
        f"the cache cannot take the file: {exc.strerror} ('{os.path.dirname(path)}')",
        hint="make room (`dcl cache prune`), or set DCL_CACHE_DIR to a larger disk",
    )
