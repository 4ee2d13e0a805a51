"""Everything remote, behind one protocol: a table from scheme to storage.

`open_storage` is all that the floors above call; `protocol` says what they get.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from datacachalog.errors import UnsupportedSchemeError
from datacachalog.storage.fsspec_storage import FsspecStorage
from datacachalog.storage.local import LocalStorage
from datacachalog.storage.protocol import Advance, Expect, Storage, Uploaded
from datacachalog.storage.s3 import S3Storage
from datacachalog.storage.s3.filesystem import open_filesystem as _open_s3

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from datacachalog.spec import StorageSettings

__all__ = ["SCHEMES", "Advance", "Expect", "Storage", "Uploaded", "open_filesystem", "open_storage"]

SCHEMES: "dict[str, Callable[[StorageSettings], Storage]]" = {
    "file": lambda _: LocalStorage(),
    "memory": lambda _: FsspecStorage("memory"),
    "s3": S3Storage,
}
"""What serves each scheme; a source without one is a local path, so `file`."""


def open_filesystem(uri: str, settings: "StorageSettings") -> "AbstractFileSystem":
    """Return the fsspec filesystem that `uri` lies in, reached as `settings` say.

    >>> from datacachalog.spec import StorageSettings
    >>> open_filesystem("raw/iris.csv", StorageSettings()).protocol
    ('file', 'local')
    """
    scheme = uri.partition("://")[0] if "://" in uri else "file"
    if scheme == "s3":
        return _open_s3(settings)
    import fsspec

    return fsspec.filesystem(scheme)


def open_storage(uri: str, settings: "StorageSettings") -> Storage:
    """Return the storage for `uri`; cheap, and asks nothing before it is used.

    One storage serves all URIs of its scheme that `settings` reach: keep it.

    >>> from datacachalog.spec import StorageSettings
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
