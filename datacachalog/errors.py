"""Every error this package raises, in one tree.

Each error is one sentence with the value that is wrong, and a `hint` that can be typed
or done. Where the standard library has a class that a caller would catch
(`FileNotFoundError`, `PermissionError`, ...), ours inherits it too. Foreign errors are
translated once per storage; the command line maps classes to exit codes.
"""

from collections.abc import Sequence
from typing import NamedTuple


class DatacachalogError(Exception):
    """Base of all errors of this package: one sentence, and a hint where one helps.

    `str(error)` is the sentence alone; `error.hint` is the advice (or None).
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        # Builtin bases differ (KeyError quotes, OSError joins errno): ours read the same.
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        # BaseException pickles `args` only; keyword-only fields travel in the state.
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(
    cls: type[DatacachalogError], args: tuple[object, ...], state: dict[str, object]
) -> DatacachalogError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


# --- the catalog --------------------------------------------------------------------


class CatalogError(DatacachalogError):
    """Something about the catalog itself, before anything remote is asked."""


class CatalogNotFoundError(CatalogError, FileNotFoundError):
    """There is no catalog at the given place, or none was discovered."""


class Problem(NamedTuple):
    """One thing wrong in a catalog or lock file, and where; line and column count from 1."""

    message: str
    file: str
    line: int | None = None
    column: int | None = None
    hint: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(p) for p in (self.file, self.line, self.column) if p is not None)
        return f"{place}: {self.message}"


class InvalidCatalogError(CatalogError, ValueError):
    """The catalog breaks its format; `problems` lists everything found, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(p) for p in problems))
        self.problems = tuple(problems)


class DatasetNotFoundError(CatalogError, KeyError):
    """The catalog has no dataset of that name."""


class InvalidPinError(CatalogError, ValueError):
    """An `as_of`, `version_id` or duration cannot be read, or does not apply here."""


class InvalidValueError(CatalogError, ValueError):
    """A single value (a size, a name, a path, a source, ...) breaks its rules."""


class LockError(CatalogError, ValueError):
    """`catalog.lock` is unreadable, or does not fit the catalog where it must."""


# --- remote -------------------------------------------------------------------------


class StorageError(DatacachalogError, OSError):
    """A storage refused, failed or answered wrongly."""


class UnsupportedSchemeError(StorageError, ValueError):
    """The URI's scheme (or its `::` chain) is not one this package speaks."""


class ObjectNotFoundError(StorageError, FileNotFoundError):
    """No object at the URI, a glob that matches nothing, or a version that is gone."""


class NothingThereYetError(ObjectNotFoundError):
    """The source has a history, but at the asked instant there was nothing in it."""


class AccessDeniedError(StorageError, PermissionError):
    """The storage says no: credentials are missing, expired, or lack the permission."""


class SourceUnreachableError(StorageError, ConnectionError):
    """The storage did not answer: network, DNS, time-out, or server errors to the last retry."""


class ThrottledError(SourceUnreachableError):
    """The storage asked to slow down (503 SlowDown, 429); for so many seconds, if it said so."""

    def __init__(
        self, message: str, *, hint: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class ObjectChangedError(StorageError):
    """The object is no longer the one that was resolved."""


class ObjectArchivedError(StorageError, PermissionError):
    """The object lies in an archive tier and must be restored before it can be read."""


class IntegrityError(StorageError):
    """The bytes received are not the bytes announced (size, range, identity).

    With `is_resumable`, only the connection broke off: what came of the announced body is right.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, is_resumable: bool = False
    ) -> None:
        super().__init__(message, hint=hint)
        self.is_resumable = is_resumable


class ChecksumMismatchError(IntegrityError, ValueError):
    """The bytes do not have the checksum that the catalog or the lock demands."""


class VersioningNotSupportedError(StorageError):
    """The source keeps no history, so the asked instant cannot be proven."""


class OfflineError(StorageError, ConnectionError):
    """The network would be needed, and `--offline` (or `--frozen`) forbids it."""


class PushRefusedError(DatacachalogError, PermissionError):
    """The dataset cannot be pushed: not `push: true`, a glob, or pinned."""


class PushConflictError(DatacachalogError, FileExistsError):
    """The remote changed since it was last fetched; nothing was uploaded."""


# --- local --------------------------------------------------------------------------


class LocalFileConflictError(DatacachalogError, FileExistsError):
    """A file that is not ours, or was edited, stands where a dataset's file belongs."""


class NotFetchedError(DatacachalogError, FileNotFoundError):
    """The dataset has not been put on disk yet."""


class CacheError(DatacachalogError, OSError):
    """The shared cache or the data folder cannot be written or read."""


class ReaderError(DatacachalogError):
    """A dataset cannot be loaded: no reader for its format, or the reader failed."""


class MissingExtraError(ReaderError, ImportError):
    """A reader's library is not installed; the hint names the extra to install."""


class PartialFailureError(DatacachalogError):
    """Some datasets failed and the others are done; `errors` maps name to error."""

    def __init__(
        self, message: str, errors: dict[str, DatacachalogError], *, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.errors = errors
