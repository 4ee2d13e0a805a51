"""A small HTTP server that answers as it is told: for what moto does not do wrong.

with scripted(lambda request: Reply(503, b"<Error><Code>SlowDown</Code></Error>")) as server:
    storage = server.storage()
"""

import select
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from datacachalog.spec.models import StorageSettings
from datacachalog.storage.s3 import S3Storage

DATE = "Mon, 01 Jul 2024 12:00:00 GMT"


@dataclass(frozen=True)
class Request:
    """What a client asked; the path is decoded, header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


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
    stall: Literal["silent", "trickling"] | None = None


@dataclass
class Server:
    """The running server and what it was asked."""

    url: str
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    def storage(
        self, *, page_size: int | None = None, stall_seconds: float = 60, **settings: Any
    ) -> S3Storage:
        """Return a storage on this server."""
        given = {"endpoint_url": self.url, "key": "test", "secret": "test", **settings}
        return S3Storage(StorageSettings(**given), page_size=page_size, stall_seconds=stall_seconds)


@contextmanager
def scripted(
    answer: Callable[[Request], Reply], *, tls: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """Run a server on a free port of loopback that answers with `answer`."""
    server = Server("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are written apart

        def setup(self) -> None:
            server.connections += 1
            super().setup()

        def handle_any(self) -> None:
            parts = urlsplit(self.path)
            query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            request = Request(self.command, unquote(parts.path), query, headers, body)
            server.requests.append(request)
            self.reply(answer(request))

        def reply(self, reply: Reply) -> None:
            if not reply.status:
                self.close_connection = True
                return
            self.send_response_only(reply.status)
            length = len(reply.body) if reply.length == -1 else reply.length
            headers = {"Date": DATE, **reply.headers}
            if length is not None:
                headers["Content-Length"] = str(length)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body[: reply.sent])
                self.stall(reply)
            if length is None or reply.sent is not None:
                self.close_connection = True

        def stall(self, reply: Reply) -> None:
            """Leave the connection open until the client hangs up."""
            rest = iter(reply.body[reply.sent :])
            pause = None if reply.stall == "silent" else 0.1
            while reply.stall and not select.select([self.connection], [], [], pause)[0]:
                self.wfile.write(bytes([next(rest)]))

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    class Http(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    http = Http(("127.0.0.1", 0), Handler)
    if tls is not None:
        http.socket = tls.wrap_socket(http.socket, server_side=True)
        http.handle_error = lambda *_: None  # type: ignore[method-assign] # refused handshakes
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{http.server_port}"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def error(code: str, message: str = "said the server") -> bytes:
    """Return an S3 error document."""
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


@dataclass
class OneObject:
    """An S3 with one object, each part of whose answer can be bent."""

    body: bytes = bytes(range(256)) * 40
    etag: str = '"abc"'
    ignores_range: bool = False
    ignores_if_match: bool = False
    has_length: bool = True
    sent: int | None = None
    extra: dict[str, str] = field(default_factory=dict)

    def __call__(self, request: Request) -> Reply:
        """Answer HEAD and GET."""
        headers = {"ETag": self.etag, "Last-Modified": DATE, **self.extra}
        wanted = request.headers.get("if-match")
        if wanted and wanted != self.etag and not self.ignores_if_match:
            return Reply(412, error("PreconditionFailed"))
        body, status = self.body, 200
        span = request.headers.get("range")
        if span and not self.ignores_range:
            first, _, last = span.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1, len(body))
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
            body, status = body[start:stop], 206
        length = len(body) if self.has_length else None
        return Reply(status, body, headers, length=length, sent=self.sent)
