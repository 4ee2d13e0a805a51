"""The seam to everything remote: one protocol, speaking only our own values.

Used by `resolve` and `transfer`. An implementation translates its library's errors into
`errors.StorageError` classes in one place, never retries (the caller does), and never
writes a local path.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Protocol

from datacachalog.model import DeleteMarker, RemoteObject

Advance = Callable[[int], None]
"""Called with the number of bytes moved since the last call; from any thread."""


class Expect(Enum):
    """What an upload may assume of the key, where it is not a known object."""

    ABSENT = "absent"
    ANYTHING = "anything"


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What an upload left behind.

    `object` is the remote's own description afterwards. `unproven` is None where the
    storage enforced the condition, else one sentence on what could not be proven.
    """

    object: RemoteObject
    unproven: str | None = None


class Channel(Protocol):
    """A connection that never blocks."""

    @property
    def fileno(self) -> int:
        """The descriptor to wait on; the same for all of its life."""
        ...

    @property
    def holds_back(self) -> bool:
        """Tell whether bytes may have come that no waiting shows: read until there are none."""
        ...

    def open(self) -> int:
        """Go on connecting; return 0 when done, else the event of `selectors` to wait for."""
        ...

    def send(self, data: bytes) -> None:
        """Send all of a request's head; raises OSError."""
        ...

    def receive(self, buffer: memoryview) -> int | None:
        """Return how many bytes came into `buffer`: 0 at the end, None if none came yet."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class Site(Protocol):
    """Where connections lead to; requests of one site may share them."""

    def connect(self) -> Channel:
        """Begin a connection; only the look-up of the host's name may block."""
        ...

    def avoid(self, channel: Channel) -> bool:
        """Avoid the address that `channel` did not get through to; return if there are others."""
        ...


class Request(NamedTuple):
    """A GET as `lane` carries it: where to, its bytes, and what is no right answer to it.

    `check` takes the answer's status (200 or 206) and headers (names in lower case), and raises.
    """

    site: Site
    head: bytes
    check: Callable[[int, Mapping[str, str]], None]


class Storage(Protocol):
    """Where objects live.

    Thread-safe. Usable after a fork (clients are built per process, at first use).
    """

    @property
    def endpoint(self) -> str:
        """Name the server: part of every fingerprint; asks no network.

        The normalised endpoint URL, `aws` for Amazon's own, `file` for local disks.
        """
        ...

    def scan(self, uri: str) -> Iterable[RemoteObject]:
        """Return the object at `uri`, or what its glob matches, as it is now.

        A literal URI gives exactly one object or raises `ObjectNotFoundError`. A glob
        gives any number, each key once, in any order; folder markers are left out.
        """
        ...

    def versions(self, uri: str) -> Iterable[RemoteObject | DeleteMarker]:
        """Stream the whole history of what `uri` names: keys ascending, newest first per key.

        Raises `VersioningNotSupportedError` where the source never kept history.
        """
        ...

    def version(self, uri: str, version_id: str) -> RemoteObject:
        """Return that version of the one object at `uri`.

        Raises `ObjectNotFoundError` if it never was or is gone, and
        `VersioningNotSupportedError` where the source keeps no history.
        """
        ...

    def read(self, obj: RemoteObject, start: int, stop: int) -> Iterator["memoryview | bytes"]:
        """Stream bytes `start` to `stop` (exclusive) of exactly `obj`, in order.

        The request is bound to `obj`'s version id or ETag, and each response's identity,
        range and total size are compared with `obj`: `ObjectChangedError` when they differ,
        `ObjectNotFoundError` when it is gone. Buffers are at most a few MiB. The caller
        counts what it receives.
        """
        ...

    def request(self, obj: RemoteObject, start: int, stop: int) -> Request | None:
        """Return the GET of the same bytes, signed now; None where only `read` gives them.

        Bound and checked as in `read`.
        """
        ...

    def upload(
        self, path: Path, uri: str, *, expect: RemoteObject | Expect, advance: Advance
    ) -> Uploaded:
        """Upload the file at `path` to `uri`, provided the key still is what `expect` says.

        Large files go in parts, never whole in memory. Raises `PushConflictError` when the
        key is not as expected; then nothing was changed.
        """
        ...

    def now(self) -> datetime:
        """Return the server's clock (aware, UTC), for durations and the age of pins."""
        ...
