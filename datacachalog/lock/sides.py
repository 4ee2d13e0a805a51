"""The two sides of a comparison: what names one, and how two are told apart.

A side is what datasets were, are or should be: in a lock, at an instant, on disk. Used by
`catalog`, which resolves what has to be resolved.
"""

import os
from collections.abc import Iterable, Mapping
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
from datacachalog.lock.compare import Comparison
from datacachalog.lock.file import CatalogLock, LockedDataset
from datacachalog.lock.lockfile import LockFile, read
from datacachalog.lock.rules import difference
from datacachalog.suggest import did_you_mean

LOCK, LATEST, PLACED = "lock", "latest", "placed"
"""Sides that have a name."""


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
        else difference(old.entries.get(name), new.entries.get(name))
        for name in names
    ]
    return [comparison for comparison in found if comparison.changes or comparison.error]
