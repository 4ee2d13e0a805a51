"""Comparing two resolutions of a dataset: which files came, went or changed, and how many bytes.

What `dcl diff` and `dcl outdated` show. Pure.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from datacachalog.errors import DatacachalogError
from datacachalog.model import RemoteObject

Same = Callable[[RemoteObject, RemoteObject], bool]


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


def compare(
    name: str,
    before: Iterable[RemoteObject],
    after: Iterable[RemoteObject],
    *,
    is_same: Same = RemoteObject.is_same_as,
) -> Comparison:
    """Return how `after` differs from `before`; files are paired by relpath."""
    old = {obj.relpath: obj for obj in before}
    changes: list[FileChange] = []
    same = 0
    for obj in after:
        was = old.pop(obj.relpath, None)
        if was is None:
            changes.append(FileChange(obj.relpath, Change.ADDED, None, obj))
        elif is_same(was, obj):
            same += 1
        else:
            changes.append(FileChange(obj.relpath, Change.CHANGED, was, obj))
    changes.extend(FileChange(path, Change.REMOVED, obj, None) for path, obj in old.items())
    return Comparison(name, tuple(sorted(changes, key=lambda c: c.relpath)), same)
