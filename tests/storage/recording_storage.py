"""What `ObjectStoreStorage` falls back on, in memory: it notes what it was asked."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from datacachalog import globs, relpath
from datacachalog.errors import ObjectNotFoundError
from datacachalog.model import DeleteMarker, RemoteObject
from datacachalog.storage.base import Advance, Precondition, Uploaded
from datacachalog.storage.s3.connection import Connection, Credentials
from tests.fake_s3 import MODIFIED, etag_of

ROOT = "s3://lake"


def described(key: str, body: bytes, below: int | None = None) -> RemoteObject:
    """Return the object at `key` of a `FakeS3`, placed below its first `below` characters."""
    below = key.rfind("/") + 1 if below is None else below
    path = relpath.encode(key[below:])
    return RemoteObject(f"{ROOT}/{key}", path, len(body), MODIFIED, etag_of(body))


def reaching(url: str | None, **fields: Any) -> Connection:
    """Return a connection to `url` with path style, signed, unless `fields` say otherwise."""
    given: dict[str, Any] = {"endpoint_url": url, "region": "us-east-1", "addressing_style": "path"}
    return Connection(**(given | fields))


@dataclass
class RecordingStorage:
    """A complete storage in memory that records each call, as `scan s3://lake/a`."""

    url: str
    objects: Mapping[str, bytes] = field(default_factory=dict)
    given: Connection | None = None
    keys: Callable[[], Credentials | None] = lambda: Credentials("test", "secret")
    error: Exception | None = None
    region: str = "us-east-1"
    calls: list[str] = field(default_factory=list)

    @property
    def connection(self) -> Connection:
        """Say where requests go."""
        return reaching(self.url) if self.given is None else self.given

    @property
    def endpoint(self) -> str:
        """Name the server."""
        return self.url

    @property
    def filesystem(self) -> AbstractFileSystem:
        """Return one that has nothing to do with it."""
        return MemoryFileSystem()

    def credentials(self) -> Credentials | None:
        """Return the keys."""
        return self.keys()

    def has_key(self, bucket: str, key: str) -> bool:
        """Tell whether there is an object of exactly that key."""
        self.calls.append(f"has_key s3://{bucket}/{key}")
        return key in self.objects

    def region_of(self, bucket: str) -> str:
        """Return the one region there is."""
        return self.region

    def scan(
        self, uri: str, *, known: Container[str] = frozenset(), is_thorough: bool = False
    ) -> Iterable[RemoteObject]:
        """Return what is in memory."""
        self._note("scan", uri)
        pattern = uri.removeprefix(f"{ROOT}/")
        if not globs.is_glob(pattern):
            key = globs.unescape(pattern)
            if key not in self.objects:
                raise ObjectNotFoundError(f"there is no object at {ROOT}/{key}")
            return [described(key, self.objects[key])]
        glob = globs.Glob(pattern)
        return [
            described(key, body, len(glob.fixed_prefix))
            for key, body in sorted(self.objects.items())
            if glob.matches(key) and (body or not key.endswith("/"))
        ]

    def read(self, obj: RemoteObject, start: int, stop: int) -> Iterator["memoryview | bytes"]:
        """Give the bytes in one piece."""
        self._note("read", obj.uri)
        key = obj.uri.removeprefix(f"{ROOT}/")
        if key not in self.objects:
            raise ObjectNotFoundError(f"there is no object at {obj.uri}")
        yield self.objects[key][start:stop]

    def versions(self, uri: str) -> Iterable[RemoteObject | DeleteMarker]:
        """Give no history."""
        self._note("versions", uri)
        return []

    def version(self, uri: str, version_id: str) -> RemoteObject:
        """Return the object as it is."""
        self._note("version", uri)
        return next(iter(self.scan(uri)))

    def upload(
        self, path: Path, uri: str, *, precondition: RemoteObject | Precondition, advance: Advance
    ) -> Uploaded:
        """Keep nothing."""
        self._note("upload", uri)
        return Uploaded(described(uri.removeprefix(f"{ROOT}/"), path.read_bytes()))

    def now(self) -> datetime:
        """Return a constant."""
        self._note("now", "")
        return MODIFIED

    def _note(self, verb: str, uri: str) -> None:
        self.calls.append(f"{verb} {uri}")
        if self.error is not None:
            raise self.error
