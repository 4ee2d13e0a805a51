"""Commands that download: sync, fetch, path, get."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from datacachalog.catalog import Catalog, load_catalog
from datacachalog.catalog import get as get_uri
from datacachalog.cli.app import Exit, GlobalOptions, Here, UsageError, show_errors
from datacachalog.cli.console import (
    Cell,
    Column,
    Terminal,
    plural,
    render_table,
    shown_path,
    visible,
)
from datacachalog.cli.json import as_list, paths_document, report_document
from datacachalog.cli.options import DownloadOptions, Jobs, Json, Name, Names, SomeNames
from datacachalog.cli.progress import tell_counts, watch
from datacachalog.lock.rules import LockNews
from datacachalog.spec.units import format_duration, format_size
from datacachalog.sync.plan import Plan
from datacachalog.sync.results import SyncReport
from datacachalog.uri import check_source

_FEW_FOLDERS = 8
"""Folders told after a sync as of another time, unless `--verbose`."""

_FEW_FILES = 20
"""Files shown of each dataset in a dry run, unless `--verbose`."""


def sync(
    *names: Names,
    how: DownloadOptions = DownloadOptions(),
    options: GlobalOptions = GlobalOptions(),
    terminal: Here,
) -> int:
    """Bring datasets up to date on disk.

    Downloads what is new or changed, links what the cache has, and removes what vanished at
    the source, unless it was edited here. With --as-of or --version-id the data lands beside
    what is in place.
    """
    catalog = load_catalog(options.catalog, lock_mode=how.lock_mode)
    report = _download(catalog, names, how, terminal)
    if how.dry_run:
        return _show_dry_run(report, terminal, json=how.json)
    if how.json:
        terminal.document("sync", report_document(report, dry_run=False))
    if how.as_of is not None or how.version_id is not None:
        _show_folders(report, terminal)
    return _close(report, catalog.lock_file.name, terminal)


def fetch(
    *names: SomeNames,
    everything: Annotated[
        bool, Parameter(name="--all", help="All datasets of the catalog")
    ] = False,
    how: DownloadOptions = DownloadOptions(),
    options: GlobalOptions = GlobalOptions(),
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
    catalog = load_catalog(options.catalog, lock_mode=how.lock_mode)
    report = _download(catalog, names, how, terminal)
    if how.dry_run:
        return _show_dry_run(report, terminal, json=how.json)
    paths = {o.name: o.paths for o in report.outcomes if o.error is None}
    if how.json:
        body = {**report_document(report, dry_run=False), "paths": paths_document(paths)}
        terminal.document("fetch", body)
    else:
        for found in paths.values():
            _print_paths(found, terminal)
    return _close(report, catalog.lock_file.name, terminal)


def _download(
    catalog: Catalog, names: tuple[str, ...], how: DownloadOptions, terminal: Terminal
) -> SyncReport:
    count = len(set(names) or catalog.datasets)
    if how.version_id is not None and count != 1:
        raise UsageError(
            f"`--version-id` is of one dataset, not of {count}",
            hint="name the dataset it belongs to",
        )
    if not count:
        terminal.note("the catalog has no datasets; `dcl add NAME URI` adds one")
        return SyncReport((), 0.0)
    with watch(terminal, count, is_dry=how.dry_run) as report:
        return catalog.sync(
            *names,
            as_of=how.as_of,
            version_id=how.version_id,
            refresh=how.refresh,
            offline=how.offline,
            jobs=how.jobs,
            dry_run=how.dry_run,
            check=False,
            report=report,
        )


def _print_paths(paths: Path | list[Path], terminal: Terminal) -> None:
    for path in as_list(paths):
        terminal.out.path(path)


def _show_folders(report: SyncReport, terminal: Terminal) -> None:
    """Say in which folders another state than the catalog's landed."""
    folders = [(o.name, o.folder) for o in report.outcomes if o.error is None and o.folder]
    shown = folders if terminal.verbose else folders[:_FEW_FOLDERS]
    for name, folder in shown:
        terminal.note(f"{name}: in {shown_path(folder)}")
    if hidden := len(folders) - len(shown):
        terminal.note(f"{plural(hidden, 'more dataset')} beside them (`-v` shows all)")


def _close(report: SyncReport, lock: str, terminal: Terminal) -> int:
    """Say what went wrong, in one line what was done, and in one more what the lock got."""
    show_errors(report.errors, terminal)
    if report.outcomes:
        terminal.note(_tell_run(report))
    if news := _tell_lock(report.lock_news):
        terminal.note(f"{lock}: {news}")
    return Exit.FAILED if report.errors else Exit.DONE


def _tell_run(report: SyncReport) -> str:
    """Return the closing line of a run: `3 downloaded, 12 up to date (1.2 GB in 4.1 s)`.

    Counts files; failures count in datasets.
    """
    outcomes = report.outcomes
    counts = tell_counts(
        sum(o.downloaded for o in outcomes),
        sum(o.linked for o in outcomes),
        sum(o.hits for o in outcomes),
        sum(o.dropped for o in outcomes),
    )
    if report.errors:
        counts.append(f"{plural(len(report.errors), 'dataset')} failed")
    size = sum(o.downloaded_bytes for o in outcomes)
    if not any(o.downloaded for o in outcomes):
        size = sum(o.total_bytes for o in outcomes)
    took = format_duration(report.seconds)
    return f"{', '.join(counts) or 'nothing to do'} ({format_size(size)} in {took})"


def _tell_lock(news: LockNews) -> str:
    """Return what a run put into the lock; empty if that was nothing.

    >>> _tell_lock(LockNews(added=("orders",), hashed=("a", "b")))
    "added 'orders', filled in the hashes of 2 datasets"
    """
    parts = []
    if news.added:
        parts.append(f"added {_names(news.added)}")
    if news.changed:
        parts.append(f"replaced {_names(news.changed)}, changed in the catalog")
    if news.hashed:
        parts.append(f"filled in the hashes of {plural(len(news.hashed), 'dataset')}")
    return ", ".join(parts)


def _names(names: Sequence[str]) -> str:
    if len(names) > 3:
        return plural(len(names), "dataset")
    return ", ".join(f"'{name}'" for name in names)


def _show_dry_run(report: SyncReport, terminal: Terminal, *, json: bool) -> int:
    if json:
        terminal.document("plan", report_document(report, dry_run=True))
    else:
        _show_plans(report, terminal)
    show_errors(report.errors, terminal)
    return Exit.FAILED if report.errors else Exit.DONE


def _show_plans(report: SyncReport, terminal: Terminal) -> None:
    """Show what a sync would do, on standard output."""
    plans = [
        (outcome.name, outcome.plan) for outcome in report.outcomes if outcome.plan is not None
    ]
    for name, plan in plans:
        _show_plan(name, plan, terminal)
    downloads = sum(len(plan.downloads) for _, plan in plans)
    size = sum(plan.download_bytes for _, plan in plans)
    terminal.note(f"dry run: {downloads:,} to download ({format_size(size)}); nothing was done")


def _show_plan(name: str, plan: Plan, terminal: Terminal) -> None:
    title = terminal.out.paint(visible(name), "bold")
    terminal.out.line(f"{title}: {_counts(plan)}")
    rows = list(_rows(plan))
    shown = rows if terminal.verbose else rows[:_FEW_FILES]
    if shown:
        lines = render_table(terminal.out, _COLUMNS, shown, indent=2, has_head=False)
        terminal.data(lines)
    if hidden := len(rows) - len(shown):
        terminal.out.line(f"  … and {hidden:,} more; `-v` shows all")


_COLUMNS = (
    Column(""),
    Column("", least=32),
    Column("", align_right=True),
    Column("", least=24, rank=1),
)


def _counts(plan: Plan) -> str:
    pairs = (
        (len(plan.downloads), f"to download ({format_size(plan.download_bytes)})"),
        (len(plan.links), "to link from cache"),
        (len(plan.drops), "to remove"),
        (len(plan.conflicts), "in conflict"),
        (len(plan.keeps), "to leave alone"),
        (len(plan.hits), "up to date"),
    )
    return ", ".join(f"{count:,} {what}" for count, what in pairs if count) or "no files"


def _rows(plan: Plan) -> Iterator[list[str | Cell]]:
    for conflict in plan.conflicts:
        yield [Cell("conflict", "red"), conflict.relpath, "", conflict.reason]
    for download in plan.downloads:
        size = format_size(download.object.size)
        yield [Cell("download", "cyan"), download.object.relpath, size, download.reason]
    for link in plan.links:
        yield ["link", link.object.relpath, format_size(link.object.size), link.reason]
    for drop in plan.drops:
        yield [Cell("remove", "yellow"), drop.relpath, "", drop.reason]
    for keep in plan.keeps:
        yield ["keep", keep.relpath, "", keep.reason]


def path(
    name: Name, /, *, json: Json = False, options: GlobalOptions = GlobalOptions(), terminal: Here
) -> int:
    """Print where a fetched dataset lies.

    One path a line, as of the last sync. Asks neither network nor source.
    """
    found = load_catalog(options.catalog).path(name)
    if json:
        terminal.document("paths", {"datasets": paths_document({name: found})})
    else:
        _print_paths(found, terminal)
    return Exit.DONE


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
    options: GlobalOptions = GlobalOptions(),
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
        _print_paths(found, terminal)
    return Exit.DONE
