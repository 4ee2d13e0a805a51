"""The libraries that read: which are installed, which extra brings them, how they join tables."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

EXTRAS = ("polars", "pandas", "pyarrow", "geopandas")
"""Libraries with an extra of their name."""


def is_installed(library: str) -> bool:
    """Tell whether the package can be imported, without importing it."""
    spec = find_spec(library)
    # A folder that happens to be called so is a namespace package, without an origin.
    return spec is not None and spec.origin is not None


def how_to_install(library: str) -> str:
    """Return the command that brings a library of `EXTRAS`."""
    return f"pip install 'datacachalog[{library}]'"


def join(library: str, parts: Sequence[Any]) -> Any:
    """Return one table of the parts, in their order; a list where a library has no tables.

    Columns of different but compatible types widen.
    """
    match library:
        case "polars":
            import polars as pl

            return pl.concat(parts, how="vertical_relaxed")
        case "pandas" | "geopandas":
            import pandas as pd

            return pd.concat(parts, ignore_index=True)
        case "pyarrow":
            import pyarrow as pa

            return pa.concat_tables(parts, promote_options="permissive")
        case _:
            return list(parts)
