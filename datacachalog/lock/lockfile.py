"""The lock file beside a catalog: when it counts, reading it once, replacing it atomically.

Used by `catalog`. What a lock says is in `locktext`, what follows from it in `locking`.
"""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum
from pathlib import Path

from datacachalog.cache import files
from datacachalog.cache.file_lock import FileLock as Guard
from datacachalog.cache.files import FileStat
from datacachalog.errors import CacheError, InvalidValueError, LockError
from datacachalog.lock.file import CatalogLock, LockedDataset, parse, render
from datacachalog.suggest import did_you_mean

PATIENCE = 30.0
"""Seconds to wait for another run that is just writing the lock."""


class LockMode(Enum):
    """What a lock means to a run.

    `OBEY`: use what fits the catalog, resolve and add the rest. `LOCKED`: all must fit.
    `FROZEN`: use it as it is, resolve nothing. `IGNORE`: as if there were none.
    """

    OBEY = "obey"
    LOCKED = "locked"
    FROZEN = "frozen"
    IGNORE = "ignore"

    @classmethod
    def of(cls, value: "LockMode | str") -> "LockMode":
        """Return the mode, or the one of that name.

        >>> LockMode.of("frozen")
        <LockMode.FROZEN: 'frozen'>
        """
        try:
            return cls(value)
        except ValueError:
            modes = [mode.value for mode in cls]
            raise InvalidValueError(
                f"{value!r} is no lock mode",
                hint=did_you_mean(str(value), modes) or f"write one of {', '.join(modes)}",
            ) from None


class LockFile:
    """The lock beside one catalog, read once per change of the file. Thread-safe.

    `mode` says what it means to runs; where it is ignored, `read` finds none. `guards` is
    the folder for the file that keeps two writers apart.
    """

    def __init__(self, path: Path, mode: LockMode = LockMode.OBEY, *, guards: Path) -> None:
        self.path = path
        self.mode = mode
        self._guard = guards / f"{path.name}.guard"
        self._seen: tuple[FileStat, CatalogLock] | None = None

    @property
    def name(self) -> str:
        """Return the path as a person would type it here."""
        relative = os.path.relpath(self.path)
        return str(self.path) if relative.startswith("..") else relative

    def read(self) -> CatalogLock | None:
        """Return the lock that counts, or None if there is none.

        Raises `LockError` if one is demanded and missing, or cannot be read.
        """
        if self.mode is LockMode.IGNORE:
            return None
        return self.load() if self.mode is LockMode.OBEY else self.demand()

    def demand(self) -> CatalogLock:
        """Return the lock as it lies there, whatever the mode; raise if there is none."""
        lock = self.load()
        if lock is None:
            raise LockError(f"there is no '{self.name}'", hint="run `dcl lock`")
        return lock

    def load(self) -> CatalogLock | None:
        """Return the lock as it lies there, whatever the mode, or None if there is none."""
        stat = files.look(str(self.path))
        if stat is None:
            return None
        if self._seen is not None and self._seen[0] == stat:
            return self._seen[1]
        lock = read(self.path, where=self.name)
        if lock is not None:
            self._seen = (stat, lock)
        return lock

    def update(self, entries: Iterable[LockedDataset]) -> bool:
        """Put entries into the lock as it is by now; return whether it changed."""
        changed = list(entries)
        return bool(changed) and self.rewrite(lambda lock: lock.with_datasets(changed))

    def rewrite(self, change: Callable[[CatalogLock], CatalogLock]) -> bool:
        """Replace the lock by what `change` makes of it; return whether it is different.

        Several runs may add to one lock: each reads it again behind a guard, then renames.
        """
        guard = Guard(str(self._guard))
        guard.acquire(wait=PATIENCE, sleep=time.sleep)
        try:
            _sweep(self.path.parent)
            return write(self.path, change(self.load() or CatalogLock()))
        finally:
            guard.release()


def read(path: Path, *, where: str | None = None) -> CatalogLock | None:
    """Return the lock at `path`, or None if there is none; messages call it `where`."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise LockError(f"'{path}' cannot be read: {exc.strerror}") from exc
    return decode(data, where=where or str(path))


def decode(data: bytes, *, where: str) -> CatalogLock:
    """Return the lock that the bytes of a file hold."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise LockError(f"{where}: this is no catalog lock", hint="run `dcl lock`") from exc
    return parse(text, where=where)


def write(path: Path, lock: CatalogLock) -> bool:
    """Replace the lock atomically; return False if it held exactly this already."""
    text = render(lock).encode()
    temp = path.with_name(f".{files.temp_name()}")
    try:
        with suppress(FileNotFoundError):
            if path.read_bytes() == text:
                return False
        temp.write_bytes(text)
        os.replace(temp, path)
    except OSError as exc:
        with suppress(OSError):
            files.remove(str(temp))
        raise CacheError(f"'{path}' cannot be written: {exc.strerror}") from exc
    return True


def _sweep(folder: Path) -> None:
    """Remove what killed runs left half-written beside the lock."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            if files.is_abandoned(path.name, time.time() - path.lstat().st_ctime):
                files.remove(str(path))
