"""What earlier runs left of one dataset: its state, and what a run announced and did not end.

A run announces what it is about to put in place, and records it afterwards. If it was
killed in between, files lie there that no state explains; the announcement does, so that
the next run replaces or drops them as ours, also when the source has moved on. Used by
`line`.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from datacachalog.cache import files
from datacachalog.cache.files import FileStat
from datacachalog.cache.state import NOTHING, PlacedFile, PlacedFiles, State, StateFolder
from datacachalog.checksums import Hashes
from datacachalog.sync.disk import Disk


@dataclass(frozen=True, slots=True)
class RecoveredState:
    """The last state, an announcement without an end, and the files that both explain.

    `mark` changes when another run writes a state. `placed` are the files below the
    dataset's present folder; what lies elsewhere, because its path changed since, is in
    `elsewhere`.
    """

    mark: FileStat | None
    state: State | None
    announced: State | None
    placed: PlacedFiles
    elsewhere: tuple[State, ...]

    @classmethod
    def read(cls, states: StateFolder, key: str, root: str, disk: Disk) -> "RecoveredState":
        """Return what is known of the dataset whose folder now is `root`."""
        mark = states.mark(key)  # first: what is written from here on shows
        state, announced = states.read(key), states.read_announced(key)
        placed = state.files if state is not None and state.root == root else NOTHING
        if announced is not None and announced.root == root:
            placed = _overlaid(placed, announced.files, disk)
        known = (known for known in (state, announced) if known is not None)
        return cls(mark, state, announced, placed, tuple(k for k in known if k.root != root))

    @property
    def coming(self) -> AbstractSet[str]:
        """Return the relpaths that were announced."""
        return set() if self.announced is None else self.announced.files.index.keys()

    @property
    def is_settled(self) -> bool:
        """Tell whether the state alone explains all files, where they belong."""
        return self.state is not None and self.announced is None and not self.elsewhere


def _overlaid(placed: PlacedFiles, announced: PlacedFiles, disk: Disk) -> PlacedFiles:
    """Return `placed` with the announced files that did come into place."""
    there = {row.object.relpath: row for row in _arrived(announced, disk)}
    old = (row for row in placed if row.object.relpath not in there)
    return PlacedFiles.of([*old, *there.values()])


def _arrived(announced: PlacedFiles, disk: Disk) -> Iterator[PlacedFile]:
    for row in announced:
        found = disk.look(row.object.relpath)
        if found is None or found.size != row.object.size:
            continue
        if files.same_time(found.mtime_ns, row.mtime_ns) and _has_bytes(row, disk):
            yield replace(row, mtime_ns=found.mtime_ns)


def _has_bytes(row: PlacedFile, disk: Disk) -> bool:
    path = disk.folder.path(row.object.relpath)
    if files.are_one_file(disk.store.path(row.object.fingerprint(disk.endpoint)), path):
        return True
    hashes = Hashes(())
    try:
        hashes.read(path)
    except OSError:
        return False
    return hashes.blake3 == row.blake3
