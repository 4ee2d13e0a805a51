"""The process that takes uploads: `python -m benchmarks.servers.sink [--keep]`.

Takes PutObject and multipart uploads in any bucket, under If-Match and If-None-Match,
counts the bytes and throws them away: what a store does with them is no client's work.
With `--keep` they stay in memory and GET returns them, to check that they arrived.
Prints the port it listens on, on 127.0.0.1. ETags are opaque, as those of encrypted
objects are on S3.
"""

import re
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from time import time
from urllib.parse import parse_qs, unquote, urlsplit

_BLOCK = 1 << 20
_NUMBER = re.compile(rb"<PartNumber>(\d+)</PartNumber>")
_SPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


@dataclass(frozen=True, slots=True)
class Blob:
    """What was uploaded: its size, its bytes where they are kept, and its identity."""

    size: int
    data: bytes
    etag: str
    modified: float


class Sink(ThreadingHTTPServer):
    """Holds objects and unfinished uploads for all connections."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, *, keeps: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Exchange)
        self.keeps = keeps
        self.mutex = threading.Lock()
        self.objects: dict[str, Blob] = {}
        self.parts: dict[str, dict[int, Blob]] = {}
        self._numbers = count(1)

    def identity(self) -> str:
        """Return an ETag that was never given out before; it is no MD5."""
        return f"{next(self._numbers):032x}-1"


class _Exchange(BaseHTTPRequestHandler):
    """One connection: reads requests, answers from the sink."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Sink

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    # --- the methods: named by the base class -----------------------------------

    def do_HEAD(self) -> None:
        """Describe an object, or a bucket: every one is there."""
        path, _ = self._asked()
        if "/" not in path.strip("/"):
            return self._answer(200)
        found = self.server.objects.get(path)
        return self._answer(404) if found is None else self._describe(found)

    def do_GET(self) -> None:
        """Return an object's bytes, or an empty listing, location or versioning."""
        path, query = self._asked()
        if "/" in path.strip("/"):
            found = self.server.objects.get(path)
            return self._answer(404) if found is None else self._describe(found, found.data)
        root = next((n for q, n in _EMPTY.items() if q in query), "ListBucketResult")
        is_listing = root.startswith("List")
        inside = "<IsTruncated>false</IsTruncated>" if is_listing else ""
        return self._answer(200, f"<{root} {_SPACE}>{inside}</{root}>".encode())

    def do_PUT(self) -> None:
        """Take an object or a part."""
        path, query = self._asked()
        blob = self._receive()
        if "uploadId" in query:
            self.server.parts[query["uploadId"]][int(query["partNumber"])] = blob
            return self._answer(200, headers={"ETag": f'"{blob.etag}"'})
        return self._commit(path, blob)

    def do_POST(self) -> None:
        """Begin or complete a multipart upload."""
        path, query = self._asked()
        document = self._receive(keeps=True).data
        if "uploads" in query:
            upload = self.server.identity()
            self.server.parts[upload] = {}
            bucket, _, key = path.strip("/").partition("/")
            place = f"<Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{upload}</UploadId>"
            root = "InitiateMultipartUploadResult"
            return self._answer(200, f"<{root} {_SPACE}>{place}</{root}>".encode())
        parts = self.server.parts.pop(query["uploadId"])
        chosen = [parts[int(number)] for number in _NUMBER.findall(document)]
        return self._commit(path, self._joined(chosen), root="CompleteMultipartUploadResult")

    def do_DELETE(self) -> None:
        """Forget an unfinished upload, or an object."""
        path, query = self._asked()
        self.server.parts.pop(query.get("uploadId", ""), None)
        if "uploadId" not in query:
            self.server.objects.pop(path, None)
        self._answer(204)

    # --- behind them ----------------------------------------------------------------

    def _asked(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        return unquote(parts.path), {name: values[0] for name, values in query.items()}

    def _receive(self, *, keeps: bool = False) -> Blob:
        """Read the request's body, into one buffer over and over unless it is kept."""
        left = int(self.headers.get("Content-Length", 0))
        # A body in signed chunks says how long it is without them.
        size = int(self.headers.get("X-Amz-Decoded-Content-Length", left))
        kept: list[bytes] = []
        buffer = memoryview(bytearray(min(_BLOCK, left)))
        while left:
            got = self.rfile.readinto(buffer[: min(_BLOCK, left)])
            if not got:
                break
            left -= got
            if keeps or self.server.keeps:
                kept.append(bytes(buffer[:got]))
        return Blob(size, b"".join(kept), self.server.identity(), time())

    def _joined(self, parts: Iterable[Blob]) -> Blob:
        parts = list(parts)
        data = b"".join(part.data for part in parts)
        return Blob(sum(part.size for part in parts), data, self.server.identity(), time())

    def _commit(self, path: str, blob: Blob, root: str = "") -> None:
        with self.server.mutex:
            before = self.server.objects.get(path)
            if not self._is_met(before):
                return self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            self.server.objects[path] = blob
        body = f"<{root} {_SPACE}><ETag>&quot;{blob.etag}&quot;</ETag></{root}>" if root else ""
        return self._answer(200, body.encode(), headers={"ETag": f'"{blob.etag}"'})

    def _is_met(self, before: Blob | None) -> bool:
        if self.headers.get("If-None-Match") == "*":
            return before is None
        wanted = self.headers.get("If-Match")
        return wanted is None or (before is not None and wanted.strip('"') == before.etag)

    def _describe(self, blob: Blob, body: bytes = b"") -> None:
        headers = {
            "ETag": f'"{blob.etag}"',
            "Last-Modified": formatdate(blob.modified, usegmt=True),
            "Accept-Ranges": "bytes",
        }
        self._answer(200, body, headers=headers, length=blob.size)

    def _answer(
        self,
        status: int,
        body: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


_EMPTY = {
    "location": "LocationConstraint",
    "versioning": "VersioningConfiguration",
    "versions": "ListVersionsResult",
}


def main() -> None:
    """Serve until killed."""
    with Sink(keeps="--keep" in sys.argv) as sink:
        sys.stdout.write(f"{sink.server_port}\n")
        sys.stdout.flush()
        sink.serve_forever()


if __name__ == "__main__":
    main()
