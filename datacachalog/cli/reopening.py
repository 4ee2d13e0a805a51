"""From `--catalog` to a `Catalog`: the way in for commands that act on datasets.

A catalog that did not change since a run last read it is not read again.
"""

import os
from importlib import import_module

from datacachalog import kept, snapshot
from datacachalog.catalog import Catalog, assemble
from datacachalog.settings import cache_dir
from datacachalog.spec.discovery import find_catalog


def open_catalog(reference: str | None, *, lock_mode: str = "obey") -> Catalog:
    """Return the catalog at a path, of a name, or (None) the nearest; asks no network."""
    path = find_catalog(reference, environ=os.environ)
    at = snapshot.place(cache_dir(None, os.environ), path, "catalog")
    value = snapshot.recall(at, os.environ)
    if value is not None:
        return assemble(kept.decode(value), lock_mode=lock_mode)
    # By name, as it brings along all that a second run does without.
    opening = import_module("datacachalog.cli.opening")
    return assemble(opening.read_and_keep(path, at), lock_mode=lock_mode)
