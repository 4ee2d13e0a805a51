"""The values of the pipeline: remote objects, pins, resolutions.

Used everywhere; knows nothing of storages, disks or catalogs.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from operator import attrgetter
from typing import NamedTuple

from blake3 import blake3

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class RemoteObject(NamedTuple):
    """One immutable state of one remote object.

    `uri` is scheme, bucket and the key exactly as stored (never percent-encoded). `relpath` is
    where it belongs below its dataset's folder: relative, POSIX, and safe on every file system.
    `size` is in bytes. `modified` is aware, in UTC. `etag` has no surrounding quotes and is an
    identity, not a hash. `version_id` is None where the source keeps no history or the listing
    does not tell it.
    """

    uri: str
    relpath: str
    size: int
    modified: datetime
    etag: str | None = None
    version_id: str | None = None

    @property
    def mtime_ns(self) -> int:
        """Return `modified` in nanoseconds since the epoch, exact to the microsecond."""
        return (self.modified - EPOCH) // MICROSECOND * 1000

    @property
    def is_weak(self) -> bool:
        """Tell whether nothing but size and time identifies these bytes."""
        return self.etag is None and self.version_id in (None, "null")

    def fingerprint(self, endpoint: str) -> str:
        """Return the cache key of these bytes: 64 hex digits over what identifies them.

        The version id decides where there is one (`null` is mutable and does not count), else
        the ETag, else size and modification time. `endpoint` names the server, so equal keys
        of two servers never meet.
        """
        if self.version_id is not None and self.version_id != "null":
            identity = ("version", self.version_id)
        elif self.etag is not None:
            identity = ("etag", f"{self.etag}\n{self.size}")
        else:
            identity = ("stat", f"{self.size}\n{self.mtime_ns}")
        text = "\0".join((endpoint, self.uri, *identity))
        return blake3(text.encode("utf-8", "surrogatepass")).hexdigest()

    def is_same_as(self, other: "RemoteObject") -> bool:
        """Tell whether both describe the same bytes of the same key.

        Version ids decide where both sides know one; a listing knows none, and then the
        ETag decides, else size and modification time.
        """
        if self.uri != other.uri or self.size != other.size:
            return False
        mine, theirs = self.version_id, other.version_id
        if mine and theirs and "null" not in (mine, theirs):
            return mine == theirs
        if self.etag is not None and other.etag is not None:
            return self.etag == other.etag
        return self.etag == other.etag and self.modified == other.modified


IDENTITY = attrgetter("uri", "size", "etag")
"""Objects that have these alike, and not two version ids, are the same (see `is_same_as`)."""


class DeleteMarker(NamedTuple):
    """The record in a key's history that it was deleted at `modified`."""

    uri: str
    relpath: str
    modified: datetime
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One entry of a key's history, as `Catalog.versions` shows it."""

    uri: str
    relpath: str
    last_modified: datetime
    version_id: str | None
    etag: str | None
    size: int | None
    is_latest: bool
    is_delete_marker: bool


@dataclass(frozen=True, slots=True)
class Latest:
    """The pin that is none: whatever is there now."""

    def __str__(self) -> str:
        return "latest"


@dataclass(frozen=True, slots=True)
class AsOf:
    """The state at an instant, inclusive; `at` is aware, in UTC.

    `text` is what the user wrote, for messages; it takes no part in comparisons.
    """

    at: datetime
    text: str = field(default="", compare=False)

    @property
    def slug(self) -> str:
        """Return the instant as a part of a folder's name, injective.

        The end of a day, minute or second is written as that unit; anything else to the
        microsecond.

        >>> day = datetime(2024, 12, 10, 23, 59, 59, 999999, tzinfo=UTC)
        >>> AsOf(day).slug, AsOf(day.replace(hour=9, minute=30)).slug
        ('2024-12-10', '2024-12-10T0930Z')
        >>> AsOf(day.replace(second=5)).slug, AsOf(day.replace(second=5, microsecond=0)).slug
        ('2024-12-10T235905Z', '2024-12-10T235905.000000Z')
        """
        if self.at.microsecond != 999_999:
            return f"{self.at:%Y-%m-%dT%H%M%S.%f}Z"
        if self.at.second != 59:
            return f"{self.at:%Y-%m-%dT%H%M%S}Z"
        if (self.at.hour, self.at.minute) != (23, 59):
            return f"{self.at:%Y-%m-%dT%H%M}Z"
        return f"{self.at:%Y-%m-%d}"

    def __str__(self) -> str:
        return self.text or self.at.isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Ago:
    """A duration before the server's now; becomes an `AsOf` when it is resolved."""

    delta: timedelta
    text: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.text or str(self.delta)


@dataclass(frozen=True, slots=True)
class VersionId:
    """Exactly one version of one object."""

    version_id: str

    def __str__(self) -> str:
        return f"version {self.version_id}"


Pin = Latest | AsOf | Ago | VersionId


def pin_identity(pin: Pin) -> str:
    """Return the text that stands for a pin in digests: the same for the same meaning."""
    match pin:
        case Latest():
            return "latest"
        case AsOf(at):
            return f"as of {at.astimezone(UTC).isoformat()}"
        case Ago(delta):
            return f"ago {delta.total_seconds()}"
        case VersionId(version_id):
            return f"version {version_id}"


class Origin(Enum):
    """Where a resolution's knowledge comes from."""

    REMOTE = "remote"
    STATE = "state"
    LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a dataset's sources and pin mean: an immutable list of remote objects.

    `objects` is sorted by `relpath`, and no two share one. `endpoint` names the server
    (one dataset has one storage); with it every object has a fingerprint. `checked` is
    when the remote was checked (aware, UTC). `hashes` maps relpath to the blake3 (64 hex
    digits) that a lock demands. `warnings` are sentences for the user.
    """

    objects: tuple[RemoteObject, ...]
    pin: Pin
    endpoint: str
    checked: datetime
    origin: Origin = Origin.REMOTE
    hashes: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
