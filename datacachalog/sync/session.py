"""One call of the API: what it asks, the run it gets, and what its pin is called on disk.

Used by `catalog`.
"""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from typing import NamedTuple

from blake3 import blake3

from datacachalog import events
from datacachalog.errors import InvalidPinError
from datacachalog.model import Ago, AsOf, Pin, VersionId
from datacachalog.settings import DEFAULT_JOBS, MAX_JOBS, most_requests
from datacachalog.spec import units
from datacachalog.storage.base import Storage
from datacachalog.sync.download_queue import DownloadQueue
from datacachalog.sync.pool import Pool
from datacachalog.sync.resolve import Policy, instant_of
from datacachalog.sync.retry import Cancel, retrying
from datacachalog.sync.run import RunContext

Instant = str | date | datetime


class SyncOptions(NamedTuple):
    """What a caller asks of a run: how far to go, how wide, and who listens."""

    as_of: Instant | None = None
    version_id: str | None = None
    refresh: bool = False
    offline: bool = False
    jobs: int | None = None
    report: events.Report = events.ignore

    @property
    def is_plain(self) -> bool:
        """Tell whether each dataset's own pin counts, and an answer that is known will do."""
        return self.as_of is None and self.version_id is None and not self.refresh

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
        if self.as_of is None:
            return None
        pin = units.parse_pin(self.as_of)
        if self.offline and isinstance(pin, Ago):
            raise InvalidPinError(
                f"'{pin}' counts from the server's clock, and `--offline` asks nothing",
                hint=f"give the time itself, such as `{instant_of(pin, datetime.now(UTC))}`",
            )
        return pin


@contextmanager
def running(ask: SyncOptions) -> Iterator[RunContext]:
    """Provide what all transfers of one call share; clean up after Ctrl-C."""
    jobs = max(1, min(MAX_JOBS, ask.jobs or DEFAULT_JOBS))
    cancel = Cancel()
    temps: set[str] = set()
    downloads = DownloadQueue(
        most=most_requests(ask.jobs), cancel=cancel, report=ask.report, temps=temps
    )
    with Pool(jobs, cancel) as pool, Pool(jobs, cancel) as walkers, closing(downloads):
        run = RunContext(pool, walkers, downloads, cancel, ask.report, temps)
        try:
            yield run
        except KeyboardInterrupt:
            run.interrupt()
            raise


def settled(pin: Pin, storage: Storage, run: RunContext) -> Pin:
    """Turn a duration into the instant it means in this run, by the server's clock."""
    if not isinstance(pin, Ago):
        return pin
    now = retrying(lambda: run.now(storage), cancel=run.cancel, failed=lambda *_: None)
    return instant_of(pin, now)


def slug(pin: Pin) -> str:
    """Return the part of a folder's name that says which pin it holds; injective."""
    match pin:
        case AsOf():
            return pin.slug
        case VersionId(version_id):
            digest = blake3(version_id.encode()).hexdigest()
            if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", version_id):
                return f"v~{digest[:32]}"
            # Some file systems take `A` for `a`.
            is_plain = version_id == version_id.lower()
            return f"v-{version_id}" if is_plain else f"v-{version_id}~{digest[:8]}"
        case _:
            return str(pin)
