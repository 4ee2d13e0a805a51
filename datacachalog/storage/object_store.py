"""The fast way to S3: obstore lists, describes and fetches; all else goes the complete way.

Wraps the complete way and gives the same answers, or the complete way's errors: what
obstore cannot express, prove or explain is asked there once more. Never calls obstore in
the main thread, which would be deaf to Ctrl-C, nor in a forked child, where it would hang.
"""

import os
import sys
import time
from collections.abc import Callable, Container, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from datacachalog import globs, relpath
from datacachalog.errors import (
    IntegrityError,
    ObjectChangedError,
    ObjectNotFoundError,
    StorageError,
)
from datacachalog.model import EPOCH, DeleteMarker, RemoteObject
from datacachalog.storage.base import (
    STALL_SECONDS,
    Advance,
    MisreadKeyError,
    Precondition,
    StallGuard,
    Uploaded,
)
from datacachalog.storage.identity import check_answer, quoted, unquoted
from datacachalog.storage.object_store_listing import (
    DoubtError,
    call,
    call_each,
    is_plain,
    list_glob,
)
from datacachalog.storage.object_store_settings import (
    OBSTORE,
    CompleteStorage,
    Engine,
    Stores,
    reachable_engine,
)
from datacachalog.storage.s3.storage import split_uri

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from obstore import GetOptions, GetResult
    from obstore.store import S3Store

SMALL = 64 << 10
"""Bytes of a body that is fetched by one call."""

_LEAST_CHUNK = 1  # hyper fills half a MiB by itself where bytes come fast
_MOST_UNEXPLAINED = 20
_PAUSE_SECONDS = 300.0

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
        stall_seconds: float = STALL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.complete = complete
        self._stall_seconds = stall_seconds
        self._clock = clock
        self._stores = Stores(complete, stall_seconds, now)
        self._reachable: Engine | None = None
        self._misread: set[str] = set()  # buckets whose listings showed what is not there
        self._unexplained = 0
        self._paused_until = 0.0

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
        if self._paused_until > self._clock():
            return Engine("fsspec", "obstore failed where it did not")
        if self._reachable is None:
            self._reachable = reachable_engine(self.complete.connection)
        return self._reachable

    # --- what is there ----------------------------------------------------------------

    def scan(
        self, uri: str, *, known: Container[str] = frozenset(), is_thorough: bool = False
    ) -> Iterable[RemoteObject]:
        """Return the object at `uri`, or what its glob matches, as it is now."""
        bucket, pattern = split_uri(uri)
        is_glob = globs.is_glob(pattern)
        store = self._store(bucket, is_limited=True)
        is_doubtful = is_thorough or (is_glob and bucket in self._misread)
        is_unexplained = False
        if store is not None and not is_doubtful:
            try:
                if is_glob:
                    found = list_glob(store, bucket, globs.Glob(pattern), known)
                else:
                    found = [_describe(store, bucket, globs.unescape(pattern))]
            except DoubtError:
                pass
            except _failures():
                is_unexplained = True
            else:
                self._note_success()
                return found
        found = list(self.complete.scan(uri, known=known, is_thorough=is_thorough))
        if is_unexplained:
            self._note_unexplained(bucket)
        return found

    def versions(self, uri: str) -> Iterable[RemoteObject | DeleteMarker]:
        """Stream the whole history of what `uri` names, the complete way."""
        return self.complete.versions(uri)

    def version(self, uri: str, version_id: str) -> RemoteObject:
        """Return that version of the one object at `uri`, the complete way."""
        return self.complete.version(uri, version_id)

    def now(self) -> datetime:
        """Return the server's clock (aware, UTC)."""
        return self.complete.now()

    # --- bytes ------------------------------------------------------------------------

    def upload(
        self, path: Path, uri: str, *, precondition: RemoteObject | Precondition, advance: Advance
    ) -> Uploaded:
        """Upload the file at `path` to `uri`, the complete way."""
        return self.complete.upload(path, uri, precondition=precondition, advance=advance)

    def read(self, obj: RemoteObject, start: int, stop: int) -> Iterator["memoryview | bytes"]:
        """Stream bytes `start` to `stop` (exclusive) of exactly `obj`, in order."""
        bucket, key = split_uri(obj.uri)
        is_small = stop - start == obj.size <= SMALL
        store = self._store(bucket, is_limited=is_small)
        if store is None or start == stop or not _is_sendable(obj, key):
            yield from self.complete.read(obj, start, stop)
            return

        def begin() -> "Iterable[memoryview | bytes]":
            return _begin(store, key, obj, start, stop, is_small=is_small)

        guard = StallGuard(obj.uri, seconds=self._stall_seconds)
        at = start
        try:
            for chunk in call(begin) if is_small else call_each(begin):
                guard.note(len(chunk))
                at += len(chunk)
                if at > stop:
                    raise IntegrityError(f"{obj.uri} is longer than the {obj.size} bytes announced")
                yield chunk
        except StorageError:
            raise
        except _failures() as exc:
            from obstore.exceptions import PreconditionError

            if isinstance(exc, PreconditionError):
                raise ObjectChangedError(f"{obj.uri} changed since it was resolved") from exc
            if not is_small and not guard.remaining:
                raise guard.error() from exc
            yield from self._read_completely(obj, at, stop)
            return
        if at < stop:
            raise IntegrityError(f"{obj.uri} ended {stop - at} bytes early")
        self._note_success()

    def _read_completely(
        self, obj: RemoteObject, start: int, stop: int
    ) -> Iterator["memoryview | bytes"]:
        """Read the complete way what obstore failed at; its answer or error counts."""
        bucket, key = split_uri(obj.uri)
        try:
            yield from self.complete.read(obj, start, stop)
        except ObjectNotFoundError as exc:
            # It may be gone, or listed under another key: a `/` at its end is not shown.
            if self.complete.has_key(bucket, f"{key}/"):
                self._misread.add(bucket)
                raise MisreadKeyError(f"{obj.uri} is {obj.uri}/ in truth") from exc
            raise
        self._note_unexplained(bucket)

    # --- which way --------------------------------------------------------------------

    def _store(self, bucket: str, *, is_limited: bool) -> "S3Store | None":
        """Return obstore's store of `bucket`, or None where the complete way is to be taken."""
        return self._stores.get(bucket, is_limited=is_limited) if self.engine is OBSTORE else None

    def _note_success(self) -> None:
        if self._unexplained:
            self._unexplained -= 1

    def _note_unexplained(self, bucket: str) -> None:
        """Count that obstore failed where the complete way did not; too often, and it pauses."""
        self._stores.correct(bucket)
        self._unexplained += 1
        if self._unexplained >= _MOST_UNEXPLAINED:
            self._unexplained = 0
            self._paused_until = self._clock() + _PAUSE_SECONDS


# --- calls of obstore -------------------------------------------------------------------


def _failures() -> tuple[type[Exception], ...]:
    """Return what obstore raises: its own classes, and some of Python's."""
    from obstore.exceptions import BaseError

    return BaseError, ValueError, OSError


def _describe(store: "S3Store", bucket: str, key: str) -> RemoteObject:
    import obstore

    if not is_plain(key):
        raise DoubtError(f"{key!r} cannot be asked for")
    meta = call(lambda: obstore.head(store, key))
    if meta["last_modified"] == EPOCH:
        raise DoubtError(f"there is no time of {key!r}")
    return RemoteObject(
        f"s3://{bucket}/{key}",
        relpath.encode(key.rpartition("/")[2]),
        meta["size"],
        meta["last_modified"],
        unquoted(meta["e_tag"]),
        meta["version"],
    )


def _is_sendable(obj: RemoteObject, key: str) -> bool:
    """Tell whether obstore can ask for exactly `obj`; a header with a line's end makes it panic."""
    identity = f"{obj.etag}{obj.version_id}"
    return is_plain(key) and identity.isascii() and identity.isprintable()


def _begin(
    store: "S3Store", key: str, obj: RemoteObject, start: int, stop: int, *, is_small: bool
) -> "Iterable[memoryview | bytes]":
    """Return the body of a GET that is bound to `obj`; a small one in one piece."""
    import obstore

    options: GetOptions = {}
    if obj.etag is not None:
        options["if_match"] = quoted(obj.etag)
    if obj.version_id is not None:
        options["version"] = obj.version_id
    if (start, stop) != (0, obj.size):
        options["range"] = (start, stop)
    result: GetResult = obstore.get(store, key, options=options)
    meta = result.meta
    check_answer(
        obj,
        start,
        stop,
        span=result.range,
        size=meta["size"],
        etag=meta["e_tag"],
        version_id=meta["version"],
        modified=None if meta["last_modified"] == EPOCH else meta["last_modified"],
    )
    if is_small:
        return (memoryview(result.bytes()),)
    return result.stream(min_chunk_size=_LEAST_CHUNK)
