"""Commands on the shared cache: cache dir, stats, prune, clear; invalidate, invalidate-glob."""

import os
import shutil
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from datacachalog.cache.eviction import evict
from datacachalog.cache.store import Store
from datacachalog.catalog import load_catalog
from datacachalog.cli.app import Exit, GlobalOptions, Here, UsageError
from datacachalog.cli.commands.catalog import read_catalog
from datacachalog.cli.console import plural
from datacachalog.cli.options import Json, Name, SomeNames
from datacachalog.errors import CatalogNotFoundError
from datacachalog.settings import cache_dir
from datacachalog.spec.models import CacheSettings
from datacachalog.spec.units import format_size, parse_duration, parse_size


def _settings(options: GlobalOptions) -> CacheSettings:
    """Return the cache settings of the catalog, or the defaults where there is none."""
    try:
        return read_catalog(options.catalog).cache
    except CatalogNotFoundError:
        if options.catalog is not None:
            raise
        return CacheSettings()


def _store(options: GlobalOptions) -> Store:
    return Store(cache_dir(_settings(options).dir, os.environ))


def directory(
    *, json: Json = False, options: GlobalOptions = GlobalOptions(), terminal: Here
) -> int:
    """Print the cache folder."""
    root = _store(options).root
    if json:
        terminal.document("cache", {"path": str(root)})
    else:
        terminal.out.path(root)
    return Exit.DONE


def stats(*, json: Json = False, options: GlobalOptions = GlobalOptions(), terminal: Here) -> int:
    """Count what the cache holds."""
    store = _store(options)
    found = store.stats()
    if json:
        body = {
            "path": str(store.root),
            "objects": found.objects,
            "size": found.size,
            "temporary": found.temporary,
        }
        terminal.document("cache", body)
        return Exit.DONE
    text = f"{plural(found.objects, 'object')}, {format_size(found.size)}"
    if found.temporary:
        text += f", and {format_size(found.temporary)} of downloads under way"
    terminal.data([text])
    return Exit.DONE


def prune(
    *,
    max_size: Annotated[
        str | None,
        Parameter(name="--max-size", metavar="SIZE", help="Keep at most this much: 50 GB"),
    ] = None,
    unused_for: Annotated[
        str | None,
        Parameter(name="--unused-for", metavar="TIME", help="Remove what nobody used for: 30 days"),
    ] = None,
    json: Json = False,
    options: GlobalOptions = GlobalOptions(),
    terminal: Here,
) -> int:
    """Remove what was not used lately.

    The least recently used objects go first. Without options, the catalog's
    `cache: {max_size: ...}` counts. Files in `data/` stay.
    """
    settings = _settings(options)
    limit = settings.max_size if max_size is None else parse_size(max_size)
    age = None if unused_for is None else parse_duration(unused_for)
    if limit is None and age is None:
        raise UsageError(
            "`dcl cache prune` needs a limit", hint="run `dcl cache prune --unused-for '30 days'`"
        )
    store = Store(cache_dir(settings.dir, os.environ))
    gone = evict(store, max_size=limit, unused_for=age, now=datetime.now(UTC))
    _tell(gone.objects, gone.size, store, terminal, json=json)
    return Exit.DONE


def clear(*, json: Json = False, options: GlobalOptions = GlobalOptions(), terminal: Here) -> int:
    """Remove everything from the cache.

    Files in `data/` stay: they are links or copies of their own.
    """
    store = _store(options)
    gone = store.clear()
    # Earlier versions kept there what they had read of catalogs.
    shutil.rmtree(cache_dir(None, os.environ) / "v1" / "catalogs", ignore_errors=True)
    _tell(gone.objects, gone.size, store, terminal, json=json)
    return Exit.DONE


def _tell(objects: int, size: int, store: Store, terminal: Here, *, json: bool) -> None:
    if json:
        body = {"path": str(store.root), "removed": {"objects": objects, "size": size}}
        terminal.document("cache", body)
    terminal.note(f"{plural(objects, 'object')} removed ({format_size(size)})")


def invalidate(*names: SomeNames, options: GlobalOptions = GlobalOptions(), terminal: Here) -> int:
    """Drop datasets from the cache, so that they download anew.

    The files in place stay until the next sync has the new ones.
    """
    if not names:
        raise UsageError("`dcl invalidate` needs the names of datasets", hint="see `dcl list`")
    catalog = load_catalog(options.catalog)
    for name in dict.fromkeys(names):
        count = catalog.invalidate(name)
        terminal.note(f"{name}: {plural(count, 'file')} will download anew with `dcl sync {name}`")
    return Exit.DONE


def invalidate_glob(
    name: Name,
    pattern: Annotated[
        str, Parameter(name="PATTERN", help="Which files, as in `exclude`: '2026/**', '*.csv'")
    ] = "**",
    /,
    *,
    options: GlobalOptions = GlobalOptions(),
    terminal: Here,
) -> int:
    """Drop some files of a dataset from the cache.

    As `dcl invalidate`, for the files whose path below the dataset's folder matches.
    """
    count = load_catalog(options.catalog).invalidate_glob(name, pattern)
    terminal.note(f"{name}: {plural(count, 'file')} will download anew with `dcl sync {name}`")
    return Exit.DONE
