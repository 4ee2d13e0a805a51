"""One run: what all its datasets and transfers share, and how it ends early.

Made by `catalog` for each call, handed down to whatever moves bytes.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from datacachalog import events
from datacachalog.cache import files
from datacachalog.pool import Pool, Valve
from datacachalog.retry import Cancel
from datacachalog.settings import DEFAULT_JOBS
from datacachalog.storage.protocol import Storage


@dataclass(slots=True)
class Run:
    """What all transfers of one run share: the pools, the valve, the flag and the ear.

    `walkers` walk datasets, `pool` moves their bytes; the one waits for the other. `width` is
    how many requests all lanes together may have under way.
    """

    pool: Pool
    walkers: Pool
    valve: Valve
    cancel: Cancel
    report: events.Report
    width: int = DEFAULT_JOBS
    temps: set[str] = field(default_factory=set)
    clocks: dict[str, datetime] = field(default_factory=dict)
    at_interrupt: list[Callable[[], None]] = field(default_factory=list)
    _carriers: int = 0
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def carrying(self, carriers: int) -> Iterator[Callable[[], int]]:
        """Count so many lanes more in the block; give what tells each its share of the width."""
        with self._mutex:
            self._carriers += carriers
        try:
            yield lambda: max(1, self.width // max(1, self._carriers))
        finally:
            with self._mutex:
                self._carriers -= carriers

    def now(self, storage: Storage) -> datetime:
        """Return the storage's clock, read once: durations mean one instant in all of the run."""
        found = self.clocks.get(storage.endpoint)
        return found or self.clocks.setdefault(storage.endpoint, storage.now())

    def interrupt(self) -> None:
        """End the run after Ctrl-C, and remove what cancelled workers could not."""
        self.cancel.set()
        self.walkers.join(0.5)
        self.pool.join(1.0)
        for temp in list(self.temps):
            files.remove(temp)
        for action in self.at_interrupt:
            action()
