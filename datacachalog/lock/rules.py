"""The rules of locking: which entry counts, what must be resolved, where catalog and lock differ.

Works on entries that were resolved, and on locks as values; uses no network itself.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from blake3 import blake3

from datacachalog import globs, uri
from datacachalog.cache.placed_files import PlacedFiles
from datacachalog.errors import (
    DatacachalogError,
    LockError,
    ObjectChangedError,
    ObjectNotFoundError,
    StorageError,
)
from datacachalog.lock.compare import Comparison, compare
from datacachalog.lock.file import CatalogLock, LockedDataset, LockFile, LockMode, PinKind
from datacachalog.model import EPOCH, Origin, Pin, RemoteObject, Resolution, pin_identity

if TYPE_CHECKING:
    from datacachalog.spec.models import Dataset

# --- entries ------------------------------------------------------------------------


def locked_dataset(
    dataset: "Dataset", pin: Pin, objects: Iterable[RemoteObject], endpoint: str, root: Path
) -> LockedDataset:
    """Return the lock's entry for what a dataset resolved to, without hashes yet.

    `root` is the project's folder. Local files lose what holds on this machine only: inode,
    time and absolute path.
    """
    objects = tuple(objects)
    pin_kind = pin_kind_of(objects, endpoint)
    if pin_kind is PinKind.HASH:
        objects = tuple(
            RemoteObject(portable(o.uri, str(root)), o.relpath, o.size, EPOCH) for o in objects
        )
    return LockedDataset(dataset.name, digest_of(dataset, pin, root), pin_kind, objects)


def pin_kind_of(objects: Iterable[RemoteObject], endpoint: str) -> PinKind:
    """Return what pins these objects: version ids if all have one, else ETags, else hashes."""
    if endpoint == "file":
        return PinKind.HASH
    ids = {obj.version_id for obj in objects}
    return PinKind.ETAG if ids & {None, "null"} else PinKind.VERSION


def digest_of(dataset: "Dataset", pin: Pin, root: Path) -> str:
    """Return a hash of what determines which objects a dataset is, on any machine.

    Sources, excludes, the pin and the storage's name count; descriptions, owners, readers,
    paths and endpoints (which differ between machines) do not.
    """
    folder = globs.escape(str(root))
    sources = [portable(source, folder) for source in dataset.sources]
    parts = [sources, sorted(dataset.exclude), pin_identity(pin), dataset.storage]
    return blake3(json.dumps(parts).encode()).hexdigest()[:32]


def portable(source: str, root: str) -> str:
    """Return a local URI as seen from the project, where both share a folder; others as they are.

    >>> portable("file:///work/project/raw/a.csv", "/work/project")
    './raw/a.csv'
    >>> portable("file:///work/raw/a.csv", "/work/project"), portable("file:///mnt/a.csv", "/work")
    ('./../raw/a.csv', 'file:///mnt/a.csv')
    """
    if uri.scheme_of(source) != "file":
        return source
    path = uri.split(source)[2]
    if path.startswith(f"{root}/"):
        return f"./{path[len(root) + 1 :]}"
    if os.path.commonpath([path, root]) == "/":
        return source
    return f"./{os.path.relpath(path, root)}"


# --- one dataset in one run ---------------------------------------------------------


@dataclass(slots=True)
class LockView:
    """What the lock says of one dataset in one run, and what it should say afterwards.

    `lock` is None where none counts. `root` is the project, which local files are named
    from. `fits` tells whether the lock has the dataset, as the catalog has it now.
    """

    dataset: "Dataset"
    pin: Pin
    root: Path
    lock: CatalogLock | None = None
    mode: LockMode = LockMode.OBEY
    fits: bool = field(init=False)

    def __post_init__(self) -> None:
        self.fits = fits(self._entry, self.dataset, self.root)

    @property
    def _entry(self) -> LockedDataset | None:
        return None if self.lock is None else self.lock.datasets.get(self.dataset.name)

    @property
    def counts(self) -> bool:
        """Tell whether there is a lock at all that this run should obey."""
        return self.lock is not None

    def find(self) -> LockedDataset | None:
        """Return the entry to obey, or None if the dataset must be resolved."""
        return self._entry if self.mode is LockMode.FROZEN or self.fits else None

    def entry_for(self, objects: Iterable[RemoteObject], endpoint: str) -> LockedDataset:
        """Return the entry that says what the dataset resolved to, without hashes."""
        return locked_dataset(self.dataset, self.pin, objects, endpoint, self.root)

    def entry_after(self, resolution: Resolution, placed: PlacedFiles) -> LockedDataset | None:
        """Return the entry that the lock should get after a sync, or None if it need not change.

        That is for objects that were not locked, or lacked hashes. What was answered from the
        state may be old, and lacks version ids: it never gets into the lock.
        """
        if self.lock is None or self.mode is not LockMode.OBEY:
            return None
        match resolution.origin:
            case Origin.STATE:
                return None
            case Origin.LOCK if len(resolution.hashes) == len(resolution.objects):
                return None
            case Origin.LOCK:
                entry = self.lock.datasets[self.dataset.name]
            case _:
                entry = self.entry_for(resolution.objects, resolution.endpoint)
        return with_hashes(entry, placed)


def with_hashes(entry: LockedDataset, placed: PlacedFiles) -> LockedDataset:
    """Return an entry with the hashes of what is in place, as far as they are known."""
    hashes = zip(placed.relpath, placed.blake3, strict=True)
    return replace(entry, hashes={path: b3 for path, b3 in hashes if b3 is not None})


def fits(entry: LockedDataset | None, dataset: "Dataset", root: Path) -> bool:
    """Tell whether an entry of the lock is for the dataset as the catalog has it."""
    return entry is not None and entry.digest == digest_of(dataset, dataset.pin, root)


def find_local(
    locked: LockedDataset,
    here: Callable[[RemoteObject, str | None], RemoteObject | None],
    scan: Callable[[], Iterable[RemoteObject]],
) -> tuple[RemoteObject, ...]:
    """Return the local files that the lock names.

    `here` gives what is in place or stored with the locked bytes already; only if that is
    not all of them, the sources are `scan`ned. Raises if one is gone, or has another size.
    """
    known = {obj.relpath: here(obj, locked.hashes.get(obj.relpath)) for obj in locked.objects}
    scanned = {obj.relpath: obj for obj in scan()} if None in known.values() else {}
    found = []
    for wanted in locked.objects:
        obj = known[wanted.relpath] or scanned.get(wanted.relpath)
        if obj is None or obj.size != wanted.size:
            what = "it is gone" if obj is None else f"it has {obj.size} bytes now"
            raise ObjectChangedError(
                f"'{wanted.uri}' is locked with {wanted.size} bytes, but {what}",
                hint=f"restore the file, or run `dcl lock --upgrade {locked.name}`",
            )
        found.append(obj)
    return tuple(found)


def lost(locked: LockedDataset, exc: StorageError) -> ObjectNotFoundError:
    """Return the error for bytes that the lock names and that cannot be had any more."""
    if isinstance(exc, ObjectChangedError):
        reason = f"{exc} for the lock, which has no version of it that would bring old bytes back"
    else:
        reason = f"{exc}; it was deleted for good, by a lifecycle rule or a person"
    return ObjectNotFoundError(
        f"what the lock names is lost: {reason}",
        hint="get the files from a machine that has them, or take what is there now:"
        f" `dcl lock --upgrade {locked.name}`",
    )


# --- the whole lock -----------------------------------------------------------------


class LockNews(NamedTuple):
    """What a sync put into the lock, by names of datasets.

    `added` were missing, `changed` had another entry, `hashed` lacked hashes.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    hashed: tuple[str, ...] = ()

    @classmethod
    def of(cls, before: CatalogLock | None, entries: Iterable[LockedDataset]) -> "LockNews":
        """Return what `entries` are to a lock."""
        added, changed, hashed = [], [], []
        for entry in entries:
            old = before.datasets.get(entry.name) if before is not None else None
            if old is None:
                added.append(entry.name)
            elif old.objects == entry.objects and old.digest == entry.digest:
                hashed.append(entry.name)
            else:
                changed.append(entry.name)
        return cls(tuple(added), tuple(changed), tuple(hashed))


class LockReport(NamedTuple):
    """What `lock` did, by names of datasets; `moved` compares entries that were replaced."""

    added: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    moved: tuple[Comparison, ...] = ()
    removed: tuple[str, ...] = ()
    errors: Mapping[str, DatacachalogError] = MappingProxyType({})
    is_changed: bool = False


def must_resolve(
    datasets: "Mapping[str, Dataset]", lock: CatalogLock, upgrade: bool | Sequence[str], root: Path
) -> list[str]:
    """Return which of the datasets `lock` has to resolve: missing, changed, or upgraded."""
    upgraded = set(datasets) if upgrade is True else set(upgrade or ())
    return [
        name
        for name, dataset in datasets.items()
        if name in upgraded or not fits(lock.datasets.get(name), dataset, root)
    ]


def write_lock(
    lock_file: LockFile,
    datasets: "Mapping[str, Dataset]",
    resolved: Mapping[str, LockedDataset],
    errors: Mapping[str, DatacachalogError],
) -> LockReport:
    """Put what was resolved into the lock, keep the rest, and remove what left the catalog."""
    before = (lock_file.load() or CatalogLock()).datasets
    fresh = {name: _with_known_hashes(entry, before.get(name)) for name, entry in resolved.items()}
    is_changed = lock_file.rewrite(lambda lock: lock.with_datasets(fresh.values()).only(datasets))
    compared = [compare(n, before[n], entry) for n, entry in fresh.items() if n in before]
    moved = {comparison.name: comparison for comparison in compared if comparison.changes}
    return LockReport(
        added=tuple(name for name in fresh if name not in before),
        kept=tuple(name for name in before if name in datasets and name not in moved),
        moved=tuple(moved.values()),
        removed=tuple(name for name in before if name not in datasets),
        errors=dict(errors),
        is_changed=is_changed,
    )


def _with_known_hashes(entry: LockedDataset, before: LockedDataset | None) -> LockedDataset:
    """Carry over the hashes of objects that did not change."""
    if before is None or entry.hashes:
        return entry
    old = {obj.relpath: obj for obj in before.objects}
    hashes = {
        obj.relpath: before.hashes[obj.relpath]
        for obj in entry.objects
        if obj.relpath in before.hashes and obj.is_same_as(old[obj.relpath])
    }
    return replace(entry, hashes=hashes)


def disagreements(datasets: "Mapping[str, Dataset]", lock: CatalogLock, root: Path) -> list[str]:
    """Say where catalog and lock disagree, a sentence each; uses no network."""
    found = []
    for name, dataset in datasets.items():
        entry = lock.datasets.get(name)
        if entry is None:
            found.append(f"'{name}' is in the catalog, but not in the lock")
        elif not fits(entry, dataset, root):
            found.append(f"'{name}' changed in the catalog since it was locked")
    found.extend(
        f"'{name}' is in the lock, but not in the catalog"
        for name in lock.datasets
        if name not in datasets
    )
    return found


def refuse_disagreement(datasets: "Mapping[str, Dataset]", lock: CatalogLock, root: Path) -> None:
    """Raise `LockError` unless the lock is for the catalog as it is (`--locked`)."""
    found = disagreements(datasets, lock, root)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise LockError(
            f"the lock does not fit the catalog: {found[0]}{more}",
            hint="run `dcl lock`; `dcl lock --check` shows where they disagree",
        )


def refuse_missing(names: Iterable[str], lock: CatalogLock) -> None:
    """Raise `LockError` for a dataset that the lock does not have (`--frozen`)."""
    missing = [name for name in names if name not in lock.datasets]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise LockError(
            f"'{missing[0]}'{more} is not in the lock",
            hint=f"run `dcl lock {' '.join(missing[:5])}`",
        )
