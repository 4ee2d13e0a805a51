"""The fast way to S3: obstore lists, describes and fetches; all else goes the complete way.

Wraps the complete way and gives the same answers, or the complete way's errors: what
obstore cannot express, prove or explain is asked there once more. Never calls obstore in
the main thread, which would be deaf to Ctrl-C, nor in a forked child, where it would hang.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from datacachalog import globs, relpath
from datacachalog.errors import (
    IntegrityError,
    ObjectChangedError,
    ObjectNotFoundError,
    StorageError,
)
from datacachalog.model import EPOCH, DeleteMarker, RemoteObject
from datacachalog.storage import stall
from datacachalog.storage.base import Advance, MisreadKeyError, Precondition, Uploaded
from datacachalog.storage.object_store_listing import PAGE, DoubtError, is_plain, list_glob
from datacachalog.storage.object_store_settings import (
    OBSTORE,
    CompleteStorage,
    Engine,
    Stores,
    reachable_engine,
)
from datacachalog.storage.s3.headers import quoted, unquoted
from datacachalog.storage.s3.storage import split_uri
from datacachalog.storage.stall import StallGuard

if TYPE_CHECKING:
    from arro3.core import RecordBatch
    from fsspec import AbstractFileSystem
    from obstore import GetOptions, GetResult, ObjectMeta
    from obstore.store import S3Store

SMALL = 64 << 10
"""Bytes of a body that is fetched by one call."""

_LEAST_CHUNK = 1  # hyper fills half a MiB by itself where bytes come fast
_MOST_UNEXPLAINED = 20
_REST = 300.0

_T = TypeVar("_T")

_is_forked = False
"""Whether an ancestor may have used obstore, whose threads a fork leaves behind."""


def _note_fork() -> None:
    global _is_forked  # a fact about the process
    _is_forked |= "obstore" in sys.modules


os.register_at_fork(after_in_child=_note_fork)


class ObjectStoreStorage:
    """S3 by obstore over `complete`, which does what obstore cannot.

    A body that moves next to nothing for `stall_seconds` is given up. `now` is this
    machine's clock: it decides when keys are renewed.
    """

    def __init__(
        self,
        complete: CompleteStorage,
        *,
        stall_seconds: float = stall.SECONDS,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.complete = complete
        self._stall_seconds = stall_seconds
        self._clock = clock
        self._stores = Stores(complete, stall_seconds, now)
        self._settled: Engine | None = None
        self._unlisted: set[str] = set()  # buckets whose listings showed what is not there
        self._unexplained = 0
        self._resting_until = 0.0

    @property
    def endpoint(self) -> str:
        """Name the server: the normalised endpoint URL, or `aws` for Amazon's own."""
        return self.complete.endpoint

    @property
    def filesystem(self) -> "AbstractFileSystem":
        """Return the filesystem that the complete way goes by."""
        return self.complete.filesystem

    @property
    def engine(self) -> Engine:
        """Say what fetches right now, and why it is not obstore."""
        if _is_forked:
            return Engine("fsspec", "in a forked process")
        if self._resting_until > self._clock():
            return Engine("fsspec", "obstore failed where it did not")
        if self._settled is None:
            self._settled = reachable_engine(self.complete.connection)
        return self._settled

    # --- what obstore does ------------------------------------------------------------

    def scan(
        self, uri: str, *, known: Container[str] = frozenset(), is_thorough: bool = False
    ) -> Iterable[RemoteObject]:
        """Return the object at `uri`, or what its glob matches, as it is now."""
        bucket, pattern = split_uri(uri)
        is_glob = globs.is_glob(pattern)

        def completely() -> list[RemoteObject]:
            return list(self.complete.scan(uri, known=known, is_thorough=is_thorough))

        store = self._store(bucket, is_limited=True)
        if store is None or is_thorough or (is_glob and bucket in self._unlisted):
            return completely()
        key = globs.unescape(pattern)
        try:
            if is_glob:
                return self._list(store, bucket, globs.Glob(pattern), known)
            return [self._describe(store, bucket, key)]
        except DoubtError:
            return completely()
        except _failures():
            found = completely()
            self._note_unexplained(bucket)
            return found

    def read(self, obj: RemoteObject, start: int, stop: int) -> Iterator["memoryview | bytes"]:
        """Stream bytes `start` to `stop` (exclusive) of exactly `obj`, in order."""
        bucket, key = split_uri(obj.uri)
        is_small = stop - start == obj.size <= SMALL
        store = self._store(bucket, is_limited=is_small)
        if store is None or start == stop or not _is_sendable(obj, key):
            return self.complete.read(obj, start, stop)
        if is_small:
            return self._read_at_once(store, key, obj)
        return self._read_in_chunks(store, key, obj, start, stop)

    def _list(
        self, store: "S3Store", bucket: str, glob: globs.Glob, known: Container[str]
    ) -> list[RemoteObject]:
        import obstore

        def pages(folder: str, behind: str | None) -> "Iterator[RecordBatch]":
            return _each(
                lambda: obstore.list(
                    store, folder or None, offset=behind, chunk_size=PAGE, return_arrow=True
                )
            )

        def exists(key: str) -> bool:
            try:
                _call(lambda: obstore.head(store, key))
            except FileNotFoundError:
                return False
            return True

        found = list_glob(pages, exists, bucket, glob, known)
        self._note_success()
        return found

    def _describe(self, store: "S3Store", bucket: str, key: str) -> RemoteObject:
        import obstore

        if not is_plain(key):
            raise DoubtError(f"{key!r} cannot be asked for")
        meta = _call(lambda: obstore.head(store, key))
        if meta["last_modified"] == EPOCH:
            raise DoubtError(f"there is no time of {key!r}")
        self._note_success()
        return RemoteObject(
            f"s3://{bucket}/{key}",
            relpath.encode(key.rpartition("/")[2]),
            meta["size"],
            meta["last_modified"],
            unquoted(meta["e_tag"]),
            meta["version"],
        )

    def _read_at_once(
        self, store: "S3Store", key: str, obj: RemoteObject
    ) -> Iterator["memoryview | bytes"]:
        import obstore

        options = _conditions(obj)

        def fetch() -> memoryview:
            result = obstore.get(store, key, options=options)
            _check(result, obj, 0, obj.size)
            return memoryview(result.bytes())

        try:
            body = _call(fetch)
        except StorageError:
            raise
        except _failures() as exc:
            return self._read_otherwise(exc, obj, 0, obj.size)
        if len(body) != obj.size:
            raise _wrong_length(obj, len(body), obj.size)
        self._note_success()
        return iter((body,))

    def _read_in_chunks(
        self, store: "S3Store", key: str, obj: RemoteObject, start: int, stop: int
    ) -> Iterator["memoryview | bytes"]:
        import obstore

        options = _conditions(obj)
        if (start, stop) != (0, obj.size):
            options["range"] = (start, stop)
        guard = StallGuard(obj.uri, seconds=self._stall_seconds)
        at = start

        def begin() -> Iterator[bytes]:
            result = obstore.get(store, key, options=options)
            _check(result, obj, start, stop)
            return iter(result.stream(min_chunk_size=_LEAST_CHUNK))

        try:
            for chunk in _each(begin):
                guard.note(len(chunk))
                at += len(chunk)
                if at > stop:
                    break
                yield chunk
        except StorageError:
            raise
        except _failures() as exc:
            if not guard.remaining:
                raise guard.error() from exc
            yield from self._read_otherwise(exc, obj, at, stop)
            return
        if at != stop:
            raise _wrong_length(obj, at - start, stop - start)
        self._note_success()

    # --- what the complete way does ---------------------------------------------------

    def versions(self, uri: str) -> Iterable[RemoteObject | DeleteMarker]:
        """Stream the whole history of what `uri` names: keys ascending, newest first per key."""
        return self.complete.versions(uri)

    def version(self, uri: str, version_id: str) -> RemoteObject:
        """Return that version of the one object at `uri`."""
        return self.complete.version(uri, version_id)

    def upload(
        self, path: Path, uri: str, *, precondition: RemoteObject | Precondition, advance: Advance
    ) -> Uploaded:
        """Upload the file at `path` to `uri`, provided the key still is what `precondition` says."""
        return self.complete.upload(path, uri, precondition=precondition, advance=advance)

    def now(self) -> datetime:
        """Return the server's clock (aware, UTC)."""
        return self.complete.now()

    def _read_otherwise(
        self, error: Exception, obj: RemoteObject, start: int, stop: int
    ) -> Iterator["memoryview | bytes"]:
        """Read the complete way what obstore failed at; its answer or error counts."""
        from obstore.exceptions import PreconditionError

        if isinstance(error, PreconditionError):
            raise _changed(obj) from error
        return self._read_completely(obj, start, stop)

    def _read_completely(
        self, obj: RemoteObject, start: int, stop: int
    ) -> Iterator["memoryview | bytes"]:
        bucket, key = split_uri(obj.uri)
        try:
            yield from self.complete.read(obj, start, stop)
        except ObjectNotFoundError as exc:
            # It may be gone, or listed under another key: a `/` at its end is not shown.
            if self.complete.has_key(bucket, f"{key}/"):
                self._unlisted.add(bucket)
                raise MisreadKeyError(f"{obj.uri} is {obj.uri}/ in truth") from exc
            raise
        self._note_unexplained(bucket)

    # --- which way --------------------------------------------------------------------

    def _store(self, bucket: str, *, is_limited: bool) -> "S3Store | None":
        """Return obstore's store of `bucket`, or None where the complete way is to be taken."""
        if self.engine is not OBSTORE:
            return None
        return self._stores.get(bucket, is_limited=is_limited)

    def _note_success(self) -> None:
        if self._unexplained:
            self._unexplained -= 1

    def _note_unexplained(self, bucket: str) -> None:
        """Count that obstore failed where the complete way did not; too often, and it rests."""
        self._stores.correct(bucket)
        self._unexplained += 1
        if self._unexplained >= _MOST_UNEXPLAINED:
            self._unexplained = 0
            self._resting_until = self._clock() + _REST


def _failures() -> tuple[type[Exception], ...]:
    """Return what obstore raises: its own classes, and some of Python's."""
    from obstore.exceptions import BaseError

    return BaseError, ValueError, OSError


def _is_sendable(obj: RemoteObject, key: str) -> bool:
    """Tell whether obstore can ask for exactly `obj`; a header with a line's end makes it panic."""
    identity = f"{obj.etag}{obj.version_id}"
    return is_plain(key) and identity.isascii() and identity.isprintable()


def _conditions(obj: RemoteObject) -> "GetOptions":
    options: GetOptions = {}
    if obj.etag is not None:
        options["if_match"] = quoted(obj.etag)
    if obj.version_id is not None:
        options["version"] = obj.version_id
    return options


def _check(result: "GetResult", obj: RemoteObject, start: int, stop: int) -> None:
    """Check that the answer is of `obj`: not every server honours the conditions sent."""
    meta = result.meta
    if _is_other(meta, obj):
        raise _changed(obj)
    if result.range != (start, stop):
        raise IntegrityError(f"the server did not answer bytes {start} to {stop} of {obj.uri}")


def _is_other(meta: "ObjectMeta", obj: RemoteObject) -> bool:
    if meta["size"] != obj.size:
        return True
    if obj.etag is not None and unquoted(meta["e_tag"]) != obj.etag:
        return True
    if obj.version_id is not None:
        return meta["version"] not in (None, obj.version_id)
    if obj.etag is not None:
        return False
    return meta["last_modified"] not in (EPOCH, obj.modified.replace(microsecond=0))


def _changed(obj: RemoteObject) -> ObjectChangedError:
    return ObjectChangedError(f"{obj.uri} changed since it was resolved")


def _wrong_length(obj: RemoteObject, found: int, wanted: int) -> IntegrityError:
    if found < wanted:
        return IntegrityError(f"{obj.uri} ended {wanted - found} bytes early")
    return IntegrityError(f"{obj.uri} is longer than the {obj.size} bytes announced")


def _each(begin: Callable[[], Iterable[_T]]) -> Iterator[_T]:
    """Give each item of what `begin` starts, waiting for each so that Ctrl-C is heard."""
    items = _call(lambda: iter(begin()))
    nothing = object()
    while (item := _call(lambda: next(items, nothing))) is not nothing:
        yield item  # type: ignore[misc] # mypy does not narrow by identity


def _call(action: Callable[[], _T]) -> _T:
    """Return what `action` returns; in the main thread, have another thread do it."""
    if threading.current_thread() is not threading.main_thread():
        return action()
    done: list[Any] = []
    finished = threading.Event()

    def run() -> None:
        try:
            done.append((True, action()))
        except BaseException as exc:  # noqa: BLE001 - raised where it is waited for
            done.append((False, exc))
        finished.set()

    threading.Thread(target=run, daemon=True).start()
    finished.wait()
    is_well, value = done[0]
    if is_well:
        return value  # type: ignore[no-any-return] # what `action` returned
    raise value
