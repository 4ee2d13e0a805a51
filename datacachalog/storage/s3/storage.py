"""S3 behind the `Storage` protocol: one object described, and its bytes; listings and history.

One object serves all buckets that one set of settings reaches, by one s3fs instance. That is
made at first use and per process: none survives a fork.
"""

import os
import re
from collections.abc import Container, Iterable, Iterator
from datetime import datetime
from functools import cached_property
from itertools import groupby, takewhile
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datacachalog import globs, relpath
from datacachalog.errors import (
    IntegrityError,
    ObjectNotFoundError,
    SourceUnreachableError,
    StorageError,
    VersioningNotSupportedError,
)
from datacachalog.model import DeleteMarker, RemoteObject
from datacachalog.storage.base import STALL_SECONDS, Advance, Precondition, StallGuard, Uploaded
from datacachalog.storage.identity import check_answer, quoted
from datacachalog.storage.s3 import errors, listing
from datacachalog.storage.s3 import upload as uploading
from datacachalog.storage.s3.client import Client, guarded, make_filesystem
from datacachalog.storage.s3.connection import (
    Connection,
    Credentials,
    chain_credentials,
    connect,
    connection_of,
)
from datacachalog.storage.s3.errors import Answer
from datacachalog.storage.s3.listing import ListedVersion

if TYPE_CHECKING:
    from s3fs import S3FileSystem

    from datacachalog.spec.models import StorageSettings

_PIECE = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class S3Storage:
    """Amazon S3 and whatever speaks its protocol.

    `page_size` is how many entries a listing's page holds; None leaves it to the server. A
    body that hardly moves for `stall_seconds` is given up. `filesystem` is an s3fs instance
    to ask by; what it is set up with then counts, in place of settings.
    """

    def __init__(
        self,
        settings: "StorageSettings | Connection | None" = None,
        *,
        page_size: int | None = None,
        stall_seconds: float = STALL_SECONDS,
        filesystem: "S3FileSystem | None" = None,
    ) -> None:
        self._settings = settings
        self._page_size = page_size
        self._stall_seconds = stall_seconds
        self._given = filesystem
        self._clients: dict[int, Client] = {}

    @cached_property
    def connection(self) -> Connection:
        """Return how the server is reached."""
        if self._given is not None:
            return connection_of(self._given)
        if isinstance(self._settings, Connection):
            return self._settings
        assert self._settings is not None, "neither settings nor a filesystem"
        return connect(self._settings)

    @property
    def endpoint(self) -> str:
        """Name the server: the normalised endpoint URL, or `aws` for Amazon's own."""
        return self.connection.name

    @property
    def filesystem(self) -> "S3FileSystem":
        """Return the s3fs instance of this process."""
        return self._client.filesystem

    @property
    def _client(self) -> Client:
        """Return this process's client. No lock: one might have been held when forking."""
        pid = os.getpid()
        found = self._clients.get(pid)
        if found is None:
            made = Client(self.connection, self._make(), self._stall_seconds)
            found = self._clients.setdefault(pid, made)
        return found

    def _make(self) -> "S3FileSystem":
        given = self._given
        if given is None:
            return make_filesystem(self.connection, self._stall_seconds)
        if given._pid == os.getpid():  # noqa: SLF001 - fsspec asks itself by it
            return given
        return type(given)(*given.storage_args, **given.storage_options, skip_instance_cache=True)

    def credentials(self) -> Credentials | None:
        """Return keys that are valid now, refreshed if need be; None for unsigned requests.

        Thread-safe; not to be called on fsspec's event loop.
        """
        connection = self.connection
        if not connection.asks_chain:
            return connection.keys
        client = self._client
        return client.run(chain_credentials, client.filesystem, connection.profile)

    def region_of(self, bucket: str) -> str:
        """Return the region that `bucket` is asked at: proven, configured, or asked for now."""
        found = self._clients.get(os.getpid())
        if found is None and (region := self.connection.known_region):
            return region  # s3fs is slow to load, and proves nothing before it asks
        return self._client.region_of(bucket)

    def has_key(self, bucket: str, key: str) -> bool:
        """Tell whether there is an object of exactly that key: one HEAD, False if it is refused."""
        return self._client.ask("head_object", bucket, key).status == 200

    def now(self) -> datetime:
        """Return the server's clock (aware, UTC)."""
        return self._client.now()

    # --- what is there ------------------------------------------------------------------

    def scan(
        self,
        uri: str,
        *,
        known: Container[str] = frozenset(),  # noqa: ARG002 - the protocol's
        is_thorough: bool = False,  # noqa: ARG002 - always is
    ) -> Iterator[RemoteObject]:
        """Return the object at `uri`, or what its glob matches, as it is now.

        A listing does not tell version ids, so only a literal URI gives one.
        """
        bucket, pattern = split_uri(uri)
        if not globs.is_glob(pattern):
            yield self._describe(bucket, globs.unescape(pattern))
            return
        glob = globs.Glob(pattern)
        prefix, size = glob.listing_prefix, self._page_size
        pages = listing.list_objects(
            self._client, bucket, prefix, is_flat=glob.is_flat, page_size=size
        )
        for page in pages:
            yield from page.matching(bucket, glob)

    def _describe(self, bucket: str, key: str) -> RemoteObject:
        uri = f"s3://{bucket}/{key}"
        answer = self._client.ask("head_object", bucket, key)
        if answer.status == 200:
            return answer.object(uri)
        if answer.status == 404 and listing.exists_below(self._client, bucket, f"{key}/"):
            raise ObjectNotFoundError(
                f"{uri} is a folder, not an object", hint=f"write `{globs.escape(uri)}/**`"
            )
        raise self._client.reason(answer, bucket, key)

    def version(self, uri: str, version_id: str) -> RemoteObject:
        """Return that version of the one object at `uri`: one HEAD."""
        bucket, pattern = split_uri(uri)
        key = globs.unescape(pattern)
        uri = f"s3://{bucket}/{key}"
        answer = self._client.ask("head_object", bucket, key, VersionId=version_id)
        if answer.status == 200:
            found = answer.object(uri)
            if found.version_id in (version_id, None):
                return found._replace(version_id=version_id)
            raise StorageError(f"asked for version {version_id} of {uri}, got {found.version_id}")
        if answer.status == 405:
            raise ObjectNotFoundError(
                f"version {version_id} of {uri} is the record of its deletion, not an object",
                hint="take the version before it",
            )
        raise self._client.reason(answer, bucket, key, version_id)

    def versions(self, uri: str) -> Iterator[RemoteObject | DeleteMarker]:
        """Stream the whole history of what `uri` names: keys ascending, newest first per key.

        Raises `VersioningNotSupportedError` where the bucket never had versioning, and
        `AccessDeniedError` that names the permission where it is missing.
        """
        bucket, pattern = split_uri(uri)
        found: Iterable[ListedVersion]
        if globs.is_glob(pattern):
            glob = globs.Glob(pattern)
            below = len(glob.fixed_prefix)
            history = self._history(bucket, glob.listing_prefix)
            found = (version for version in history if glob.matches(version.key))
        else:
            key = globs.unescape(pattern)
            below = key.rfind("/") + 1
            # The key itself comes first of all that begin with it.
            found = takewhile(lambda version: version.key == key, self._history(bucket, key))
        for version in _without_folder_markers(found):
            place = f"s3://{bucket}/{version.key}", relpath.encode(version.key[below:])
            _, modified, etag, size, version_id = version
            if size is None:
                yield DeleteMarker(*place, modified, version_id)
            else:
                yield RemoteObject(*place, size, modified, etag, version_id)

    def _history(self, bucket: str, prefix: str) -> Iterator[ListedVersion]:
        """Stream the versions under `prefix`, once it is certain that the bucket keeps them."""
        versions = listing.list_versions(self._client, bucket, prefix, page_size=self._page_size)
        first = next(versions, None)
        # Without versioning there is one version, `null`, of each key; so there is of keys
        # written before versioning began. Only the bucket can tell.
        if first is None or first.version_id in (None, "null"):
            keeps = listing.keeps_history(self._client, bucket)
            if keeps is False or (keeps is None and first is not None):
                raise VersioningNotSupportedError(
                    f"the bucket {bucket!r} keeps no history",
                    hint=f"turn it on: `aws s3api put-bucket-versioning --bucket {bucket} "
                    "--versioning-configuration Status=Enabled`; it starts from then",
                )
        if first is not None:
            yield first
            yield from versions

    # --- bytes --------------------------------------------------------------------------

    def read(self, obj: RemoteObject, start: int, stop: int) -> Iterator["memoryview | bytes"]:
        """Stream bytes `start` to `stop` (exclusive) of exactly `obj`, in order."""
        if start == stop and obj.size:
            return  # HTTP has no way to ask for no bytes
        client = self._client
        guard = StallGuard(obj.uri, seconds=self._stall_seconds)
        left = stop - start
        answer, piece = client.run(_begin, client, obj, start, stop, guard)
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
                client.close(answer)

    def upload(
        self, path: Path, uri: str, *, precondition: RemoteObject | Precondition, advance: Advance
    ) -> Uploaded:
        """Upload the file at `path`, provided the key still is what `precondition` says."""
        bucket, pattern = split_uri(uri)
        key = globs.unescape(pattern)
        return uploading.upload(
            self._client, path, bucket, key, precondition=precondition, advance=advance
        )


def split_uri(uri: str) -> tuple[str, str]:
    """Return the bucket and the key, or pattern, of an `s3://` URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _without_folder_markers(versions: Iterable[ListedVersion]) -> Iterator[ListedVersion]:
    """Leave out keys that never were more than a folder marker.

    Where one had bytes at times, being a marker counts as being deleted.
    """
    for key, history in groupby(versions, key=attrgetter("key")):
        if not key.endswith("/"):
            yield from history
            continue
        known = [version if version.size else version._replace(size=None) for version in history]
        if any(version.size is not None for version in known):
            yield from known


async def _begin(
    client: Client, obj: RemoteObject, start: int, stop: int, guard: StallGuard
) -> tuple[Answer, bytes]:
    """Return the answer to a GET that is bound to `obj`, and its body's first piece."""
    bucket, key = split_uri(obj.uri)
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
        _check(answer, obj, start, stop)
        return answer, await _next(answer.fields["Body"], obj, stop - start, guard)
    except BaseException:
        answer.fields["Body"].close()
        raise


async def _next(body: Any, obj: RemoteObject, left: int, guard: StallGuard) -> bytes:
    """Return the next piece of a body of which `left` bytes are to come, and see that it ends."""
    count = min(left, _PIECE)
    pieces = []
    with errors.network(obj.uri):
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


def _check(answer: Answer, obj: RemoteObject, start: int, stop: int) -> None:
    fields = answer.fields
    size = fields.get("ContentLength", obj.size)
    span: tuple[int, int] | None = (0, size)
    if answer.status == 206:
        found = _CONTENT_RANGE.fullmatch(fields.get("ContentRange", ""))
        size = int(found[3]) if found else obj.size
        span = (int(found[1]), int(found[2]) + 1) if found else None
    check_answer(
        obj,
        start,
        stop,
        span=span,
        size=size,
        etag=fields.get("ETag"),
        version_id=fields.get("VersionId"),
        modified=fields.get("LastModified"),
    )
