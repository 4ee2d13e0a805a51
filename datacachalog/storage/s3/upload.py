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
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from datacachalog import relpath
from datacachalog.errors import IntegrityError, SourceUnreachableError, StorageError
from datacachalog.model import RemoteObject
from datacachalog.storage.base import (
    Advance,
    Precondition,
    Uploaded,
    check_precondition,
    push_conflict,
)
from datacachalog.storage.identity import quoted, unquoted
from datacachalog.storage.s3 import listing
from datacachalog.storage.s3.client import Client
from datacachalog.storage.s3.errors import Answer

PART = 16 << 20
"""Bytes of a part, and the most that goes in one PUT; parts grow so that 10,000 are enough."""

_MAX_PARTS = 10_000
_CONCURRENCY = 4
_ATTEMPTS = 3
_BLOCK = 1 << 18
_PROBE = 1 << 20
_MIB = 1 << 20
_UNSUPPORTED = {"NotImplemented", "InvalidArgument", "InvalidRequest", "UnsupportedOperation"}

Send = Callable[[Mapping[str, str]], Answer]
"""Sends a write under the given condition: parameters of the call."""


class _Target(NamedTuple):
    """Where an upload goes, and what was there when it began."""

    client: Client
    bucket: str
    key: str
    precondition: RemoteObject | Precondition
    before: RemoteObject | None

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def find(self) -> RemoteObject | None:
        """Return what is there now."""
        return self.client.find(self.bucket, self.key)

    def ask(self, operation: str, **params: Any) -> Answer:
        """Return the answer to a call about the key."""
        return self.client.ask(operation, self.bucket, self.key, **params)

    def send(self, operation: str, body: "_Body", **params: Any) -> Answer:
        """Return the answer to a call that sends `body`."""
        return self.client.run(_send, self, operation, body, params)

    def checksum(self, data: bytes) -> dict[str, str]:
        """Return the parameter by which Amazon verifies `data`: look-alikes mishandle it."""
        if not self.client.connection.is_amazon:
            return {}
        return {"ChecksumCRC32": b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()}

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
    target = _Target(client, bucket, key, precondition, client.find(bucket, key))
    check_precondition(target.uri, precondition, target.before)
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= part_size:
            written = _put(target, file.fileno(), size)
            advance(size)  # only now: what is sent again would have to be taken back
        else:
            written = _Multipart(target, file.fileno(), part_size, advance).upload()
    return _verified(target, written, path, size)


def _put(target: _Target, fd: int, size: int) -> _Written:
    data = _read(fd, 0, size)
    checksum = target.checksum(data)

    def send(condition: Mapping[str, str]) -> Answer:
        return target.send("put_object", _Body(data), **condition, **checksum)

    return _commit(target, send, lambda: hashlib.md5(data).hexdigest())  # noqa: S324 - S3's own


def _read(fd: int, start: int, count: int) -> bytes:
    """Return `count` bytes of the file from `start`."""
    data = os.pread(fd, count, start)
    while len(data) < count:
        more = os.pread(fd, count - len(data), start + len(data))
        if not more:
            raise IntegrityError("the file became shorter while it was uploaded")
        data += more
    return data


def _commit(target: _Target, send: Send, own_etag: Callable[[], str]) -> _Written:
    """Send the request that makes the object visible, and return what is written.

    `own_etag` gives the ETag that plain S3 would name our bytes by: what is compared when
    no answer came and the write may or may not have happened.
    """
    condition = target.condition
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            answer = send(condition)
        except SourceUnreachableError:
            found = target.find()
            if found is not None and found.etag == own_etag():
                return _Written(found.etag, found.version_id, bool(condition))
            check_precondition(target.uri, target.precondition, found)
            raise
        if answer.status == 200:
            etag = answer.fields.get("ETag") or answer.headers.get("etag")
            return _Written(unquoted(etag), answer.fields.get("VersionId"), bool(condition))
        is_gone = answer.status == 404 and answer.code == "NoSuchKey"
        if condition and (answer.status == 412 or is_gone):
            found = target.find()
            # aiohttp sends a PUT again where a kept connection was lost: the first may have been
            # taken, and is then what the second one met.
            if found is not None and found.etag == own_etag():
                return _Written(found.etag, found.version_id, is_conditional=True)
            raise push_conflict(target.uri, target.precondition, found)
        if condition and answer.code in _UNSUPPORTED:
            condition = {}  # the server takes no conditions: what was compared before must do
        elif not (answer.status == 409 and attempt < _ATTEMPTS):
            break
    raise answer.fault(target.uri, needs="s3:PutObject")


# --- parts ------------------------------------------------------------------------------


class _Multipart:
    """An upload in parts: all of it becomes visible at once, or nothing is left behind."""

    def __init__(self, target: _Target, fd: int, part_size: int, advance: Advance) -> None:
        self._target = target
        self._fd = fd
        self._advance = advance
        self._stat = os.fstat(fd)
        least = -(-self._stat.st_size // _MAX_PARTS)
        self._part_size = max(part_size, -(-least // _MIB) * _MIB)
        self._is_stopped = threading.Event()
        self._id = ""

    def upload(self) -> _Written:
        """Send all parts, then complete the upload under the condition; abort on failure."""
        algorithm = "CRC32" if self._target.client.connection.is_amazon else None
        answer = self._target.ask("create_multipart_upload", ChecksumAlgorithm=algorithm)
        if answer.status != 200 or "UploadId" not in answer.fields:
            raise answer.fault(self._target.uri, needs="s3:PutObject")
        self._id = answer.fields["UploadId"]
        try:
            parts = self._send_all()
            if _identity(os.fstat(self._fd)) != _identity(self._stat):
                raise IntegrityError("the file changed while it was uploaded")
            return self._complete(parts)
        except BaseException:
            with suppress(StorageError):
                self._target.ask("abort_multipart_upload", UploadId=self._id)
            raise

    def _send_all(self) -> list[dict[str, Any]]:
        from concurrent.futures import ThreadPoolExecutor

        starts = range(0, self._stat.st_size, self._part_size)
        with ThreadPoolExecutor(_CONCURRENCY, thread_name_prefix="dcl-upload") as pool:
            futures = [pool.submit(self._send, i, start) for i, start in enumerate(starts, 1)]
            try:
                return [future.result() for future in futures]
            except BaseException:
                self._is_stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _send(self, number: int, start: int) -> dict[str, Any]:
        """Send one part and describe it; a lost connection costs that part only."""
        data = _read(self._fd, start, min(self._part_size, self._stat.st_size - start))
        checksum = self._target.checksum(data)
        call = {"PartNumber": number, "UploadId": self._id, **checksum}
        for attempt in range(1, _ATTEMPTS + 1):
            body = _Body(data, self._advance, self._is_stopped)
            try:
                answer = self._target.send("upload_part", body, **call)
                if answer.status == 200:
                    return {"PartNumber": number, "ETag": answer.fields["ETag"], **checksum}
                raise answer.fault(self._target.uri, needs="s3:PutObject")
            except SourceUnreachableError:
                self._advance(-body.count)
                if attempt == _ATTEMPTS or self._is_stopped.wait(0.2 * 2**attempt):
                    raise
        raise AssertionError("unreachable")

    def _complete(self, parts: list[dict[str, Any]]) -> _Written:
        def send(condition: Mapping[str, str]) -> Answer:
            return self._target.ask(
                "complete_multipart_upload",
                UploadId=self._id,
                MultipartUpload={"Parts": parts},
                **condition,
            )

        return _commit(self._target, send, lambda: _etag_of_parts(parts))


def _identity(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _etag_of_parts(parts: list[dict[str, Any]]) -> str:
    """Return the ETag that plain S3 gives to an upload of `parts`, or '' if it has others."""
    try:
        digests = b"".join(bytes.fromhex(part["ETag"].strip('"')) for part in parts)
    except ValueError:
        return ""
    return f"{hashlib.md5(digests).hexdigest()}-{len(parts)}"  # noqa: S324 - S3's own rule


class _Body:
    """Bytes to send, block by block, counted; ends when the upload is given up.

    aiohttp takes its blocks as they are; a file it would read in a thread, block by block,
    and bytes it would copy as often as the socket is full. `read`, `seek` and the length are
    for botocore.
    """

    def __init__(
        self,
        data: bytes,
        advance: Advance = lambda _: None,
        is_stopped: threading.Event | None = None,
    ) -> None:
        self._data = data
        self._advance = advance
        self._is_stopped = is_stopped or threading.Event()
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


async def _send(target: _Target, operation: str, body: _Body, params: dict[str, Any]) -> Answer:
    """Return the answer to a call that sends `body`; given up where no block is taken any more."""
    import asyncio  # slow to load

    client = target.client
    try:
        async with asyncio.timeout(None) as limit:
            body.is_taken = lambda: limit.reschedule(
                asyncio.get_running_loop().time() + client.stall_seconds
            )
            return await client.asked(
                operation, target.bucket, target.key, Body=body if len(body) else b"", **params
            )
    except TimeoutError:
        raise SourceUnreachableError(f"the server takes no more bytes of {target.uri}") from None


# --- afterwards -------------------------------------------------------------------------


def _verified(target: _Target, written: _Written, path: Path, size: int) -> Uploaded:
    """Compare what is there now with what was written, and say what stays unproven."""
    after, uri = target.find(), target.uri
    if (
        after is None
        or (written.etag is not None and after.etag != written.etag)
        or (written.version_id is not None and after.version_id not in (None, written.version_id))
    ):
        place, now = relpath.encode(uri.rpartition("/")[2]), target.client.now()
        ours = RemoteObject(uri, place, size, now, written.etag, written.version_id)
        return Uploaded(ours, f"{uri} was written again by someone else right after this upload")
    if after.size != size:
        raise IntegrityError(f"{uri} has {after.size} bytes after an upload of {size}")
    ours = after._replace(version_id=after.version_id or written.version_id)
    return Uploaded(ours, _unproven(target, written, path, ours))


def _unproven(target: _Target, written: _Written, path: Path, ours: RemoteObject) -> str | None:
    """Return what cannot be known about the moment of writing, or None for nothing."""
    if target.precondition is Precondition.ANYTHING:
        return None
    if written.is_conditional and target.client.connection.is_amazon:
        return None
    if ours.version_id not in (None, "null"):
        return _told_by_history(target, ours)
    if written.is_conditional and ours.size <= _PROBE:
        # The same write once more: its condition no longer holds, so it must be refused.
        # Harmless where it is not: the same bytes are written over themselves.
        answer = target.send("put_object", _Body(path.read_bytes()), **target.condition)
        if answer.status in (404, 409, 412):
            return None
        return (
            f"the server ignores conditions: a write to {target.uri} between the check and the "
            "upload would have been overwritten unnoticed"
        )
    return (
        f"the server was not seen to enforce conditions: a write to {target.uri} during the "
        "upload may have been overwritten"
    )


def _told_by_history(target: _Target, ours: RemoteObject) -> str | None:
    """Look into the key's history: the version below ours must be the expected one."""
    try:
        history = listing.list_versions(target.client, target.bucket, target.key, page_size=3)
        versions = [version for version in islice(history, 3) if version.key == target.key]
    except StorageError:
        return (
            f"whether {target.uri} was written by others during the upload cannot be seen "
            "without the permission `s3:ListBucketVersions`"
        )
    ids = [version.version_id for version in versions]
    if ours.version_id not in ids:
        return f"{target.uri} was written again by someone else right after this upload"
    below = next(iter(versions[ids.index(ours.version_id) + 1 :]), None)
    was = below if below is not None and below.size is not None else None
    if (was.etag if was else None) == (target.before.etag if target.before else None):
        return None
    return (
        f"the server ignores conditions: this upload has overwritten version "
        f"{was.version_id if was else None} of {target.uri}, which someone else wrote meanwhile"
    )
