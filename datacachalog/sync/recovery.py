"""What earlier runs left of one dataset: its state, and the journal of a run that did not end.

A run writes into a journal what it is about to put in place, and into the state what it did. If
it was killed in between, files are there that no state explains; the journal does, so that the
next run replaces or drops them as ours, also when the source has changed since.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from datacachalog.cache import files
from datacachalog.cache.files import FileStat
from datacachalog.cache.placed_files import NOTHING, PlacedFile, PlacedFiles
from datacachalog.cache.state import State, StateFolder
from datacachalog.checksums import Hashes
from datacachalog.sync.placement import Disk


@dataclass(frozen=True, slots=True)
class RecoveredState:
    """The last state, the journal of a run that did not end, and the files that both explain.

    `stat` changes when another run writes a state. `placed` are the files below the dataset's
    present folder; what is elsewhere, because its path changed since, is in `elsewhere`.
    """

    stat: FileStat | None
    state: State | None
    journal: State | None
    placed: PlacedFiles
    elsewhere: tuple[State, ...]

    @classmethod
    def read(cls, states: StateFolder, key: str, root: str, disk: Disk) -> "RecoveredState":
        """Return what is known of the dataset whose folder now is `root`."""
        stat = states.stat(key)  # first: what is written from here on shows
        state, journal = states.read(key), states.read_journal(key)
        placed = state.files if state is not None and state.root == root else NOTHING
        if journal is not None and journal.root == root:
            came = {file.object.relpath: file for file in _find_placed(journal.files, disk)}
            before = (file for file in placed if file.object.relpath not in came)
            placed = PlacedFiles.of([*before, *came.values()])
        known = (known for known in (state, journal) if known is not None)
        return cls(stat, state, journal, placed, tuple(k for k in known if k.root != root))

    @property
    def journaled(self) -> AbstractSet[str]:
        """Return the relpaths of the journal."""
        return frozenset() if self.journal is None else frozenset(self.journal.files.relpath)

    @property
    def is_complete(self) -> bool:
        """Tell whether the state alone explains all files, where they belong."""
        return self.state is not None and self.journal is None and not self.elsewhere


def _find_placed(journal: PlacedFiles, disk: Disk) -> Iterator[PlacedFile]:
    """Yield the files of a journal that did come into place."""
    for file in journal:
        found = disk.stat(file.object.relpath)
        if found is None or found.size != file.object.size:
            continue
        if files.same_time(found.mtime_ns, file.mtime_ns) and _has_bytes(file, disk):
            yield file._replace(mtime_ns=found.mtime_ns)


def _has_bytes(file: PlacedFile, disk: Disk) -> bool:
    path = disk.path(file.object.relpath)
    if files.are_one_file(disk.store.path(file.object.fingerprint(disk.endpoint)), path):
        return True
    hashes = Hashes(())
    try:
        hashes.read(path)
    except OSError:
        return False
    return hashes.blake3 == file.blake3
