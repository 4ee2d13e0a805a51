"""A dataset's folder in `data/`: stored objects become files that people and tools read.

A file is placed by reflink, else hard link, else copy. Nothing that is not ours is ever
overwritten: a new file is created exclusively, and an old one is looked at again right
before it is replaced. Knows paths and stats; knows nothing of states or storages.
"""

import errno
import os
import time
from contextlib import suppress

from datacachalog.cache import files
from datacachalog.cache.files import FileStat, LinkKind
from datacachalog.errors import CacheError, LocalFileConflictError

_NO_LINK_HERE = files.NOT_SUPPORTED | {
    errno.EXDEV,  # another file system, or another mount of the same one
    errno.EPERM,  # the file system has no hard links, or the object is another user's
    errno.EACCES,
    errno.EMLINK,  # the object has all the links its file system allows
}


class Folder:
    """One dataset's folder. `root` is absolute and need not exist yet.

    Files take shape in `.dcl-tmp` inside it (surely the same file system) and come to
    their place by one rename. Thread-safe for distinct relpaths.
    """

    def __init__(self, root: str, kinds: tuple[LinkKind, ...], mode: int) -> None:
        self.root = root
        self._staging = f"{root}/.dcl-tmp"
        self._kinds = kinds
        self._mode = mode
        self._made: set[str] = set()

    def path(self, relpath: str) -> str:
        """Return the absolute path of a file of this dataset."""
        return f"{self.root}/{relpath}"

    def look(self, relpath: str) -> FileStat | None:
        """Return what lies at `relpath` now, or None."""
        return files.look(f"{self.root}/{relpath}")

    def place(self, source: str, relpath: str, *, over: FileStat | None, mtime_ns: int) -> FileStat:
        """Put the stored object `source` at `relpath` and return the file's stat.

        `over` is the file of ours that may be replaced, or None where nothing may stand.
        Raises `LocalFileConflictError` if something else is there by now, unless it holds
        the same bytes already (another run was first).
        """
        target = self.path(relpath)
        self._make_parent(relpath)
        if over is None and self._link_new(source, target):
            return self._placed(target)
        temp, staged = self._stage(source, mtime_ns)
        try:
            if over is None:
                self._publish_new(temp, target)
            else:
                self._publish_over(temp, target, over)
        except FileExistsError:
            found = files.look(target)
            if found is None or found.size < 0 or not files.have_same_bytes(source, target):
                raise LocalFileConflictError(
                    f"'{target}' is not a file that `dcl` put there; it was left alone",
                    hint="move it away, then run the command again",
                ) from None
            # Same bytes: take it over, so that mode and modification time are ours too.
            os.replace(temp, target)
        finally:
            files.remove(temp)
        return staged if staged.inode else self._placed(target)

    def drop(self, relpath: str, *, size: int, mtime_ns: int) -> bool:
        """Remove our file at `relpath` if it still is as it was; return whether it went.

        Folders left empty go too, up to `root`.
        """
        target = self.path(relpath)
        found = files.look(target)
        if found is None or (found.size, found.mtime_ns) != (size, mtime_ns):
            return False
        removed = files.remove(target)
        self._prune_above(target)
        return removed

    def sweep(self) -> None:
        """Remove what dead runs left half-made, and the staging folder if nobody uses it."""
        with suppress(OSError):
            now = time.time()
            with os.scandir(self._staging) as entries:
                for entry in entries:
                    age = now - entry.stat(follow_symlinks=False).st_ctime
                    if files.is_abandoned(entry.name, age):
                        files.remove(entry.path)
            os.rmdir(self._staging)

    def _placed(self, target: str) -> FileStat:
        found = files.look(target)
        if found is None:
            raise CacheError(f"'{target}' vanished right after it was placed")
        return found

    def _link_new(self, source: str, target: str) -> bool:
        """Hard-link straight to the final name, where that is the kind in force."""
        if self._kinds[0] is not LinkKind.HARDLINK:
            return False
        try:
            os.link(source, target)
        except FileExistsError:
            return False
        except FileNotFoundError:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            return False
        except OSError as exc:
            self._give_up(LinkKind.HARDLINK, exc)
            return False
        return True

    def _stage(self, source: str, mtime_ns: int) -> tuple[str, FileStat]:
        """Return a temporary file with the object's bytes, mode and time, and its stat."""
        os.makedirs(self._staging, exist_ok=True)
        temp = f"{self._staging}/{files.temp_name()}"
        for kind in self._kinds:
            try:
                if kind is LinkKind.HARDLINK:
                    os.link(source, temp)
                    return temp, self._placed(temp)
                (files.reflink if kind is LinkKind.REFLINK else files.copy)(source, temp)
            except OSError as exc:
                files.remove(temp)
                self._give_up(kind, exc)
                continue
            os.chmod(temp, self._mode)
            os.utime(temp, ns=(mtime_ns, mtime_ns))
            return temp, self._placed(temp)
        raise CacheError(f"'{source}' could not be linked or copied to '{self._staging}'")

    def _give_up(self, kind: LinkKind, exc: OSError) -> None:
        if exc.errno not in _NO_LINK_HERE or self._kinds[-1] is kind:
            raise exc
        if exc.errno != errno.EMLINK:
            self._kinds = tuple(k for k in self._kinds if k is not kind) or self._kinds

    def _publish_new(self, temp: str, target: str) -> None:
        try:
            os.link(temp, target)  # creates or fails: no window in which to overwrite
        except FileExistsError:
            raise
        except OSError as exc:
            if exc.errno not in _NO_LINK_HERE:
                raise
            if os.path.lexists(target):
                raise FileExistsError(target) from exc
            os.replace(temp, target)

    def _publish_over(self, temp: str, target: str, over: FileStat) -> None:
        found = files.look(target)
        if found is None:
            self._publish_new(temp, target)
        elif (found.size, found.mtime_ns) != (over.size, over.mtime_ns):
            raise FileExistsError(target)
        else:
            os.replace(temp, target)

    def _make_parent(self, relpath: str) -> None:
        parent = relpath.rpartition("/")[0]
        if parent in self._made:
            return
        folder = f"{self.root}/{parent}" if parent else self.root
        try:
            os.makedirs(folder, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as exc:
            raise LocalFileConflictError(
                f"'{exc.filename}' is a file where the dataset needs a folder; it was left alone",
                hint="move it away, then run the command again",
            ) from None
        self._made.add(parent)

    def _prune_above(self, target: str) -> None:
        folder = os.path.dirname(target)
        while len(folder) > len(self.root):
            try:
                os.rmdir(folder)
            except OSError:
                return
            self._made.discard(folder[len(self.root) + 1 :])
            folder = os.path.dirname(folder)
