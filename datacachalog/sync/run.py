"""One call of the API: what it asks for, and what all its datasets and transfers share.

Made by `catalog` for each call, handed down to whatever moves bytes.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import NamedTuple, Self

from blake3 import blake3

from datacachalog import events
from datacachalog.cache import files
from datacachalog.errors import InvalidPinError
from datacachalog.model import Ago, AsOf, Pin, VersionId
from datacachalog.settings import DEFAULT_JOBS, MAX_JOBS, most_requests
from datacachalog.spec import units
from datacachalog.storage.base import Storage
from datacachalog.sync.concurrency import WorkerPool
from datacachalog.sync.download_queue import DownloadQueue
from datacachalog.sync.resolve import Policy, instant_of
from datacachalog.sync.retry import Cancel, retrying

Instant = str | date | datetime


class SyncOptions(NamedTuple):
    """What a caller asks of a run: which state, how far to go, how much at once, who listens."""

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
        if self.as_of is None:
            return None
        pin = units.parse_pin(self.as_of)
        if self.offline and isinstance(pin, Ago):
            raise InvalidPinError(
                f"'{pin}' counts from the server's clock, and `--offline` asks nothing",
                hint=f"give the time itself, such as `{instant_of(pin, datetime.now(UTC))}`",
            )
        return pin


PLAIN = SyncOptions()
"""Each dataset's own pin, and the defaults."""


class RunContext:
    """What all transfers of one call share: its threads, the flag that ends it, who listens.

    `datasets` are the threads that take datasets along the pipeline; they wait for `downloads`
    and for `workers`, which do what takes long on disk. The end of the `with` block closes all,
    and after Ctrl-C cleans up.
    """

    def __init__(self, options: SyncOptions) -> None:
        jobs = max(1, min(MAX_JOBS, options.jobs or DEFAULT_JOBS))
        self.cancel = Cancel()
        self.report = options.report
        self.datasets = WorkerPool(jobs, self.cancel)
        self.workers = WorkerPool(jobs, self.cancel)
        self.downloads = DownloadQueue(most_requests(options.jobs))
        self.temps: set[str] = set()
        self.at_interrupt: list[Callable[[], None]] = []
        self._clocks: dict[str, datetime] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        threads = (self.datasets, self.workers, self.downloads)
        if kind is KeyboardInterrupt:
            self.cancel.set()
        for some in threads:
            some.close()
        if kind is not KeyboardInterrupt:
            return
        for some in threads:
            some.join(0.5)
        # What cancelled threads could not remove, because they hang in a request.
        for temp in list(self.temps):
            files.remove(temp)
        for clean_up in self.at_interrupt:
            clean_up()

    def now(self, storage: Storage) -> datetime:
        """Return the storage's clock, read once: durations mean one instant in all of the run."""
        found = self._clocks.get(storage.endpoint)
        return found or self._clocks.setdefault(storage.endpoint, storage.now())

    def settle(self, pin: Pin, storage: Storage) -> Pin:
        """Turn a duration into the instant it means in this run, by the server's clock."""
        if not isinstance(pin, Ago):
            return pin
        now = retrying(lambda: self.now(storage), cancel=self.cancel, failed=lambda *_: None)
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
