"""A small S3 that answers as told, and a complete way that says what it was asked.

with scripted(ObjectServer({"p/a": b"1"})) as server:
    complete = Complete(server.url, {"p/a": b"1"})
    storage = ObjectStoreStorage(complete)
"""

import hashlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from datacachalog import globs, relpath
from datacachalog.errors import ObjectNotFoundError
from datacachalog.model import DeleteMarker, RemoteObject
from datacachalog.storage.base import Advance, Precondition, Uploaded
from datacachalog.storage.s3.connection import Connection, Credentials
from tests.storage.s3.scripted import DATE, Reply, Request, error

BUCKET = "lake"
ROOT = f"s3://{BUCKET}"
MODIFIED = datetime(2024, 7, 1, 12, tzinfo=UTC)


def etag_of(body: bytes) -> str:
    """Return the ETag that both give to `body`."""
    return hashlib.md5(body).hexdigest()


def described(key: str, body: bytes, below: int | None = None) -> RemoteObject:
    """Return the object at `key`, placed below its first `below` characters."""
    below = key.rfind("/") + 1 if below is None else below
    path = relpath.encode(key[below:])
    return RemoteObject(f"{ROOT}/{key}", path, len(body), MODIFIED, etag_of(body))


@dataclass
class ObjectServer:
    """An S3 of one bucket; `bend` may replace what it answers to a request."""

    objects: dict[str, bytes]
    page_size: int = 1000
    bend: Callable[[Request, Reply], Reply] = lambda request, reply: reply

    def __call__(self, request: Request) -> Reply:
        """Answer a listing, a HEAD or a GET."""
        bucket, _, key = request.path.removeprefix("/").partition("/")
        if bucket != BUCKET:
            return self.bend(request, Reply(404, error("NoSuchBucket")))
        reply = self._object(request, key) if key else Reply(200, self._page(request.query))
        return self.bend(request, reply)

    def _page(self, query: Mapping[str, str]) -> bytes:
        after = query.get("continuation-token") or query.get("start-after", "")
        keys = sorted(
            key for key in self.objects if key.startswith(query.get("prefix", "")) and key > after
        )
        return listing({key: self.objects[key] for key in keys}, self.page_size)

    def _object(self, request: Request, key: str) -> Reply:
        if key not in self.objects:
            return Reply(404, error("NoSuchKey"))
        body = self.objects[key]
        headers = {"ETag": f'"{etag_of(body)}"', "Last-Modified": DATE}
        if request.headers.get("if-match", headers["ETag"]) != headers["ETag"]:
            return Reply(412, error("PreconditionFailed"))
        span = request.headers.get("range")
        if span is None:
            return Reply(200, body, headers)
        first, _, last = span.removeprefix("bytes=").partition("-")
        part = body[int(first) : int(last) + 1]
        headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        return Reply(206, part, headers)


def listing(
    objects: Mapping[str, bytes], page_size: int = 1000, *, token: str | None = None
) -> bytes:
    """Return one page of a listing, which goes on at its last key (or `token`) if there is more."""
    keys = list(objects)[:page_size]
    is_truncated = len(keys) < len(objects) or token is not None
    if is_truncated and token is None:
        token = keys[-1]
    entries = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>{MODIFIED:%Y-%m-%dT%H:%M:%S}.000Z"
        f"</LastModified><ETag>&quot;{etag_of(objects[key])}&quot;</ETag>"
        f"<Size>{len(objects[key])}</Size></Contents>"
        for key in keys
    )
    following = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return (
        f"<ListBucketResult><IsTruncated>{str(is_truncated).lower()}</IsTruncated>"
        f"{entries}{following}</ListBucketResult>"
    ).encode()


def reaching(url: str | None, **fields: Any) -> Connection:
    """Return a connection to `url` with path style, signed, unless `fields` say otherwise."""
    given: dict[str, Any] = {"endpoint_url": url, "region": "us-east-1", "addressing_style": "path"}
    return Connection(**(given | fields))


@dataclass
class Complete:
    """A complete way in memory that records each call, as `scan s3://lake/a`."""

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
