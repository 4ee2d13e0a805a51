"""What says that bytes are the same: ETags, versions and times, however they are spelled.

A table says which field of fsspec's `info()` is an identity, since no two filesystems spell it
alike and some fields mislead (Google's `etag` changes with metadata). Never `fs.ukey()` or
`fs.checksum()`: they hash whatever `info()` holds, also what changes while the bytes do not.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from datacachalog.errors import IntegrityError, ObjectChangedError
from datacachalog.model import RemoteObject


class Identity(NamedTuple):
    """What a filesystem says of an object's state: without quotes, None where it does not say."""

    version_id: str | None = None
    etag: str | None = None

    @property
    def is_weak(self) -> bool:
        """Tell whether nothing but size and time tells two states apart."""
        return self.version_id is None and self.etag is None


class Fields(NamedTuple):
    """Where a filesystem's `info()` has what; the first field that says something counts."""

    version: tuple[str, ...] = ()
    etags: tuple[str, ...] = ()


_AZURE = Fields(version=("version_id",), etags=("etag",))
_GOOGLE = Fields(version=("generation",))
_HTTP = Fields(etags=("ETag", "Digest"))
_S3 = Fields(version=("VersionId",), etags=("ETag",))

STRONG: Mapping[str, Fields] = {
    "abfs": _AZURE,
    "abfss": _AZURE,
    "az": _AZURE,
    "gcs": _GOOGLE,
    "gs": _GOOGLE,
    "hf": Fields(etags=("blob_id",)),
    "http": _HTTP,
    "https": _HTTP,
    "s3": _S3,
    "s3a": _S3,
}
"""Every filesystem that has more than size and time, by its name in fsspec.

Local files have more, too, but not in `info()`: see `local`.
"""

_TIMES = ("LastModified", "last_modified", "updated", "Last-Modified", "mtime")


def identity_of(protocols: Iterable[str], info: Mapping[str, Any]) -> Identity:
    """Return what `info`, of a filesystem with these names, says of an object's state.

    >>> identity_of(["s3"], {"ETag": '"9e107d9d"', "VersionId": None})
    Identity(version_id=None, etag='9e107d9d')
    >>> identity_of(["https"], {"ETag": 'W/"9e107d9d"'}).is_weak
    True
    """
    fields = next((STRONG[name] for name in protocols if name in STRONG), Fields())
    return Identity(_first(fields.version, info), _first(fields.etags, info))


def _first(names: Iterable[str], info: Mapping[str, Any]) -> str | None:
    texts = (str(info[name]) for name in names if info.get(name))
    # A weak ETag stays while bytes change; the version `null` is overwritten in place.
    return next((unquoted(t) for t in texts if not t.startswith("W/") and t != "null"), None)


def unquoted(etag: str | None) -> str | None:
    """Return an ETag as the model keeps it: without quotes, None for none."""
    return (etag.strip('"') or None) if etag else None


def quoted(etag: str) -> str:
    """Return an ETag as a condition takes it."""
    return f'"{etag}"'


def modified_of(info: Mapping[str, Any]) -> datetime | None:
    """Return when the object was last written (aware, UTC), where `info` says so.

    >>> modified_of({"Last-Modified": "Tue, 05 Mar 2024 07:00:00 GMT"})
    datetime.datetime(2024, 3, 5, 7, 0, tzinfo=datetime.timezone.utc)
    """
    return next((in_utc(info[name]) for name in _TIMES if info.get(name)), None)


def in_utc(value: datetime | str | float) -> datetime:
    """Return a time as an aware one in UTC: naive ones are in UTC, numbers seconds since 1970."""
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    if isinstance(value, str) and "," in value:
        from email.utils import parsedate_to_datetime  # only the web writes dates as mails do

        value = parsedate_to_datetime(value)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def check_answer(
    obj: RemoteObject,
    start: int,
    stop: int,
    *,
    span: tuple[int, int] | None,
    size: int,
    etag: str | None,
    version_id: str | None,
    modified: datetime | None,
) -> None:
    """Check that a server's answer is bytes `start` to `stop` of `obj`.

    Not every server honours the conditions that were sent; what it says of itself decides.
    `span` are the bytes that it sends of `size`, the rest its own description, where it has one.
    """
    is_other = (
        size != obj.size
        or (obj.etag is not None and unquoted(etag) != obj.etag)
        or (obj.version_id is not None and version_id not in (None, obj.version_id))
        or (obj.is_weak and modified not in (None, obj.modified.replace(microsecond=0)))
    )
    if is_other:
        raise ObjectChangedError(f"{obj.uri} changed since it was resolved")
    if span != (start, stop):
        raise IntegrityError(f"the server did not answer bytes {start} to {stop} of {obj.uri}")
