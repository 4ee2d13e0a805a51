"""A dataset's folder in `data/`: stored objects become files that people and tools read.

A file is placed by reflink, else hard link, else copy, in two steps: `stage` makes it ready
and may fail for want of room, `publish` renames. Nothing that is not ours is ever
overwritten: a new file is created exclusively, and an old one is looked at again right
before it is replaced. Knows paths and stats; knows nothing of states or storages.
"""

import errno
import os
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from types import MappingProxyType
from typing import NamedTuple

from datacachalog.cache import files
from datacachalog.cache.files import FileStat, LinkKind
from datacachalog.errors import CacheError, DatacachalogError, LocalFileConflictError

_NO_HARDLINK = files.NOT_SUPPORTED | {
    errno.EXDEV,  # another file system, or another mount of the same one
    errno.EPERM,  # the file system has no hard links, or the object is another user's
    errno.EACCES,
    errno.EMLINK,  # the object has all the links its file system allows
}

_NOT_HERE = {LinkKind.REFLINK: files.NO_REFLINK, LinkKind.HARDLINK: _NO_HARDLINK}


Maker = Callable[[str, str], None]
"""Creates a file from a stored one, or raises OSError."""

MAKERS: Mapping[LinkKind, Maker] = MappingProxyType(
    {
        LinkKind.REFLINK: files.reflink,
        LinkKind.HARDLINK: files.hardlink,
        LinkKind.COPY: files.copy,
    }
)


_TRIES = 20
"""How often a folder is made again that other runs remove as empty: each loses a race rarely."""


class SourceVanishedError(CacheError):
    """The stored object was removed (by `dcl cache clear`, say) before it was placed."""

    def __init__(self, source: str) -> None:
        super().__init__(
            f"'{source}' was removed from the cache before it was put in place",
            hint="run the command again",
        )


class Staged(NamedTuple):
    """A file ready to come to its place.

    `temp` is None if one hard link is all it takes, or if `is_there`: the same bytes are
    in place already.
    """

    source: str
    relpath: str
    over: FileStat | None
    mtime_ns: int
    temp: str | None = None
    is_there: bool = False


class Folder:
    """One dataset's folder. `root` is absolute and need not exist yet.

    Files take shape in `.dcl-tmp` inside it (surely the same file system) and come to
    their place by one rename. Other runs may remove what is empty at any time. Thread-safe
    for distinct relpaths.
    """

    def __init__(
        self,
        root: str,
        kinds: tuple[LinkKind, ...],
        mode: int,
        *,
        makers: Mapping[LinkKind, Maker] = MAKERS,
    ) -> None:
        self.root = root
        self._makers = makers
        self._staging = f"{root}/.dcl-tmp"
        self._kinds = kinds
        self._mode = mode
        self._made: set[str] = set()
        self._is_new = False
        self._has_linked = False
        self._temps: set[str] = set()

    def path(self, relpath: str) -> str:
        """Return the absolute path of a file of this dataset."""
        return f"{self.root}/{relpath}"

    def look(self, relpath: str) -> FileStat | None:
        """Return what lies at `relpath` now, or None."""
        path = f"{self.root}/{relpath}"
        try:
            return files.look(path)
        except OSError as exc:
            raise _explained(exc, path, "looked at") from exc

    def blocker(self, relpath: str) -> str | None:
        """Return the relpath of what stands where `relpath` needs a folder, or None."""
        parent = relpath.rpartition("/")[0]
        while parent:
            path = f"{self.root}/{parent}"
            if os.path.lexists(path):
                return None if os.path.isdir(path) else parent
            parent = parent.rpartition("/")[0]
        return None

    def holds_only(self, relpath: str, known: AbstractSet[str]) -> bool:
        """Tell whether `relpath` is a folder whose files, at any depth, are all in `known`."""
        path = f"{self.root}/{relpath}"
        if os.path.islink(path) or not os.path.isdir(path):
            return False
        for folder, folders, names in os.walk(path):
            inside = folder[len(self.root) + 1 :]
            links = (n for n in folders if os.path.islink(f"{folder}/{n}"))
            if any(f"{inside}/{name}" not in known for name in (*names, *links)):
                return False
        return True

    @property
    def is_linking(self) -> bool:
        """Tell whether files are placed by hard links, as far as is known."""
        return self._kinds[0] is LinkKind.HARDLINK

    # --- putting files there ------------------------------------------------------

    def stage(self, source: str, relpath: str, *, over: FileStat | None, mtime_ns: int) -> Staged:
        """Make the stored object `source` ready for `relpath`; nothing visible changes.

        `over` is the file of ours that may be replaced, or None where nothing may stand.
        Raises `LocalFileConflictError` if other bytes stand there, and
        `SourceVanishedError` if `source` is no more.
        """
        target = self.path(relpath)
        try:
            found = files.look(target) if over is None else None
            if found is not None and found.size >= 0:
                if not files.have_same_bytes(source, target):
                    raise _conflict(target)
                if files.same_time(found.mtime_ns, mtime_ns):
                    return Staged(source, relpath, over, mtime_ns, is_there=True)
            elif over is None and self._has_linked and self.is_linking:
                return Staged(source, relpath, over, mtime_ns)
            return Staged(source, relpath, over, mtime_ns, self._make_temp(source, mtime_ns))
        except DatacachalogError:
            raise
        except OSError as exc:
            raise _explained(exc, target) from exc

    def publish(self, staged: Staged) -> FileStat:
        """Bring a staged file to its place and return its stat.

        Raises `LocalFileConflictError` if something else is there by now, unless it holds
        the same bytes already (another run was first).
        """
        target = self.path(staged.relpath)
        try:
            if staged.is_there:
                with suppress(PermissionError):  # another user's: its mode is theirs
                    os.chmod(target, self._mode)
            elif staged.temp is not None:
                self._move(staged.temp, target, staged)
            elif not self._link_new(staged, target):
                self._move(self._make_temp(staged.source, staged.mtime_ns), target, staged)
            return self._placed(target)
        except DatacachalogError:
            raise
        except OSError as exc:
            raise _explained(exc, target) from exc

    def discard(self, staged: Staged) -> None:
        """Remove what a staged file needed, if it is not published yet."""
        if staged.temp is not None:
            self._discard_temp(staged.temp)

    # --- taking files away --------------------------------------------------------

    def drop(self, relpath: str, *, size: int, mtime_ns: int) -> bool:
        """Remove our file at `relpath` if it still is as it was; return whether it went.

        Folders left empty go too, up to `root`.
        """
        target = self.path(relpath)
        try:
            found = files.look(target)
            if found is None or (found.size, found.mtime_ns) != (size, mtime_ns):
                return False
            removed = files.remove(target)
        except DatacachalogError:
            raise
        except OSError as exc:
            raise _explained(exc, target, "removed") from exc
        self.prune(relpath)
        return removed

    def prune(self, relpath: str) -> None:
        """Remove the folders above `relpath` that are empty, up to `root`."""
        folder = os.path.dirname(self.path(relpath))
        while len(folder) > len(self.root):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                pass
            except OSError:
                return
            self._made.discard(folder[len(self.root) + 1 :])
            folder = os.path.dirname(folder)

    def sweep(self) -> None:
        """Remove what dead runs left half-made, and folders made in vain."""
        with suppress(OSError):
            now = time.time()
            with os.scandir(self._staging) as entries:
                for entry in entries:
                    age = now - entry.stat(follow_symlinks=False).st_ctime
                    if files.is_abandoned(entry.name, age):
                        files.remove(entry.path)
            os.rmdir(self._staging)
        if self._is_new:
            self.leave()

    def leave(self) -> None:
        """Remove the folder itself if it is empty."""
        with suppress(OSError):
            os.rmdir(self.root)

    def give_up(self) -> None:
        """Remove all that is staged and not published: after Ctrl-C, from any thread."""
        for temp in list(self._temps):
            self._discard_temp(temp)
        self.sweep()

    # --- behind it ----------------------------------------------------------------

    def _placed(self, target: str) -> FileStat:
        found = files.look(target)
        if found is None:
            raise CacheError(f"'{target}' vanished right after it was placed")
        return found

    def _link_new(self, staged: Staged, target: str) -> bool:
        """Hard-link straight to the final name; False if a temporary file must help."""
        try:
            self._in_folders(staged, lambda: self._makers[LinkKind.HARDLINK](staged.source, target))
        except LocalFileConflictError:
            raise  # it is a FileExistsError, too
        except FileExistsError:
            # `_move` knows what to do.
            return False
        except OSError as exc:
            self._give_up(LinkKind.HARDLINK, exc)
            return False
        return True

    def _make_temp(self, source: str, mtime_ns: int) -> str:
        """Return a temporary file with the object's bytes, mode and time."""
        temp = f"{self._staging}/{files.temp_name()}"
        self._temps.add(temp)
        try:
            for kind in self._kinds:
                try:
                    self._fill_temp(kind, source, temp, mtime_ns)
                except OSError as exc:
                    files.remove(temp)
                    self._give_up(kind, exc)
                else:
                    return temp
        except BaseException:
            self._discard_temp(temp)
            raise
        raise CacheError(f"'{source}' could not be linked or copied to '{self._staging}'")

    def _fill_temp(self, kind: LinkKind, source: str, temp: str, mtime_ns: int) -> None:
        self._again(
            source, lambda: self._makers[kind](source, temp), lambda: self._make(".dcl-tmp")
        )
        if kind is LinkKind.HARDLINK:
            self._has_linked = True
        else:
            os.chmod(temp, self._mode)
            os.utime(temp, ns=(mtime_ns, mtime_ns))

    def _give_up(self, kind: LinkKind, exc: OSError) -> None:
        """Do without a kind of link that does not work here; raise `exc` if it must work."""
        if self._kinds[-1] is kind or exc.errno not in _NOT_HERE[kind]:
            raise exc
        if exc.errno != errno.EMLINK:
            self._kinds = tuple(k for k in self._kinds if k is not kind) or self._kinds

    def _discard_temp(self, temp: str) -> None:
        with suppress(OSError):
            files.remove(temp)
        self._temps.discard(temp)

    def _move(self, temp: str, target: str, staged: Staged) -> None:
        """Rename `temp` to `target`, where the same bytes may stand, but no others."""
        try:
            _remove_empty_folders(target)
            self._in_folders(staged, lambda: _rename(temp, target, staged.over))
        except LocalFileConflictError:
            raise  # it is a FileExistsError, too
        except FileExistsError:
            found = files.look(target)
            if found is None or found.size < 0 or not files.have_same_bytes(temp, target):
                raise _conflict(target) from None
            # Same bytes: take it over, so that mode and modification time are ours too.
            os.replace(temp, target)
        finally:
            self._discard_temp(temp)

    def _in_folders(self, staged: Staged, action: Callable[[], None]) -> None:
        """Run `action` with the target's folder made."""
        parent = staged.relpath.rpartition("/")[0]
        self._again(staged.temp or staged.source, action, lambda: self._make(parent))

    def _again(self, source: str, action: Callable[[], None], prepare: Callable[[], None]) -> None:
        """Prepare and run `action`; again if another run removed an empty folder in between."""
        for tries_left in reversed(range(_TRIES)):
            try:
                prepare()
                action()
            except FileNotFoundError:
                if not os.path.lexists(source):
                    raise SourceVanishedError(source) from None
                if not tries_left:
                    raise
                self._made.clear()
            else:
                return

    def _make(self, parent: str) -> None:
        if parent in self._made:
            return
        if not os.path.isdir(self.root):
            self._is_new = True
        folder = f"{self.root}/{parent}" if parent else self.root
        try:
            os.makedirs(folder, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            path = folder
            while not os.path.lexists(path):
                path = os.path.dirname(path)
            if os.path.isdir(path):
                # It was removed while `makedirs` looked whether it is a folder.
                raise FileNotFoundError(folder) from None
            raise LocalFileConflictError(
                f"'{path}' is a file where the dataset needs a folder; it was left alone",
                hint="move it away, then run the command again",
            ) from None
        self._made.add(parent)


def _remove_empty_folders(path: str) -> None:
    """Remove the folder at `path` if nothing but empty folders is in it."""
    if not os.path.isdir(path) or os.path.islink(path):
        return
    with suppress(OSError):
        for folder, _, _ in os.walk(path, topdown=False):
            os.rmdir(folder)


def _rename(temp: str, target: str, over: FileStat | None) -> None:
    """Rename `temp` to `target`, which must be free, or be `over` still."""
    if over is not None:
        found = files.look(target)
        if found is not None:
            if (found.size, found.mtime_ns) != (over.size, over.mtime_ns):
                raise FileExistsError(target)
            os.replace(temp, target)
            return
    try:
        os.link(temp, target)  # creates or fails: no window in which to overwrite
    except OSError as exc:
        if isinstance(exc, FileExistsError) or exc.errno not in _NO_HARDLINK:
            raise
        if os.path.lexists(target):
            raise FileExistsError(target) from exc
        os.replace(temp, target)


def _conflict(target: str) -> LocalFileConflictError:
    return LocalFileConflictError(
        f"'{target}' is not a file that `dcl` put there; it was left alone",
        hint="move it away, then run the command again",
    )


def _explained(exc: OSError, path: str, what: str = "put in place") -> CacheError:
    """Return the error as ours, with the path and a hint."""
    hints = {
        errno.ENOSPC: "make room, then run the command again",
        errno.EDQUOT: "make room, then run the command again",
        errno.EROFS: "the file system is read-only",
        errno.ENAMETOOLONG: "move the project to a shorter path, or set `path:` for the dataset",
    }
    hint = hints.get(exc.errno or 0, "see who owns the folder and what it allows")
    return CacheError(f"'{path}' cannot be {what}: {exc.strerror}", hint=hint)
