"""From `--catalog` to a loaded catalog: the way in for commands that need no storage."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from datacachalog.discovery import find_catalog
from datacachalog.errors import DatacachalogError, DatasetNotFoundError
from datacachalog.loader import LoadedCatalog, load
from datacachalog.spec import Dataset
from datacachalog.suggest import did_you_mean

if TYPE_CHECKING:
    from cyclopts.completion._engine import CompletionContext


def read_catalog(reference: str | None) -> LoadedCatalog:
    """Return the catalog at a path, of a name, or (None) the nearest; asks no network."""
    return load(find_catalog(reference, environ=os.environ), environ=os.environ)


def pick(catalog: LoadedCatalog, names: Iterable[str]) -> list[Dataset]:
    """Return the named datasets in the order given, or all of them in the catalog's."""
    wanted = list(dict.fromkeys(names)) or list(catalog.datasets)
    for name in wanted:
        if name not in catalog.datasets:
            raise DatasetNotFoundError(
                f"no dataset '{name}' in {catalog.path.name}",
                hint=did_you_mean(name, catalog.datasets) or "see `dcl list`",
            )
    return [catalog.datasets[name] for name in wanted]


def complete_names(context: "CompletionContext") -> dict[str, str]:
    """Return dataset names and descriptions for the shell; nothing if there is no catalog."""
    try:
        typed = context.get("--catalog")
        catalog = read_catalog(typed.raw if typed is not None else None)
    except DatacachalogError:
        return {}
    return {name: dataset.description or "" for name, dataset in catalog.datasets.items()}
