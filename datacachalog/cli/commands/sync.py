"""Commands that bring data here, as the parser reads them: sync, fetch, path, get."""

from typing import Annotated

from cyclopts import Parameter

from datacachalog.catalog import get as get_uri
from datacachalog.catalog import load_catalog
from datacachalog.cli import bringing, exits
from datacachalog.cli.bringing import Asked
from datacachalog.cli.json import as_list, paths_document
from datacachalog.cli.modes import lock_mode
from datacachalog.cli.options import (
    DEFAULTS,
    AsOf,
    DryRun,
    Frozen,
    Here,
    Jobs,
    Json,
    Locked,
    Name,
    Names,
    NoLock,
    Offline,
    Options,
    Refresh,
    SomeNames,
    VersionId,
)
from datacachalog.cli.progress import watch
from datacachalog.uri import check_source


def sync(
    *names: Names,
    dry_run: DryRun = False,
    refresh: Refresh = False,
    offline: Offline = False,
    as_of: AsOf = None,
    version_id: VersionId = None,
    locked: Locked = False,
    frozen: Frozen = False,
    no_lock: NoLock = False,
    jobs: Jobs = None,
    json: Json = False,
    options: Options = DEFAULTS,
    terminal: Here,
) -> int:
    """Bring datasets up to date on disk.

    Downloads what is new or changed, links what the cache has, and removes what vanished at
    the source, unless it was edited here. With --as-of or --version-id the data lands beside
    what is in place.
    """
    asked = Asked(
        names=names,
        catalog=options.catalog,
        mode=lock_mode(locked=locked, frozen=frozen, no_lock=no_lock),
        as_of=as_of,
        version_id=version_id,
        refresh=refresh,
        offline=offline,
        jobs=jobs,
        dry_run=dry_run,
        json=json,
    )
    return bringing.sync(asked, terminal)


def fetch(
    *names: SomeNames,
    everything: Annotated[
        bool, Parameter(name="--all", help="All datasets of the catalog")
    ] = False,
    dry_run: DryRun = False,
    refresh: Refresh = False,
    offline: Offline = False,
    as_of: AsOf = None,
    version_id: VersionId = None,
    locked: Locked = False,
    frozen: Frozen = False,
    no_lock: NoLock = False,
    jobs: Jobs = None,
    json: Json = False,
    options: Options = DEFAULTS,
    terminal: Here,
) -> int:
    """Bring datasets up to date, print their paths.

    Standard output gets the path of each file, one a line, and nothing else:

        python train.py "$(dcl fetch customers)"
    """
    asked = Asked(
        names=names,
        everything=everything,
        catalog=options.catalog,
        mode=lock_mode(locked=locked, frozen=frozen, no_lock=no_lock),
        as_of=as_of,
        version_id=version_id,
        refresh=refresh,
        offline=offline,
        jobs=jobs,
        dry_run=dry_run,
        json=json,
    )
    return bringing.fetch(asked, terminal)


def path(name: Name, /, *, json: Json = False, options: Options = DEFAULTS, terminal: Here) -> int:
    """Print where a fetched dataset lies.

    One path a line, as of the last sync. Asks neither network nor source.
    """
    found = load_catalog(options.catalog).path(name)
    if json:
        terminal.document("paths", {"datasets": paths_document({name: found})})
    else:
        for each in as_list(found):
            terminal.out.path(each)
    return exits.DONE


def get(
    source: Annotated[str, Parameter(name="URI", help="One object, or a glob in quotes")],
    dest: Annotated[
        str | None,
        Parameter(name="DEST", help="A file, or a folder; the current one if left out"),
    ] = None,
    /,
    *,
    jobs: Jobs = None,
    json: Json = False,
    options: Options = DEFAULTS,
    terminal: Here,
) -> int:
    """Fetch a URI that no catalog names.

    The files are your own copies; nothing is recorded. A catalog is not needed: --catalog
    only says whose cache folder to use.
    """
    check_source(source)
    catalog = load_catalog(options.catalog) if options.catalog else None
    with watch(terminal, 1) as report:
        found = get_uri(source, dest, catalog=catalog, jobs=jobs, report=report)
    if json:
        terminal.document("get", {"uri": source, "paths": [str(p) for p in as_list(found)]})
    else:
        for each in as_list(found):
            terminal.out.path(each)
    return exits.DONE
