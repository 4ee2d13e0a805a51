"""A project to try things on: a folder, a cache, a storage in memory, and catalogs over them."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from datacachalog.catalog import Catalog
from datacachalog.events import Event
from datacachalog.model import RemoteObject
from datacachalog.spec.models import Dataset
from tests.memory_storage import MemoryStorage

T = TypeVar("T")

LAKE = "memory://lake"


@dataclass
class Project:
    """One project and its cache below `base`; each `catalog()` is as a new process sees them."""

    base: Path
    storage: MemoryStorage = field(default_factory=MemoryStorage)

    @property
    def root(self) -> Path:
        """The project's folder."""
        return self.base / "project"

    @property
    def cache(self) -> Path:
        """The cache folder."""
        return self.base / "cache"

    @property
    def data(self) -> Path:
        """The folder that holds all datasets."""
        return self.root / "data"

    def put(self, key: str, data: bytes, **options: Any) -> RemoteObject:
        """Write an object."""
        return self.storage.put(f"{LAKE}/{key}", data, **options)

    def put_all(self, objects: dict[str, bytes]) -> None:
        """Write many objects."""
        for key, data in objects.items():
            self.put(key, data)

    def delete(self, key: str) -> None:
        """Delete an object."""
        self.storage.delete(f"{LAKE}/{key}")

    def catalog(self, *datasets: Dataset, **options: Any) -> Catalog:
        """Return a new catalog of `datasets` (default: `orders`, everything below `orders/`)."""
        options.setdefault("cache_dir", self.cache)
        options.setdefault("open_storage", lambda source, settings: self.storage)
        self.root.mkdir(exist_ok=True)
        return Catalog(datasets or (orders(),), root=self.root, **options)

    def files(self, folder: str = "orders") -> dict[str, bytes]:
        """Return everything that lies in a dataset's folder, by relative path."""
        return contents(self.data / folder)

    def state_file(self, key: str = "orders") -> Path:
        """Return where a dataset's state is."""
        return self.root / ".datacachalog" / "state" / f"{key}.json"

    def stored(self) -> list[Path]:
        """Return the files of the store."""
        return sorted(p for p in (self.cache / "v1" / "objects").rglob("*") if p.is_file())

    def debris(self) -> list[str]:
        """Return what no run that has ended should have left."""
        suspects = [
            *(self.cache / "v1" / "tmp").glob("*"),
            *self.root.rglob(".dcl-tmp"),
            *self.root.rglob("*.tmp"),
            *self.root.rglob("*.coming"),
            *self.cache.glob("*.tmp"),
        ]
        return sorted(str(path.relative_to(self.base)) for path in suspects)


def orders(**options: Any) -> Dataset:
    """Return the dataset `orders`: everything below `orders/`."""
    return Dataset(**{"name": "orders", "source": f"{LAKE}/orders/**", **options})


def one(**options: Any) -> Dataset:
    """Return the dataset `one`: a single object."""
    return Dataset(**{"name": "one", "source": f"{LAKE}/one.csv", **options})


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below `folder`; an empty folder is a name with a slash."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or path.is_file():
            found[name] = path.read_bytes()
        elif not any(path.iterdir()):
            found[f"{name}/"] = b""
    return found


def mode_of(path: Path) -> int:
    """Return the permission bits of a file."""
    return stat.S_IMODE(os.stat(path).st_mode)


def current_umask() -> int:
    """Return the umask of this process."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


class EventRecorder:
    """A `report` that records events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Record one event."""
        self.events.append(event)

    def of(self, kind: type[T]) -> list[T]:
        """Return the events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]


def verbs(storage: MemoryStorage) -> list[str]:
    """Return what a storage was asked, in order."""
    return [call.verb for call in storage.calls]
