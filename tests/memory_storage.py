"""A storage in memory that keeps history and does on demand what real ones do by accident.

For tests of every floor above storage. The same contract tests run over it as over local
files and S3 (`tests/storage/test_contract.py`), so that it cannot lie.

    storage = MemoryStorage()
    storage.put("memory://lake/a.csv", b"1")
    storage.fail("read", ThrottledError("slow down"), times=2)         # the next two reads raise
    storage.fail("read", reset, after=100)                             # raise after 100 bytes
    storage.shorten("read", to=10)                                     # the next body ends early
    storage.meanwhile("read", lambda: storage.put("memory://lake/a.csv", b"2"))
    storage.calls                                                      # [Call("scan", uri, ...)]
"""

import hashlib
import threading
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from datacachalog import globs, relpath
from datacachalog.errors import (
    ObjectChangedError,
    ObjectNotFoundError,
    VersioningNotSupportedError,
)
from datacachalog.model import DeleteMarker, RemoteObject
from datacachalog.storage.base import Advance, Precondition, Uploaded, check_precondition

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_T = TypeVar("_T")
_START = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Call:
    """One call that a storage got: the verb, the URI, and the range of a read."""

    verb: str
    uri: str
    start: int | None = None
    stop: int | None = None


@dataclass(slots=True)
class _Fault:
    """What to do to the next `times` calls of `verb` whose URI holds `match`."""

    verb: str
    match: str
    times: int
    action: Callable[[], None] | None = None
    error: Exception | None = None
    after: int = 0
    to: int | None = None


class MemoryStorage:
    """Objects, their history, and faults, in memory. Thread-safe.

    `keeps_history=False` makes an unversioned bucket: old bytes are gone, `versions`
    raises. `is_suspended` makes what is written `null`, in the place of an older `null`.
    Times: each write is one second after the last, unless `at` says otherwise. `chunk` is
    the size of the buffers that `read` gives.
    """

    def __init__(
        self,
        *,
        keeps_history: bool = True,
        chunk: int = 1 << 16,
        start: datetime = _START,
    ) -> None:
        self.calls: list[Call] = []
        self.clock = start
        self.keeps_history = keeps_history
        self.is_suspended = False
        self.chunk = chunk
        self._history: dict[str, list[RemoteObject | DeleteMarker]] = {}
        self._bytes: dict[tuple[str, str | None], bytes] = {}
        self._faults: list[_Fault] = []
        self._count = 0
        self._lock = threading.RLock()

    # --- what a test arranges ---------------------------------------------------------

    def put(self, uri: str, data: bytes, *, at: datetime | None = None) -> RemoteObject:
        """Write `data` at `uri` as the newest version and return what `scan` says of it."""
        with self._lock:
            obj = RemoteObject(
                uri,
                _base_name(uri),
                len(data),
                self._tick(at),
                hashlib.md5(data).hexdigest(),
                self._new_version(),
            )
            if not self.keeps_history:
                self._history[uri] = []
            self._add(uri, obj)
            self._bytes[uri, obj.version_id] = data
            return obj

    def delete(self, uri: str, *, at: datetime | None = None) -> None:
        """Delete the object at `uri`, leaving a delete marker where history is kept."""
        with self._lock:
            if not self.keeps_history:
                self._history.pop(uri, None)
                return
            marker = DeleteMarker(uri, _base_name(uri), self._tick(at), self._new_version())
            self._add(uri, marker)

    def expire(self, uri: str, version_id: str | None) -> None:
        """Remove one version for good, as a lifecycle rule does."""
        with self._lock:
            self._history[uri] = [v for v in self._history[uri] if v.version_id != version_id]
            self._bytes.pop((uri, version_id), None)

    def fail(
        self, verb: str, error: Exception, *, times: int = 1, match: str = "", after: int = 0
    ) -> None:
        """Let the next `times` calls of `verb` raise `error`; a read, after `after` bytes."""
        self._faults.append(_Fault(verb, match, times, error=error, after=after))

    def shorten(self, verb: str, *, to: int, times: int = 1, match: str = "") -> None:
        """Let the next `times` reads end after `to` bytes, without an error."""
        self._faults.append(_Fault(verb, match, times, to=to))

    def meanwhile(
        self, verb: str, action: Callable[[], object], *, times: int = 1, match: str = ""
    ) -> None:
        """Run `action` at the start of the next `times` calls of `verb`, before it acts."""
        self._faults.append(_Fault(verb, match, times, action=lambda: (action(), None)[1]))

    def claim(self, obj: RemoteObject) -> None:
        """Let `obj` be told in place of all that is known of its key."""
        self._history[obj.uri] = [obj]

    def uris(self) -> list[str]:
        """Return every URI that has a history."""
        return list(self._history)

    def newest(self, uri: str) -> bytes | None:
        """Return the bytes that are at `uri` now."""
        with self._lock:
            history = self._history.get(uri)
            return self._bytes.get((uri, history[0].version_id)) if history else None

    def count(self, verb: str) -> int:
        """Return how many calls of `verb` were made."""
        return sum(call.verb == verb for call in self.calls)

    # --- the protocol -----------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        """Name the server."""
        return "memory"

    @property
    def filesystem(self) -> "AbstractFileSystem":
        """Return the newest bytes of every object, as they are now."""
        from fsspec.implementations.memory import MemoryFileSystem

        found: AbstractFileSystem = MemoryFileSystem(global_store=False, skip_instance_cache=True)
        with self._lock:
            for uri, history in self._history.items():
                if history and isinstance(history[0], RemoteObject):
                    found.pipe_file(uri, self._bytes[uri, history[0].version_id])
        return found

    def scan(
        self, uri: str, *, known: Container[str] = frozenset(), is_thorough: bool = False
    ) -> Iterator[RemoteObject]:
        """Return the object at `uri`, or what its glob matches, as it is now."""
        self._enter("scan", uri)
        with self._lock:
            newest = {key: history[0] for key, history in self._history.items() if history}
        found = [
            obj._replace(relpath=path, version_id=obj.version_id if is_one else None)
            for obj, path, is_one in self._select(uri, newest)
            if isinstance(obj, RemoteObject) and (is_one or not _is_folder_marker(obj))
        ]
        if not found and not globs.is_glob(uri):
            raise ObjectNotFoundError(f"no object at {uri}")
        yield from found

    def versions(self, uri: str) -> Iterator[RemoteObject | DeleteMarker]:
        """Stream the whole history of what `uri` names: keys ascending, newest first."""
        self._enter("versions", uri)
        if not self.keeps_history:
            raise VersioningNotSupportedError(f"{uri} keeps no history")
        with self._lock:
            histories = {key: list(history) for key, history in self._history.items()}
        for key, path, _ in self._select(uri, {key: key for key in histories}):
            for entry in histories[key]:
                yield entry._replace(relpath=path)

    def version(self, uri: str, version_id: str) -> RemoteObject:
        """Return that version of the one object at `uri`."""
        self._enter("version", uri)
        if not self.keeps_history:
            raise VersioningNotSupportedError(f"{uri} keeps no history")
        with self._lock:
            for entry in self._history.get(globs.unescape(uri), ()):
                if entry.version_id == version_id and isinstance(entry, RemoteObject):
                    return entry
        raise ObjectNotFoundError(f"version {version_id} of {uri} is gone")

    def read(self, obj: RemoteObject, start: int, stop: int) -> Iterator["memoryview | bytes"]:
        """Stream bytes `start` to `stop` (exclusive) of exactly `obj`, in order."""
        fault = self._enter("read", obj.uri, start, stop)
        data = self._find(obj)[start:stop]
        if fault is not None and fault.to is not None:
            data = data[: fault.to]
        given = 0
        for at in range(0, len(data), self.chunk):
            piece = data[at : at + self.chunk]
            if fault is not None and fault.error is not None and given + len(piece) > fault.after:
                yield piece[: fault.after - given]
                raise fault.error
            yield piece
            given += len(piece)
        if fault is not None and fault.error is not None:
            raise fault.error

    def upload(
        self, path: Path, uri: str, *, precondition: RemoteObject | Precondition, advance: Advance
    ) -> Uploaded:
        """Upload the file at `path`, provided the key still is what `precondition` says."""
        self._enter("upload", uri)
        data = path.read_bytes()
        uri = globs.unescape(uri)
        with self._lock:
            newest = next(iter(self._history.get(uri, ())), None)
            found = newest if isinstance(newest, RemoteObject) else None
            check_precondition(uri, precondition, found)
            obj = self.put(uri, data)
        advance(len(data))
        return Uploaded(obj)

    def now(self) -> datetime:
        """Return the server's clock: the time of the last write."""
        self._enter("now", "")
        return self.clock

    # --- behind both --------------------------------------------------------------------

    def _tick(self, at: datetime | None) -> datetime:
        self.clock = at if at is not None else self.clock + timedelta(seconds=1)
        return self.clock

    def _new_version(self) -> str | None:
        self._count += 1
        if self.is_suspended:
            return "null"
        return f"v{self._count:06d}" if self.keeps_history else None

    def _add(self, uri: str, entry: RemoteObject | DeleteMarker) -> None:
        others = [
            old
            for old in self._history.get(uri, ())
            if old.version_id != "null" or entry.version_id != "null"
        ]
        self._history[uri] = [entry, *others]

    def _enter(
        self, verb: str, uri: str, start: int | None = None, stop: int | None = None
    ) -> _Fault | None:
        with self._lock:
            self.calls.append(Call(verb, uri, start, stop))
            fault = next((f for f in self._faults if f.verb == verb and f.match in uri), None)
            if fault is None:
                return None
            fault.times -= 1
            if fault.times <= 0:
                self._faults.remove(fault)
        if fault.action is not None:
            fault.action()
        if fault.error is not None and not (verb == "read" and fault.after):
            raise fault.error
        return fault

    def _find(self, obj: RemoteObject) -> bytes:
        with self._lock:
            history = self._history.get(obj.uri, [])
            known = next((v for v in history if obj.version_id in (None, v.version_id)), None)
            if not isinstance(known, RemoteObject):
                raise ObjectNotFoundError(f"{obj.uri} is gone")
            if (known.etag, known.size) != (obj.etag, obj.size):
                raise ObjectChangedError(f"{obj.uri} changed since it was resolved")
            return self._bytes[obj.uri, known.version_id]

    def _select(self, uri: str, entries: dict[str, _T]) -> Iterator[tuple[_T, str, bool]]:
        if not globs.is_glob(uri):
            key = globs.unescape(uri)
            if key in entries:
                yield entries[key], _base_name(key), True
            return
        glob = globs.Glob(uri)
        for key in sorted(entries, key=lambda text: text.encode("utf-8", "surrogatepass")):
            if glob.matches(key):
                yield entries[key], relpath.encode(key[len(glob.fixed_prefix) :]), False


def _base_name(uri: str) -> str:
    return relpath.encode(uri.rpartition("/")[2] or uri)


def _is_folder_marker(obj: RemoteObject) -> bool:
    return obj.uri.endswith("/") and not obj.size
