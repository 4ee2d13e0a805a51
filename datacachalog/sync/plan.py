"""The planner: compares what should be with what is, and says what to do and why.

Pure: it touches neither network nor disk, but asks questions about the disk that its
caller answers. `transfer` does what it says; `status` and `--dry-run` only show it.
"""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from operator import attrgetter, eq
from typing import Protocol, TypeVar

from datacachalog.cache.files import FileStat
from datacachalog.cache.state import PlacedFiles, gaps
from datacachalog.model import RemoteObject, Resolution

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hit:
    """The file is in place and is what it should be."""

    object: RemoteObject
    row: int  # in the state's files


@dataclass(frozen=True, slots=True)
class Hits:
    """All hits of a plan, as columns: nearly every file is one, so a value each would cost.

    `rows` are those of `objects` in the state's files. A `Hit` is made where one is wanted.
    """

    objects: Sequence[RemoteObject] = ()
    rows: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Hit]:
        return map(Hit, self.objects, self.rows)


@dataclass(frozen=True, slots=True)
class Link:
    """The bytes are in the store; only the file in `data/` is missing or old."""

    object: RemoteObject
    reason: str
    over: FileStat | None = None


@dataclass(frozen=True, slots=True)
class Download:
    """The bytes must come over the network first."""

    object: RemoteObject
    reason: str
    over: FileStat | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """The file is ours, untouched, and gone at the source."""

    relpath: str
    reason: str
    over: FileStat


@dataclass(frozen=True, slots=True)
class Upload:
    """A local file goes to the remote."""

    path: str
    uri: str
    size: int
    reason: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """A file that is not ours stands where a file of the dataset belongs."""

    relpath: str
    reason: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Gone at the source, but edited here: it stays, and is the user's own from now on."""

    relpath: str
    reason: str


Step = Hit | Link | Download | Drop | Upload | Conflict | Keep


@dataclass(frozen=True, slots=True)
class Plan:
    """What it takes to make a dataset's folder match its resolution, by kind of step.

    Every list is sorted by relpath. For `hits` nothing needs to be done.
    """

    resolution: Resolution
    hits: Hits = Hits()
    links: tuple[Link, ...] = ()
    downloads: tuple[Download, ...] = ()
    drops: tuple[Drop, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    keeps: tuple[Keep, ...] = ()

    @property
    def is_noop(self) -> bool:
        """Tell whether everything is in place already."""
        return not (self.links or self.downloads or self.drops or self.conflicts or self.keeps)

    @property
    def download_bytes(self) -> int:
        """Return how many bytes must come over the network."""
        return sum(step.object.size for step in self.downloads)


class Questions(Protocol):
    """What the planner asks of the disk."""

    def look(self, relpath: str) -> FileStat | None:
        """Return what lies at `relpath` in the dataset's folder, or None."""

    def touched(
        self, relpaths: Sequence[str], sizes: Sequence[int], mtimes_ns: Sequence[int]
    ) -> set[int]:
        """Look at many files; return the positions of those that are not as they were.

        That is, which are no regular file of that size and modification time.
        """

    def blocker(self, relpath: str) -> str | None:
        """Return the relpath of what stands where `relpath` needs a folder, or None."""

    def holds_only(self, relpath: str, known: AbstractSet[str]) -> bool:
        """Tell whether `relpath` is a folder whose files, at any depth, are all in `known`."""

    def is_stored(self, obj: RemoteObject) -> bool:
        """Tell whether the store holds the object's bytes, valid."""

    def is_ours(self, relpath: str, found: FileStat, recorded: RemoteObject | None) -> bool:
        """Tell whether a file that the state does not explain was placed by us all the same.

        `recorded` is what the state has at `relpath`, if anything.
        """


def plan(resolution: Resolution, placed: PlacedFiles, ask: Questions) -> Plan:
    """Compare a resolution with what was placed and what lies on disk.

    `placed` are the files of the last state. A file counts as ours and untouched if the state
    has it with the size and mtime it has now. Rows without a blake3 were invalidated: they
    are ours, but not what they should be.
    """
    objects = resolution.objects
    rows = _rows_of([obj.relpath for obj in objects], placed)
    unchanged = _unchanged(objects, rows, placed)
    kept = [rows[i] for i in unchanged]
    touched = ask.touched(
        [placed.relpath[row] for row in kept],
        [placed.size[row] for row in kept],
        [placed.mtime_ns[row] for row in kept],
    )
    if touched:
        unchanged = [i for at, i in enumerate(unchanged) if at not in touched]
        kept = [row for at, row in enumerate(kept) if at not in touched]
    hits = Hits([objects[i] for i in unchanged], kept)
    drops, keeps = _gone(rows, placed, ask)
    others = []
    if len(hits) < len(objects):
        for i in gaps(unchanged, len(objects)):
            row = None if rows[i] == _NEW else rows[i]
            others.append((objects[i], ask.look(objects[i].relpath), row))
    return _Sorter(placed, ask, drops).sort(resolution, hits, others, keeps)


_NEW = -1
"""Stands for the row of an object that has none."""


def _rows_of(relpaths: list[str], placed: PlacedFiles) -> Sequence[int]:
    """Return the row of each path, or `_NEW`."""
    if relpaths == placed.relpath:  # as nearly always
        return range(len(relpaths))
    find = placed.index.get
    return [find(relpath, _NEW) for relpath in relpaths]


def _unchanged(
    objects: Sequence[RemoteObject], rows: Sequence[int], placed: PlacedFiles
) -> list[int]:
    """Return the positions of objects whose rows say the same, and were not invalidated."""
    agree = _agree(objects, rows, placed) if len(placed) else [False] * len(objects)
    return [
        i
        for i, is_same in enumerate(agree)
        if is_same or _is_same(objects[i], rows[i], placed)  # the few that a closer look needs
    ]


_KNOWN_BY = attrgetter("uri", "size", "etag")


def _agree(objects: Sequence[RemoteObject], rows: Sequence[int], placed: PlacedFiles) -> list[bool]:
    """Tell of each object whether columns alone show that its row says the same.

    That is, the same ETag, and not two version ids. Where nothing is None, no expression
    is evaluated per object.
    """

    def of_rows(column: Sequence[T]) -> Sequence[T]:
        return column if isinstance(rows, range) else [column[row] for row in rows]

    etags, hashes, old = map(of_rows, (placed.etag, placed.blake3, placed.version_id))
    recorded = zip(of_rows(placed.uri), of_rows(placed.size), etags, strict=True)
    agree = list(map(eq, map(_KNOWN_BY, objects), recorded))
    if _NEW in rows or None in etags or None in hashes:
        known = zip(agree, rows, etags, hashes, strict=True)
        agree = [is_same and row != _NEW and None not in two for is_same, row, *two in known]
    new = [obj.version_id for obj in objects]
    if new.count(None) < len(new) and old.count(None) < len(old):
        pairs = zip(agree, new, old, strict=True)
        agree = [is_same and (a is None or b is None or a == b) for is_same, a, b in pairs]
    return agree


def _is_same(obj: RemoteObject, row: int, placed: PlacedFiles) -> bool:
    if row == _NEW or placed.blake3[row] is None:
        return False
    return obj.is_same_as(placed.row(row).object)


def _gone(
    rows: Sequence[int], placed: PlacedFiles, ask: Questions
) -> tuple[list[Drop], list[Keep]]:
    """Return what becomes of placed files whose rows are not among `rows`."""
    drops: list[Drop] = []
    keeps: list[Keep] = []
    if len(rows) - rows.count(_NEW) == len(placed):
        return drops, keeps
    for i in gaps(sorted(row for row in rows if row != _NEW), len(placed)):
        relpath = placed.relpath[i]
        found = ask.look(relpath)
        if found is None:
            continue
        if found.size == placed.size[i] and found.mtime_ns == placed.mtime_ns[i]:
            drops.append(Drop(relpath, "gone at the source", found))
        else:
            keeps.append(Keep(relpath, "gone at the source, but edited here"))
    return drops, keeps


class _Sorter:
    """Sorts objects that are not in place as they should be into links, downloads, conflicts."""

    def __init__(self, placed: PlacedFiles, ask: Questions, drops: list[Drop]) -> None:
        self._placed = placed
        self._ask = ask
        self._drops = drops
        self._dropped = {drop.relpath for drop in drops}

    def sort(
        self,
        resolution: Resolution,
        hits: Hits,
        others: list[tuple[RemoteObject, FileStat | None, int | None]],
        keeps: list[Keep],
    ) -> Plan:
        """Return the plan."""
        links: list[Link] = []
        downloads: list[Download] = []
        conflicts: dict[str, Conflict] = {}
        for obj, found, i in others:
            match self._compare(obj, found, i):
                case Conflict(relpath) as conflict:
                    conflicts[relpath] = conflict
                case over, reason:
                    if self._ask.is_stored(obj):
                        links.append(Link(obj, reason, over))
                    else:
                        downloads.append(Download(obj, reason, over))
        return Plan(
            resolution,
            hits=hits,
            links=tuple(links),
            downloads=tuple(downloads),
            drops=tuple(self._drops),
            conflicts=tuple(conflicts.values()),
            keeps=tuple(keeps),
        )

    def _compare(
        self, obj: RemoteObject, found: FileStat | None, i: int | None
    ) -> tuple[FileStat | None, str] | Conflict:
        """Return what may be replaced and why, or what is in the way."""
        if found is None:
            blocker = self._ask.blocker(obj.relpath)
            if blocker is not None and blocker not in self._dropped:
                return Conflict(blocker, "in the way, where a folder is needed")
            return None, "new" if i is None else "missing on disk"
        if found.size < 0 and self._ask.holds_only(obj.relpath, self._dropped):
            return None, "new"  # where a folder is that is empty, or will be
        if i is None:
            return self._compare_unrecorded(obj, found)
        if found.size == self._placed.size[i] and found.mtime_ns == self._placed.mtime_ns[i]:
            return found, _why_changed(obj, self._placed, i)
        if self._ask.is_ours(obj.relpath, found, self._placed.row(i).object):
            return found, "put there by another run"
        return Conflict(obj.relpath, "edited since it was put there")

    def _compare_unrecorded(
        self, obj: RemoteObject, found: FileStat
    ) -> tuple[FileStat | None, str] | Conflict:
        may_be_it = found.size == obj.size
        if not (may_be_it and found.mtime_ns == obj.mtime_ns) and self._ask.is_ours(
            obj.relpath, found, None
        ):
            return found, "put there by another run"
        if may_be_it:
            # Staging compares the bytes, before anything changes.
            return None, "in place, but not on record"
        return Conflict(obj.relpath, "not put there by `dcl`")


def _why_changed(obj: RemoteObject, placed: PlacedFiles, i: int) -> str:
    old = placed.row(i).object
    if old.uri != obj.uri:
        return "another source"
    if placed.blake3[i] is None:
        return "invalidated"
    if old.size != obj.size:
        return f"changed at the source: {old.size} to {obj.size} bytes"
    if old.modified != obj.modified:
        return f"changed at the source on {obj.modified:%Y-%m-%d %H:%M:%S}Z"
    return "changed at the source"
