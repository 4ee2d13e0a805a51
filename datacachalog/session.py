"""One call of the API: what it asks, the run it gets, and what its pin is called on disk.

Used by `catalog`.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime

from blake3 import blake3

from datacachalog import events, units
from datacachalog.errors import InvalidPinError
from datacachalog.model import Ago, AsOf, Pin, VersionId
from datacachalog.pool import Pool, Valve
from datacachalog.resolve import Policy
from datacachalog.retry import Cancel
from datacachalog.run import Run
from datacachalog.settings import DEFAULT_JOBS, MAX_JOBS
from datacachalog.storage.protocol import Storage

Instant = str | date | datetime


@dataclass(frozen=True, slots=True)
class Ask:
    """What a caller asks of a run: how far to go, how wide, and who listens."""

    as_of: Instant | None = None
    version_id: str | None = None
    refresh: bool = False
    offline: bool = False
    jobs: int | None = None
    report: events.Report = events.ignore

    @property
    def policy(self) -> Policy:
        """Return the part that resolving needs."""
        return Policy(offline=self.offline, refresh=self.refresh)

    @property
    def pin(self) -> Pin | None:
        """Return the ad-hoc pin, or None where each dataset's own counts."""
        if self.version_id is not None:
            if self.as_of is not None:
                raise InvalidPinError("`as_of` and `version_id` exclude each other")
            return VersionId(self.version_id)
        return None if self.as_of is None else units.parse_pin(self.as_of)


@contextmanager
def running(ask: Ask) -> Iterator[Run]:
    """Provide what all transfers of one call share; clean up after Ctrl-C."""
    jobs = max(1, min(MAX_JOBS, ask.jobs or DEFAULT_JOBS))
    cancel = Cancel()
    with Pool(jobs, cancel) as pool, Pool(jobs, cancel) as walkers:
        run = Run(pool, walkers, Valve(jobs), cancel, ask.report)
        try:
            yield run
        except KeyboardInterrupt:
            run.interrupt()
            raise


def instant(as_of: Instant | None, storage: Storage) -> datetime | None:
    """Return the moment that `as_of` means by the server's clock; None for the latest."""
    if as_of is None:
        return None
    pin = settled(units.parse_pin(as_of), storage, Ask())
    return pin.at if isinstance(pin, AsOf) else None


def settled(pin: Pin, storage: Storage, ask: Ask) -> Pin:
    """Turn a duration into the instant it means now, by the server's clock."""
    if not isinstance(pin, Ago):
        return pin
    now = datetime.now(UTC) if ask.offline else storage.now()
    return AsOf(now.replace(microsecond=0) - pin.delta)


def slug(pin: Pin) -> str:
    """Return the part of a folder's name that says which pin it holds; injective."""
    match pin:
        case AsOf():
            return pin.slug
        case VersionId(version_id):
            if re.fullmatch(r"[A-Za-z0-9._-]{1,128}", version_id):
                return f"v-{version_id}"
            return f"v~{blake3(version_id.encode()).hexdigest()[:32]}"
        case _:
            return str(pin)
