"""The catalog as a program sees it: named datasets, fetched, compared, pushed, loaded.

Each method strings the floors together and owns no knowledge of its own. One catalog may
be used from many threads, and after a fork: clients are built per process, at first use.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from datacachalog import events, readers, uri
from datacachalog.cache.eviction import evict
from datacachalog.cache.files import LinkKind
from datacachalog.cache.state import StateFolder
from datacachalog.cache.store import Store
from datacachalog.errors import (
    CatalogError,
    DatacachalogError,
    DatasetNotFoundError,
    InvalidPinError,
    PartialFailureError,
)
from datacachalog.lock.compare import Comparison
from datacachalog.lock.file import CatalogLock, LockedDataset
from datacachalog.lock.lockfile import LockFile, LockMode
from datacachalog.lock.rules import (
    LockNews,
    LockReport,
    LockView,
    disagreements,
    must_resolve,
    refuse_disagreement,
    refuse_missing,
    write_lock,
)
from datacachalog.lock.sides import LATEST, LOCK, PLACED, Side, compare_sides, named_lock
from datacachalog.model import AsOf, ObjectVersion, Pin, VersionId
from datacachalog.presence import Presence, note
from datacachalog.settings import cache_dir
from datacachalog.spec.discovery import find_catalog
from datacachalog.spec.landing import claim, landing
from datacachalog.spec.loader import load
from datacachalog.spec.models import CacheSettings, Dataset, DataSettings, StorageSettings
from datacachalog.storage import open_storage, wrap_filesystem
from datacachalog.storage.base import Storage
from datacachalog.suggest import did_you_mean
from datacachalog.sync.dataset import DatasetSync
from datacachalog.sync.disk import Disk
from datacachalog.sync.get import Target, retrieve
from datacachalog.sync.placement import Folder
from datacachalog.sync.push import push
from datacachalog.sync.results import (
    DatasetStatus,
    Freshness,
    Outcome,
    PushReport,
    SyncReport,
    Verification,
)
from datacachalog.sync.run import RunContext
from datacachalog.sync.session import Instant, SyncOptions, running, settled, slug
from datacachalog.sync.verify import verify

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

OneOrMany = Path | list[Path]
T = TypeVar("T")

_LINKS = {
    "auto": (LinkKind.REFLINK, LinkKind.HARDLINK, LinkKind.COPY),
    "reflink": (LinkKind.REFLINK, LinkKind.COPY),
    "hardlink": (LinkKind.HARDLINK, LinkKind.COPY),
    "copy": (LinkKind.COPY,),
}


class Catalog:
    """Named datasets of one project.

    Made by `load_catalog`, `Catalog.from_directory`, or from values:

    >>> from datacachalog import Dataset
    >>> catalog = Catalog([Dataset(name="iris", source="raw/iris.csv")], root="/tmp/project")
    >>> list(catalog.datasets)
    ['iris']

    `root` is the project folder (default: the current one); sources without a scheme and
    `data.dir` are relative to it. `storages` maps names to settings; `filesystems` maps names of
    storages to fsspec filesystems, which then serve them. `cache_dir` stands above the
    environment's. `lock_mode` says what a lock beside the catalog means: `obey`, `locked`,
    `frozen` or `ignore`. `open_storage` is the seam to what is remote.
    """

    def __init__(
        self,
        datasets: Iterable[Dataset] = (),
        *,
        root: str | os.PathLike[str] = ".",
        cache_dir: str | os.PathLike[str] | None = None,
        storages: Mapping[str, StorageSettings | Mapping[str, Any]] = MappingProxyType({}),
        filesystems: "Mapping[str, AbstractFileSystem]" = MappingProxyType({}),
        data: DataSettings | None = None,
        cache: CacheSettings | None = None,
        name: str = "catalog",
        file: Path | None = None,
        lock_mode: LockMode | str = LockMode.OBEY,
        open_storage: Callable[[str, StorageSettings], Storage] = open_storage,
    ) -> None:
        self.name = name
        self.root = Path(os.path.abspath(root))
        self.file = file
        self._open_storage = open_storage
        self.data: DataSettings = data or DataSettings()
        self.cache: CacheSettings = cache or CacheSettings()
        self.datasets: Mapping[str, Dataset] = MappingProxyType(_by_name(datasets, self.root))
        self.store = Store(_cache_root(cache_dir, self.cache))
        self._settings: dict[str, StorageSettings] = {
            key: StorageSettings.model_validate(value) if isinstance(value, Mapping) else value
            for key, value in storages.items()
        }
        named = {dataset.storage for dataset in self.datasets.values() if dataset.storage}
        _refuse_unknown(filesystems, {*self._settings, *named})
        self._brought: dict[str, Storage] = {
            key: wrap_filesystem(filesystem, self._settings_of(key))
            for key, filesystem in filesystems.items()
        }
        self._storages: dict[tuple[int, str, str | None], Storage] = {}
        self._mutex = threading.Lock()
        state = self.root / ".datacachalog" / "state"
        self._states = StateFolder(state if name == "catalog" else state / name)
        self.lock_file = LockFile(
            (file or self.root / "catalog.yaml").with_suffix(".lock"),
            LockMode.of(lock_mode),
            guards=self._states.root,
        )
        self._agreed: CatalogLock | None = None
        self._holds: dict[str, LockView] = {}
        self._present: dict[str, Presence | None] = {}
        self._roots: dict[str, str] = {}

    @classmethod
    def from_directory(
        cls,
        directory: str | os.PathLike[str] = ".",
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        lock_mode: LockMode | str = LockMode.OBEY,
    ) -> "Catalog":
        """Return the catalog that lies in `directory` itself; parents are not searched."""
        return load_catalog(Path(directory), cache_dir=cache_dir, lock_mode=lock_mode)

    def __repr__(self) -> str:
        return f"Catalog({str(self.file or self.root)!r}, {len(self.datasets)} datasets)"

    # --- getting data -------------------------------------------------------------

    def fetch(
        self,
        name: str,
        *,
        as_of: Instant | None = None,
        version_id: str | None = None,
        refresh: bool = False,
        offline: bool = False,
        jobs: int | None = None,
        report: events.Report = events.ignore,
    ) -> OneOrMany:
        """Make the dataset current on disk and return its path, or a list for a glob or list.

        `as_of` (text, date or aware datetime) or `version_id` fetch another state, beside
        the one in place. `refresh` asks the source even where the answer is known;
        `offline` never asks. `jobs` bounds transfers at once. `report` gets events.
        """
        ask = SyncOptions(as_of, version_id, refresh, offline, jobs, report)
        lock = self._heed(ask, [name])
        known = self._present.get(name)
        if known is not None and ask.is_plain and known.holds(lock, self._states):
            report(_planned(known.outcome))
            report(_finished(known.outcome))
            return known.paths if isinstance(known.paths, Path) else list(known.paths)
        with running(ask) as run:
            line = self._line(name, ask, run, lock)
            outcome, resolution = line.sync()
            self._learn(lock, [line])
            self._keep_small([outcome])
            report(_finished(outcome))
            paths = line.paths(resolution)
            if ask.is_plain:
                self._present[name] = note(known, lock, self._states, outcome, paths, line.disk)
            return paths

    def fetch_all(
        self,
        *names: str,
        as_of: Instant | None = None,
        refresh: bool = False,
        offline: bool = False,
        jobs: int | None = None,
        report: events.Report = events.ignore,
    ) -> dict[str, OneOrMany]:
        """Fetch the named datasets (default: all) in parallel; map each name to its path or paths.

        Raises `PartialFailureError` once the others are done, if some dataset failed.
        """
        ask = SyncOptions(as_of, None, refresh, offline, jobs, report)
        paths: dict[str, OneOrMany] = {}

        def fetch_one(line: DatasetSync) -> Outcome:
            outcome, resolution = line.sync()
            paths[line.dataset.name] = line.paths(resolution)
            return outcome

        chosen = self._chosen(names)
        lock = self._heed(ask, chosen)
        lines: list[DatasetSync] = []
        outcomes = self._each(chosen, ask, fetch_one, _failed, lock=lock, lines=lines)
        self._learn(lock, lines)
        self._keep_small(outcomes)
        _raise_errors({o.name: o.error for o in outcomes if o.error is not None}, chosen)
        return {outcome.name: paths[outcome.name] for outcome in outcomes}

    def sync(
        self,
        *names: str,
        as_of: Instant | None = None,
        version_id: str | None = None,
        refresh: bool = False,
        offline: bool = False,
        jobs: int | None = None,
        dry_run: bool = False,
        check: bool = True,
        report: events.Report = events.ignore,
    ) -> SyncReport:
        """Make the named datasets (default: all) current on disk and say what was done.

        One failing dataset does not stop the others. With `check` their errors are raised
        at the end as `PartialFailureError`; without, they are in the report. `dry_run`
        changes nothing.
        """
        began = time.monotonic()
        ask = SyncOptions(as_of, version_id, refresh, offline, jobs, report)
        chosen = self._chosen(names)
        lock = self._heed(ask, chosen)
        lines: list[DatasetSync] = []
        outcomes = self._each(
            chosen,
            ask,
            lambda line: line.sync(dry_run=dry_run)[0],
            _failed,
            lock=lock,
            lines=lines,
        )
        news = self._learn(lock, lines)
        self._keep_small(outcomes)
        result = SyncReport(tuple(outcomes), time.monotonic() - began, news)
        if check:
            _raise_errors(result.errors, chosen)
        return result

    def path(self, name: str) -> OneOrMany:
        """Return where the dataset lies since its last sync, without asking the network.

        Raises `NotFetchedError` if there was none.
        """
        with running(SyncOptions()) as run:
            return self._line(name, SyncOptions(), run).placed_paths()

    def load(self, name: str, **read_args: Any) -> Any:
        """Fetch the dataset and read it: by its `reader`, else by `format` or file suffix.

        `read_args` are added to those of the catalog.
        """
        dataset = self._dataset(name)
        return readers.read(dataset, self.fetch(name), read_args)

    def filesystem(self, name: str) -> "AbstractFileSystem":
        """Return the fsspec filesystem of the dataset's source, reached as the catalog says.

        For what a cache is not for: reading parts of a large object in place, or looking
        around. What is read through it is neither cached nor pinned.
        """
        return self.storage_of(self._dataset(name)).filesystem

    # --- knowing ------------------------------------------------------------------

    def status(
        self,
        *names: str,
        as_of: Instant | None = None,
        refresh: bool = False,
        offline: bool = False,
        jobs: int | None = None,
        report: events.Report = events.ignore,
    ) -> list[DatasetStatus]:
        """Say how each named dataset (default: all) stands; changes nothing."""
        ask = SyncOptions(as_of, None, refresh, offline, jobs, report)
        chosen = self._chosen(names)
        lock = self._heed(ask, chosen)
        return self._each(chosen, ask, DatasetSync.status, _unknown_status, lock=lock)

    def is_stale(self, name: str) -> bool:
        """Tell whether a sync of the dataset would change anything; errors are raised."""
        status = self.status(name)[0]
        if status.error is not None:
            raise status.error
        return status.freshness is not Freshness.UP_TO_DATE

    def verify(
        self, *names: str, jobs: int | None = None, report: events.Report = events.ignore
    ) -> list[Verification]:
        """Hash the files of the named datasets (default: all) again and compare with the record.

        Files in place are left alone; a stored object with the wrong bytes is removed from
        the cache, so that it cannot be linked again.
        """
        ask = SyncOptions(jobs=jobs, report=report)
        chosen = self._chosen(names)
        return self._each(chosen, ask, verify, lambda name, exc: Verification(name, error=exc))

    def versions(
        self,
        name: str,
        *,
        limit: int | None = 10,
        key: str | None = None,
        as_of: Instant | None = None,
    ) -> list[ObjectVersion]:
        """Return the dataset's history, newest first; for globs and lists key by key.

        At most `limit` versions of each key, delete markers included. `key` is a relpath
        or a pattern over them. Raises `VersioningNotSupportedError` where there is none.
        """
        asked = SyncOptions(as_of).pin
        with running(SyncOptions()) as run:
            line = self._line(name, SyncOptions(), run)
            pin = settled(asked, line.storage, run) if asked is not None else None
            at = pin.at if isinstance(pin, AsOf) else None
            return line.versions(limit=limit, key=key, at=at)

    # --- the lock -----------------------------------------------------------------

    def lock(
        self,
        *names: str,
        upgrade: bool | Sequence[str] = False,
        jobs: int | None = None,
        report: events.Report = events.ignore,
    ) -> LockReport:
        """Write `catalog.lock`: keep what is locked, add what is missing, forget what is gone.

        `names` limit what is added. `upgrade` resolves again what is locked: all, or the
        named. Downloads nothing; hashes are filled in by the next sync.
        """
        chosen = {name: self._dataset(name) for name in names or self.datasets}
        before = self.lock_file.load() or CatalogLock()
        todo = must_resolve(chosen, before, upgrade, self.root)
        fresh = self._resolved(todo, SyncOptions(jobs=jobs, report=report))
        return write_lock(self.lock_file, self.datasets, fresh.entries, fresh.errors)

    def check_lock(self, *names: str) -> list[str]:
        """Say, in a sentence each, where catalog and lock disagree; asks no network.

        `names` limit it to those datasets.
        """
        lock = self.lock_file.load()
        if lock is None:
            return [f"there is no '{self.lock_file.name}'"]
        if names:
            chosen = self._chosen(names)
            return disagreements(
                {n: self.datasets[n] for n in chosen}, lock.only(chosen), self.root
            )
        return disagreements(self.datasets, lock, self.root)

    def outdated(
        self, *names: str, jobs: int | None = None, report: events.Report = events.ignore
    ) -> list[Comparison]:
        """Compare the lock with what its datasets resolve to now, the way `lock --upgrade` would.

        Datasets that would not move are left out; one that could not be resolved has its
        `error`.
        """
        lock = self.lock_file.demand()
        chosen = self._chosen(names)
        fresh = self._resolved(chosen, SyncOptions(jobs=jobs, report=report))
        return compare_sides(Side(lock.datasets), fresh, chosen)

    def diff(
        self,
        a: Instant | CatalogLock | None = None,
        b: Instant | CatalogLock | None = None,
        *names: str,
        jobs: int | None = None,
        report: events.Report = events.ignore,
    ) -> list[Comparison]:
        """Compare two sides, dataset by dataset; those that are equal are left out.

        A side is `lock`, `latest`, `placed` (what is on disk), an instant (text, date or aware
        datetime), the path of a lock file, or a `CatalogLock`. Defaults: from the lock, if there
        is one, else from what is placed, to what is latest. A dataset of which one side could
        not be had has its `error`.
        """
        ask = SyncOptions(jobs=jobs, report=report)
        default = LOCK if self.lock_file.path.exists() else PLACED
        old = self._side(default if a is None else a, names, ask)
        new = self._side(LATEST if b is None else b, names, ask)
        old, new = old.or_empty_as(new), new.or_empty_as(old)
        both = sorted({*old.entries, *old.errors, *new.entries, *new.errors})
        return compare_sides(old, new, both)

    def _side(self, side: Instant | CatalogLock, names: Sequence[str], ask: SyncOptions) -> Side:
        chosen = self._chosen(names)
        if not isinstance(side, str | CatalogLock) or side == LATEST:
            return self._resolved(chosen, ask._replace(as_of=side))
        if side == PLACED:
            return Side(self._placed(chosen))
        lock = side if isinstance(side, CatalogLock) else named_lock(side, self.lock_file)
        if lock is None:
            return self._resolved(chosen, ask._replace(as_of=str(side)))
        return Side(lock.only(chosen if names else lock.datasets).datasets)

    def _chosen(self, names: Sequence[str]) -> list[str]:
        return [self._dataset(name).name for name in dict.fromkeys(names or self.datasets)]

    def _placed(self, names: Iterable[str]) -> dict[str, LockedDataset]:
        with running(SyncOptions()) as run:
            entries = {name: self._line(name, SyncOptions(), run).placed_entry() for name in names}
        return {name: entry for name, entry in entries.items() if entry is not None}

    def _resolved(self, names: Sequence[str], ask: SyncOptions) -> Side:
        """Return datasets as a lock needs them, resolved afresh, in the order of `names`."""
        _ = ask.pin  # a time that cannot be read is no dataset's own failure
        entries: dict[str, LockedDataset] = {}
        errors: dict[str, DatacachalogError] = {}

        def resolve_one(line: DatasetSync) -> None:
            entries[line.dataset.name] = line.resolve_for_lock()

        self._each(names, ask, resolve_one, errors.__setitem__)
        return Side(
            {name: entries[name] for name in names if name in entries},
            {name: errors[name] for name in names if name in errors},
        )

    def _heed(self, ask: SyncOptions, names: Sequence[str]) -> CatalogLock | None:
        """Return the lock that counts in a call, or None if none does.

        Raises what is wrong with the call or with the lock: that is no dataset's own failure.
        """
        if ask.pin is not None:
            self._check_pin(ask.pin, names)
            return None
        lock, mode = self.lock_file.read(), self.lock_file.mode
        if lock is not None and mode is LockMode.LOCKED and lock is not self._agreed:
            refuse_disagreement(self.datasets, lock, self.root)
            self._agreed = lock
        if lock is not None and mode is LockMode.FROZEN:
            refuse_missing(names, lock)
        return lock

    def _check_pin(self, pin: Pin, names: Sequence[str]) -> None:
        if self.lock_file.mode is LockMode.FROZEN:
            raise InvalidPinError(
                f"`--frozen` takes what the lock has, and {pin} is another state",
                hint="leave out one of them",
            )
        for name in names if isinstance(pin, VersionId) else ():
            if not self._dataset(name).is_single:
                raise InvalidPinError(
                    f"'{name}' is not a single object, and {pin} is of one",
                    hint="ask for a time instead, such as `--as-of 2026-03-01`",
                )

    def _learn(self, lock: CatalogLock | None, lines: Iterable[DatasetSync]) -> LockNews:
        """Put what the lines learnt into the lock; return what was new to `lock`."""
        news = [line.hold.news for line in lines if line.hold.news is not None]
        self.lock_file.update(news)
        return LockNews.of(lock, news)

    # --- changing -----------------------------------------------------------------

    def push(
        self,
        name: str,
        file: str | os.PathLike[str],
        *,
        force: bool = False,
        report: events.Report = events.ignore,
    ) -> PushReport:
        """Upload `file` as the dataset's object, provided it still is what was last fetched.

        `force` overwrites whatever is there. Afterwards the bytes are in the cache and in
        place; `file` stays yours. Raises `PushRefusedError` for globs, pins and datasets
        without `push: true`, and `PushConflictError` if the remote changed.
        """
        with running(SyncOptions(report=report)) as run:
            line = self._line(name, SyncOptions(), run)
            result = push(line, Path(file), force=force)
            return result._replace(is_locked=self._relock(line))

    def _relock(self, line: DatasetSync) -> bool:
        """Let the lock, if it has the dataset, move to what was pushed: it is what is in place."""
        lock, entry = self.lock_file.read(), line.placed_entry()
        if lock is None or entry is None or entry.name not in lock.datasets:
            return False
        return self.lock_file.update([entry])

    def invalidate(self, name: str) -> int:
        """Forget the dataset's stored bytes; the next sync downloads all of it. Return the count.

        Files in place stay until the new ones are there.
        """
        return self.invalidate_glob(name, "**")

    def invalidate_glob(self, name: str, pattern: str = "**") -> int:
        """Forget the stored bytes of the dataset's files that match `pattern`; return the count.

        Patterns are those of `exclude`: without `/` they match the base name at any depth.
        """
        with running(SyncOptions()) as run:
            return self._line(name, SyncOptions(), run).invalidate(pattern)

    # --- behind it ----------------------------------------------------------------

    def _keep_small(self, outcomes: Iterable[Outcome]) -> None:
        """Make room in the cache after it grew, where the catalog sets a limit."""
        limit = self.cache.max_size
        if limit is not None and any(outcome.downloaded for outcome in outcomes):
            evict(self.store, max_size=limit, unused_for=None, now=datetime.now(UTC))

    def _each(
        self,
        names: Sequence[str],
        ask: SyncOptions,
        action: Callable[[DatasetSync], T],
        failed: Callable[[str, DatacachalogError], T],
        *,
        lock: CatalogLock | None = None,
        lines: list[DatasetSync] | None = None,
    ) -> list[T]:
        """Walk the line for each dataset, many at once; an error becomes that one's result.

        The lines are added to `lines`, for what they know at the end.
        """
        results: dict[str, T] = {}
        walked: dict[str, DatasetSync] = {}

        def walk(name: str) -> None:
            try:
                line = self._line(name, ask, run, lock)
                walked[name] = line
                result = action(line)
            except DatacachalogError as exc:
                result = failed(name, exc)
            if isinstance(result, Outcome):
                run.report(_finished(result))
            results[name] = result

        with running(ask) as run:
            # Never in this thread: it must be free to hear Ctrl-C.
            run.walkers.each(walk, names)
        if lines is not None:
            lines.extend(walked[name] for name in names if name in walked)
        return [results[name] for name in names]

    def _line(
        self, name: str, ask: SyncOptions, run: RunContext, lock: CatalogLock | None = None
    ) -> DatasetSync:
        dataset = self._dataset(name)
        storage = self.storage_of(dataset)
        root = self._roots.get(name)
        if root is None:
            root = self._roots[name] = landing(dataset, self.data)
        pin, key = dataset.pin, name
        if ask.pin is not None:
            pin = settled(ask.pin, storage, run)
            key, root = f"{name}@{slug(pin)}", f"{root}@{slug(pin)}"
            self._refuse_shared_folder(root)
        folder = self._folder(root)
        return DatasetSync(
            dataset=dataset,
            pin=pin,
            key=key,
            root=root,
            storage=storage,
            disk=Disk(folder, self.store, storage.endpoint),
            states=self._states,
            policy=ask.policy,
            run=run,
            folder_at=self._folder,
            hold=self._hold(dataset, pin, lock, is_own=ask.pin is None),
        )

    def _hold(
        self, dataset: Dataset, pin: Pin, lock: CatalogLock | None, *, is_own: bool
    ) -> LockView:
        """Return what the lock says; that it fits is found out once per lock and `is_own` pin."""
        known = self._holds.get(dataset.name) if is_own else None
        if known is not None:
            hold = known.again(lock)
        else:
            hold = LockView(dataset, pin, self.root, lock, self.lock_file.mode)
        if is_own:
            self._holds[dataset.name] = hold
        return hold

    def _refuse_shared_folder(self, root: str) -> None:
        """Raise if files of another pin would land in the folder of a dataset."""
        owner = self._claimed.get(root.casefold())
        if owner is not None:
            raise InvalidPinError(
                f"this state would land in '{root}', which belongs to the dataset '{owner}'",
                hint=f"give '{owner}' another `path`",
            )

    @cached_property
    def _claimed(self) -> dict[str, str]:
        """Return the folders of datasets that could be taken for those of an ad-hoc pin."""
        places = {n: Path(claim(dataset, self.data)) for n, dataset in self.datasets.items()}
        return {
            str(folder).casefold(): name
            for name, place in places.items()
            for folder in (place, *place.parents)
            if "@" in folder.name
        }

    def _dataset(self, name: str) -> Dataset:
        try:
            return self.datasets[name]
        except KeyError:
            known = ", ".join(f"'{n}'" for n in list(self.datasets)[:5]) or "none"
            hint = did_you_mean(name, self.datasets) or f"the catalog has {known}"
            raise DatasetNotFoundError(f"no dataset '{name}'", hint=hint) from None

    def _folder(self, root: str) -> Folder:
        # Both are normalised; as paths they would be taken apart for each call.
        path = str(self.root) if root == "." else os.path.join(self.root, root)
        return Folder(path, _LINKS[self.cache.link], self.store.mode)

    def storage_of(self, dataset: Dataset) -> Storage:
        """Return the storage of a dataset, one per process, scheme and settings."""
        brought = self._brought.get(dataset.storage or "")
        if brought is not None:
            return brought
        source = dataset.sources[0]
        key = (os.getpid(), uri.scheme_of(source), dataset.storage)
        with self._mutex:
            storage = self._storages.get(key)
            if storage is None:
                settings = self._settings_of(dataset.storage)
                storage = self._storages[key] = self._open_storage(source, settings)
            return storage

    def _settings_of(self, storage: str | None) -> StorageSettings:
        found = self._settings.get(storage or "")
        return StorageSettings() if found is None else found


def load_catalog(
    path: str | os.PathLike[str] | None = None,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    lock_mode: LockMode | str = LockMode.OBEY,
    filesystems: "Mapping[str, AbstractFileSystem]" = MappingProxyType({}),
) -> Catalog:
    """Return the catalog at `path`, or the one discovered from the current folder.

    `path` may also be the name of one in `.datacachalog/catalogs/`. A lock beside it is
    obeyed; `lock_mode` may ask for `locked`, `frozen` or `ignore` instead. `filesystems` maps
    names of its storages to fsspec filesystems of yours. Asks no network.
    Raises `CatalogNotFoundError`, or `InvalidCatalogError` with all problems at once.
    """
    found = find_catalog(path, environ=os.environ)
    loaded = load(found, environ=os.environ, filesystems=filesystems)
    return Catalog(
        loaded.datasets.values(),
        root=loaded.root,
        cache_dir=cache_dir,
        storages=loaded.storages,
        filesystems=filesystems,
        data=loaded.data,
        cache=loaded.cache,
        name=loaded.name,
        file=loaded.path,
        lock_mode=lock_mode,
    )


def get(
    source: str,
    dest: str | os.PathLike[str] | None = None,
    *,
    catalog: Catalog | None = None,
    jobs: int | None = None,
    report: events.Report = events.ignore,
) -> OneOrMany:
    """Download what `source` names to `dest`, without a dataset; return the path or paths.

    One object goes to the file `dest`, or into it if it is a folder (default: the current
    one); a glob goes into the folder `dest`. Files are the caller's own, writable copies;
    one that is there already with other bytes is an error.
    """
    dataset: Dataset = Dataset(name="get", source=uri.check_source(source))
    target = Target.of(dataset, dest)
    owner = catalog or Catalog()
    dataset = dataset.with_resolved_paths(Path.cwd())
    with running(SyncOptions(jobs=jobs, report=report)) as run:
        return retrieve(dataset, target, owner.storage_of(dataset), owner.store, run)


def _by_name(datasets: Iterable[Dataset], root: Path) -> dict[str, Dataset]:
    found: dict[str, Dataset] = {}
    for dataset in datasets:
        if dataset.name in found:
            raise CatalogError(f"two datasets are called '{dataset.name}'", hint="rename one")
        found[dataset.name] = dataset.with_resolved_paths(root)
    return found


def _refuse_unknown(names: Iterable[str], storages: set[str]) -> None:
    """Raise if one of `names`, of filesystems that were brought, is no storage's."""
    for name in names:
        if name not in storages:
            known = ", ".join(f"'{n}'" for n in sorted(storages)[:5]) or "none"
            hint = did_you_mean(name, storages) or f"the catalog has {known}"
            raise CatalogError(f"there is no storage '{name}'", hint=hint)


def _cache_root(explicit: str | os.PathLike[str] | None, settings: CacheSettings) -> Path:
    if explicit is not None:
        return Path(os.path.abspath(os.path.expanduser(explicit)))
    return cache_dir(settings.dir, os.environ)


def _planned(outcome: Outcome) -> events.Planned:
    """Return what was announced of an outcome for which nothing was to be done."""
    return events.Planned(outcome.name, 0, 0, 0, 0, hits=outcome.hits)


def _finished(outcome: Outcome) -> events.DatasetFinished:
    return events.DatasetFinished(
        dataset=outcome.name,
        downloaded=outcome.downloaded,
        downloaded_bytes=outcome.downloaded_bytes,
        linked=outcome.linked,
        hits=outcome.hits,
        dropped=outcome.dropped,
        total_bytes=outcome.total_bytes,
        error=outcome.error,
    )


def _failed(name: str, error: DatacachalogError) -> Outcome:
    return Outcome(name, error=error)


def _unknown_status(name: str, error: DatacachalogError) -> DatasetStatus:
    return DatasetStatus(name, Freshness.ERROR, "", error=error)


def _raise_errors(errors: Mapping[str, DatacachalogError], asked: Sequence[str]) -> None:
    """Raise what failed: its own error, if that is all that was asked for."""
    if not errors:
        return
    name, first = next(iter(errors.items()))
    if len(asked) == 1:
        raise first
    count = "1 dataset" if len(errors) == 1 else f"{len(errors)} datasets"
    raise PartialFailureError(
        f"{count} failed, the others are done; '{name}': {first}",
        dict(errors),
        hint="`error.errors` has each dataset's own",
    )
