"""The process that answers listings: `python -m benchmarks.servers.lister FOLDER`.

FOLDER holds an index per bucket, `NAME.objects` and, for a bucket that keeps history,
`NAME.versions`. Prints the port it listens on, on 127.0.0.1. Knows ListObjects V1 and V2,
ListObjectVersions, GetBucketLocation, GetBucketVersioning and HeadBucket.
"""

import asyncio
import os
import sys
from email.utils import formatdate
from functools import lru_cache
from urllib.parse import parse_qs, unquote, urlsplit

from benchmarks.servers.index import Index, Page

_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_SPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_MOST = 1000

Answer = tuple[int, list[bytes | memoryview]]


class Lister:
    """Answers the queries on buckets from their indexes."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._indexes: dict[str, Index] = {}

    def answer(self, target: str) -> Answer:
        """Return status and body for a request's target, path and query."""
        parts = urlsplit(target)
        bucket = unquote(parts.path).strip("/")
        query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        if not os.path.exists(f"{self._folder}/{bucket}.objects"):
            return 404, [_error("NoSuchBucket")]
        if "location" in query:
            return 200, [f"{_XML}<LocationConstraint {_SPACE}></LocationConstraint>".encode()]
        if "versioning" in query:
            status = "<Status>Enabled</Status>" if self._keeps_history(bucket) else ""
            name = "VersioningConfiguration"
            return 200, [f"{_XML}<{name} {_SPACE}>{status}</{name}>".encode()]
        if "versions" in query:
            return 200, self._versions(bucket, query)
        return 200, self._objects(bucket, query)

    def _keeps_history(self, bucket: str) -> bool:
        return os.path.exists(f"{self._folder}/{bucket}.versions")

    def _objects(self, bucket: str, query: dict[str, str]) -> list[bytes | memoryview]:
        is_second = query.get("list-type") == "2"
        after = query.get("marker", "")
        if is_second:
            after = query.get("continuation-token") or query.get("start-after", "")
        page = self._page(f"{bucket}.objects", query, after, "")
        count = sum(bytes(p).count(b"<Key>") for p in page.pieces) if is_second else 0
        head = f"<KeyCount>{count + len(page.folders)}</KeyCount>" if is_second else ""
        following = "NextContinuationToken" if is_second else "NextMarker"
        if page.is_truncated:
            head += f"<{following}>{page.next_key}</{following}>"
        return _document("ListBucketResult", bucket, query, page, head)

    def _versions(self, bucket: str, query: dict[str, str]) -> list[bytes | memoryview]:
        # Without history there is one version of each key, `null`: an empty answer does as
        # well, for what then decides is GetBucketVersioning.
        kind = "versions" if self._keeps_history(bucket) else "none"
        after, version = query.get("key-marker", ""), query.get("version-id-marker", "")
        page = self._page(f"{bucket}.{kind}", query, after, version)
        head = ""
        if page.is_truncated:
            head = f"<NextKeyMarker>{page.next_key}</NextKeyMarker>"
            head += f"<NextVersionIdMarker>{page.next_version}</NextVersionIdMarker>"
        return _document("ListVersionsResult", bucket, query, page, head)

    def _page(self, name: str, query: dict[str, str], after: str, version: str) -> Page:
        if name.endswith(".none"):
            return Page((), (), "", "")
        limit = min(_MOST, int(query.get("max-keys", _MOST)))
        return self._cached(
            name, query.get("prefix", ""), query.get("delimiter", ""), after, version, limit
        )

    @lru_cache(maxsize=10_000)  # noqa: B019 - one lister lives as long as its process
    def _cached(self, name: str, *place: str | int) -> Page:
        if name not in self._indexes:
            self._indexes[name] = Index(f"{self._folder}/{name}")
        return self._indexes[name].page(*place)  # type: ignore[arg-type] # in `page`'s order


def _error(code: str) -> bytes:
    return f"{_XML}<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()


def _document(
    root: str, bucket: str, query: dict[str, str], page: Page, extra: str
) -> list[bytes | memoryview]:
    truncated = "true" if page.is_truncated else "false"
    head = f"{_XML}<{root} {_SPACE}><Name>{bucket}</Name><Prefix>{query.get('prefix', '')}</Prefix>"
    head += f"<MaxKeys>{query.get('max-keys', _MOST)}</MaxKeys>"
    if "delimiter" in query:
        head += f"<Delimiter>{query['delimiter']}</Delimiter>"
    if query.get("encoding-type") == "url":
        head += "<EncodingType>url</EncodingType>"
    head += f"<IsTruncated>{truncated}</IsTruncated>{extra}"
    folders = "".join(
        f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>" for folder in page.folders
    )
    return [head.encode(), *page.pieces, f"{folders}</{root}>".encode()]


class _Connection(asyncio.Protocol):
    """One kept-alive connection: requests without bodies, answered in order."""

    def __init__(self, lister: Lister) -> None:
        self._lister = lister
        self._pending = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._pending += data
        while b"\r\n\r\n" in self._pending:
            head, _, self._pending = self._pending.partition(b"\r\n\r\n")
            method, target, _ = head.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)
            self._send(method, *self._lister.answer(target))

    def _send(self, method: str, status: int, body: list[bytes | memoryview]) -> None:
        assert self._transport is not None
        head = (
            f"HTTP/1.1 {status} {'OK' if status == 200 else 'Not Found'}\r\n"
            f"Content-Length: {sum(len(piece) for piece in body)}\r\n"
            f"Content-Type: application/xml\r\nDate: {formatdate(usegmt=True)}\r\n\r\n"
        )
        shown = [] if method == "HEAD" else body
        self._transport.write(b"".join([head.encode(), *shown]))


async def _serve(folder: str) -> None:
    lister = Lister(folder)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(lister), "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
