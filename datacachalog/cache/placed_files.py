"""The files that were put in place, as columns: what a state records and a plan compares.

With 100,000 files, columns are compared and written without a value for each.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import eq
from typing import Any, NamedTuple

from datacachalog.model import EPOCH, IDENTITY, MICROSECOND, RemoteObject


class PlacedFile(NamedTuple):
    """One file that was put in place: which object, its blake3, and its mtime on disk.

    Without a blake3 it was invalidated: it is ours, but not what it should be.
    """

    object: RemoteObject
    blake3: str | None
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class PlacedFiles:
    """Placed files as columns of one length, sorted by `relpath`, which is unique.

    `base` is what all URIs begin with, `key` the rest of each: nearly always its relpath, so
    that no text is there twice. `modified_us` is in microseconds since the epoch.
    """

    base: str
    relpath: list[str]
    key: list[str]
    size: list[int]
    modified_us: list[int]
    etag: list[str | None]
    version_id: list[str | None]
    blake3: list[str | None]
    mtime_ns: list[int]

    @classmethod
    def of(cls, placed: Iterable[PlacedFile]) -> "PlacedFiles":
        """Return the columns of files, which are sorted on the way."""
        rows = sorted(placed, key=lambda p: p.object.relpath)
        relpath, uri = [p.object.relpath for p in rows], [p.object.uri for p in rows]
        base = uri[0][: len(uri[0]) - len(relpath[0])] if uri else ""
        is_below = all(map(eq, uri, map(base.__add__, relpath)))
        return cls(
            base=base if is_below else "",
            relpath=relpath,
            key=relpath if is_below else uri,
            size=[p.object.size for p in rows],
            modified_us=[p.object.mtime_ns // 1000 for p in rows],
            etag=[p.object.etag for p in rows],
            version_id=[p.object.version_id for p in rows],
            blake3=[p.blake3 for p in rows],
            mtime_ns=[p.mtime_ns for p in rows],
        )

    def __len__(self) -> int:
        return len(self.relpath)

    def __iter__(self) -> Iterator[PlacedFile]:
        return map(PlacedFile, self.objects(), self.blake3, self.mtime_ns)

    @property
    def uri(self) -> Iterator[str]:
        """Yield the URI of each file."""
        return map(self.base.__add__, self.key)

    def objects(self) -> Iterator[RemoteObject]:
        """Yield the object of each file."""
        modified = (EPOCH + us * MICROSECOND for us in self.modified_us)
        columns = (self.uri, self.relpath, self.size, modified, self.etag, self.version_id)
        return map(RemoteObject, *columns)

    def find(self, relpath: str) -> PlacedFile | None:
        """Return the file at `relpath`, or None if none was placed there."""
        i = bisect_left(self.relpath, relpath)
        if self.relpath[i : i + 1] != [relpath]:
            return None
        return next(iter(self.take([i])))

    def take(self, rows: Iterable[int]) -> "PlacedFiles":
        """Return the files of these rows, which ascend."""
        rows = list(rows)
        return PlacedFiles(self.base, *([column[i] for i in rows] for column in self.columns()))

    def split(self, relpaths: Collection[str]) -> tuple["PlacedFiles", "PlacedFiles"]:
        """Return the files at `relpaths`, and the others."""
        if relpaths == self.relpath:  # as nearly always
            return self, NOTHING
        rows = self._rows_at(relpaths)
        return self.take(rows), self.take(sorted({*range(len(self))}.difference(rows)))

    def same(self, objects: Sequence[RemoteObject]) -> list[bool]:
        """Tell of each file whether its object is the same as the one at its place in `objects`.

        An invalidated file never is.
        """
        recorded = zip(self.uri, self.size, self.etag, strict=True)
        equal = map(eq, map(IDENTITY, objects), recorded)
        versions = zip((obj.version_id for obj in objects), self.version_id, strict=True)
        known = zip(equal, self.etag, self.blake3, versions, strict=True)
        same = [
            is_equal and None not in (etag, blake3) and (None in two or two[0] == two[1])
            for is_equal, etag, blake3, two in known
        ]
        # Few, nearly always, need a closer look.
        others = [i for i, is_same in enumerate(same) if not is_same and self.blake3[i] is not None]
        for i, old in zip(others, self.take(others).objects(), strict=True):
            same[i] = objects[i].is_same_as(old)
        return same

    def with_changes(
        self, hits: Sequence[RemoteObject], placed: Iterable[PlacedFile]
    ) -> "PlacedFiles":
        """Return the files of `hits`, which stay, and what was `placed` anew.

        A version id that a file lacks is learnt from its hit.
        """
        rows = self._rows_at([obj.relpath for obj in hits])
        learnt = [
            PlacedFile(obj, self.blake3[i], self.mtime_ns[i])
            for i, obj in zip(rows, hits, strict=True)
            if obj.version_id is not None and self.version_id[i] is None
        ]
        fresh = PlacedFiles.of([*learnt, *placed])
        replaced = set(fresh.relpath)
        rows = [i for i in rows if self.relpath[i] not in replaced]
        if not rows:
            return fresh
        if fresh and fresh.base != self.base:
            return PlacedFiles.of([*self.take(rows), *fresh])
        rows += range(len(self), len(self) + len(fresh))
        columns = [[*old, *new] for old, new in zip(self.columns(), fresh.columns(), strict=True)]
        rows.sort(key=columns[0].__getitem__)
        return PlacedFiles(self.base, *([column[i] for i in rows] for column in columns))

    def columns(self) -> list[list[Any]]:
        """Return all columns, in the order of the fields."""
        return [getattr(self, name) for name in self.__slots__ if name != "base"]

    def _rows_at(self, relpaths: Iterable[str]) -> list[int]:
        wanted = set(relpaths)
        return [i for i, relpath in enumerate(self.relpath) if relpath in wanted]


NOTHING = PlacedFiles.of(())
