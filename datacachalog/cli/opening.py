"""From `--catalog` to a loaded catalog: the way in for commands that need no storage."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from datacachalog import uri
from datacachalog.cli.entries import Entry, choose
from datacachalog.kept import Loaded, decode, encode
from datacachalog.snapshot import Reading, keep
from datacachalog.spec.discovery import find_catalog
from datacachalog.spec.loader import LoadedCatalog, load

if TYPE_CHECKING:
    from datacachalog.spec.models import Dataset


def read_catalog(reference: str | None) -> LoadedCatalog:
    """Return the catalog at a path, of a name, or (None) the nearest; asks no network."""
    return load(find_catalog(reference, environ=os.environ), environ=os.environ)


def read_and_keep(path: Path, at: Path) -> Loaded:
    """Return the catalog at `path`, and keep it at `at` for runs to come, if that can be done.

    Then it is what they will have, brought back.
    """
    reading = Reading(os.environ)
    loaded = load(path, environ=reading.environ, read=reading.read, needs_models=False)
    value = encode(loaded, has_variables=reading.has_variables)
    if value is None:
        return loaded
    keep(at, reading, value)
    return decode(value)


def pick(catalog: LoadedCatalog, names: Iterable[str]) -> "list[Dataset]":
    """Return the named datasets in the order given, or all of them in the catalog's."""
    return choose(catalog.datasets, names, catalog.path)


def entry_rows(path: Path, reading: Reading) -> list[Entry]:
    """Return what a list shows of the catalog at `path`, which is read through `reading`."""
    catalog = load(path, environ=reading.environ, read=reading.read, needs_models=False)
    return [_entry(dataset, catalog.root) for dataset in catalog.datasets.values()]


def _entry(dataset: "Dataset", root: Path) -> Entry:
    first, *more = dataset.sources
    return Entry(
        name=dataset.name,
        source=f"{shown_source(first, root)}{f' (+{len(more)})' if more else ''}",
        as_of=str(dataset.pin) if dataset.is_pinned else "",
        owner=dataset.owner or "",
        tags=" ".join(dataset.tags),
        description=dataset.description or "",
    )


def shown_source(source: str, root: Path) -> str:
    """Return a URI as it is, and a local source relative to the project where it is below it."""
    if uri.scheme_of(source) != "file":
        return source
    path = uri.split(source)[2]
    return path.removeprefix(f"{uri.escape(str(root))}/")
