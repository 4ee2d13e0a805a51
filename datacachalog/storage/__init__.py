"""Everything remote, behind one protocol: a table from scheme to storage.

`open_storage` is all that the floors above call; `protocol` says what they get.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from datacachalog.errors import UnsupportedSchemeError
from datacachalog.storage.base import Advance, Precondition, Storage, Uploaded
from datacachalog.storage.filesystem import FilesystemStorage
from datacachalog.storage.local import LocalStorage
from datacachalog.storage.object_store import ObjectStoreStorage
from datacachalog.storage.object_store_settings import OBSTORE, chosen_engine
from datacachalog.storage.s3 import S3Storage

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from datacachalog.spec.models import StorageSettings

__all__ = [
    "SCHEMES",
    "Advance",
    "FilesystemStorage",
    "LocalStorage",
    "Precondition",
    "S3Storage",
    "Storage",
    "Uploaded",
    "open_storage",
    "wrap_filesystem",
]


def _open_s3(settings: "StorageSettings") -> Storage:
    complete = S3Storage(settings)
    return ObjectStoreStorage(complete) if chosen_engine(settings.engine) == OBSTORE else complete


SCHEMES: "dict[str, Callable[[StorageSettings], Storage]]" = {
    "file": lambda _: LocalStorage(),
    "memory": lambda _: FilesystemStorage("memory"),
    "s3": _open_s3,
}
"""What serves each scheme; a source without one is a local path, so `file`."""


def open_storage(uri: str, settings: "StorageSettings") -> Storage:
    """Return the storage for `uri`; cheap, and asks nothing before it is used.

    One storage serves all URIs of its scheme that `settings` reach: keep it.

    >>> from datacachalog.spec.models import StorageSettings
    >>> open_storage("s3://lake/a.csv", StorageSettings(anon=True)).endpoint
    'aws'
    """
    scheme, is_uri, _ = uri.partition("://")
    try:
        return SCHEMES[scheme if is_uri else "file"](settings)
    except KeyError:
        known = ", ".join(f"`{name}://`" for name in SCHEMES)
        raise UnsupportedSchemeError(
            f"the scheme of {uri!r} is not supported", hint=f"known are {known} and local paths"
        ) from None


def wrap_filesystem(filesystem: "AbstractFileSystem", settings: "StorageSettings") -> Storage:
    """Return the storage that reaches what lies in a user's own filesystem.

    >>> from datacachalog.spec.models import StorageSettings
    >>> from fsspec.implementations.local import LocalFileSystem
    >>> wrap_filesystem(LocalFileSystem(), StorageSettings()).endpoint
    'file'
    """
    from fsspec.implementations.local import LocalFileSystem

    if type(filesystem) is LocalFileSystem:  # one that was derived may read something else
        return LocalStorage(filesystem)
    if "s3" in filesystem.protocol:
        from s3fs import S3FileSystem

        if isinstance(filesystem, S3FileSystem):
            return S3Storage(settings, filesystem=filesystem)
    return FilesystemStorage(filesystem)
