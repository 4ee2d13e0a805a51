"""Any fsspec file system as a storage: what has no faster way of its own.

Knows no conditional requests, so identity is compared before and after each transfer.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from datacachalog import globs, relpath
from datacachalog.errors import (
    AccessDeniedError,
    DatacachalogError,
    ObjectChangedError,
    ObjectNotFoundError,
    StorageError,
    VersioningNotSupportedError,
)
from datacachalog.model import DeleteMarker, RemoteObject
from datacachalog.storage import expectation
from datacachalog.storage.protocol import Advance, Expect, Uploaded

CHUNK = 4 << 20
_ETAGS = ("ETag", "etag", "md5Hash")
_TIMES = ("LastModified", "last_modified", "updated", "mtime")


class FsspecStorage:
    """The file system that fsspec knows as `protocol`."""

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol

    @property
    def _fs(self) -> Any:
        import fsspec

        return fsspec.filesystem(self._protocol, use_listings_cache=False)

    @property
    def endpoint(self) -> str:
        """Name the server."""
        return self._protocol

    def scan(self, uri: str) -> Iterator[RemoteObject]:
        """Return the object at `uri`, or what its glob matches, as it is now."""
        pattern = self._path(uri)
        if not globs.is_glob(pattern):
            path = globs.unescape(pattern)
            yield self._described(path, path.rpartition("/")[2], self._info(path))
            return
        glob = globs.Glob(pattern)
        with _translated(uri):
            found = self._fs.find(glob.fixed_prefix, detail=True)
        for name, info in found.items():
            path = name.lstrip("/")
            if glob.matches(path) and info["type"] == "file":
                with _translated(uri):
                    yield self._described(path, path[len(glob.fixed_prefix) :], info)

    def versions(self, uri: str) -> Iterator[RemoteObject | DeleteMarker]:
        """Raise: fsspec has no common way to history."""
        raise VersioningNotSupportedError(f"{uri}: `{self._protocol}://` keeps no history")

    def version(self, uri: str, version_id: str) -> RemoteObject:  # noqa: ARG002 - the protocol's
        """Raise: fsspec has no common way to history."""
        raise VersioningNotSupportedError(f"{uri}: `{self._protocol}://` keeps no history")

    def read(self, obj: RemoteObject, start: int, stop: int) -> Iterator["memoryview | bytes"]:
        """Stream bytes `start` to `stop` (exclusive) of exactly `obj`, in order."""
        path = self._path(obj.uri)
        self._check_identity(obj, path)
        fs = self._fs
        at = start
        while at < stop:
            with _translated(obj.uri):
                piece = fs.cat_file(path, start=at, end=min(stop, at + CHUNK))
            if not piece:
                raise ObjectChangedError(f"{obj.uri} became shorter while it was read")
            at += len(piece)
            if at >= stop:
                self._check_identity(obj, path)
            yield piece

    def request(self, obj: RemoteObject, start: int, stop: int) -> None:
        """Return None: only `read` gives bytes."""

    def upload(
        self, path: Path, uri: str, *, expect: RemoteObject | Expect, advance: Advance
    ) -> Uploaded:
        """Write the file at `path` to `uri`, if just before `uri` is what `expect` says."""
        target = globs.unescape(self._path(uri))
        found = self._find(target)
        if not expectation.is_met(expect, found):
            raise expectation.conflict(uri, expect, found)
        with _translated(uri), open(path, "rb") as source, self._fs.open(target, "wb") as out:
            while block := source.read(CHUNK):
                out.write(block)
                advance(len(block))
        after = self._described(target, target.rpartition("/")[2], self._info(target))
        if expect is Expect.ANYTHING:
            return Uploaded(after)
        return Uploaded(
            after,
            f"`{self._protocol}://` has no conditional writes: a write to {uri} between the "
            "check and the upload would have been overwritten unnoticed",
        )

    def now(self) -> datetime:
        """Return this machine's clock: fsspec asks no server for its own."""
        return datetime.now(UTC)

    def _path(self, uri: str) -> str:
        return uri.removeprefix(f"{self._protocol}://").lstrip("/")

    def _info(self, path: str) -> Mapping[str, Any]:
        uri = f"{self._protocol}://{path}"
        with _translated(uri):
            info: Mapping[str, Any] = self._fs.info(path)
        if info["type"] != "file":
            raise ObjectNotFoundError(
                f"{uri} is a folder, not an object", hint=f"write `{globs.escape(uri)}/**`"
            )
        return info

    def _find(self, path: str) -> RemoteObject | None:
        try:
            return self._described(path, path.rpartition("/")[2], self._info(path))
        except ObjectNotFoundError:
            return None

    def _described(self, path: str, below: str, info: Mapping[str, Any]) -> RemoteObject:
        etag = next((str(info[name]).strip('"') for name in _ETAGS if info.get(name)), None)
        return RemoteObject(
            f"{self._protocol}://{path}",
            relpath.encode(below),
            int(info["size"]),
            self._modified(path, info),
            etag,
        )

    def _modified(self, path: str, info: Mapping[str, Any]) -> datetime:
        value = next((info[name] for name in _TIMES if info.get(name)), None)
        if value is None:
            value = self._fs.modified(path)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if not isinstance(value, datetime):
            return datetime.fromtimestamp(value, UTC)
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)

    def _check_identity(self, obj: RemoteObject, path: str) -> None:
        now = self._described(path, path.rpartition("/")[2], self._info(path))
        if not now.is_same_as(obj):
            raise ObjectChangedError(f"{obj.uri} changed since it was resolved")


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    try:
        yield
    except DatacachalogError:
        raise
    except FileNotFoundError as exc:
        raise ObjectNotFoundError(f"there is no object at {uri}") from exc
    except PermissionError as exc:
        raise AccessDeniedError(f"{uri} is missing or not permitted") from exc
    except OSError as exc:
        raise StorageError(f"{uri}: {exc}") from exc
