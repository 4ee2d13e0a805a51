"""The seam to everything remote: one protocol, speaking only our own values.

Used by `resolve`, `download` and `push`. An implementation translates its library's errors into
`errors.StorageError` classes in one place, never retries (the caller does), and never
writes a local path. What all of them need to keep their promises stands here, too: what an
upload may assume, and when a connection that hardly moves is given up.
"""

import time
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from datacachalog.errors import ObjectChangedError, PushConflictError, SourceUnreachableError
from datacachalog.model import DeleteMarker, RemoteObject

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Advance = Callable[[int], None]
"""Called with the number of bytes moved since the last call; from any thread."""

STALL_SECONDS = 60.0
STALL_BYTES = 1000
"""A body that moves fewer bytes than this in `STALL_SECONDS` is given up."""


class Precondition(Enum):
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


class MisreadKeyError(ObjectChangedError):
    """A listing showed a key as another one, and only now that is known: list again."""


class Storage(Protocol):
    """Where objects live.

    Thread-safe. Usable after a fork (clients are built per process, at first use).
    """

    @property
    def endpoint(self) -> str:
        """Name the server: part of every fingerprint; asks no network.

        The normalised endpoint URL, `aws` for Amazon's own, `file` for local disks.
        """

    @property
    def filesystem(self) -> "AbstractFileSystem":
        """Return the fsspec filesystem that reaches the same, as this process may use it.

        For programs that read in place or look around; what is read so is not bound to a state.
        """

    def scan(
        self, uri: str, *, known: Container[str] = frozenset(), is_thorough: bool = False
    ) -> Iterable[RemoteObject]:
        """Return the object at `uri`, or what its glob matches, as it is now.

        A literal URI gives exactly one object or raises `ObjectNotFoundError`. A glob
        gives any number, each key once, in any order; folder markers are left out. A listing
        that is not complete is an error.

        Where a storage has a fast way that cannot tell everything, it need not look twice at
        empty objects whose URIs are `known` to be no folder markers, and `is_thorough` makes
        it take the complete way.
        """

    def versions(self, uri: str) -> Iterable[RemoteObject | DeleteMarker]:
        """Stream the whole history of what `uri` names: keys ascending, newest first per key.

        Raises `VersioningNotSupportedError` where the source never kept history.
        """

    def version(self, uri: str, version_id: str) -> RemoteObject:
        """Return that version of the one object at `uri`.

        Raises `ObjectNotFoundError` if it never was or is gone, and
        `VersioningNotSupportedError` where the source keeps no history.
        """

    def read(self, obj: RemoteObject, start: int, stop: int) -> Iterator["memoryview | bytes"]:
        """Stream bytes `start` to `stop` (exclusive) of exactly `obj`, in order.

        The request is bound to `obj`'s version id or ETag, and each response's identity,
        range and total size are compared with `obj`: `ObjectChangedError` when they differ,
        `ObjectNotFoundError` when it is gone. A body that is shorter or longer than asked for
        is an `IntegrityError`, one that hardly moves (`StallGuard`) a `SourceUnreachableError`.
        What came before an `IntegrityError` is right only where that `is_resumable`.
        Buffers are at most a few MiB, and stay valid. Never retried here.
        """

    def upload(
        self, path: Path, uri: str, *, precondition: RemoteObject | Precondition, advance: Advance
    ) -> Uploaded:
        """Upload the file at `path` to `uri`, provided the key still is what `precondition` says.

        Large files go in parts, never whole in memory. Raises `PushConflictError` when the
        key is not as expected; then nothing was changed.
        """

    def now(self) -> datetime:
        """Return the server's clock (aware, UTC), for durations and the age of pins."""


# --- preconditions ----------------------------------------------------------------------


def check_precondition(
    uri: str, precondition: RemoteObject | Precondition, found: RemoteObject | None
) -> None:
    """Raise `PushConflictError` unless what was found (None for nothing) may be replaced."""
    if isinstance(precondition, RemoteObject):
        is_met = found is not None and found.is_same_as(precondition)
    else:
        is_met = found is None or precondition is Precondition.ANYTHING
    if not is_met:
        raise push_conflict(uri, precondition, found)


def push_conflict(
    uri: str, precondition: RemoteObject | Precondition, found: RemoteObject | None
) -> PushConflictError:
    """Return the error that shows both sides: when, how large, which ETag."""
    expected = precondition if isinstance(precondition, RemoteObject) else None
    return PushConflictError(
        f"{uri} is not what it was: expected {_told(expected)}, found {_told(found)}",
        hint="sync to see what changed, or push with `--force` to overwrite it",
    )


def _told(obj: RemoteObject | None) -> str:
    if obj is None:
        return "no object"
    return f"{obj.size:,} bytes of {obj.modified:%Y-%m-%d %H:%M:%S}Z (ETag {obj.etag})"


# --- stalls -----------------------------------------------------------------------------


class StallGuard:
    """Watches one body: told of every piece, it raises once too little has come for too long.

    A time-out for silence alone does not do: a server that sends a byte a second is never silent.
    """

    __slots__ = ("_count", "_seconds", "_since", "_uri")

    def __init__(self, uri: str, *, seconds: float = STALL_SECONDS) -> None:
        self._uri = uri
        self._seconds = seconds
        self._since = time.monotonic()
        self._count = 0

    @property
    def remaining(self) -> float:
        """Return for how many seconds more the next piece may be waited for."""
        return max(0.0, self._since + self._seconds - time.monotonic())

    def note(self, count: int) -> None:
        """Note that `count` bytes came; raise `SourceUnreachableError` if that is too slow."""
        self._count += count
        if self._count >= STALL_BYTES:
            self._since, self._count = time.monotonic(), 0
        elif not self.remaining:
            raise self.error()

    def error(self) -> SourceUnreachableError:
        """Return the error for a body that is given up."""
        return SourceUnreachableError(
            f"the server sent {self._count} bytes in {self._seconds:.0f} s of {self._uri}"
        )
