"""The rules of locking: which entry counts, what must be resolved, where sides differ.

Works on entries that were resolved, and on locks as values; asks no network itself. Used
by `line` and `catalog`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from datacachalog.cache.state import PlacedFiles
from datacachalog.comparison import Comparison, Same, compare
from datacachalog.errors import DatacachalogError, LockError, ObjectChangedError
from datacachalog.lockfile import (
    Held,
    Lock,
    LockedDataset,
    LockFile,
    LockMode,
    digest_of,
    locked_dataset,
)
from datacachalog.model import Origin, Pin, RemoteObject, Resolution
from datacachalog.spec import Dataset


@dataclass(slots=True)
class Hold:
    """What the lock says of one dataset in one run, and what it should say afterwards.

    `lock` is None where none counts. `root` is the project, which local files are named
    from. `news` is the entry that the lock should get, once a sync knows it.
    """

    dataset: Dataset
    pin: Pin
    root: Path
    lock: Lock | None = None
    mode: LockMode = LockMode.OBEY
    news: LockedDataset | None = None

    @property
    def counts(self) -> bool:
        """Tell whether there is a lock at all that this run should heed."""
        return self.lock is not None

    def find(self) -> LockedDataset | None:
        """Return the entry to obey, or None if there is none to; raise where there must be."""
        if self.lock is None:
            return None
        name = self.dataset.name
        entry = self.lock.datasets.get(name)
        if entry is not None and self.mode is LockMode.FROZEN:
            return entry
        if entry is not None and entry.digest == digest_of(self.dataset, self.pin):
            return entry
        if self.mode is LockMode.OBEY:
            return None
        reason = "is not in the lock" if entry is None else "changed in the catalog since the lock"
        raise LockError(f"'{name}' {reason}", hint=f"run `dcl lock {name}`")

    def entry_for(self, objects: Iterable[RemoteObject], endpoint: str) -> LockedDataset:
        """Return the entry that says what the dataset resolved to, without hashes."""
        return locked_dataset(self.dataset, self.pin, objects, endpoint, self.root)

    def note(self, resolution: Resolution, placed: PlacedFiles) -> None:
        """Keep as `news` what a sync learnt: objects that were not locked, hashes that lacked."""
        if self.lock is None or self.mode is not LockMode.OBEY:
            return
        if resolution.hashes and len(resolution.hashes) == len(resolution.objects):
            return
        if resolution.origin is Origin.LOCK:
            entry = self.lock.datasets[self.dataset.name]
        else:
            entry = self.entry_for(resolution.objects, resolution.endpoint)
        hashes = zip(placed.relpath, placed.blake3, strict=True)
        self.news = replace(entry, hashes={path: b3 for path, b3 in hashes if b3 is not None})


def find_local(locked: LockedDataset, here: Iterable[RemoteObject]) -> tuple[RemoteObject, ...]:
    """Return those local files `here` that the lock names; raise if one is gone or resized."""
    known = {obj.relpath: obj for obj in here}
    for wanted in locked.objects:
        found = known.get(wanted.relpath)
        if found is None or found.size != wanted.size:
            what = "it is gone" if found is None else f"it has {found.size} bytes now"
            raise ObjectChangedError(
                f"'{wanted.uri}' is locked with {wanted.size} bytes, but {what}",
                hint=f"restore the file, or run `dcl lock --upgrade {locked.name}`",
            )
    return tuple(known[wanted.relpath] for wanted in locked.objects)


@dataclass(frozen=True, slots=True)
class LockReport:
    """What `lock` did, by names of datasets; `moved` compares entries that were replaced."""

    added: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    moved: tuple[Comparison, ...] = ()
    removed: tuple[str, ...] = ()
    errors: Mapping[str, DatacachalogError] = field(default_factory=dict)
    is_changed: bool = False


def must_resolve(
    names: Iterable[str],
    datasets: Mapping[str, Dataset],
    lock: Lock,
    upgrade: bool | Sequence[str],
) -> list[str]:
    """Return which of the named datasets `lock` has to resolve: missing, changed, or upgraded."""
    upgraded = set(datasets) if upgrade is True else set(upgrade or ())
    return [
        name
        for name in names
        if name in upgraded or not fits(lock.datasets.get(name), datasets[name])
    ]


def fits(entry: LockedDataset | None, dataset: Dataset) -> bool:
    """Tell whether an entry of the lock is for the dataset as the catalog has it."""
    return entry is not None and entry.digest == digest_of(dataset, dataset.pin)


def write_lock(
    lock_file: LockFile,
    datasets: Mapping[str, Dataset],
    resolved: Mapping[str, LockedDataset],
    errors: Mapping[str, DatacachalogError],
) -> LockReport:
    """Put what was resolved into the lock, keep the rest, and forget what left the catalog."""
    before = lock_file.load() or Lock()
    fresh = {
        name: _keeping_hashes(entry, before.datasets.get(name)) for name, entry in resolved.items()
    }
    is_changed = lock_file.rewrite(lambda lock: lock.with_datasets(fresh.values()).only(datasets))
    moved = (
        difference(before.datasets[name], entry)
        for name, entry in fresh.items()
        if name in before.datasets
    )
    return LockReport(
        added=tuple(name for name in fresh if name not in before.datasets),
        kept=tuple(n for n in before.datasets if n in datasets and n not in fresh),
        moved=tuple(m for m in moved if m.changes),
        removed=tuple(name for name in before.datasets if name not in datasets),
        errors=dict(errors),
        is_changed=is_changed,
    )


def _keeping_hashes(entry: LockedDataset, before: LockedDataset | None) -> LockedDataset:
    """Carry over the hashes of objects that did not change."""
    if before is None or entry.hashes:
        return entry
    old = {obj.relpath: obj for obj in before.objects}
    kept = {
        obj.relpath: before.hashes[obj.relpath]
        for obj in entry.objects
        if obj.relpath in before.hashes and obj.is_same_as(old[obj.relpath])
    }
    return replace(entry, hashes=kept)


def disagreements(datasets: Iterable[Dataset], lock: Lock) -> list[str]:
    """Say where catalog and lock disagree, a sentence each; asks no network."""
    found = []
    names = set()
    for dataset in datasets:
        names.add(dataset.name)
        entry = lock.datasets.get(dataset.name)
        if entry is None:
            found.append(f"'{dataset.name}' is in the catalog, but not in the lock")
        elif not fits(entry, dataset):
            found.append(f"'{dataset.name}' changed in the catalog since it was locked")
    found.extend(
        f"'{name}' is in the lock, but not in the catalog"
        for name in lock.datasets
        if name not in names
    )
    return found


def difference(before: LockedDataset | None, after: LockedDataset | None) -> Comparison:
    """Compare two entries for one dataset; None is one that is not there."""
    some = after or before
    if some is None:
        raise ValueError("one side must be there")
    return compare(
        some.name,
        before.objects if before else (),
        after.objects if after else (),
        is_same=_by_hash(before, after) if some.held is Held.HASH else RemoteObject.is_same_as,
    )


def _by_hash(before: LockedDataset | None, after: LockedDataset | None) -> Same:
    """Return a comparison of local files: by size, and by hash where both sides know it."""
    old, new = before.hashes if before else {}, after.hashes if after else {}

    def is_same(one: RemoteObject, other: RemoteObject) -> bool:
        known = (old.get(one.relpath), new.get(other.relpath))
        return one.size == other.size and (None in known or known[0] == known[1])

    return is_same
