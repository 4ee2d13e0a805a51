"""Named, cached, reproducible data: a `catalog.yaml` in, exact bytes on disk.

>>> from datacachalog import Catalog, Dataset
>>> Catalog([Dataset(name="iris", source="raw/iris.csv")], root="/tmp/project")
Catalog('/tmp/project', 1 datasets)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datacachalog.catalog import Catalog, get, load_catalog
    from datacachalog.discovery import discover_catalogs
    from datacachalog.errors import (
        AccessDeniedError,
        CacheError,
        CatalogError,
        CatalogNotFoundError,
        ChecksumMismatchError,
        DatacachalogError,
        DatasetNotFoundError,
        IntegrityError,
        InvalidCatalogError,
        InvalidPinError,
        InvalidValueError,
        LocalFileConflictError,
        LockError,
        MissingExtraError,
        NotFetchedError,
        ObjectArchivedError,
        ObjectChangedError,
        ObjectNotFoundError,
        OfflineError,
        PartialFailureError,
        PushConflictError,
        PushRefusedError,
        ReaderError,
        SourceUnreachableError,
        StorageError,
        ThrottledError,
        UnsupportedSchemeError,
        VersioningNotSupportedError,
    )
    from datacachalog.model import DeleteMarker, ObjectVersion, RemoteObject
    from datacachalog.outcome import DatasetStatus, Freshness, Outcome, PushReport, SyncReport
    from datacachalog.spec import CacheSettings, Dataset, DataSettings, StorageSettings

__version__ = "0.1.0"

# Where each public name lives: imported when first used (PEP 562), so that `dcl --version`
# does not pay for pydantic.
_HOMES = {
    "catalog": ("Catalog", "get", "load_catalog"),
    "discovery": ("discover_catalogs",),
    "errors": (
        "AccessDeniedError",
        "CacheError",
        "CatalogError",
        "CatalogNotFoundError",
        "ChecksumMismatchError",
        "DatacachalogError",
        "DatasetNotFoundError",
        "IntegrityError",
        "InvalidCatalogError",
        "InvalidPinError",
        "InvalidValueError",
        "LocalFileConflictError",
        "LockError",
        "MissingExtraError",
        "NotFetchedError",
        "ObjectArchivedError",
        "ObjectChangedError",
        "ObjectNotFoundError",
        "OfflineError",
        "PartialFailureError",
        "PushConflictError",
        "PushRefusedError",
        "ReaderError",
        "SourceUnreachableError",
        "StorageError",
        "ThrottledError",
        "UnsupportedSchemeError",
        "VersioningNotSupportedError",
    ),
    "model": ("DeleteMarker", "ObjectVersion", "RemoteObject"),
    "outcome": ("DatasetStatus", "Freshness", "Outcome", "PushReport", "SyncReport"),
    "spec": ("CacheSettings", "DataSettings", "Dataset", "StorageSettings"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: PLE0604 - one table for both
    "__version__",
    *_HOME,
]


def __getattr__(name: str) -> object:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
