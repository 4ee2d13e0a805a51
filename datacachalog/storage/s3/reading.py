"""Bytes of exactly one object: asked for in a blocking way, or as a lane asks.

Both send the same conditions and make the same checks.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Protocol as Request

from datacachalog.errors import IntegrityError, ObjectChangedError
from datacachalog.model import RemoteObject
from datacachalog.storage.s3.wire import Wire, quoted, unquoted

_PIECE = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def read(
    wire: Wire, bucket: str, key: str, obj: RemoteObject, start: int, stop: int
) -> Iterator["memoryview | bytes"]:
    """Stream bytes `start` to `stop` of exactly `obj`."""
    query, headers = _conditions(obj, start, stop)
    with wire.open("GET", bucket, key, query=query, headers=headers) as stream:
        if stream.status not in (200, 206):
            raise stream.drain().fault(obj.uri, version_id=obj.version_id)
        _check_head(obj, start, stop, stream.status, stream.headers)
        left = stop - start
        while left:
            piece = stream.read(min(left, _PIECE))
            if not piece:
                raise IntegrityError(f"{obj.uri} ended {left} bytes early")
            left -= len(piece)
            yield piece
        if stream.read(1):
            raise IntegrityError(f"{obj.uri} is longer than the {obj.size} bytes announced")


def request(
    wire: Wire, bucket: str, key: str, obj: RemoteObject, start: int, stop: int
) -> Request | None:
    """Return the GET of the same bytes for a lane; None where a proxy is in between."""
    query, headers = _conditions(obj, start, stop)
    order = wire.order(bucket, key, query=query, headers=headers)
    return order and Request(*order, partial(_check_head, obj, start, stop))


def _conditions(obj: RemoteObject, start: int, stop: int) -> tuple[dict[str, str], dict[str, str]]:
    """Return the query and the headers that bind a GET to exactly these bytes of `obj`."""
    headers = {}
    if (start, stop) != (0, obj.size):
        headers["range"] = f"bytes={start}-{stop - 1}"
    if obj.etag:
        headers["if-match"] = quoted(obj.etag)
    return {"versionId": obj.version_id} if obj.version_id else {}, headers


def _check_head(
    obj: RemoteObject, start: int, stop: int, status: int, headers: Mapping[str, str]
) -> None:
    size: int | None = None
    if status == 206:
        found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        if found is None or (int(found[1]), int(found[2]) + 1) != (start, stop):
            raise _wrong_range(obj, start, stop)
        size = int(found[3])
    elif (start, stop) != (0, obj.size):
        raise _wrong_range(obj, start, stop)
    elif "content-length" in headers:
        size = int(headers["content-length"])
    # Not every server honours the conditions that were sent; what it says of itself decides.
    is_other = size is not None and size != obj.size
    if obj.etag is not None:
        is_other |= unquoted(headers.get("etag")) != obj.etag
    if obj.version_id is not None:
        is_other |= headers.get("x-amz-version-id") not in (None, obj.version_id)
    if obj.etag is None and obj.version_id is None and "last-modified" in headers:
        is_other |= _read_date(headers["last-modified"]) != obj.modified.replace(microsecond=0)
    if is_other:
        raise ObjectChangedError(f"{obj.uri} changed since it was resolved")


def _read_date(text: str) -> datetime:
    from email.utils import parsedate_to_datetime  # slow to load, and hardly ever needed

    return parsedate_to_datetime(text)


def _wrong_range(obj: RemoteObject, start: int, stop: int) -> IntegrityError:
    return IntegrityError(f"the server did not answer bytes {start} to {stop} of {obj.uri}")
