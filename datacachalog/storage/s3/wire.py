"""Signed HTTP requests to one S3, and their answers as they are.

Used for HEAD, listings, uploads, reads, and to sign what lanes send. Needs only the standard
library, so it starts fast, survives a fork, and sends each key exactly as it is spelled. What
a status means is for `faults` to say.
"""

import io
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from datacachalog.errors import StorageError
from datacachalog.storage.s3 import faults
from datacachalog.storage.s3.connection import DEFAULT_REGION, Connection
from datacachalog.storage.s3.signing import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    quote_path,
    quote_query,
    sign,
)
from datacachalog.storage.s3.sockets import Line, Pool, TcpSite, proxy_for, proxy_headers

if TYPE_CHECKING:
    from http.client import HTTPResponse

_REGION = re.compile(rb"<Region>([a-z0-9-]+)</Region>")
_REDIRECTS = (301, 307, 400)

Body = bytes | memoryview | Iterable[bytes]


def unquoted(etag: str | None) -> str | None:
    """Return an ETag as the model keeps it: without quotes, None for none."""
    return (etag.strip('"') or None) if etag else None


def quoted(etag: str) -> str:
    """Return an ETag as a condition takes it."""
    return f'"{etag}"'


@dataclass(frozen=True, slots=True)
class Answer:
    """A response's status and headers (names in lower case), and its whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def fault(self, uri: str, *, version_id: str | None = None, needs: str = "") -> StorageError:
        """Return the error that this answer stands for."""
        return faults.fault(self.status, self.body, uri, version_id=version_id, needs=needs)


@dataclass(frozen=True, slots=True)
class Stream:
    """A response whose body is still to be read."""

    status: int
    headers: Mapping[str, str]
    source: "HTTPResponse | io.BytesIO"

    def read(self, count: int) -> bytes:
        """Return up to `count` bytes; fewer only at the body's end."""
        return self.source.read(count)

    def drain(self) -> Answer:
        """Read the body to its end: for what is short, or an error."""
        return Answer(self.status, self.headers, self.source.read())


class _Route(NamedTuple):
    """Where a bucket's requests go: the prefix is what every path begins with, encoded."""

    origin: str
    host: str
    prefix: str
    region: str


class _Request(NamedTuple):
    """One request, but for the region that it is signed for."""

    method: str
    bucket: str
    key: str
    query: str
    headers: Mapping[str, str]
    body: Body
    length: int


class Wire:
    """Sends signed requests over pooled connections.

    Thread-safe, and for one process: a forked child needs its own.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._regions: dict[str, str] = {}
        self._routes: dict[tuple[str, str], _Route] = {}
        self._sites: dict[str, TcpSite | None] = {}
        self._pool = Pool(ca_bundle=connection.ca_bundle, is_verified=connection.is_verified)
        self._date: tuple[str, float] | None = None

    def ask(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        length: int | None = None,
    ) -> Answer:
        """Return the answer to one request, read to its end."""
        with self.open(
            method, bucket, key, query=query, headers=headers, body=body, length=length
        ) as stream:
            return stream.drain()

    @contextmanager
    def open(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        length: int | None = None,
    ) -> Iterator[Stream]:
        """Send one request and give the response, its body still to be read.

        A body that is iterated needs its `length`. Asked at the wrong region, it asks again
        at the right one. Raises `SourceUnreachableError` where there is no answer.
        """
        size = length if length is not None else len(body)  # type: ignore[arg-type]
        text = quote_query((query or {}).items())
        request = _Request(method, bucket, key, text, headers or {}, body, size)
        with faults.network(f"s3://{bucket}/{key}"):
            region = self.region(bucket)
            line, stream = self._send(request, region)
            other = _named_region(stream)
            if other and other != region and isinstance(body, bytes | memoryview):
                self._regions[bucket] = other
                self._give_back(line, stream)
                line, stream = self._send(request, other)
            if bucket and stream.status < 300:
                self._regions.setdefault(bucket, region)
            try:
                yield stream
            except BaseException:
                line.http.close()
                raise
            self._give_back(line, stream)

    def region(self, bucket: str) -> str:
        """Return the region to sign for: the known or configured one, else the bucket's own."""
        known = self._regions.get(bucket) or self.connection.region
        return known or (self.proven_region(bucket) if bucket else DEFAULT_REGION)

    def proven_region(self, bucket: str) -> str:
        """Return the region that has worked for `bucket`, else ask Amazon for it.

        For a client that cannot follow when the configured region is wrong.
        """
        known = self._regions.get(bucket)
        if known or not self.connection.is_amazon:
            return known or self.connection.region or DEFAULT_REGION
        # Told for every bucket at every region, whatever one may do with it.
        configured = self.connection.region or DEFAULT_REGION
        request = _Request("HEAD", bucket, "", "", {}, b"", 0)
        with faults.network(f"s3://{bucket}"):
            line, stream = self._send(request, configured, is_signed=False)
            self._give_back(line, stream)
        region = stream.headers.get("x-amz-bucket-region", configured)
        return self._regions.setdefault(bucket, region)

    def now(self) -> datetime:
        """Return the server's clock (aware, UTC), asking only if it never answered before."""
        if self._date is None:
            self.ask("GET", "")
        if self._date is None:
            raise StorageError(
                f"the server at {self.connection.name} does not say what time it is",
                hint="give an absolute time in place of a duration",
            )
        from email.utils import parsedate_to_datetime  # slow to load

        date, seen = self._date
        return parsedate_to_datetime(date) + timedelta(seconds=time.monotonic() - seen)

    def order(
        self, bucket: str, key: str, *, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[TcpSite, bytes] | None:
        """Return where a lane sends a GET, and its head, signed now; None if through a proxy."""
        region = self.proven_region(bucket)
        route = self._route(bucket, region)
        if route.origin not in self._sites:
            self._sites.setdefault(route.origin, self._pool.site(route.origin))
        site = self._sites[route.origin]
        if site is None:
            return None
        text = quote_query(query.items()) if query else ""
        request = _Request("GET", bucket, key, text, headers, b"", 0)
        target, signed = self._signed(request, route, is_signed=True)
        lines = "".join([f"{name}: {value}\r\n" for name, value in signed.items()])
        return site, f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")

    def _route(self, bucket: str, region: str) -> _Route:
        found = self._routes.get((bucket, region))
        if found is None:
            url = urlsplit(self.connection.url(bucket, region))
            prefix = quote_path(f"{url.path}/")
            found = _Route(f"{url.scheme}://{url.netloc}", url.netloc, prefix, region)
            self._routes[bucket, region] = found
        return found

    # --- one exchange -------------------------------------------------------------------

    def _signed(
        self, request: _Request, route: _Route, *, is_signed: bool
    ) -> tuple[str, dict[str, str]]:
        """Return a request's target and headers."""
        path = route.prefix + quote_path(request.key)
        headers = {"host": route.host, **request.headers}
        if self.connection.is_requester_pays:
            headers["x-amz-request-payer"] = "requester"
        if is_signed and self.connection.credentials is not None:
            headers = sign(
                request.method,
                path,
                request.query,
                headers,
                payload=UNSIGNED_PAYLOAD if request.length else EMPTY_SHA256,
                credentials=self.connection.credentials(),
                region=route.region,
                stamp=_stamp(int(time.time())),
            )
        if request.method in ("PUT", "POST"):
            headers["content-length"] = str(request.length)
        target = f"{path}?{request.query}" if request.query else path
        return target, headers

    def _send(
        self, request: _Request, region: str, *, is_signed: bool = True
    ) -> tuple[Line, Stream]:
        route = self._route(request.bucket, region)
        target, headers = self._signed(request, route, is_signed=is_signed)
        line = self._pool.take(route.origin)
        try:
            response = _exchange(line, request, target, headers)
        except ConnectionError:
            line.http.close()
            # The server may close an idle connection at the very moment we use it.
            if not line.is_used or request.method not in ("GET", "HEAD"):
                raise
            line = self._pool.open(line.origin)
            response = _exchange(line, request, target, headers)
        return line, self._described(response)

    def _described(self, response: "HTTPResponse") -> Stream:
        headers = {name.lower(): value for name, value in response.getheaders()}
        if "date" in headers:
            self._date = (headers["date"], time.monotonic())
        # What is no success is short, and read at once: it may name the bucket's region.
        source = response if response.status < 300 else io.BytesIO(response.read())
        return Stream(response.status, headers, source)

    def _give_back(self, line: Line, stream: Stream) -> None:
        if isinstance(stream.source, io.BytesIO) or stream.source.isclosed():
            self._pool.give_back(line)
        else:
            line.http.close()


@lru_cache(maxsize=2)
def _stamp(seconds: int) -> str:
    """Return a time as requests carry it; many are signed in one second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")


def _exchange(
    line: Line, request: _Request, target: str, headers: Mapping[str, str]
) -> "HTTPResponse":
    """Send one request and return the response's head; close the line on any failure."""
    http = line.http
    try:
        if line.wants_whole_url:
            target = line.origin + target
            headers = {**headers, **proxy_headers(proxy_for("http", headers["host"]) or "")}
        http.putrequest(request.method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            http.putheader(name, value)
        try:
            http.endheaders(request.body if request.length else None)
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses may answer and hang up before the body is through.
            return http.getresponse()
        return http.getresponse()
    except BaseException:
        http.close()
        raise


def _named_region(stream: Stream) -> str | None:
    """Return the region that a refusal names as the right one."""
    if stream.status not in _REDIRECTS:
        return None
    if "x-amz-bucket-region" in stream.headers:
        return stream.headers["x-amz-bucket-region"]
    assert isinstance(stream.source, io.BytesIO)
    found = _REGION.search(stream.source.getvalue())
    return found[1].decode() if found else None
