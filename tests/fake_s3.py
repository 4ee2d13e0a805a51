"""An S3 of our own on a free port of loopback, which answers well, or as a test wants it to.

with FakeS3({"p/a": b"1"}) as s3:                        # these objects, in a bucket of any name
    list(s3.storage().scan("s3://lake/p/**"))
    s3.requests                                          # what was asked, in order

FakeS3(answer=Reply(503, error("SlowDown"), {"Retry-After": "1"}))            # always the same
FakeS3(objects, change=lambda request, reply: replace(reply, sent=7))         # truncated
FakeS3(objects, ignores={"range", "if-match"})                                # not quite S3
s3.failures["p/a"] = [lambda reply: replace(reply, stall="silent")]           # the next GET stalls

What Amazon's own does beyond this, moto plays (`conftest.py`).
"""

import hashlib
import re
import select
import socket
import ssl
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import parse_qs, quote, quote_plus, unquote, urlsplit
from xml.sax.saxutils import escape

from datacachalog.spec.models import StorageSettings
from datacachalog.storage.s3 import S3Storage

MODIFIED = datetime(2024, 7, 1, 12, tzinfo=UTC)
"""When all objects were written, and what the server's clock says."""
DATE = format_datetime(MODIFIED, usegmt=True)
Stall = Literal["silent", "trickling"]


@dataclass(frozen=True)
class Request:
    """What a client asked; the path is decoded, header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def is_listing(self) -> bool:
        """Tell whether it asks for a page of keys."""
        return "list-type" in self.query


@dataclass(frozen=True)
class Reply:
    """What to answer; with status 0, nothing: the connection is closed.

    `length` None sends no Content-Length; `sent` cuts the body short. Behind what is sent the
    connection is closed, or left open: silent, or with the rest of the body byte by byte.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = -1
    sent: int | None = None
    stall: Stall | None = None


Change = Callable[[Request, Reply], Reply]


def error(code: str, message: str = "said the server") -> bytes:
    """Return an S3 error document."""
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


def etag_of(body: bytes) -> str:
    """Return the ETag of an object, without quotes."""
    return hashlib.md5(body).hexdigest()


def with_headers(**headers: str) -> Change:
    """Return a change that adds headers; underscores stand for dashes."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request, reply: replace(reply, headers={**reply.headers, **given})


def page_of(
    objects: Iterable[tuple[str, bytes]],
    folders: Iterable[str] = (),
    *,
    token: str | None = None,
    is_encoded: bool = False,
) -> bytes:
    """Return one page of a listing, which goes on at `token`."""

    def spelled(key: str) -> str:
        data = key.encode("utf-8", "surrogateescape")
        return quote_plus(data, safe="/") if is_encoded else escape(key)

    parts = [f"<IsTruncated>{str(token is not None).lower()}</IsTruncated>"]
    if is_encoded:
        parts.append("<EncodingType>url</EncodingType>")
    parts += (
        f"<Contents><Key>{spelled(key)}</Key><LastModified>{MODIFIED:%Y-%m-%dT%H:%M:%S}.000Z"
        f"</LastModified><ETag>&quot;{etag_of(body)}&quot;</ETag><Size>{len(body)}</Size></Contents>"
        for key, body in objects
    )
    parts += (
        f"<CommonPrefixes><Prefix>{spelled(folder)}</Prefix></CommonPrefixes>" for folder in folders
    )
    if token is not None:
        parts.append(f"<NextContinuationToken>{token}</NextContinuationToken>")
    text = f"<ListBucketResult>{''.join(parts)}</ListBucketResult>"
    return text.encode("utf-8", "surrogateescape")


class FakeS3:
    """The server: it runs within `with`, and notes what it is asked.

    `answer` stands in place of S3's own answers (`respond`), `change` comes behind them. What
    is in `failures` for a key changes the next answers to a GET of it, each once. `ignores`
    are names of headers and of query parameters. One that takes no bodies reads heads alone.
    """

    def __init__(
        self,
        objects: dict[str, bytes] | None = None,
        *,
        answer: Reply | Callable[[Request], Reply] | None = None,
        change: Change = lambda request, reply: reply,
        page_size: int = 1000,
        ignores: Collection[str] = (),
        tls: ssl.SSLContext | None = None,
        takes_bodies: bool = True,
    ) -> None:
        self.objects = {} if objects is None else objects
        self.answer = (lambda _: answer) if isinstance(answer, Reply) else answer or self.respond
        self.change = change
        self.page_size = page_size
        self.ignores = ignores
        self.takes_bodies = takes_bodies
        self.failures: dict[str, list[Callable[[Reply], Reply]]] = {}
        self.parts: dict[int, bytes] = {}
        self.requests: list[Request] = []
        self.connections = 0
        self.tls = tls
        self.url = ""

    def __enter__(self) -> Self:
        """Begin to answer."""
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        scheme = "http" if self.tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def storage(
        self, *, page_size: int | None = None, stall_seconds: float = 60, **settings: Any
    ) -> S3Storage:
        """Return a storage on this server."""
        given = {"endpoint_url": self.url, "key": "test", "secret": "test", **settings}
        return S3Storage(StorageSettings(**given), page_size=page_size, stall_seconds=stall_seconds)

    def reply(self, request: Request) -> Reply:
        """Note a request and return what to answer."""
        self.requests.append(request)
        reply = self.change(request, self.answer(request))
        failures = self.failures.get(_key_of(request))
        is_read = request.method == "GET" and not request.is_listing
        return failures.pop(0)(reply) if failures and is_read else reply

    def respond(self, request: Request) -> Reply:
        """Answer as S3 does."""
        headers = {k: v for k, v in request.headers.items() if k not in self.ignores}
        query = {k: v for k, v in request.query.items() if k not in self.ignores}
        key = _key_of(request)
        if not key:
            return Reply(200, self._page(query))
        if request.method in ("PUT", "POST"):
            return self._write(key, headers, query, request.body)
        return self._read(key, headers) if request.method in ("GET", "HEAD") else Reply(204)

    def _page(self, query: Mapping[str, str]) -> bytes:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        after = unquote(query.get("continuation-token", "")) or query.get("start-after", "")
        is_folder: dict[str, bool] = {}
        for key in sorted(self.objects, key=_in_bytes):
            if key.startswith(prefix) and _in_bytes(key) > _in_bytes(after):
                end = key.find(delimiter, len(prefix)) if delimiter else -1
                is_folder[key if end < 0 else key[: end + 1]] = end >= 0
        rest = [name for name in is_folder if name != after]
        page = rest[: min(self.page_size, int(query.get("max-keys", 1000)))]
        return page_of(
            [(name, self.objects[name]) for name in page if not is_folder[name]],
            [name for name in page if is_folder[name]],
            token=quote(_in_bytes(page[-1])) if len(page) < len(rest) else None,
            is_encoded=query.get("encoding-type") == "url",
        )

    def _read(self, key: str, headers: Mapping[str, str]) -> Reply:
        if key not in self.objects:
            return Reply(404, error("NoSuchKey"))
        body = self.objects[key]
        told = {"ETag": f'"{etag_of(body)}"', "Last-Modified": DATE}
        if headers.get("if-match", told["ETag"]) != told["ETag"]:
            return Reply(412, error("PreconditionFailed"))
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", ""))
        if span is None:
            return Reply(200, body, told)
        start, stop = int(span[1]), min(int(span[2]) + 1, len(body))
        told["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
        return Reply(206, body[start:stop], told)

    def _write(
        self, key: str, headers: Mapping[str, str], query: Mapping[str, str], body: bytes
    ) -> Reply:
        if "uploads" in query:
            return Reply(200, b"<R><UploadId>up &amp; id</UploadId></R>")
        etag = f'"{etag_of(body)}"'
        if "partNumber" in query:
            self.parts[int(query["partNumber"])] = body
            return Reply(200, headers={"ETag": etag})
        there = self.objects.get(key)
        if there is not None and "if-none-match" in headers:
            return Reply(412, error("PreconditionFailed"))
        if "if-match" in headers and (
            there is None or headers["if-match"] != f'"{etag_of(there)}"'
        ):
            return Reply(412, error("PreconditionFailed"))
        if "uploadId" in query:
            body = b"".join(self.parts[number] for number in sorted(self.parts))
        self.objects[key] = body
        return Reply(200, headers={"ETag": f'"{etag_of(body)}"'})


def _key_of(request: Request) -> str:
    return request.path.removeprefix("/").partition("/")[2]


def _in_bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, fake: FakeS3) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fake = fake
        if fake.tls is not None:
            self.socket = fake.tls.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if self.fake.tls is None:  # else handshakes are refused
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are written apart
    server: _Server

    def setup(self) -> None:
        self.server.fake.connections += 1
        super().setup()
        if not self.server.fake.takes_bodies:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        length = int(headers.get("content-length", 0)) if self.server.fake.takes_bodies else 0
        body = self.rfile.read(length)
        path = unquote(parts.path, errors="surrogateescape")
        self.send(self.server.fake.reply(Request(self.command, path, query, headers, body)))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

    def send(self, reply: Reply) -> None:
        length = len(reply.body) if reply.length == -1 else reply.length
        if reply.status:
            self.send_response_only(reply.status)
            for name, value in {"Date": DATE, **reply.headers}.items():
                self.send_header(name, value)
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body[: reply.sent])
        if reply.stall and self.command != "HEAD":
            self.stall(reply)
        if not reply.status or length is None or reply.sent is not None:
            self.close_connection = True

    def stall(self, reply: Reply) -> None:
        """Leave the connection open until the client hangs up."""
        rest = iter(reply.body[reply.sent :])
        pause = None if reply.stall == "silent" else 0.1
        while not select.select([self.connection], [], [], pause)[0]:
            self.wfile.write(bytes([next(rest)]))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""
