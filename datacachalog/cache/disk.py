"""What one dataset's plan needs to know of this machine: its folder and the store.

Answers the planner's three questions. Built per dataset and run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from datacachalog.cache import files
from datacachalog.cache.files import FileStat
from datacachalog.cache.placement import Folder
from datacachalog.cache.store import Store
from datacachalog.model import RemoteObject


@dataclass(slots=True)
class Disk:
    """The folder and the store as one dataset sees them; `endpoint` completes fingerprints."""

    folder: Folder
    store: Store
    endpoint: str
    _accepted: str | None = None
    _stored: dict[tuple[int, int], list[str]] | None = field(default=None, repr=False)

    def look(self, relpath: str) -> FileStat | None:
        """Return what lies at `relpath` in the dataset's folder, or None."""
        return self.folder.look(relpath)

    def is_stored(self, obj: RemoteObject) -> bool:
        """Tell whether the store holds the object's bytes, untouched."""
        return self.find(obj) is not None

    def find(self, obj: RemoteObject) -> FileStat | None:
        """Return the stat of the object in the store, if it is there and untouched."""
        fingerprint = obj.fingerprint(self.endpoint)
        return self.store.find(fingerprint, size=obj.size, mtime_ns=obj.mtime_ns)

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

    def is_ours(self, relpath: str, found: FileStat) -> bool:
        """Tell whether the file at `relpath` is a link to, or a copy of, a stored object.

        The way a run that was killed between placing and recording is recognised. Lists
        the whole store once per run, and only if some file needs it.
        """
        if found.size < 0:
            return False
        if self._accepted and files.have_same_bytes(self._accepted, self.folder.path(relpath)):
            return True
        if self._stored is None:
            self._stored = {}
            for fingerprint, stat in self.store.objects():
                self._stored.setdefault((stat.size, stat.mtime_ns), []).append(fingerprint)
        path = self.folder.path(relpath)
        candidates = self._stored.get((found.size, found.mtime_ns), ())
        return any(files.have_same_bytes(self.store.path(c), path) for c in candidates)
