"""Commands that bring data here: sync, fetch, path, get."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from datacachalog.catalog import Catalog, load_catalog
from datacachalog.catalog import get as get_uri
from datacachalog.cli import exits
from datacachalog.cli.entries import shown_path
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
    lock_mode,
)
from datacachalog.cli.plans import show_plans
from datacachalog.cli.progress import watch
from datacachalog.cli.records import as_list, paths_document, report_document
from datacachalog.cli.sentences import tell_lock, tell_run
from datacachalog.cli.streams import Terminal
from datacachalog.cli.visible import plural
from datacachalog.cli.words import UsageError
from datacachalog.outcome import SyncReport
from datacachalog.uri import check_source

_FEW = 8
"""Folders told after a sync as of another time, unless `--verbose`."""


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
    asked = Asked(as_of, version_id, refresh=refresh, offline=offline, jobs=jobs, dry_run=dry_run)
    mode = lock_mode(locked=locked, frozen=frozen, no_lock=no_lock)
    catalog = load_catalog(options.catalog, lock_mode=mode)
    result = _bring(catalog, names, asked, terminal)
    if dry_run:
        return _show_dry_run(result, terminal, json=json)
    if json:
        terminal.document("sync", report_document(result, dry_run=False))
    if as_of is not None or version_id is not None:
        _say_where(result, terminal)
    return _close(result, catalog.lock_file.name, terminal)


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
    if bool(names) == everything:
        raise UsageError(
            "`dcl fetch` needs the names of datasets, or `--all`", hint="see `dcl list`"
        )
    asked = Asked(as_of, version_id, refresh=refresh, offline=offline, jobs=jobs, dry_run=dry_run)
    mode = lock_mode(locked=locked, frozen=frozen, no_lock=no_lock)
    catalog = load_catalog(options.catalog, lock_mode=mode)
    result = _bring(catalog, names, asked, terminal)
    if dry_run:
        return _show_dry_run(result, terminal, json=json)
    paths = {o.name: o.paths for o in result.outcomes if o.error is None}
    if json:
        body = {**report_document(result, dry_run=False), "paths": paths_document(paths)}
        terminal.document("fetch", body)
    else:
        for found in paths.values():
            for path in found:
                terminal.out.path(path)
    return _close(result, catalog.lock_file.name, terminal)


@dataclass(frozen=True, slots=True)
class Asked:
    """How the person wants a run of sync or fetch."""

    as_of: str | None
    version_id: str | None
    refresh: bool
    offline: bool
    jobs: int | None
    dry_run: bool


def _bring(catalog: Catalog, names: Sequence[str], asked: Asked, terminal: Terminal) -> SyncReport:
    wanted = tuple(dict.fromkeys(names)) or tuple(catalog.datasets)
    if asked.version_id is not None and len(wanted) != 1:
        raise UsageError(
            f"`--version-id` is of one dataset, not of {len(wanted)}",
            hint="name the dataset it belongs to",
        )
    if not wanted:
        terminal.note("the catalog has no datasets; `dcl add NAME URI` adds one")
        return SyncReport((), 0.0)
    with watch(terminal, len(wanted), is_dry=asked.dry_run) as report:
        return catalog.sync(
            *wanted,
            as_of=asked.as_of,
            version_id=asked.version_id,
            refresh=asked.refresh,
            offline=asked.offline,
            jobs=asked.jobs,
            dry_run=asked.dry_run,
            check=False,
            report=report,
        )


def _say_where(result: SyncReport, terminal: Terminal) -> None:
    """Say in which folders another state than the catalog's landed."""
    folders = [(o.name, o.folder) for o in result.outcomes if o.error is None and o.folder]
    shown = folders if terminal.verbose else folders[:_FEW]
    for name, folder in shown:
        terminal.note(f"{name}: in {shown_path(folder)}")
    if hidden := len(folders) - len(shown):
        terminal.note(f"{plural(hidden, 'more dataset')} beside them (`-v` shows all)")


def _show_dry_run(result: SyncReport, terminal: Terminal, *, json: bool) -> int:
    if json:
        terminal.document("plan", report_document(result, dry_run=True))
    else:
        show_plans(result, terminal)
    _show_errors(result, terminal)
    return exits.FAILED if result.errors else exits.DONE


def _close(result: SyncReport, lock: str, terminal: Terminal) -> int:
    """Say what went wrong, in one line what was done, and in one more what the lock got."""
    _show_errors(result, terminal)
    if result.outcomes:
        terminal.note(tell_run(result))
    if news := tell_lock(result.lock_news):
        terminal.note(f"{lock}: {news}")
    return exits.FAILED if result.errors else exits.DONE


def _show_errors(result: SyncReport, terminal: Terminal) -> None:
    for name, error in result.errors.items():
        terminal.error(f"{name}: {error}", error.hint)


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
