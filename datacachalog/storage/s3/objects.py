"""One object: as the server describes it, and its bytes."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from datacachalog import globs, relpath
from datacachalog.errors import (
    IntegrityError,
    ObjectChangedError,
    ObjectNotFoundError,
    SourceUnreachableError,
    StorageError,
)
from datacachalog.model import RemoteObject
from datacachalog.storage.s3 import errors as faults
from datacachalog.storage.s3 import listing
from datacachalog.storage.s3.client import Answer, Client
from datacachalog.storage.s3.headers import quoted, read_date, unquoted
from datacachalog.storage.s3.http_session import guarded
from datacachalog.storage.stall import StallGuard

_PIECE = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


# --- described --------------------------------------------------------------------------


def describe(client: Client, bucket: str, key: str) -> RemoteObject:
    """Return the object at `key` as it is now; raise the reason where there is none to see."""
    uri = f"s3://{bucket}/{key}"
    answer = client.ask("head_object", bucket, key)
    if answer.status == 200:
        return described(answer, uri)
    if answer.status == 404 and listing.exists_below(client, bucket, f"{key}/"):
        raise ObjectNotFoundError(
            f"{uri} is a folder, not an object", hint=f"write `{globs.escape(uri)}/**`"
        )
    raise _reason(client, answer, bucket, key)


def describe_version(client: Client, bucket: str, key: str, version_id: str) -> RemoteObject:
    """Return one version of the object at `key`; raise the reason where there is none to see."""
    uri = f"s3://{bucket}/{key}"
    answer = client.ask("head_object", bucket, key, VersionId=version_id)
    if answer.status == 200:
        found = described(answer, uri)
        if found.version_id in (version_id, None):
            return found._replace(version_id=version_id)
        raise StorageError(f"asked for version {version_id} of {uri}, got {found.version_id}")
    if answer.status == 405:
        raise ObjectNotFoundError(
            f"version {version_id} of {uri} is the record of its deletion, not an object",
            hint="take the version before it",
        )
    raise _reason(client, answer, bucket, key, version_id)


def find(client: Client, bucket: str, key: str) -> RemoteObject | None:
    """Return the object at `key` as it is now, or None for none in an existing bucket."""
    answer = client.ask("head_object", bucket, key)
    if answer.status == 200:
        return described(answer, f"s3://{bucket}/{key}")
    if answer.status == 404 and client.ask("head_bucket", bucket).status != 404:
        return None
    raise _reason(client, answer, bucket, key)


def _reason(
    client: Client, answer: Answer, bucket: str, key: str, version_id: str | None = None
) -> StorageError:
    """Return why a HEAD was refused: it has no body to say so, but a GET of one byte has."""
    reason = client.ask("get_object", bucket, key, VersionId=version_id, Range="bytes=0-0")
    if "Body" in reason.fields:
        _close(client, reason)
        reason = answer
    return reason.fault(f"s3://{bucket}/{key}", version_id=version_id)


def described(answer: Answer, uri: str) -> RemoteObject:
    """Return the object that the headers of a HEAD describe."""
    headers = answer.headers
    try:
        size = int(headers["content-length"])
        modified = read_date(headers["last-modified"])
    except (KeyError, ValueError) as exc:
        raise StorageError(f"the server does not say size and time of {uri}") from exc
    return RemoteObject(
        uri,
        relpath.encode(uri.rpartition("/")[2] or uri),
        size,
        modified,
        unquoted(headers.get("etag")),
        headers.get("x-amz-version-id"),
    )


# --- read -------------------------------------------------------------------------------


def read(
    client: Client, bucket: str, key: str, obj: RemoteObject, start: int, stop: int
) -> Iterator[bytes]:
    """Stream bytes `start` to `stop` of exactly `obj`."""
    guard = StallGuard(obj.uri, seconds=client.stall_seconds)
    left = stop - start
    answer, piece = client.run(_begin, client, bucket, key, obj, start, stop, guard)
    try:
        while True:
            left -= len(piece)
            if piece:
                yield piece
            if not left:
                return
            try:
                piece = client.run(_next, answer.fields["Body"], obj, left, guard)
            except (IntegrityError, SourceUnreachableError) as exc:
                if "content-length" in answer.headers:
                    raise
                # Of a body whose length was not told, nothing is proven before its end.
                raise IntegrityError(str(exc)) from exc
    finally:
        if left:
            _close(client, answer)


async def _begin(
    client: Client,
    bucket: str,
    key: str,
    obj: RemoteObject,
    start: int,
    stop: int,
    guard: StallGuard,
) -> tuple[Answer, bytes]:
    """Return the answer to a GET that is bound to `obj`, and its body's first piece."""
    answer = await client.asked(
        "get_object",
        bucket,
        key,
        VersionId=obj.version_id,
        IfMatch=quoted(obj.etag) if obj.etag else None,
        Range=f"bytes={start}-{stop - 1}" if (start, stop) != (0, obj.size) else None,
    )
    if answer.status not in (200, 206):
        raise answer.fault(obj.uri, version_id=obj.version_id)
    try:
        _check_head(obj, start, stop, answer.status, answer.headers)
        return answer, await _next(answer.fields["Body"], obj, stop - start, guard)
    except BaseException:
        answer.fields["Body"].close()
        raise


async def _next(body: Any, obj: RemoteObject, left: int, guard: StallGuard) -> bytes:
    """Return the next piece of a body of which `left` bytes are to come, and see that it ends."""
    count = min(left, _PIECE)
    pieces = []
    with faults.network(obj.uri):
        while count:
            piece = await guarded(guard, body.read(count))
            if not piece:
                raise IntegrityError(f"{obj.uri} ended {left} bytes early")
            pieces.append(piece)
            count -= len(piece)
            left -= len(piece)
        if not left and await guarded(guard, body.read(1)):
            raise IntegrityError(f"{obj.uri} is longer than the {obj.size} bytes announced")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _close(client: Client, answer: Answer) -> None:
    """Give up a body that is not read to its end, and its connection with it."""
    with suppress(RuntimeError):  # at the interpreter's end, the loop is closed
        client.filesystem.loop.call_soon_threadsafe(answer.fields["Body"].close)


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
        is_other |= _time(headers["last-modified"]) != obj.modified.replace(microsecond=0)
    if is_other:
        raise ObjectChangedError(f"{obj.uri} changed since it was resolved")


def _time(text: str) -> datetime | None:
    try:
        return read_date(text)
    except ValueError:
        return None


def _wrong_range(obj: RemoteObject, start: int, stop: int) -> IntegrityError:
    return IntegrityError(f"the server did not answer bytes {start} to {stop} of {obj.uri}")
