"""The planner: compares what should be with what is, and says what to do and why.

Pure: it touches neither network nor disk, but asks three questions that its caller
answers (`look`, `is_stored`, `is_ours`). `transfer` does what it says; `status` and
`--dry-run` only show it.
"""

from dataclasses import dataclass
from typing import Protocol

from datacachalog.cache.files import FileStat
from datacachalog.cache.state import PlacedFiles
from datacachalog.model import RemoteObject, Resolution


@dataclass(frozen=True, slots=True)
class Hit:
    """The file is in place and is what it should be."""

    object: RemoteObject
    row: int  # in the state's files


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

    Every list is sorted by relpath. `hits` are row-and-object pairs; nothing needs to be
    done for them.
    """

    resolution: Resolution
    hits: tuple[Hit, ...] = ()
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

    def is_stored(self, obj: RemoteObject) -> bool:
        """Tell whether the store holds the object's bytes, valid."""

    def is_ours(self, relpath: str, found: FileStat) -> bool:
        """Tell whether a file that the state does not explain was placed by us all the same."""


NOTHING = PlacedFiles.of(())


def plan(resolution: Resolution, placed: PlacedFiles, ask: Questions) -> Plan:
    """Compare a resolution with what was placed and what lies on disk.

    `placed` are the files of the last state (`NOTHING` if there is none). A file counts
    as ours and untouched if the state has it with the size and mtime it has now.
    """
    hits: list[Hit] = []
    links: list[Link] = []
    downloads: list[Download] = []
    conflicts: list[Conflict] = []
    drops, keeps = _gone(resolution, placed, ask)
    emptied = _parents_of(drops)
    rows = placed.index
    sizes, mtimes, etags, uris = placed.size, placed.mtime_ns, placed.etag, placed.uri
    for obj in resolution.objects:
        relpath = obj.relpath
        found = ask.look(relpath)
        i = rows.get(relpath)
        is_same = i is not None and (
            # The common case without an object: same key, ETag and size, and no version ids.
            (
                obj.version_id is None
                and obj.etag is not None
                and obj.etag == etags[i]
                and obj.size == sizes[i]
                and obj.uri == uris[i]
            )
            or obj.is_same_as(placed.row(i).object)
        )
        if i is not None and found is not None:
            untouched = found.size == sizes[i] and found.mtime_ns == mtimes[i]
            if untouched and is_same:
                hits.append(Hit(obj, i))
                continue
            if untouched:
                over, reason = found, _why_changed(obj, placed, i)
            elif ask.is_ours(relpath, found):
                over, reason = found, "left by an interrupted run"
            else:
                conflicts.append(Conflict(relpath, "edited since it was put there"))
                continue
        elif found is not None:
            if found.size < 0 and relpath in emptied:
                over, reason = None, "new at the source"
            elif found.size == obj.size and found.mtime_ns == obj.mtime_ns:
                # Looks like ours without a state; placing compares the bytes.
                over, reason = None, "in place, but not on record"
            elif ask.is_ours(relpath, found):
                over, reason = found, "left by an interrupted run"
            else:
                conflicts.append(Conflict(relpath, "not put there by `dcl`"))
                continue
        else:
            over = None
            reason = "missing on disk" if i is not None else "new"
        if ask.is_stored(obj):
            links.append(Link(obj, reason, over))
        else:
            downloads.append(Download(obj, reason, over))
    return Plan(
        resolution,
        tuple(hits),
        tuple(links),
        tuple(downloads),
        tuple(drops),
        tuple(conflicts),
        tuple(keeps),
    )


def _gone(
    resolution: Resolution, placed: PlacedFiles, ask: Questions
) -> tuple[list[Drop], list[Keep]]:
    drops: list[Drop] = []
    keeps: list[Keep] = []
    wanted = {obj.relpath for obj in resolution.objects}
    if len(wanted) == len(placed) and wanted.issuperset(placed.relpath):
        return drops, keeps
    for i, relpath in enumerate(placed.relpath):
        if relpath in wanted:
            continue
        found = ask.look(relpath)
        if found is None:
            continue
        if found.size == placed.size[i] and found.mtime_ns == placed.mtime_ns[i]:
            drops.append(Drop(relpath, "gone at the source", found))
        else:
            keeps.append(Keep(relpath, "gone at the source, but edited here"))
    return drops, keeps


def _parents_of(drops: list[Drop]) -> set[str]:
    parents: set[str] = set()
    for drop in drops:
        parent = drop.relpath.rpartition("/")[0]
        while parent and parent not in parents:
            parents.add(parent)
            parent = parent.rpartition("/")[0]
    return parents


def _why_changed(obj: RemoteObject, placed: PlacedFiles, i: int) -> str:
    old = placed.row(i).object
    if old.uri != obj.uri:
        return "another source"
    if old.size != obj.size:
        return f"changed at the source: {old.size} to {obj.size} bytes"
    if old.modified != obj.modified:
        return f"changed at the source on {obj.modified:%Y-%m-%d %H:%M:%S}Z"
    return "changed at the source"
