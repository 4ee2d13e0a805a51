"""Files to objects, on the condition that nobody was there first.

One PUT for what is small; parts, several at a time and read as they are sent, for what is
large. The condition travels with the request that makes the object visible. Amazon enforces
it; of other servers it is found out, as far as that does no harm, and what stays open is
said in `Uploaded.unproven`.
"""

import hashlib
import os
import threading
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from datacachalog import relpath
from datacachalog.errors import (
    IntegrityError,
    SourceUnreachableError,
    StorageError,
)
from datacachalog.model import RemoteObject
from datacachalog.storage import expectation
from datacachalog.storage.base import Advance, Precondition, Uploaded
from datacachalog.storage.s3 import listing
from datacachalog.storage.s3.client import Answer, Client
from datacachalog.storage.s3.headers import quoted, unquoted
from datacachalog.storage.s3.objects import find

PART = 16 << 20
"""Bytes of a part, and the most that goes in one PUT; parts grow so that 10,000 are enough."""

_MAX_PARTS = 10_000
_AT_ONCE = 4
_ATTEMPTS = 3
_BLOCK = 1 << 18
_PROBE = 1 << 20
_MIB = 1 << 20
_UNSUPPORTED = {"NotImplemented", "InvalidArgument", "InvalidRequest", "UnsupportedOperation"}

Send = Callable[[Mapping[str, str]], Answer]
"""Sends a write under the given condition: parameters of the call."""


class _Place(NamedTuple):
    """Where an upload goes, and what was there when it began."""

    client: Client
    bucket: str
    key: str
    precondition: RemoteObject | Precondition
    before: RemoteObject | None

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def ask(self, operation: str, **params: Any) -> Answer:
        """Return the answer to a call about the key."""
        return self.client.ask(operation, self.bucket, self.key, **params)

    def send(self, operation: str, body: "_Body", **params: Any) -> Answer:
        """Return the answer to a call that sends `body`."""
        return self.client.run(_send, self, operation, body, params)

    @property
    def condition(self) -> dict[str, str]:
        """Return the parameter that makes the write conditional, or none."""
        if self.precondition is Precondition.ANYTHING:
            return {}
        if self.before is None:
            return {"IfNoneMatch": "*"}
        return {"IfMatch": quoted(self.before.etag)} if self.before.etag else {}


class _Written(NamedTuple):
    """What a write's answer says: the new identity, and whether the condition was taken."""

    etag: str | None
    version_id: str | None
    is_conditional: bool
    is_by_parts: bool


def upload(
    client: Client,
    path: Path,
    bucket: str,
    key: str,
    *,
    precondition: RemoteObject | Precondition,
    advance: Advance,
    part_size: int = PART,
) -> Uploaded:
    """Upload the file at `path`, provided the key still is what `precondition` says."""
    place = _Place(client, bucket, key, precondition, find(client, bucket, key))
    if not expectation.is_met(precondition, place.before):
        raise expectation.conflict(place.uri, place.precondition, place.before)
    with open(path, "rb", buffering=0) as file:
        stat = os.fstat(file.fileno())
        if stat.st_size <= part_size:
            written = _put(place, file.fileno(), stat.st_size, advance)
        else:
            written = _Parts(place, file.fileno(), stat, part_size, advance).upload()
    return _verified(place, written, path, stat.st_size)


# --- one PUT ----------------------------------------------------------------------------


def _put(place: _Place, fd: int, size: int, advance: Advance) -> _Written:
    data = b"".join(_read(fd, start, min(_MIB, size - start)) for start in range(0, size, _MIB))
    checksum = _checksum(place, data)

    def send(condition: Mapping[str, str]) -> Answer:
        body = _Body(data, _tell_nobody, threading.Event())
        return place.send("put_object", body, **condition, **checksum)

    answer, is_conditional = _commit(place, send, lambda: hashlib.md5(data).hexdigest())  # noqa: S324
    advance(size)
    etag = unquoted(answer.headers.get("etag"))
    return _Written(etag, answer.headers.get("x-amz-version-id"), is_conditional, False)


def _tell_nobody(count: int) -> None:
    """Leave small progress untold: what is sent again would have to be taken back."""


def _checksum(place: _Place, data: bytes) -> dict[str, str]:
    # Many look-alikes refuse or mishandle checksum headers; Amazon verifies by them.
    if not place.client.connection.is_amazon:
        return {}
    return {"ChecksumCRC32": b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()}


def _read(fd: int, start: int, count: int) -> bytes:
    """Return `count` bytes of the file from `start`."""
    data = os.pread(fd, count, start)
    while len(data) < count:
        more = os.pread(fd, count - len(data), start + len(data))
        if not more:
            raise IntegrityError("the file became shorter while it was uploaded")
        data += more
    return data


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
            found = find(place.client, place.bucket, place.key)
            if found is not None and found.etag == own_etag():
                return _as_answer(found), bool(condition)
            if not expectation.is_met(place.precondition, found):
                raise expectation.conflict(place.uri, place.precondition, found) from None
            raise
        if answer.status == 200:
            return answer, bool(condition)
        is_gone = answer.status == 404 and answer.code == "NoSuchKey"
        if condition and (answer.status == 412 or is_gone):
            found = find(place.client, place.bucket, place.key)
            # aiohttp sends a PUT again where a kept connection was lost: the first may have been
            # taken, and is then what the second one met.
            if found is not None and found.etag == own_etag():
                return _as_answer(found), True
            raise expectation.conflict(place.uri, place.precondition, found)
        if condition and answer.code in _UNSUPPORTED:
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
    checksum: dict[str, str]


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
        self._part_size = max(part_size, -(-least // _MIB) * _MIB)
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
                self._place.ask("abort_multipart_upload", UploadId=self._id)
            raise
        etag = answer.fields.get("ETag") or answer.headers.get("etag")
        version_id = answer.headers.get("x-amz-version-id")
        return _Written(unquoted(etag), version_id, is_conditional, True)

    def _begin(self) -> str:
        algorithm = "CRC32" if self._place.client.connection.is_amazon else None
        answer = self._place.ask("create_multipart_upload", ChecksumAlgorithm=algorithm)
        found: str | None = answer.fields.get("UploadId")
        if answer.status != 200 or found is None:
            raise answer.fault(self._place.uri, needs="s3:PutObject")
        return found

    def _send_all(self) -> list[_Part]:
        from concurrent.futures import ThreadPoolExecutor

        starts = range(0, self._stat.st_size, self._part_size)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="dcl-upload") as pool:
            futures = [pool.submit(self._send, i, start) for i, start in enumerate(starts, 1)]
            try:
                return [future.result() for future in futures]
            except BaseException:
                self._is_stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _send(self, number: int, start: int) -> _Part:
        """Send one part; a lost connection is tried again, as the others are kept."""
        data = _read(self._fd, start, min(self._part_size, self._stat.st_size - start))
        checksum = _checksum(self._place, data)
        for attempt in range(1, _ATTEMPTS + 1):
            body = _Body(data, self._advance, self._is_stopped)
            try:
                answer = self._place.send(
                    "upload_part", body, PartNumber=number, UploadId=self._id, **checksum
                )
                if answer.status == 200:
                    return _Part(number, answer.headers["etag"], checksum)
                raise answer.fault(self._place.uri, needs="s3:PutObject")
            except SourceUnreachableError:
                self._advance(-body.count)
                if attempt == _ATTEMPTS or self._is_stopped.wait(0.2 * 2**attempt):
                    raise
        raise AssertionError("unreachable")

    def _complete(self, parts: list[_Part]) -> tuple[Answer, bool]:
        listed = [{"PartNumber": part.number, "ETag": part.etag, **part.checksum} for part in parts]

        def send(condition: Mapping[str, str]) -> Answer:
            return self._place.ask(
                "complete_multipart_upload",
                UploadId=self._id,
                MultipartUpload={"Parts": listed},
                **condition,
            )

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
    """A part on its way, block by block, counted; ends when the upload is given up.

    aiohttp takes its blocks as they are; a file it would read in a thread, block by block,
    and bytes it would copy as often as the socket is full. `read`, `seek` and the length are
    for botocore.
    """

    def __init__(self, data: bytes, advance: Advance, is_stopped: threading.Event) -> None:
        self._data = data
        self._advance = advance
        self._is_stopped = is_stopped
        self.is_taken: Callable[[], None] = lambda: None
        self.count = 0

    def __len__(self) -> int:
        return len(self._data)

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        for start in range(0, len(self._data), _BLOCK):
            if self._is_stopped.is_set():
                raise StorageError("the upload was given up")
            self.is_taken()
            block = memoryview(self._data)[start : start + _BLOCK]
            yield block
            self.count += len(block)
            self._advance(len(block))

    def read(self) -> bytes:
        """Return all of it: only for checksums, which are given."""
        return self._data

    def seek(self, place: int) -> None:  # noqa: ARG002 - it is always the start
        """Begin anew: the request is sent again, to another region."""
        self._advance(-self.count)
        self.count = 0


async def _send(place: _Place, operation: str, body: _Body, params: dict[str, Any]) -> Answer:
    """Return the answer to a call that sends `body`; given up where no block is taken any more."""
    import asyncio  # slow to load

    try:
        async with asyncio.timeout(None) as limit:
            body.is_taken = lambda: limit.reschedule(
                asyncio.get_running_loop().time() + place.client.stall_seconds
            )
            return await place.client.asked(
                operation, place.bucket, place.key, Body=body if len(body) else b"", **params
            )
    except TimeoutError:
        raise SourceUnreachableError(f"the server takes no more bytes of {place.uri}") from None


# --- afterwards -------------------------------------------------------------------------


def _verified(place: _Place, written: _Written, path: Path, size: int) -> Uploaded:
    """Compare what is there now with what was written, and say what stays unproven."""
    after = find(place.client, place.bucket, place.key)
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
        place.client.now(),
        written.etag,
        written.version_id,
    )
    return Uploaded(ours, f"{uri} was written again by someone else right after this upload")


def _unproven(place: _Place, written: _Written, path: Path, ours: RemoteObject) -> str | None:
    """Return what cannot be known about the moment of writing, or None for nothing."""
    if place.precondition is Precondition.ANYTHING:
        return None
    if written.is_conditional and place.client.connection.is_amazon:
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
        history = listing.list_versions(place.client, place.bucket, place.key, page_size=3)
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
    body = _Body(data, _tell_nobody, threading.Event())
    answer = place.send("put_object", body, **place.condition)
    return answer.status in (404, 409, 412)
