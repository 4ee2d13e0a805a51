"""S3 behind the `Storage` protocol: strings listing, reading and uploading together.

One object serves all buckets that one set of settings reaches, by one s3fs instance. That is
made at first use and per process: none survives a fork.
"""

import os
from collections.abc import Container, Iterable, Iterator
from datetime import datetime
from itertools import groupby, takewhile
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from datacachalog import globs, relpath
from datacachalog.errors import VersioningNotSupportedError
from datacachalog.model import DeleteMarker, RemoteObject, objects_of
from datacachalog.storage import stall
from datacachalog.storage.base import Advance, Precondition, Uploaded
from datacachalog.storage.s3 import listing, objects
from datacachalog.storage.s3 import upload as uploading
from datacachalog.storage.s3.client import Client
from datacachalog.storage.s3.connection import Connection, connect, connection_of
from datacachalog.storage.s3.credentials import Credentials
from datacachalog.storage.s3.filesystem import make_filesystem
from datacachalog.storage.s3.listing import Columns, ListedVersion

if TYPE_CHECKING:
    from s3fs import S3FileSystem

    from datacachalog.spec.models import StorageSettings


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
        stall_seconds: float = stall.SECONDS,
        filesystem: "S3FileSystem | None" = None,
    ) -> None:
        self._settings = settings
        self._page_size = page_size
        self._stall_seconds = stall_seconds
        self._given = filesystem
        self._connection: Connection | None = None
        self._clients: dict[int, Client] = {}

    @property
    def connection(self) -> Connection:
        """Return how the server is reached."""
        if self._connection is None:
            if self._given is not None:
                self._connection = connection_of(self._given)
            elif isinstance(self._settings, Connection):
                self._connection = self._settings
            else:
                assert self._settings is not None, "neither settings nor a filesystem"
                self._connection = connect(self._settings)
        return self._connection

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
        if connection.is_anonymous or connection.keys is not None:
            return connection.keys
        return self._client.run(self._client.credentials)

    def region_of(self, bucket: str) -> str:
        """Return the region that `bucket` is asked at: proven, configured, or asked for now."""
        found = self._clients.get(os.getpid())
        if found is None and (region := self.connection.known_region):
            return region  # s3fs is slow to load, and proves nothing before it asks
        return self._client.region_of(bucket)

    def has_key(self, bucket: str, key: str) -> bool:
        """Tell whether there is an object of exactly that key: one HEAD, False if it is refused."""
        return self._client.ask("head_object", bucket, key).status == 200

    @property
    def endpoint(self) -> str:
        """Name the server: the normalised endpoint URL, or `aws` for Amazon's own."""
        return self.connection.name

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
            yield objects.describe(self._client, bucket, globs.unescape(pattern))
            return
        glob = globs.Glob(pattern)
        for page in listing.list_objects(
            self._client,
            bucket,
            glob.listing_prefix,
            is_flat=glob.is_flat,
            page_size=self._page_size,
        ):
            yield from _matching(page, bucket, glob)

    def version(self, uri: str, version_id: str) -> RemoteObject:
        """Return that version of the one object at `uri`: one HEAD."""
        bucket, pattern = split_uri(uri)
        return objects.describe_version(self._client, bucket, globs.unescape(pattern), version_id)

    def versions(self, uri: str) -> Iterator[RemoteObject | DeleteMarker]:
        """Stream the whole history of what `uri` names: keys ascending, newest first per key.

        Raises `VersioningNotSupportedError` where the bucket never had versioning, and
        `AccessDeniedError` that names the permission where it is missing.
        """
        bucket, pattern = split_uri(uri)
        entries: Iterable[ListedVersion]
        if globs.is_glob(pattern):
            glob = globs.Glob(pattern)
            prefix, below = glob.listing_prefix, len(glob.fixed_prefix)
            entries = filter(lambda entry: glob.matches(entry.key), self._history(bucket, prefix))
        else:
            key = globs.unescape(pattern)
            below = key.rfind("/") + 1
            # The key itself comes first of all that begin with it.
            entries = _of_one_key(self._history(bucket, key), key)
        for entry in _without_folder_markers(entries):
            place = f"s3://{bucket}/{entry.key}", relpath.encode(entry.key[below:])
            if entry.size is None:
                yield DeleteMarker(*place, entry.modified, entry.version_id)
            else:
                yield RemoteObject(*place, entry.size, entry.modified, entry.etag, entry.version_id)

    def _history(self, bucket: str, prefix: str) -> Iterator[ListedVersion]:
        """Stream the versions under `prefix`, once it is certain that the bucket keeps them."""
        client = self._client
        entries = listing.list_versions(client, bucket, prefix, page_size=self._page_size)
        first = next(entries, None)
        # Without versioning there is one version, `null`, of each key; so there is of keys
        # written before versioning began. Only the bucket can tell.
        if first is None or first.version_id in (None, "null"):
            keeps = listing.keeps_history(client, bucket)
            if keeps is False or (keeps is None and first is not None):
                raise VersioningNotSupportedError(
                    f"the bucket {bucket!r} keeps no history",
                    hint=f"turn it on: `aws s3api put-bucket-versioning --bucket {bucket} "
                    "--versioning-configuration Status=Enabled`; it starts from then",
                )
        if first is not None:
            yield first
            yield from entries

    def read(self, obj: RemoteObject, start: int, stop: int) -> Iterator["memoryview | bytes"]:
        """Stream bytes `start` to `stop` (exclusive) of exactly `obj`, in order."""
        if start == stop and obj.size:
            return  # HTTP has no way to ask for no bytes
        bucket, key = split_uri(obj.uri)
        yield from objects.read(self._client, bucket, key, obj, start, stop)

    def upload(
        self, path: Path, uri: str, *, precondition: RemoteObject | Precondition, advance: Advance
    ) -> Uploaded:
        """Upload the file at `path` to `uri`, provided the key still is what `precondition` says."""
        bucket, key = split_uri(uri)
        return uploading.upload(
            self._client,
            path,
            bucket,
            globs.unescape(key),
            precondition=precondition,
            advance=advance,
        )

    def now(self) -> datetime:
        """Return the server's clock (aware, UTC)."""
        return self._client.now()


def split_uri(uri: str) -> tuple[str, str]:
    """Return the bucket and the key, or pattern, of an `s3://` URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _matching(page: Columns, bucket: str, glob: globs.Glob) -> list[RemoteObject]:
    """Return the objects of a page that the glob matches, without folder markers."""
    has_markers = 0 in page.size and any(key.endswith("/") for key in page.key)
    if has_markers or not all(map(glob.matches, page.key)):
        rows = enumerate(zip(page.key, page.size, strict=True))
        page = page.only(
            [i for i, (key, size) in rows if glob.matches(key) and (size or not key.endswith("/"))]
        )
    below = len(glob.fixed_prefix)
    return objects_of(
        uri=list(map(f"s3://{bucket}/".__add__, page.key)),
        relpath=relpath.encode_all([key[below:] for key in page.key]),
        size=page.size,
        modified=page.modified,
        etag=page.etag,
    )


def _is_folder_marker(entry: ListedVersion) -> bool:
    return not entry.size and entry.key.endswith("/")


def _of_one_key(entries: Iterator[ListedVersion], key: str) -> Iterator[ListedVersion]:
    return takewhile(lambda entry: entry.key == key, entries)


def _without_folder_markers(entries: Iterable[ListedVersion]) -> Iterator[ListedVersion]:
    """Leave out keys that never were more than a folder marker.

    Where one had bytes at times, being a marker counts as being deleted.
    """
    for key, history in groupby(entries, key=itemgetter(0)):
        if not key.endswith("/"):
            yield from history
            continue
        known = [e._replace(size=None) if _is_folder_marker(e) else e for e in history]
        if any(entry.size is not None for entry in known):
            yield from known
