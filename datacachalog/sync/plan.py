"""The planner: compares what should be with what is, and says what to do and why.

For each object: a hit, or link, download or conflict; for each placed file that is gone at the
source: drop or keep. Changes nothing and asks no network: `transfer` does what the plan says;
`status` and `--dry-run` only show it.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from datacachalog.cache.files import FileStat
from datacachalog.cache.placed_files import PlacedFile, PlacedFiles
from datacachalog.model import RemoteObject, Resolution
from datacachalog.sync.placement import Disk


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
class Conflict:
    """A file that is not ours stands where a file of the dataset belongs."""

    relpath: str
    reason: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Gone at the source, but edited here: it stays, and is the user's own from now on."""

    relpath: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What it takes to make a dataset's folder match its resolution, by kind of step.

    Everything is sorted by relpath. `hits` are the objects whose files are in place, and what
    they should be: nothing needs to be done for them.
    """

    resolution: Resolution
    hits: tuple[RemoteObject, ...] = ()
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


def plan(resolution: Resolution, placed: PlacedFiles, disk: Disk) -> Plan:
    """Compare a resolution with what was placed (by the last state) and what is on disk.

    A file counts as ours and untouched if the state has it with the size and mtime it has now.
    """
    objects = resolution.objects
    ours, gone = placed.split([obj.relpath for obj in objects])
    hits = _find_hits(objects, ours, disk)
    drops, keeps = _plan_gone(gone, disk)
    dropped = {drop.relpath for drop in drops}
    steps = [
        _plan_object(obj, ours.find(obj.relpath), dropped, disk) for obj in _without(objects, hits)
    ]
    conflicts = {step.relpath: step for step in steps if isinstance(step, Conflict)}
    return Plan(
        resolution,
        hits,
        links=tuple(step for step in steps if isinstance(step, Link)),
        downloads=tuple(step for step in steps if isinstance(step, Download)),
        drops=tuple(drops),
        conflicts=tuple(conflicts.values()),
        keeps=tuple(keeps),
    )


def _find_hits(
    objects: Sequence[RemoteObject], ours: PlacedFiles, disk: Disk
) -> tuple[RemoteObject, ...]:
    """Return the objects that the state has, with files that are as it says."""
    if len(ours) < len(objects):
        known = set(ours.relpath)
        objects = [obj for obj in objects if obj.relpath in known]
    same = ours.same(objects)
    if not all(same):
        ours = ours.take(i for i, is_same in enumerate(same) if is_same)
        objects = [obj for obj, is_same in zip(objects, same, strict=True) if is_same]
    touched = disk.touched(ours.relpath, ours.size, ours.mtime_ns)
    if not touched:
        return tuple(objects)
    return tuple(obj for i, obj in enumerate(objects) if i not in touched)


def _without(objects: Sequence[RemoteObject], hits: Sequence[RemoteObject]) -> list[RemoteObject]:
    """Return the objects that are no hits."""
    if len(hits) == len(objects):
        return []
    in_place = {obj.relpath for obj in hits}
    return [obj for obj in objects if obj.relpath not in in_place]


def _plan_gone(gone: PlacedFiles, disk: Disk) -> tuple[list[Drop], list[Keep]]:
    """Decide what becomes of placed files that are gone at the source."""
    drops: list[Drop] = []
    keeps: list[Keep] = []
    for file in gone:
        relpath = file.object.relpath
        found = disk.stat(relpath)
        if found is None:
            continue
        if _is_untouched(found, file):
            drops.append(Drop(relpath, "gone at the source", found))
        else:
            keeps.append(Keep(relpath, "gone at the source, but edited here"))
    return drops, keeps


def _plan_object(
    obj: RemoteObject, placed: PlacedFile | None, dropped: AbstractSet[str], disk: Disk
) -> Link | Download | Conflict:
    """Decide what to do for an object whose file is not in place as it should be."""
    found, over = disk.stat(obj.relpath), None
    if found is None:
        blocker = disk.blocker(obj.relpath)
        if blocker is not None and blocker not in dropped:
            return Conflict(blocker, "in the way, where a folder is needed")
        reason = "new" if placed is None else "missing on disk"
    elif found.size < 0 and disk.holds_only(obj.relpath, dropped):
        reason = "new"  # where a folder is that is empty, or will be
    elif placed is not None and _is_untouched(found, placed):
        over, reason = found, _why_changed(obj, placed)
    elif placed is None and (found.size, found.mtime_ns) == (obj.size, obj.mtime_ns):
        reason = _NOT_ON_RECORD
    elif disk.is_ours(obj.relpath, found, placed.object if placed is not None else None):
        over, reason = found, "put there by another run"
    elif placed is None and found.size == obj.size:
        reason = _NOT_ON_RECORD
    else:
        is_new = placed is None
        return Conflict(
            obj.relpath, "not put there by `dcl`" if is_new else "edited since it was put there"
        )
    return (Link if disk.is_stored(obj) else Download)(obj, reason, over)


_NOT_ON_RECORD = "in place, but not on record"
"""The file may have the object's bytes: staging compares them before anything changes."""


def _is_untouched(found: FileStat, placed: PlacedFile) -> bool:
    return (found.size, found.mtime_ns) == (placed.object.size, placed.mtime_ns)


def _why_changed(obj: RemoteObject, placed: PlacedFile) -> str:
    old = placed.object
    if old.uri != obj.uri:
        return "another source"
    if placed.blake3 is None:
        return "invalidated"
    if old.size != obj.size:
        return f"changed at the source: {old.size} to {obj.size} bytes"
    if old.modified != obj.modified:
        return f"changed at the source on {obj.modified:%Y-%m-%d %H:%M:%S}Z"
    return "changed at the source"
