"""What a run found in place under a lock, known again as long as nothing of it changes.

That a locked dataset is in place follows from the lock, the state and the files alone. Where
all three were seen to be the same before a run and after it, they need only be looked at the
next time, and the walk along the line need not be repeated: a tenth of its time. What is not
certain is walked again. Used by `catalog`, for one process.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datacachalog.cache import files
from datacachalog.cache.files import FileStat
from datacachalog.cache.state import StateFolder
from datacachalog.lock.file import CatalogLock
from datacachalog.model import Origin
from datacachalog.sync.placement import Disk
from datacachalog.sync.results import Outcome

MOST_FILES = 1_000
"""Files of a dataset that are remembered: for more, walking the line costs little besides."""


class Presence(NamedTuple):
    """How a locked dataset lies on disk, and what a sync said of it.

    `is_proven` tells that it was seen to lie so before that sync, and after it: then what
    the sync found is what was there.
    """

    lock: CatalogLock
    state: FileStat
    stats: tuple[FileStat, ...]
    outcome: Outcome
    paths: Path | list[Path]
    disk: Disk
    is_proven: bool

    def holds(self, lock: CatalogLock | None, states: StateFolder) -> bool:
        """Tell whether all is as it was: the same lock, state and files, and nothing coming.

        What killed runs left half-made goes, as at the end of any sync.
        """
        name = self.outcome.name
        if not self.is_proven or lock is not self.lock or states.stat(name) != self.state:
            return False
        if states.read_journal(name) is not None or _stats(self.paths) != self.stats:
            return False
        self.disk.sweep_all()
        return True


def note(
    before: Presence | None,
    lock: CatalogLock | None,
    states: StateFolder,
    outcome: Outcome,
    paths: Path | list[Path],
    disk: Disk,
) -> Presence | None:
    """Return how the dataset lies after a sync, or None where a look would not be enough.

    That is: where it was not the lock that said what should be there, where something was
    done or is to be told, and for many files. `before` is what the last sync noted.
    """
    plan = outcome.plan
    if lock is None or plan is None or plan.resolution.origin is not Origin.LOCK:
        return None
    if not plan.is_noop or outcome.warnings or outcome.hits > MOST_FILES:
        return None
    if len(plan.resolution.hashes) != outcome.hits:
        return None  # the lock has yet to learn some
    state, stats = states.stat(outcome.name), _stats(paths)
    if state is None or stats is None:
        return None
    is_proven = (
        before is not None
        and before.lock is lock
        and (before.state, before.stats) == (state, stats)
    )
    return Presence(lock, state, stats, outcome, paths, disk, is_proven)


def _stats(paths: Path | Sequence[Path]) -> tuple[FileStat, ...] | None:
    """Return what lies at the paths, or None if at some there is nothing."""
    found = tuple(map(files.stat, map(str, [paths] if isinstance(paths, Path) else paths)))
    return None if None in found else found  # type: ignore[return-value]  # just seen
