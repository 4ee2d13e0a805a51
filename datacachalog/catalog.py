"""The catalog as a program sees it: named datasets, fetched, compared, pushed, loaded.

Each method strings the packages below together and owns no knowledge of its own. One catalog may
be used from many threads, and after a fork: clients are built per process, at first use.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from datacachalog import events, readers, uri
from datacachalog.cache.eviction import evict
from datacachalog.cache.state import StateFolder
from datacachalog.cache.store import Store
from datacachalog.errors import (
    CatalogError,
    DatacachalogError,
    InvalidPinError,
)
from datacachalog.lock.compare import (
    LATEST,
    LOCK,
    PLACED,
    Comparison,
    Side,
    compare_sides,
    named_lock,
)
from datacachalog.lock.file import CatalogLock, LockedDataset, LockFile, LockMode
from datacachalog.lock.rules import (
    LockNews,
    LockReport,
    disagreements,
    must_resolve,
    refuse_disagreement,
    refuse_missing,
    write_lock,
)
from datacachalog.model import AsOf, ObjectVersion, Pin, VersionId
from datacachalog.settings import cache_dir
from datacachalog.spec.discovery import find_catalog
from datacachalog.spec.loader import load
from datacachalog.spec.models import CacheSettings, Dataset, DataSettings, StorageSettings
from datacachalog.storage import open_storage, wrap_filesystem
from datacachalog.storage.base import Storage
from datacachalog.suggest import did_you_mean
from datacachalog.sync.dataset import DatasetSync, SyncResult
from datacachalog.sync.get import retrieve
from datacachalog.sync.project import Project, what_there_is
from datacachalog.sync.push import push
from datacachalog.sync.results import (
    DatasetStatus,
    Freshness,
    Outcome,
    PushReport,
    SyncReport,
    Verification,
    raise_errors,
)
from datacachalog.sync.run import PLAIN, Instant, RunContext, SyncOptions
from datacachalog.sync.verify import verify

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

OneOrMany = Path | list[Path]


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
        self.data = data or DataSettings()
        self.cache = cache or CacheSettings()
        self.datasets: Mapping[str, Dataset] = MappingProxyType(_by_name(datasets, self.root))
        self.store = Store(_cache_root(cache_dir, self.cache))
        state = self.root / ".datacachalog" / "state"
        states = StateFolder(state if name == "catalog" else state / name)
        self.lock_file = LockFile(
            (file or self.root / "catalog.yaml").with_suffix(".lock"),
            LockMode.of(lock_mode),
            guards=states.root,
        )
        settings = {key: StorageSettings.model_validate(value) for key, value in storages.items()}
        named = {dataset.storage for dataset in self.datasets.values() if dataset.storage}
        self._project = Project(
            root=self.root,
            datasets=self.datasets,
            data=self.data,
            cache=self.cache,
            store=self.store,
            states=states,
            lock_mode=self.lock_file.mode,
            settings=settings,
            given=_given(filesystems, settings, {*settings, *named}),
            open_storage=open_storage,
        )

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
        options = SyncOptions(as_of, version_id, refresh, offline, jobs, report)
        return self._fetch([name], options)[name]

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
        return self._fetch(names, SyncOptions(as_of, None, refresh, offline, jobs, report))

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
        options = SyncOptions(as_of, version_id, refresh, offline, jobs, report)
        return self._sync(names, options, dry_run=dry_run, check=check)

    def path(self, name: str) -> OneOrMany:
        """Return where the dataset lies since its last sync, without asking the network.

        Raises `NotFetchedError` if there was none.
        """
        with self._project.open(name) as sync:
            return _one_or_many(sync.dataset, sync.placed_paths())

    def load(self, name: str, **read_args: Any) -> Any:
        """Fetch the dataset and read it: by its `reader`, else by `format` or file suffix.

        `read_args` are added to those of the catalog.
        """
        dataset = self._project.dataset(name)
        return readers.read(dataset, self.fetch(name), read_args)

    def filesystem(self, name: str) -> "AbstractFileSystem":
        """Return the fsspec filesystem of the dataset's source, reached as the catalog says.

        For what a cache is not for: reading parts of a large object in place, or looking
        around. What is read through it is neither cached nor pinned.
        """
        return self.storage_of(self._project.dataset(name)).filesystem

    def _fetch(self, names: Sequence[str], options: SyncOptions) -> dict[str, OneOrMany]:
        outcomes = self._sync(names, options).outcomes
        return {o.name: _one_or_many(self.datasets[o.name], o.paths) for o in outcomes}

    def _sync(
        self,
        names: Sequence[str],
        options: SyncOptions,
        *,
        dry_run: bool = False,
        check: bool = True,
    ) -> SyncReport:
        """Sync datasets, add to the lock what was learnt, and keep the cache small."""
        began = time.monotonic()
        chosen = self._project.choose(names)
        lock = self._lock_for(options, chosen)

        def failed(name: str, error: DatacachalogError) -> SyncResult:
            outcome = Outcome(name, error=error)
            options.report(outcome.event())
            return SyncResult(outcome)

        results = self._project.each(
            chosen, options, lambda sync: sync.sync(dry_run=dry_run), failed, lock=lock
        )
        outcomes = tuple(result.outcome for result in results)
        entries = [result.lock_entry for result in results if result.lock_entry is not None]
        self.lock_file.update(entries)
        limit = self.cache.max_size
        if limit is not None and any(outcome.downloaded for outcome in outcomes):
            evict(self.store, max_size=limit, unused_for=None, now=datetime.now(UTC))
        report = SyncReport(outcomes, time.monotonic() - began, LockNews.of(lock, entries))
        if check:
            raise_errors(report.errors, chosen)
        return report

    def storage_of(self, dataset: Dataset) -> Storage:
        """Return the storage of a dataset, one per process, scheme and settings."""
        return self._project.storage_of(dataset)

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
        options = SyncOptions(as_of, None, refresh, offline, jobs, report)
        chosen = self._project.choose(names)
        return self._project.each(
            chosen,
            options,
            DatasetSync.status,
            lambda name, exc: DatasetStatus(name, Freshness.ERROR, "", error=exc),
            lock=self._lock_for(options, chosen),
        )

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
        return self._project.each(
            self._project.choose(names),
            SyncOptions(jobs=jobs, report=report),
            verify,
            lambda name, exc: Verification(name, error=exc),
        )

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
        with self._project.open(name) as sync:
            pin = sync.run.settle(asked, sync.storage) if asked is not None else None
            at = pin.at if isinstance(pin, AsOf) else None
            return sync.versions(limit=limit, key=key, at=at)

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
        chosen = {name: self.datasets[name] for name in self._project.choose(names)}
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
        chosen = self._project.choose(names)
        datasets = {name: self.datasets[name] for name in chosen}
        return disagreements(datasets, lock.only(chosen) if names else lock, self.root)

    def outdated(
        self, *names: str, jobs: int | None = None, report: events.Report = events.ignore
    ) -> list[Comparison]:
        """Compare the lock with what its datasets resolve to now, the way `lock --upgrade` would.

        Datasets that would not move are left out; one that could not be resolved has its
        `error`.
        """
        lock = self.lock_file.demand()
        chosen = self._project.choose(names)
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
        options = SyncOptions(jobs=jobs, report=report)
        default = LOCK if self.lock_file.path.exists() else PLACED
        old = self._side(default if a is None else a, names, options)
        new = self._side(LATEST if b is None else b, names, options)
        old, new = old.or_empty_as(new), new.or_empty_as(old)
        both = sorted({*old.entries, *old.errors, *new.entries, *new.errors})
        return compare_sides(old, new, both)

    def _side(
        self, side: Instant | CatalogLock, names: Sequence[str], options: SyncOptions
    ) -> Side:
        chosen = self._project.choose(names)
        if side == PLACED:
            entries = self._project.each(chosen, PLAIN, DatasetSync.placed_entry, _raised)
            return Side({entry.name: entry for entry in entries if entry is not None})
        lock = side
        if isinstance(side, str) and side != LATEST:
            lock = named_lock(side, self.lock_file) or side
        if isinstance(lock, CatalogLock):
            return Side(lock.only(chosen if names else lock.datasets).datasets)
        return self._resolved(chosen, options._replace(as_of=lock))

    def _resolved(self, names: Sequence[str], options: SyncOptions) -> Side:
        """Return datasets as a lock needs them, resolved afresh, in the order of `names`."""
        _ = options.pin  # a time that cannot be read is no dataset's own failure
        found = self._project.each(
            names,
            options,
            DatasetSync.resolve_for_lock,
            lambda name, exc: exc,  # noqa: ARG005 - the shape of the others
        )
        both = dict(zip(names, found, strict=True))
        return Side(
            {name: entry for name, entry in both.items() if isinstance(entry, LockedDataset)},
            {name: exc for name, exc in both.items() if isinstance(exc, DatacachalogError)},
        )

    def _lock_for(self, options: SyncOptions, names: Sequence[str]) -> CatalogLock | None:
        """Return the lock that counts in a call, or None if none does.

        Raises what is wrong with the call or with the lock: that is no dataset's own failure.
        """
        pin, mode = options.pin, self.lock_file.mode
        if pin is not None:
            self._check_pin(pin, names)
            return None
        lock = self.lock_file.read()
        if lock is not None and mode is LockMode.LOCKED:
            refuse_disagreement(self.datasets, lock, self.root)
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
            if not self.datasets[name].is_single:
                raise InvalidPinError(
                    f"'{name}' is not a single object, and {pin} is of one",
                    hint="ask for a time instead, such as `--as-of 2026-03-01`",
                )

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
        with self._project.open(name, SyncOptions(report=report)) as sync:
            result = push(sync, Path(file), force=force)
            # What is in place now is what was pushed: a lock that has the dataset moves to it.
            lock, entry = self.lock_file.read(), sync.placed_entry()
        if lock is None or entry is None or name not in lock.datasets:
            return result
        return result._replace(is_locked=self.lock_file.update([entry]))

    def invalidate(self, name: str) -> int:
        """Forget the dataset's stored bytes; the next sync downloads all of it. Return the count.

        Files in place stay until the new ones are there.
        """
        return self.invalidate_glob(name, "**")

    def invalidate_glob(self, name: str, pattern: str = "**") -> int:
        """Forget the stored bytes of the dataset's files that match `pattern`; return the count.

        Patterns are those of `exclude`: without `/` they match the base name at any depth.
        """
        with self._project.open(name) as sync:
            return sync.invalidate(pattern)


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
    dataset = Dataset(name="get", source=uri.check_source(source)).with_resolved_paths(Path.cwd())
    owner = catalog or Catalog()
    with RunContext(SyncOptions(jobs=jobs, report=report)) as run:
        paths = retrieve(dataset, dest, owner.storage_of(dataset), owner.store, run)
    return _one_or_many(dataset, paths)


def _one_or_many(dataset: Dataset, paths: list[Path]) -> OneOrMany:
    """Return the path of a single object, and a list for a glob or list.

    A single object that is excluded, where that is allowed, has no path.
    """
    return paths[0] if dataset.is_single and paths else paths


def _by_name(datasets: Iterable[Dataset], root: Path) -> dict[str, Dataset]:
    found: dict[str, Dataset] = {}
    for dataset in datasets:
        if dataset.name in found:
            raise CatalogError(f"two datasets are called '{dataset.name}'", hint="rename one")
        found[dataset.name] = dataset.with_resolved_paths(root)
    return found


def _given(
    filesystems: "Mapping[str, AbstractFileSystem]",
    settings: Mapping[str, StorageSettings],
    names: set[str],
) -> dict[str, Storage]:
    """Return the storages of filesystems that a program brings; raise for an unknown name."""
    for name in filesystems:
        if name not in names:
            hint = did_you_mean(name, names) or what_there_is(sorted(names))
            raise CatalogError(f"there is no storage '{name}'", hint=hint)
    return {
        name: wrap_filesystem(filesystem, settings.get(name) or StorageSettings())
        for name, filesystem in filesystems.items()
    }


def _cache_root(explicit: str | os.PathLike[str] | None, settings: CacheSettings) -> Path:
    if explicit is not None:
        return Path(os.path.abspath(os.path.expanduser(explicit)))
    return cache_dir(settings.dir, os.environ)


def _raised(name: str, error: DatacachalogError) -> NoReturn:  # noqa: ARG001 - of any dataset
    raise error
