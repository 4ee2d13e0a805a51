"""A dataset's folder in `data/`: stored objects become files that people and tools read.

A file is placed by reflink, else hard link, else copy, in two steps: `stage` makes it ready
and may fail for want of room, `publish` renames. Nothing that is not ours is ever
overwritten: a new file is created exclusively, and an old one is compared again right
before it is replaced. Knows nothing of states or storages.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import NamedTuple

from datacachalog.cache import files
from datacachalog.cache.files import FileStat, LinkKind
from datacachalog.cache.store import Store
from datacachalog.errors import CacheError, DatacachalogError, LocalFileConflictError
from datacachalog.model import RemoteObject

_NO_HARDLINK = files.NOT_SUPPORTED | {
    errno.EXDEV,  # another file system, or another mount of the same one
    errno.EPERM,  # the file system has no hard links, or the object is another user's
    errno.EACCES,
    errno.EMLINK,  # the object has all the links its file system allows
}

_NOT_HERE = {LinkKind.REFLINK: files.NO_REFLINK, LinkKind.HARDLINK: _NO_HARDLINK}

Maker = Callable[[str, str], object]
"""Creates a file from a stored one, or raises OSError."""

MAKERS: Mapping[LinkKind, Maker] = MappingProxyType(
    {
        LinkKind.REFLINK: files.reflink,
        LinkKind.HARDLINK: files.hardlink,
        LinkKind.COPY: shutil.copyfile,
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

    def stat(self, relpath: str) -> FileStat | None:
        """Return the stat of what is at `relpath` now, or None."""
        path = self.path(relpath)
        with _explaining(path, "looked at"):
            return files.stat(path)

    def touched(
        self, relpaths: Sequence[str], sizes: Sequence[int], mtimes_ns: Sequence[int]
    ) -> set[int]:
        """Return the positions of those of many files that are not as they were."""
        return files.touched(self.root, relpaths, sizes, mtimes_ns)

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
        with _explaining(target):
            found = files.stat(target) if over is None else None
            if found is not None and found.size >= 0:
                if not files.have_same_bytes(source, target):
                    raise _conflict(target)
                if files.same_time(found.mtime_ns, mtime_ns):
                    return Staged(source, relpath, over, mtime_ns, is_there=True)
            elif over is None and self._has_linked and self.is_linking:
                return Staged(source, relpath, over, mtime_ns)
            return Staged(source, relpath, over, mtime_ns, self._make_temp(source, mtime_ns))

    def publish(self, staged: Staged) -> FileStat:
        """Bring a staged file to its place and return its stat.

        Raises `LocalFileConflictError` if something else is there by now, unless it holds
        the same bytes already (another run was first).
        """
        target = self.path(staged.relpath)
        with _explaining(target):
            if staged.is_there:
                with suppress(PermissionError):  # another user's: its mode is theirs
                    os.chmod(target, self._mode)
            elif staged.temp is not None:
                self._move(staged.temp, target, staged)
            elif not self._link_new(staged, target):
                self._move(self._make_temp(staged.source, staged.mtime_ns), target, staged)
            found = files.stat(target)
        if found is None:
            raise CacheError(f"'{target}' vanished right after it was placed")
        return found

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
        with _explaining(target, "removed"):
            found = files.stat(target)
            if found is None or (found.size, found.mtime_ns) != (size, mtime_ns):
                return False
            removed = files.remove(target)
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
        files.sweep(self._staging)
        with suppress(OSError):
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

    # --- how --------------------------------------------------------------------------

    def _link_new(self, staged: Staged, target: str) -> bool:
        """Hard-link straight to the final name; False if a temporary file must help."""
        link = self._makers[LinkKind.HARDLINK]
        parent = os.path.dirname(staged.relpath)
        try:
            self._in_folder(parent, staged.source, lambda: link(staged.source, target))
        except LocalFileConflictError:
            raise  # it is a FileExistsError, too
        except FileExistsError:
            return False  # `_move` knows what to do
        except OSError as exc:
            self._give_up_kind(LinkKind.HARDLINK, exc)
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
                    self._give_up_kind(kind, exc)
                else:
                    return temp
        except BaseException:
            self._discard_temp(temp)
            raise
        raise CacheError(f"'{source}' could not be linked or copied to '{self._staging}'")

    def _fill_temp(self, kind: LinkKind, source: str, temp: str, mtime_ns: int) -> None:
        self._in_folder(".dcl-tmp", source, lambda: self._makers[kind](source, temp))
        if kind is LinkKind.HARDLINK:
            self._has_linked = True
        else:
            os.chmod(temp, self._mode)
            os.utime(temp, ns=(mtime_ns, mtime_ns))

    def _give_up_kind(self, kind: LinkKind, exc: OSError) -> None:
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
        """Rename `temp` to `target`, where the same bytes may be, but no others."""
        parent = os.path.dirname(staged.relpath)
        try:
            _remove_empty_folders(target)
            self._in_folder(parent, temp, lambda: _rename(temp, target, staged.over))
        except LocalFileConflictError:
            raise  # it is a FileExistsError, too
        except FileExistsError:
            found = files.stat(target)
            if found is None or found.size < 0 or not files.have_same_bytes(temp, target):
                raise _conflict(target) from None
            # Same bytes: take it over, so that mode and modification time are ours too.
            os.replace(temp, target)
        finally:
            self._discard_temp(temp)

    def _in_folder(self, parent: str, source: str, action: Callable[[], object]) -> None:
        """Make the folder and run `action`; again if another run removed it in between."""
        for tries_left in reversed(range(_TRIES)):
            try:
                self._make(parent)
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
                # It was removed while `makedirs` checked whether it is a folder.
                raise FileNotFoundError(folder) from None
            raise LocalFileConflictError(
                f"'{path}' is a file where the dataset needs a folder; it was left alone",
                hint="move it away, then run the command again",
            ) from None
        self._made.add(parent)


class Disk(Folder):
    """A dataset's folder together with the store that its files come from.

    `endpoint` completes fingerprints. `owns_folder` is False where files become the user's own
    at once, so that none of them may be taken for ours later.
    """

    def __init__(
        self,
        root: str,
        kinds: tuple[LinkKind, ...],
        mode: int,
        *,
        store: Store,
        endpoint: str,
        owns_folder: bool = True,
    ) -> None:
        super().__init__(root, kinds, mode)
        self.store = store
        self.endpoint = endpoint
        self._owns_folder = owns_folder
        self._accepted: str | None = None
        self._stored: dict[tuple[int, int], list[str]] | None = None

    def is_stored(self, obj: RemoteObject) -> bool:
        """Tell whether the store has the object's bytes, untouched."""
        fingerprint = obj.fingerprint(self.endpoint)
        found = self.store.find(fingerprint, size=obj.size, mtime_ns=obj.mtime_ns)
        return found is not None

    def refresh(self) -> None:
        """Forget what the store had: other runs add to it."""
        self._stored = None

    def sweep_all(self) -> None:
        """Remove what killed runs left half-made, in the folder and in the store."""
        self.sweep()
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
        path = self.path(relpath)
        if self._accepted and files.have_same_bytes(self._accepted, path):
            return True
        if not self._owns_folder:
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
        found = files.stat(target)
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


@contextmanager
def _explaining(path: str, what: str = "put in place") -> Iterator[None]:
    """Raise errors of the system as ours, with the path and a hint."""
    try:
        yield
    except DatacachalogError:
        raise
    except OSError as exc:
        hint = _HINTS.get(exc.errno or 0, "see who owns the folder and what it allows")
        raise CacheError(f"'{path}' cannot be {what}: {exc.strerror}", hint=hint) from exc


_HINTS = {
    errno.ENOSPC: "make room, then run the command again",
    errno.EDQUOT: "make room, then run the command again",
    errno.EROFS: "the file system is read-only",
    errno.ENAMETOOLONG: "move the project to a shorter path, or set `path:` for the dataset",
}
