"""What an upload may assume of a key, compared with what is there, and told to a person.

One wording for all storages: the user sees both sides of a conflict.
"""

from datacachalog.errors import PushConflictError
from datacachalog.model import RemoteObject
from datacachalog.storage.base import Precondition


def is_met(precondition: RemoteObject | Precondition, found: RemoteObject | None) -> bool:
    """Tell whether what was found (None for nothing) is what an upload expects."""
    if precondition is Precondition.ANYTHING:
        return True
    if isinstance(precondition, RemoteObject):
        return found is not None and found.is_same_as(precondition)
    return found is None


def conflict(
    uri: str, precondition: RemoteObject | Precondition, found: RemoteObject | None
) -> PushConflictError:
    """Return the error that shows both sides: when, how large, which ETag."""
    expected = precondition if isinstance(precondition, RemoteObject) else None
    return PushConflictError(
        f"{uri} is not what it was: expected {_told(expected)}, found {_told(found)}",
        hint="sync to see what changed, or push with `--force` to overwrite it",
    )


def _told(obj: RemoteObject | None) -> str:
    if obj is None:
        return "no object"
    return f"{obj.size:,} bytes of {obj.modified:%Y-%m-%d %H:%M:%S}Z (ETag {obj.etag})"
