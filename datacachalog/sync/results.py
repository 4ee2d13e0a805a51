"""What a run leaves behind, as values: outcomes of a sync, states of datasets, verdicts.

Returned by `Catalog`'s methods; rendered by the command line.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from datacachalog import events
from datacachalog.errors import DatacachalogError, PartialFailureError
from datacachalog.lock.rules import LockNews
from datacachalog.model import RemoteObject
from datacachalog.sync.plan import Conflict, Plan


class Outcome(NamedTuple):
    """What became of one dataset. Counts are files; sizes are in bytes.

    `downloaded` came over the network, `linked` came from the cache, `hits` were in
    place, `dropped` vanished at the source. `folder` holds the files. With `error` set,
    it is as it was.
    """

    name: str
    plan: Plan | None = None
    folder: Path | None = None
    downloaded: int = 0
    downloaded_bytes: int = 0
    linked: int = 0
    hits: int = 0
    dropped: int = 0
    total_bytes: int = 0
    warnings: tuple[str, ...] = ()
    error: DatacachalogError | None = None

    @property
    def paths(self) -> list[Path]:
        """Return where the dataset's files are, sorted; empty if that is not known."""
        if self.plan is None or self.folder is None:
            return []
        return [Path(f"{self.folder}/{obj.relpath}") for obj in self.plan.resolution.objects]

    def event(self) -> events.DatasetFinished:
        """Return the event that tells of it."""
        return events.DatasetFinished(
            self.name,
            downloaded=self.downloaded,
            downloaded_bytes=self.downloaded_bytes,
            linked=self.linked,
            hits=self.hits,
            dropped=self.dropped,
            total_bytes=self.total_bytes,
            error=self.error,
        )


class SyncReport(NamedTuple):
    """All outcomes of one run, in the order asked for, its wall time, and the lock's news."""

    outcomes: tuple[Outcome, ...]
    seconds: float
    lock_news: LockNews = LockNews()

    @property
    def errors(self) -> dict[str, DatacachalogError]:
        """Return the error of each dataset that failed."""
        return {o.name: o.error for o in self.outcomes if o.error is not None}


class Freshness(Enum):
    """How a dataset on disk compares with what its source and pin say."""

    UP_TO_DATE = "up to date"
    STALE = "stale"
    MISSING = "not fetched"
    INCOMPLETE = "incomplete"
    EDITED = "edited"
    ERROR = "error"


class DatasetStatus(NamedTuple):
    """One dataset's freshness and what a sync would do. `size` is in bytes.

    `is_locked` tells that the lock says what should be there, not the source.
    """

    name: str
    freshness: Freshness
    pin: str
    files: int = 0
    size: int = 0
    downloads: int = 0
    download_bytes: int = 0
    links: int = 0
    drops: int = 0
    conflicts: tuple[Conflict, ...] = ()
    checked: datetime | None = None
    is_locked: bool = False
    plan: Plan | None = None
    warnings: tuple[str, ...] = ()
    error: DatacachalogError | None = None


class PushReport(NamedTuple):
    """What a push left at the remote; `unproven` says what could not be made sure of.

    `is_locked` tells that the lock was moved to it.
    """

    object: RemoteObject
    unproven: str | None
    seconds: float
    is_locked: bool = False


class BadFile(NamedTuple):
    """A file whose bytes are not what was put there, and why."""

    relpath: str
    reason: str


class Verification(NamedTuple):
    """The verdict of re-hashing a dataset's files; `size` in bytes."""

    name: str
    files: int = 0
    size: int = 0
    bad: tuple[BadFile, ...] = ()
    error: DatacachalogError | None = None


def judge(plan: Plan, *, was_fetched: bool) -> Freshness:
    """Return the one word for what a plan says."""
    if plan.is_noop:
        return Freshness.UP_TO_DATE
    if plan.conflicts:
        return Freshness.EDITED
    if not was_fetched:
        return Freshness.MISSING
    reasons = {step.reason for step in plan.links} | {step.reason for step in plan.downloads}
    if reasons == {"missing on disk"} and not plan.drops and not plan.keeps:
        return Freshness.INCOMPLETE
    return Freshness.STALE


def raise_errors(errors: Mapping[str, DatacachalogError], asked: Sequence[str]) -> None:
    """Raise what failed: its own error, if that is all that was asked for."""
    if not errors:
        return
    name, first = next(iter(errors.items()))
    if len(asked) == 1:
        raise first
    count = "1 dataset" if len(errors) == 1 else f"{len(errors)} datasets"
    raise PartialFailureError(
        f"{count} failed, the others are done; '{name}': {first}",
        dict(errors),
        hint="`error.errors` has each dataset's own",
    )
