"""What the datasets of a catalog share: where they lie, their states, the cache, the storages.

Makes a `DatasetSync` of a dataset's name, and runs many of them at once. Used by `catalog`.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from datacachalog import uri
from datacachalog.cache.files import LinkKind
from datacachalog.cache.state import StateFolder
from datacachalog.cache.store import Store
from datacachalog.errors import DatacachalogError, DatasetNotFoundError, InvalidPinError
from datacachalog.lock.file import CatalogLock, LockMode
from datacachalog.lock.rules import LockView
from datacachalog.spec.landing import claim, landing
from datacachalog.spec.models import CacheSettings, Dataset, DataSettings, StorageSettings
from datacachalog.storage.base import Storage
from datacachalog.suggest import did_you_mean
from datacachalog.sync.dataset import DatasetSync
from datacachalog.sync.placement import Disk, Folder
from datacachalog.sync.run import PLAIN, RunContext, SyncOptions, slug

T = TypeVar("T")

_LINKS = {
    "auto": (LinkKind.REFLINK, LinkKind.HARDLINK, LinkKind.COPY),
    "reflink": (LinkKind.REFLINK, LinkKind.COPY),
    "hardlink": (LinkKind.HARDLINK, LinkKind.COPY),
    "copy": (LinkKind.COPY,),
}


@dataclass(kw_only=True, eq=False)
class Project:
    """The datasets of one project. Thread-safe; storages are opened per process, at first use.

    `settings` are those of storages, by name; `given` are storages that a program brought.
    """

    root: Path
    datasets: Mapping[str, Dataset]
    data: DataSettings
    cache: CacheSettings
    store: Store
    states: StateFolder
    lock_mode: LockMode
    settings: Mapping[str, StorageSettings]
    given: Mapping[str, Storage]
    open_storage: Callable[[str, StorageSettings], Storage]
    _opened: dict[tuple[int, str, str | None], Storage] = field(default_factory=dict)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def each(
        self,
        names: Sequence[str],
        options: SyncOptions,
        action: Callable[[DatasetSync], T],
        failed: Callable[[str, DatacachalogError], T],
        *,
        lock: CatalogLock | None = None,
    ) -> list[T]:
        """Run `action` for each dataset, many at once; an error becomes that one's result."""
        results: dict[str, T] = {}

        def run_one(name: str) -> None:
            try:
                results[name] = action(self._dataset_sync(name, options, run, lock))
            except DatacachalogError as exc:
                results[name] = failed(name, exc)

        with RunContext(options) as run:
            # Never in this thread: it must be free for Ctrl-C.
            run.datasets.each(run_one, names)
        return [results[name] for name in names]

    @contextmanager
    def open(self, name: str, options: SyncOptions = PLAIN) -> Iterator[DatasetSync]:
        """Provide one dataset to work on in this thread, whatever the lock says."""
        with RunContext(options) as run:
            yield self._dataset_sync(name, options, run, None)

    def choose(self, names: Iterable[str]) -> list[str]:
        """Return each of the names once, all if there are none."""
        return [self.dataset(name).name for name in dict.fromkeys(names or self.datasets)]

    def dataset(self, name: str) -> Dataset:
        """Return the dataset of that name; raise `DatasetNotFoundError` if there is none."""
        try:
            return self.datasets[name]
        except KeyError:
            hint = did_you_mean(name, self.datasets) or what_there_is(self.datasets)
            raise DatasetNotFoundError(f"no dataset '{name}'", hint=hint) from None

    def storage_of(self, dataset: Dataset) -> Storage:
        """Return the storage of a dataset, one per process, scheme and settings."""
        name, source = dataset.storage or "", dataset.sources[0]
        if name in self.given:
            return self.given[name]
        key = (os.getpid(), uri.scheme_of(source), name)
        with self._mutex:
            if key not in self._opened:
                settings = self.settings.get(name) or StorageSettings()
                self._opened[key] = self.open_storage(source, settings)
            return self._opened[key]

    def _dataset_sync(
        self, name: str, options: SyncOptions, run: RunContext, lock: CatalogLock | None
    ) -> DatasetSync:
        dataset = self.dataset(name)
        storage = self.storage_of(dataset)
        root = landing(dataset, self.data)
        pin, key, asked = dataset.pin, name, options.pin
        if asked is not None:
            pin = run.settle(asked, storage)
            key, root = f"{name}@{slug(pin)}", f"{root}@{slug(pin)}"
            self._refuse_shared_folder(root)
        return DatasetSync(
            dataset=dataset,
            pin=pin,
            key=key,
            root=root,
            storage=storage,
            disk=Disk(
                self._path(root),
                _LINKS[self.cache.link],
                self.store.mode,
                store=self.store,
                endpoint=storage.endpoint,
            ),
            states=self.states,
            policy=options.policy,
            run=run,
            folder_at=self._folder,
            lock=LockView(dataset, pin, self.root, lock, self.lock_mode),
        )

    def _folder(self, root: str) -> Folder:
        return Folder(self._path(root), _LINKS[self.cache.link], self.store.mode)

    def _path(self, root: str) -> str:
        return str(self.root) if root == "." else os.path.join(self.root, root)

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


def what_there_is(names: Iterable[str]) -> str:
    """Return the hint that names a few of what a catalog has."""
    some = ", ".join(f"'{name}'" for name in list(names)[:5])
    return f"the catalog has {some or 'none'}"
