"""Files to objects, on the condition that nobody was there first.

One PUT for what is small; parts, several at a time and read as they are sent, for what is
large. The condition travels with the request that makes the object visible. Amazon enforces
it; of other servers it is found out, as far as that does no harm, and what stays open is
said in `Uploaded.unproven`.
"""

import hashlib
import os
import re
import threading
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from html import escape, unescape
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from datacachalog import relpath
from datacachalog.errors import (
    IntegrityError,
    SourceUnreachableError,
    StorageError,
)
from datacachalog.model import RemoteObject
from datacachalog.storage import expectation
from datacachalog.storage.protocol import Advance, Expect, Uploaded
from datacachalog.storage.s3 import faults, listing
from datacachalog.storage.s3.describing import find
from datacachalog.storage.s3.wire import Answer, Wire, quoted, unquoted

PART = 16 << 20
"""Bytes of a part, and the most that goes in one PUT; parts grow so that 10,000 are enough."""

_MAX_PARTS = 10_000
_LANES = 4
_ATTEMPTS = 3
_BLOCK = 1 << 20
_PROBE = 1 << 20
_UPLOAD_ID = re.compile(r"<UploadId>([^<]*)<")
_ETAG = re.compile(r"<ETag>([^<]*)<")
_UNSUPPORTED = {"NotImplemented", "InvalidArgument", "InvalidRequest", "UnsupportedOperation"}

Send = Callable[[Mapping[str, str]], Answer]


class _Place(NamedTuple):
    """Where an upload goes, and what was there when it began."""

    wire: Wire
    bucket: str
    key: str
    expect: RemoteObject | Expect
    before: RemoteObject | None

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def condition(self) -> dict[str, str]:
        """Return the header that makes the write conditional, or none."""
        if self.expect is Expect.ANYTHING:
            return {}
        if self.before is None:
            return {"if-none-match": "*"}
        return {"if-match": quoted(self.before.etag)} if self.before.etag else {}


class _Written(NamedTuple):
    """What a write's answer says: the new identity, and whether the condition was taken."""

    etag: str | None
    version_id: str | None
    is_conditional: bool
    is_by_parts: bool


def upload(
    wire: Wire,
    path: Path,
    bucket: str,
    key: str,
    *,
    expect: RemoteObject | Expect,
    advance: Advance,
    part_size: int = PART,
) -> Uploaded:
    """Upload the file at `path`, provided the key still is what `expect` says."""
    place = _Place(wire, bucket, key, expect, find(wire, bucket, key))
    if not expectation.is_met(expect, place.before):
        raise expectation.conflict(place.uri, place.expect, place.before)
    with open(path, "rb", buffering=0) as file:
        stat = os.fstat(file.fileno())
        if stat.st_size <= part_size:
            written = _put(place, file.fileno(), stat.st_size, advance)
        else:
            written = _Parts(place, file.fileno(), stat, part_size, advance).upload()
    return _verified(place, written, path, stat.st_size)


# --- one PUT ----------------------------------------------------------------------------


def _put(place: _Place, fd: int, size: int, advance: Advance) -> _Written:
    data = b"".join(_blocks(fd, 0, size))
    checksum = _checksum(place.wire, zlib.crc32(data))

    def send(condition: Mapping[str, str]) -> Answer:
        headers = {**condition, **checksum}
        return place.wire.ask("PUT", place.bucket, place.key, headers=headers, body=data)

    answer, is_conditional = _commit(place, send, lambda: hashlib.md5(data).hexdigest())  # noqa: S324
    advance(size)
    etag = unquoted(answer.headers.get("etag"))
    return _Written(etag, answer.headers.get("x-amz-version-id"), is_conditional, False)


def _checksum(wire: Wire, crc: int) -> dict[str, str]:
    # Many look-alikes refuse or mishandle checksum headers; Amazon verifies by them.
    if not wire.connection.is_amazon:
        return {}
    return {"x-amz-checksum-crc32": b64encode(crc.to_bytes(4, "big")).decode()}


def _blocks(fd: int, start: int, count: int) -> Iterator[bytes]:
    """Read `count` bytes of the file from `start`, block by block."""
    end = start + count
    while start < end:
        block = os.pread(fd, min(_BLOCK, end - start), start)
        if not block:
            raise IntegrityError("the file became shorter while it was uploaded")
        start += len(block)
        yield block


def _commit(place: _Place, send: Send, own_etag: Callable[[], str]) -> tuple[Answer, bool]:
    """Send the request that makes the object visible; tell whether its condition was taken.

    `own_etag` gives the ETag that plain S3 would name our bytes by: what is compared when
    no answer came and the write may or may not have happened.
    """
    condition = place.condition
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            answer = send(condition)
        except SourceUnreachableError:
            found = find(place.wire, place.bucket, place.key)
            if found is not None and found.etag == own_etag():
                return _as_answer(found), bool(condition)
            if not expectation.is_met(place.expect, found):
                raise expectation.conflict(place.uri, place.expect, found) from None
            raise
        code = faults.error_code(answer.body)
        if answer.status == 200 and not code:
            return answer, bool(condition)
        if condition and (answer.status == 412 or (answer.status == 404 and code == "NoSuchKey")):
            raise expectation.conflict(
                place.uri, place.expect, find(place.wire, place.bucket, place.key)
            )
        if condition and code in _UNSUPPORTED:
            condition = {}  # the server takes no conditions: what was compared before must do
        elif not (answer.status == 409 and attempt < _ATTEMPTS):
            break
    raise answer.fault(place.uri, needs="s3:PutObject")


def _as_answer(obj: RemoteObject) -> Answer:
    headers = {"etag": quoted(obj.etag or "")}
    if obj.version_id:
        headers["x-amz-version-id"] = obj.version_id
    return Answer(200, headers)


# --- parts ------------------------------------------------------------------------------


class _Part(NamedTuple):
    """One part that the server has."""

    number: int
    etag: str
    checksum: str | None


class _Parts:
    """An upload in parts: all of it becomes visible at once, or nothing is left behind."""

    def __init__(
        self, place: _Place, fd: int, stat: os.stat_result, part_size: int, advance: Advance
    ) -> None:
        self._place = place
        self._fd = fd
        self._stat = stat
        self._advance = advance
        least = -(-stat.st_size // _MAX_PARTS)
        self._part_size = max(part_size, -(-least // _BLOCK) * _BLOCK)
        self._is_stopped = threading.Event()
        self._id = ""

    def upload(self) -> _Written:
        """Send all parts, then complete the upload under the condition; abort on failure."""
        self._id = self._begin()
        try:
            parts = self._send_all()
            if _identity(os.fstat(self._fd)) != _identity(self._stat):
                raise IntegrityError("the file changed while it was uploaded")
            answer, is_conditional = self._complete(parts)
        except BaseException:
            with suppress(StorageError):
                self._ask("DELETE", {"uploadId": self._id})
            raise
        found = _ETAG.search(answer.body.decode("utf-8", "replace"))
        etag = unescape(found[1]) if found else answer.headers.get("etag")
        version_id = answer.headers.get("x-amz-version-id")
        return _Written(unquoted(etag), version_id, is_conditional, True)

    def _ask(self, method: str, query: Mapping[str, str], **options: object) -> Answer:
        place = self._place
        return place.wire.ask(method, place.bucket, place.key, query=query, **options)  # type: ignore[arg-type] # handed on as they are

    def _begin(self) -> str:
        headers = {"x-amz-checksum-algorithm": "CRC32"} if _checksum(self._place.wire, 0) else {}
        answer = self._ask("POST", {"uploads": ""}, headers=headers)
        found = _UPLOAD_ID.search(answer.body.decode("utf-8", "replace"))
        if answer.status != 200 or found is None:
            raise answer.fault(self._place.uri, needs="s3:PutObject")
        return unescape(found[1])

    def _send_all(self) -> list[_Part]:
        from concurrent.futures import ThreadPoolExecutor

        starts = range(0, self._stat.st_size, self._part_size)
        with ThreadPoolExecutor(_LANES, thread_name_prefix="dcl-upload") as pool:
            futures = [pool.submit(self._send, i, start) for i, start in enumerate(starts, 1)]
            try:
                return [future.result() for future in futures]
            except BaseException:
                self._is_stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _send(self, number: int, start: int) -> _Part:
        """Send one part; a lost connection is tried again, as the others are kept."""
        length = min(self._part_size, self._stat.st_size - start)
        checksum: dict[str, str] = {}
        if self._place.wire.connection.is_amazon:
            crc = 0
            for block in _blocks(self._fd, start, length):
                crc = zlib.crc32(block, crc)
            checksum = _checksum(self._place.wire, crc)
        for attempt in range(1, _ATTEMPTS + 1):
            body = _Body(_blocks(self._fd, start, length), self._advance, self._is_stopped)
            try:
                answer = self._ask(
                    "PUT",
                    {"partNumber": str(number), "uploadId": self._id},
                    headers=checksum,
                    body=body,
                    length=length,
                )
                if answer.status == 200:
                    return _Part(
                        number, answer.headers["etag"], next(iter(checksum.values()), None)
                    )
                raise answer.fault(self._place.uri, needs="s3:PutObject")
            except SourceUnreachableError:
                self._advance(-body.count)
                if attempt == _ATTEMPTS or self._is_stopped.wait(0.2 * 2**attempt):
                    raise
        raise AssertionError("unreachable")

    def _complete(self, parts: list[_Part]) -> tuple[Answer, bool]:
        listed = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber>"
            f"<ETag>{escape(part.etag, quote=False)}</ETag>"
            + (f"<ChecksumCRC32>{part.checksum}</ChecksumCRC32>" if part.checksum else "")
            + "</Part>"
            for part in parts
        )
        document = (
            '<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"{listed}</CompleteMultipartUpload>"
        ).encode()

        def send(condition: Mapping[str, str]) -> Answer:
            return self._ask("POST", {"uploadId": self._id}, headers=condition, body=document)

        return _commit(self._place, send, lambda: _etag_of_parts(parts))


def _identity(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _etag_of_parts(parts: list[_Part]) -> str:
    """Return the ETag that plain S3 gives to an upload of `parts`, or '' if it has others."""
    try:
        digests = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
    except ValueError:
        return ""
    return f"{hashlib.md5(digests).hexdigest()}-{len(parts)}"  # noqa: S324 - S3's own rule


class _Body:
    """Blocks on their way into a socket, counted; ends when the upload is given up."""

    def __init__(
        self, blocks: Iterator[bytes], advance: Advance, is_stopped: threading.Event
    ) -> None:
        self._blocks = blocks
        self._advance = advance
        self._is_stopped = is_stopped
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            if self._is_stopped.is_set():
                raise StorageError("the upload was given up")
            yield block
            self.count += len(block)
            self._advance(len(block))


# --- afterwards -------------------------------------------------------------------------


def _verified(place: _Place, written: _Written, path: Path, size: int) -> Uploaded:
    """Compare what is there now with what was written, and say what stays unproven."""
    after = find(place.wire, place.bucket, place.key)
    is_ours = (
        after is not None
        and (written.etag is None or after.etag == written.etag)
        and (written.version_id is None or after.version_id in (None, written.version_id))
    )
    if after is None or not is_ours:
        return _overtaken(place, written, size)
    if after.size != size:
        raise IntegrityError(f"{place.uri} has {after.size} bytes after an upload of {size}")
    ours = replace(after, version_id=after.version_id or written.version_id)
    return Uploaded(ours, _unproven(place, written, path, ours))


def _overtaken(place: _Place, written: _Written, size: int) -> Uploaded:
    uri = place.uri
    ours = RemoteObject(
        uri,
        relpath.encode(uri.rpartition("/")[2]),
        size,
        place.wire.now(),
        written.etag,
        written.version_id,
    )
    return Uploaded(ours, f"{uri} was written again by someone else right after this upload")


def _unproven(place: _Place, written: _Written, path: Path, ours: RemoteObject) -> str | None:
    """Return what cannot be known about the moment of writing, or None for nothing."""
    if place.expect is Expect.ANYTHING:
        return None
    if written.is_conditional and place.wire.connection.is_amazon:
        return None
    if ours.version_id not in (None, "null"):
        return _told_by_history(place, ours)
    if written.is_conditional and not written.is_by_parts and ours.size <= _PROBE:
        if _refuses_when_stale(place, path.read_bytes()):
            return None
        return (
            f"the server ignores conditions: a write to {place.uri} between the check and the "
            "upload would have been overwritten unnoticed"
        )
    return (
        f"the server was not seen to enforce conditions: a write to {place.uri} during the "
        "upload may have been overwritten"
    )


def _told_by_history(place: _Place, ours: RemoteObject) -> str | None:
    """Look into the key's history: the version below ours must be the expected one."""
    try:
        history = listing.list_versions(place.wire, place.bucket, place.key, page_size=3)
        versions = [e for e in islice(history, 3) if e.key == place.key]
    except StorageError:
        return (
            f"whether {place.uri} was written by others during the upload cannot be seen "
            "without the permission `s3:ListBucketVersions`"
        )
    ids = [entry.version_id for entry in versions]
    if ours.version_id not in ids:
        return f"{place.uri} was written again by someone else right after this upload"
    below = next(iter(versions[ids.index(ours.version_id) + 1 :]), None)
    was = below if below is not None and below.size is not None else None
    if (was.etag if was else None) == (place.before.etag if place.before else None):
        return None
    return (
        f"the server ignores conditions: this upload has overwritten version "
        f"{was.version_id if was else None} of {place.uri}, which someone else wrote meanwhile"
    )


def _refuses_when_stale(place: _Place, data: bytes) -> bool:
    """Try the same write once more: its condition no longer holds, so it must be refused.

    Harmless where it is not: the same bytes are written over themselves.
    """
    answer = place.wire.ask("PUT", place.bucket, place.key, headers=place.condition, body=data)
    return answer.status in (404, 409, 412)
