"""Comparing what datasets were, are or should be: in a lock, at an instant, on disk.

What `dcl diff` and `dcl outdated` show: which files came, went or changed, and how many bytes.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from datacachalog.errors import (
    DatacachalogError,
    InvalidPinError,
    LockError,
    NothingThereYetError,
    ObjectNotFoundError,
)
from datacachalog.lock.file import CatalogLock, LockedDataset, LockFile, read
from datacachalog.model import RemoteObject
from datacachalog.suggest import did_you_mean

LOCK, LATEST, PLACED = "lock", "latest", "placed"
"""Sides that have a name."""


class Change(Enum):
    """What happened to a file."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class FileChange(NamedTuple):
    """One file that differs; the side on which it does not exist is None."""

    relpath: str
    change: Change
    before: RemoteObject | None
    after: RemoteObject | None

    @property
    def growth(self) -> int:
        """Return by how many bytes the file grew (negative: shrank)."""
        old = self.before.size if self.before else 0
        return (self.after.size if self.after else 0) - old


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences of one dataset, by relpath; `same` counts files that do not differ.

    With `error` set, one side could not be had, and nothing is known.
    """

    name: str
    changes: tuple[FileChange, ...] = ()
    same: int = 0
    error: DatacachalogError | None = None

    def count(self, change: Change) -> int:
        """Return how many files changed in that way."""
        return sum(c.change is change for c in self.changes)

    @property
    def growth(self) -> int:
        """Return by how many bytes the dataset grew (negative: shrank)."""
        return sum(c.growth for c in self.changes)

    @property
    def download_bytes(self) -> int:
        """Return the bytes of what was added or changed: what a sync would bring."""
        return sum(c.after.size for c in self.changes if c.after is not None)


def compare(name: str, before: LockedDataset | None, after: LockedDataset | None) -> Comparison:
    """Return how two entries for a dataset differ; None is one that is not there.

    Files are paired by relpath. Hashes decide where both sides know them: the same bytes may
    have been written twice.
    """
    old = {obj.relpath: obj for obj in before.objects} if before else {}
    old_hashes, new_hashes = before.hashes if before else {}, after.hashes if after else {}

    def is_same(one: RemoteObject, other: RemoteObject) -> bool:
        known = old_hashes.get(one.relpath), new_hashes.get(other.relpath)
        return one.is_same_as(other) if None in known else known[0] == known[1]

    changes: list[FileChange] = []
    same = 0
    for obj in after.objects if after else ():
        was = old.pop(obj.relpath, None)
        if was is None:
            changes.append(FileChange(obj.relpath, Change.ADDED, None, obj))
        elif is_same(was, obj):
            same += 1
        else:
            changes.append(FileChange(obj.relpath, Change.CHANGED, was, obj))
    changes.extend(FileChange(path, Change.REMOVED, obj, None) for path, obj in old.items())
    return Comparison(name, tuple(sorted(changes, key=lambda c: c.relpath)), same)


class Side(NamedTuple):
    """Datasets by name, as a lock would have them; `errors` has those that could not be had."""

    entries: Mapping[str, LockedDataset] = MappingProxyType({})
    errors: Mapping[str, DatacachalogError] = MappingProxyType({})

    def or_empty_as(self, other: "Side") -> "Side":
        """Return the side with nothing in place of what was not there.

        Nothing at an instant is no failure; nothing at all is one, unless the other side
        has something.
        """
        errors = {
            name: error
            for name, error in self.errors.items()
            if not isinstance(error, NothingThereYetError)
            and not (isinstance(error, ObjectNotFoundError) and name in other.entries)
        }
        return Side(self.entries, errors)


def named_lock(text: str, lock_file: LockFile) -> CatalogLock | None:
    """Return the lock that `text` names, or None if it is a time.

    Raises `LockError` if there is no such lock, and `InvalidPinError` for what is neither.
    """
    if text == LOCK:
        return lock_file.demand()
    if text.endswith(".lock") or os.path.isfile(text):
        lock = read(Path(text))
        if lock is None:
            raise LockError(f"there is no lock '{text}'", hint="check the path")
        return lock
    # Times begin with a digit, ISO durations with P.
    if not text[:1].isdigit() and text[:1] not in ("P", "p"):
        raise InvalidPinError(
            f"'{text}' is no side of a comparison",
            hint=did_you_mean(text, (LOCK, LATEST, PLACED))
            or "write `lock`, `latest`, `placed`, a time, or the path of a lock file",
        )
    return None


def compare_sides(old: Side, new: Side, names: Iterable[str]) -> list[Comparison]:
    """Compare datasets by name; leave out what is equal, and keep the errors."""
    errors = {**old.errors, **new.errors}
    found = [
        Comparison(name, error=errors[name])
        if name in errors
        else compare(name, old.entries.get(name), new.entries.get(name))
        for name in names
    ]
    return [comparison for comparison in found if comparison.changes or comparison.error]
