"""S3 behind the `Storage` protocol: strings connection, listing and reading together."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from datacachalog import globs, relpath
from datacachalog.errors import StorageError
from datacachalog.model import DeleteMarker, RemoteObject
from datacachalog.storage.protocol import Advance, Expect, Uploaded
from datacachalog.storage.s3 import listing, reading
from datacachalog.storage.s3.connection import S3Settings, connection
from datacachalog.storage.s3.faults import fault
from datacachalog.storage.s3.wire import Wire


def split(uri: str) -> tuple[str, str]:
    """Return bucket and key (or pattern) of an `s3://` URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


class S3Storage:
    """Amazon S3 and whatever speaks its protocol."""

    def __init__(self, settings: S3Settings) -> None:
        self._wire = Wire(connection(settings))
        self._stores: dict[str, object] = {}

    @property
    def endpoint(self) -> str:
        """Name the server: its URL, or `aws`."""
        return self._wire.connection.name

    def scan(self, uri: str) -> Iterator[RemoteObject]:
        """Return the object at `uri`, or what its glob matches, as it is now."""
        bucket, key = split(uri)
        if not globs.is_glob(key):
            yield self._head(bucket, key)
            return
        glob = globs.Glob(key)
        below = len(glob.fixed_prefix)
        for entry in listing.list_objects(self._wire, bucket, glob.listing_prefix):
            if glob.matches(entry.key) and not (entry.key.endswith("/") and not entry.size):
                yield RemoteObject(
                    f"s3://{bucket}/{entry.key}",
                    relpath.encode(entry.key[below:]),
                    entry.size,
                    entry.modified,
                    entry.etag,
                )

    def _head(self, bucket: str, key: str) -> RemoteObject:
        uri = f"s3://{bucket}/{key}"
        answer = self._wire.ask("HEAD", bucket, key)
        if answer.status != 200:
            raise fault(answer, uri)
        return RemoteObject(
            uri,
            relpath.encode(key.rpartition("/")[2]),
            int(answer.headers["content-length"]),
            parsedate_to_datetime(answer.headers["last-modified"]),
            answer.headers["etag"].strip('"') or None,
            answer.headers.get("x-amz-version-id"),
        )

    def versions(self, uri: str) -> Iterable[RemoteObject | DeleteMarker]:
        """Stream the whole history of what `uri` names."""
        raise StorageError("history is not there yet")

    def read(self, obj: RemoteObject, start: int, stop: int) -> Iterator["memoryview | bytes"]:
        """Stream bytes `start` to `stop` (exclusive) of exactly `obj`, in order."""
        bucket, key = split(obj.uri)
        store = self._stores.get(bucket)
        if store is None:
            region = self._wire.connection.region or "us-east-1"
            store = reading.open_store(self._wire.connection, bucket, region)
            self._stores[bucket] = store
        return reading.read(store, key, obj, start, stop)  # type: ignore[arg-type]

    def upload(
        self, path: Path, uri: str, *, expect: RemoteObject | Expect, advance: Advance
    ) -> Uploaded:
        """Upload the file at `path` to `uri`, provided the key still is what `expect` says."""
        raise StorageError("uploads are not there yet")

    def now(self) -> datetime:
        """Return the server's clock."""
        answer = self._wire.ask("GET", "")
        date = answer.headers.get("date")
        return parsedate_to_datetime(date) if date else datetime.now(UTC)
