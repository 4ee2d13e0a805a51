"""Named, cached, reproducible data: a `catalog.yaml` in, exact bytes on disk.

>>> from datacachalog import Catalog, Dataset
>>> Catalog([Dataset(name="iris", source="raw/iris.csv")], root="/tmp/project")
Catalog('/tmp/project', 1 datasets)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datacachalog.catalog import Catalog, get, load_catalog
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
        NothingThereYetError,
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
    from datacachalog.lock.compare import Comparison
    from datacachalog.lock.file import LockMode
    from datacachalog.lock.rules import LockReport
    from datacachalog.model import DeleteMarker, ObjectVersion, RemoteObject
    from datacachalog.spec.discovery import discover_catalogs
    from datacachalog.spec.models import CacheSettings, Dataset, DataSettings, StorageSettings
    from datacachalog.storage import FilesystemStorage, S3Storage
    from datacachalog.sync.results import DatasetStatus, Freshness, Outcome, PushReport, SyncReport

__version__ = "0.1.0"

__all__ = [
    "AccessDeniedError",
    "CacheError",
    "CacheSettings",
    "Catalog",
    "CatalogError",
    "CatalogNotFoundError",
    "ChecksumMismatchError",
    "Comparison",
    "DataSettings",
    "DatacachalogError",
    "Dataset",
    "DatasetNotFoundError",
    "DatasetStatus",
    "DeleteMarker",
    "FilesystemStorage",
    "Freshness",
    "IntegrityError",
    "InvalidCatalogError",
    "InvalidPinError",
    "InvalidValueError",
    "LocalFileConflictError",
    "LockError",
    "LockMode",
    "LockReport",
    "MissingExtraError",
    "NotFetchedError",
    "NothingThereYetError",
    "ObjectArchivedError",
    "ObjectChangedError",
    "ObjectNotFoundError",
    "ObjectVersion",
    "OfflineError",
    "Outcome",
    "PartialFailureError",
    "PushConflictError",
    "PushRefusedError",
    "PushReport",
    "ReaderError",
    "RemoteObject",
    "S3Storage",
    "SourceUnreachableError",
    "StorageError",
    "StorageSettings",
    "SyncReport",
    "ThrottledError",
    "UnsupportedSchemeError",
    "VersioningNotSupportedError",
    "__version__",
    "discover_catalogs",
    "get",
    "load_catalog",
]

# Where public names live; what is not here is an error. They are imported when first used
# (PEP 562), so that `dcl --version` does not pay for pydantic.
_HOMES = {
    "Catalog": "catalog",
    "get": "catalog",
    "load_catalog": "catalog",
    "Comparison": "lock.compare",
    "discover_catalogs": "spec.discovery",
    "LockMode": "lock.file",
    "LockReport": "lock.rules",
    "DeleteMarker": "model",
    "ObjectVersion": "model",
    "RemoteObject": "model",
    "DatasetStatus": "sync.results",
    "Freshness": "sync.results",
    "Outcome": "sync.results",
    "PushReport": "sync.results",
    "SyncReport": "sync.results",
    "CacheSettings": "spec.models",
    "DataSettings": "spec.models",
    "Dataset": "spec.models",
    "StorageSettings": "spec.models",
    "FilesystemStorage": "storage",
    "S3Storage": "storage",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
