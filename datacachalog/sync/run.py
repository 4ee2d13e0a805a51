"""One run: what all its datasets and transfers share, and how it ends early.

Made by `session` for each call of the API, handed down to whatever moves bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from datacachalog import events
from datacachalog.cache import files
from datacachalog.storage.base import Storage
from datacachalog.sync.download_queue import DownloadQueue
from datacachalog.sync.pool import Pool
from datacachalog.sync.retry import Cancel


@dataclass(slots=True)
class RunContext:
    """What all transfers of one run share: the threads, the flag that ends it, and who is told.

    `walkers` walk datasets; `downloads` brings their bytes, `pool` does what takes long on
    disk. The first waits for the others.
    """

    pool: Pool
    walkers: Pool
    downloads: DownloadQueue
    cancel: Cancel
    report: events.Report
    temps: set[str] = field(default_factory=set)
    clocks: dict[str, datetime] = field(default_factory=dict)
    at_interrupt: list[Callable[[], None]] = field(default_factory=list)

    def now(self, storage: Storage) -> datetime:
        """Return the storage's clock, read once: durations mean one instant in all of the run."""
        found = self.clocks.get(storage.endpoint)
        return found or self.clocks.setdefault(storage.endpoint, storage.now())

    def interrupt(self) -> None:
        """End the run after Ctrl-C, and remove what cancelled workers could not."""
        self.cancel.set()
        self.walkers.join(0.5)
        self.pool.join(0.5)
        self.downloads.join(0.5)
        for temp in list(self.temps):
            files.remove(temp)
        for action in self.at_interrupt:
            action()
