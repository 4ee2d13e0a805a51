"""What one dataset's plan needs to know of this machine: its folder and the store.

Answers the planner's questions. Built per dataset and run.
"""

import os
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field

from datacachalog.cache import files
from datacachalog.cache.files import FileStat
from datacachalog.cache.store import Store
from datacachalog.model import RemoteObject
from datacachalog.sync.placement import Folder


@dataclass(slots=True)
class Disk:
    """The folder and the store as one dataset sees them; `endpoint` completes fingerprints.

    `owns_folder` is False where files become the user's own at once, so that none of them
    may be taken for ours later.
    """

    folder: Folder
    store: Store
    endpoint: str
    owns_folder: bool = True
    _accepted: str | None = field(default=None, init=False)
    _stored: dict[tuple[int, int], list[str]] | None = field(default=None, init=False, repr=False)
    _blockers: dict[str, str | None] = field(default_factory=dict, init=False, repr=False)

    def look(self, relpath: str) -> FileStat | None:
        """Return what lies at `relpath` in the dataset's folder, or None."""
        return self.folder.look(relpath)

    def touched(
        self, relpaths: Sequence[str], sizes: Sequence[int], mtimes_ns: Sequence[int]
    ) -> set[int]:
        """Look at many files; return the positions of those that are not as they were."""
        return files.touched(self.folder.root, relpaths, sizes, mtimes_ns)

    def blocker(self, relpath: str) -> str | None:
        """Return the relpath of what stands where `relpath` needs a folder, or None."""
        parent = relpath.rpartition("/")[0]
        if parent not in self._blockers:
            self._blockers[parent] = self.folder.blocker(relpath)
        return self._blockers[parent]

    def holds_only(self, relpath: str, known: AbstractSet[str]) -> bool:
        """Tell whether `relpath` is a folder whose files are all in `known`."""
        return self.folder.holds_only(relpath, known)

    def look_again(self) -> None:
        """Forget what the store held: other runs add to it."""
        self._stored = None

    def is_stored(self, obj: RemoteObject) -> bool:
        """Tell whether the store holds the object's bytes, untouched."""
        return self.find(obj) is not None

    def find(self, obj: RemoteObject) -> FileStat | None:
        """Return the stat of the object in the store, if it is there and untouched."""
        fingerprint = obj.fingerprint(self.endpoint)
        return self.store.find(fingerprint, size=obj.size, mtime_ns=obj.mtime_ns)

    def sweep(self) -> None:
        """Remove what killed runs left half-made, where nothing else is to do."""
        self.folder.sweep()
        self.store.sweep()

    @contextmanager
    def accepting(self, stored: str) -> Iterator[None]:
        """Let a file in place with the bytes of the file `stored` count as ours, in the block.

        After a push of the very file that lies in the dataset's folder.
        """
        self._accepted = stored
        try:
            yield
        finally:
            self._accepted = None

    def is_ours(self, relpath: str, found: FileStat, recorded: RemoteObject | None) -> bool:
        """Tell whether the file at `relpath` is a link to, or a copy of, a stored object.

        The way to recognise what another run put there, or what a lost state recorded.
        `recorded` is the object that belongs there by the state, and `found` is not as that
        says. Lists the whole store once per run, and only if some file needs it.
        """
        if found.size < 0:
            return False
        path = self.folder.path(relpath)
        if self._accepted and files.have_same_bytes(self._accepted, path):
            return True
        if not self.owns_folder:
            return False
        if self._stored is None:
            self._stored = {}
            for fingerprint, stat in self.store.objects():
                self._stored.setdefault((stat.size, stat.mtime_ns), []).append(fingerprint)
        edited = recorded.fingerprint(self.endpoint) if recorded is not None else None
        for candidate in self._stored.get((found.size, found.mtime_ns), ()):
            stored = self.store.path(candidate)
            if files.have_same_bytes(stored, path):
                is_link = files.are_one_file(stored, path)
                return not is_link or (candidate != edited and _is_pristine(path, found))
        return False


def _is_pristine(path: str, found: FileStat) -> bool:
    """Tell whether a hard link was not written to since it was made, as far as one can see.

    Writing through it changes the stored object alike, so that comparing bytes proves
    nothing. But the remote's times have no nanoseconds, and the clock has.
    """
    return found.mtime_ns % 1000 == 0 and not os.stat(path).st_mode & 0o222
