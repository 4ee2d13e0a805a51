"""The shared store: one immutable read-only file per fingerprint.

    <cache>/CACHEDIR.TAG  README
    <cache>/v1/objects/ab/cdef...   the object whose fingerprint is abcdef...
    <cache>/v1/tmp/                 unique names; renamed into objects/ when verified
    <cache>/v1/locks/               save bandwidth; never needed for correctness

An object is valid if it is a regular file of the right size and carries the remote's
modification time: a write through a hard link would have moved it. Nothing is stored
beside an object. All paths of the store are joined here and nowhere else.
"""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from datacachalog.cache import files
from datacachalog.cache.files import FileStat
from datacachalog.errors import CacheError
from datacachalog.settings import umask

# The signature is fixed by https://bford.info/cachedir/ so that backup tools skip the folder.
_CACHEDIR_TAG = """Signature: 8a477f597d28d172789f06886806bc55
# This file is a cache directory tag created by datacachalog.
# For information about cache directory tags see https://bford.info/cachedir/
"""

_README = """This folder is the cache of datacachalog (`dcl`), shared by all projects of this user.

v1/objects  downloaded objects, read-only, one file each; projects link to them
v1/tmp      downloads under way
v1/locks    keep two runs from fetching one large object twice

It is safe to delete at any time while no `dcl` is running; what is needed is fetched again.
`dcl cache stats` says what is in it, `dcl cache prune` and `dcl cache clear` make room.
"""


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What the store holds: number of objects, their bytes, and the bytes in `tmp/`."""

    objects: int
    size: int
    temporary: int


class Store:
    """The object store below one cache folder. Thread- and process-safe by renames."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._objects = str(root / "v1" / "objects")
        self._tmp = str(root / "v1" / "tmp")
        self._locks = str(root / "v1" / "locks")
        self._is_ready = False
        self._shards: set[str] = set()
        self.mode = 0o444 & ~umask()

    def path(self, fingerprint: str) -> str:
        """Return where the object of that fingerprint is, or would be."""
        return f"{self._objects}/{fingerprint[:2]}/{fingerprint[2:]}"

    def find(self, fingerprint: str, *, size: int, mtime_ns: int) -> FileStat | None:
        """Return the stored object's stat if it is there and untouched, else None.

        Size and modification time are the remote's; an object that lost either was
        written to through a link and is not trusted.
        """
        try:
            found = files.look(self.path(fingerprint))
        except OSError:
            # What cannot be looked at cannot be linked either.
            return None
        if found is None or found.size != size or not files.same_time(found.mtime_ns, mtime_ns):
            return None
        return found

    def temp(self) -> str:
        """Return a fresh path in the store's file system, for bytes not yet verified."""
        self.prepare()
        return f"{self._tmp}/{files.temp_name()}"

    def create(self, temp: str) -> int:
        """Create the file at `temp` (from `temp()`) and return its descriptor, for reading too.

        Raises plain OSError.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(temp, flags, self.mode)
        except FileNotFoundError:
            # The cache was removed since this process made its folders: make them again.
            self._is_ready = False
            self.prepare()
            return os.open(temp, flags, self.mode)

    def lock_path(self, fingerprint: str) -> str:
        """Return the lock file that keeps two runs from fetching one object twice."""
        self.prepare()
        return f"{self._locks}/{fingerprint}"

    def seal(self, target: int | str, mtime_ns: int) -> FileStat:
        """Give a verified file (path or descriptor) an object's mode and times; return its stat."""
        os.utime(target, ns=(time.time_ns(), mtime_ns))
        st = os.stat(target)
        if stat.S_IMODE(st.st_mode) != self.mode:  # it was not made by `create`
            os.chmod(target, self.mode)
        return FileStat(st.st_size, st.st_mtime_ns, st.st_ino)

    def adopt(self, temp: str, fingerprint: str) -> None:
        """Make the sealed file at `temp` the object of that fingerprint.

        Whatever stood there is replaced: it was either the same bytes or not valid.
        Raises plain OSError.
        """
        path = self.path(fingerprint)
        shard = fingerprint[:2]
        if shard not in self._shards:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._shards.add(shard)
        try:
            os.replace(temp, path)
        except FileNotFoundError:
            # The shard (or the whole cache) was removed under us: make it again, once.
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.replace(temp, path)

    def use(self, fingerprint: str, *, size: int, mtime_ns: int) -> bool:
        """Tell whether the object is there and untouched; if so, note its use, for eviction."""
        found = self.find(fingerprint, size=size, mtime_ns=mtime_ns)
        if found is None:
            return False
        with suppress(OSError):
            # The modification time as it is, not as it should be: it tells of tampering.
            os.utime(self.path(fingerprint), ns=(time.time_ns(), found.mtime_ns))
        return True

    def discard(self, fingerprint: str) -> bool:
        """Remove the object; return whether there was one. Links to it live on."""
        path = self.path(fingerprint)
        try:
            return files.remove(path)
        except OSError as exc:
            raise CacheError(
                f"'{path}' cannot be removed: {exc.strerror}",
                hint=f"make '{self.root}' writable",
            ) from exc

    def objects(self) -> Iterator[tuple[str, FileStat]]:
        """Walk all stored objects: fingerprint and stat, in no order."""
        for shard in _scan(self._objects):
            if not shard.is_dir(follow_symlinks=False):
                continue
            for entry in _scan(shard.path):
                found = files.look(entry.path)
                if found is not None and found.size >= 0:
                    yield shard.name + entry.name, found

    def stats(self) -> StoreStats:
        """Count objects and bytes; walks the whole store."""
        count = size = 0
        for _, found in self.objects():
            count += 1
            size += found.size
        temporary = 0
        for entry in _scan(self._tmp):
            with suppress(OSError):
                temporary += entry.stat().st_size
        return StoreStats(count, size, temporary)

    def clear(self) -> StoreStats:
        """Remove every object and every abandoned temporary file; return what went.

        Files in `data/` stay: they are links or copies of their own. A download under
        way in another process keeps its temporary file.
        """
        count = size = 0
        for fingerprint, found in self.objects():
            if self.discard(fingerprint):
                count += 1
                size += found.size
        return StoreStats(count, size, self.sweep())

    def sweep(self) -> int:
        """Remove temporary files that dead runs left behind; return their bytes."""
        freed = 0
        now = time.time()
        for entry in _scan(self._tmp):
            with suppress(OSError):
                st = entry.stat(follow_symlinks=False)
                if files.is_abandoned(entry.name, now - st.st_ctime) and files.remove(entry.path):
                    freed += st.st_size
        return freed

    def prepare(self) -> None:
        """Create the folders, once per process, and sweep what dead runs left."""
        if self._is_ready:
            return
        try:
            for folder in (self._objects, self._tmp, self._locks):
                os.makedirs(folder, exist_ok=True)
            self._write_once("CACHEDIR.TAG", _CACHEDIR_TAG)
            self._write_once("README", _README)
        except OSError as exc:
            raise CacheError(
                f"the cache folder '{self.root}' cannot be written: {exc.strerror}",
                hint="set DCL_CACHE_DIR to a folder that can, or `cache: {dir: …}` in the catalog",
            ) from exc
        self.sweep()
        self._is_ready = True

    def _write_once(self, name: str, text: str) -> None:
        path = self.root / name
        if not path.exists():
            temp = Path(self._tmp, files.temp_name())
            temp.write_text(text, encoding="utf-8")
            temp.replace(path)


def _scan(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
