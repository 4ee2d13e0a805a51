"""From `--catalog` to a loaded catalog, for commands that need no storage."""

import os
from collections.abc import Iterable
from pathlib import Path

from datacachalog import uri
from datacachalog.errors import DatasetNotFoundError
from datacachalog.spec.discovery import find_catalog
from datacachalog.spec.loader import LoadedCatalog, load
from datacachalog.spec.models import Dataset
from datacachalog.suggest import did_you_mean


def read_catalog(reference: str | None) -> LoadedCatalog:
    """Return the catalog at a path, of a name, or (None) the nearest; asks no network."""
    return load(find_catalog(reference, environ=os.environ), environ=os.environ)


def pick(catalog: LoadedCatalog, names: Iterable[str]) -> list[Dataset]:
    """Return the named datasets in the order given, or all of them in the catalog's."""
    known = catalog.datasets
    wanted = list(dict.fromkeys(names)) or list(known)
    for name in wanted:
        if name not in known:
            raise DatasetNotFoundError(
                f"no dataset '{name}' in {catalog.path.name}",
                hint=did_you_mean(name, known) or "see `dcl list`",
            )
    return [known[name] for name in wanted]


def shown_source(source: str, root: Path) -> str:
    """Return a URI as it is, and a local source relative to the project where it is below it."""
    if uri.scheme_of(source) != "file":
        return source
    path = uri.split(source)[2]
    return path.removeprefix(f"{uri.escape(str(root))}/")
