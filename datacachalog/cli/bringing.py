"""What `dcl sync` and `dcl fetch` do, however their line was read.

Loads no parser: `fetching` has their options.
"""

from typing import NamedTuple

from datacachalog.catalog import Catalog, load_catalog
from datacachalog.cli import exits
from datacachalog.cli.app import UsageError
from datacachalog.cli.console import Terminal
from datacachalog.cli.entries import shown_path
from datacachalog.cli.json import paths_document, report_document
from datacachalog.cli.modes import lock_mode
from datacachalog.cli.plans import show_plans
from datacachalog.cli.progress import watch
from datacachalog.cli.sentences import tell_lock, tell_run
from datacachalog.cli.visible import plural
from datacachalog.sync.results import SyncReport

_FEW = 8
"""Folders told after a sync as of another time, unless `--verbose`."""


class Asked(NamedTuple):
    """How the person wants a run of sync or fetch; `mode` is what the lock means."""

    names: tuple[str, ...] = ()
    everything: bool = False
    catalog: str | None = None
    mode: str = "obey"
    as_of: str | None = None
    version_id: str | None = None
    refresh: bool = False
    offline: bool = False
    jobs: int | None = None
    dry_run: bool = False
    json: bool = False

    @classmethod
    def plainly(cls, names: tuple[str, ...], flags: frozenset[str]) -> "Asked":
        """Return what a line of names and flags asks."""
        return cls(
            names=names,
            everything="--all" in flags,
            mode=lock_mode(
                locked="--locked" in flags,
                frozen="--frozen" in flags,
                no_lock="--no-lock" in flags,
            ),
            refresh="--refresh" in flags,
            offline="--offline" in flags,
            dry_run="--dry-run" in flags,
            json="--json" in flags,
        )


def sync_plainly(names: tuple[str, ...], flags: frozenset[str], terminal: Terminal) -> int:
    """Run `dcl sync` as a plain line asks."""
    return sync(Asked.plainly(names, flags), terminal)


def fetch_plainly(names: tuple[str, ...], flags: frozenset[str], terminal: Terminal) -> int:
    """Run `dcl fetch` as a plain line asks."""
    return fetch(Asked.plainly(names, flags), terminal)


def sync(asked: Asked, terminal: Terminal) -> int:
    """Bring datasets up to date and say what was done."""
    catalog = load_catalog(asked.catalog, lock_mode=asked.mode)
    result = _bring(catalog, asked, terminal)
    if asked.dry_run:
        return _show_dry_run(result, terminal, json=asked.json)
    if asked.json:
        terminal.document("sync", report_document(result, dry_run=False))
    if asked.as_of is not None or asked.version_id is not None:
        _say_where(result, terminal)
    return _close(result, catalog.lock_file.name, terminal)


def fetch(asked: Asked, terminal: Terminal) -> int:
    """Bring datasets up to date and print their paths."""
    if bool(asked.names) == asked.everything:
        raise UsageError(
            "`dcl fetch` needs the names of datasets, or `--all`", hint="see `dcl list`"
        )
    catalog = load_catalog(asked.catalog, lock_mode=asked.mode)
    result = _bring(catalog, asked, terminal)
    if asked.dry_run:
        return _show_dry_run(result, terminal, json=asked.json)
    paths = {o.name: o.paths for o in result.outcomes if o.error is None}
    if asked.json:
        body = {**report_document(result, dry_run=False), "paths": paths_document(paths)}
        terminal.document("fetch", body)
    else:
        for found in paths.values():
            for path in found:
                terminal.out.path(path)
    return _close(result, catalog.lock_file.name, terminal)


def _bring(catalog: Catalog, asked: Asked, terminal: Terminal) -> SyncReport:
    wanted = tuple(dict.fromkeys(asked.names)) or tuple(catalog.datasets)
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
