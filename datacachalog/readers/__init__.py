"""From files on disk to what people compute with: tables, mostly.

Owns the table of formats and the calls into polars, pandas, pyarrow and geopandas. Used by
`catalog`. Knows datasets and paths; knows nothing of storages, caches or the network.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datacachalog.readers.reading import read

__all__ = ["read"]


def __getattr__(name: str) -> Any:
    """Import `read` when it is first used: a sync reads nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.reading"), name)
