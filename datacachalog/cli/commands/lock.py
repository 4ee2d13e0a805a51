"""Commands on the lock and on time: lock, outdated, versions."""

from collections.abc import Iterator
from itertools import groupby, islice
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from datacachalog.catalog import load_catalog
from datacachalog.cli.app import Exit, GlobalOptions, Here, UsageError, show_errors
from datacachalog.cli.commands.diff import comparison_document, show_failures, show_summaries
from datacachalog.cli.console import Cell, Column, Terminal, plural, render_table, visible
from datacachalog.cli.json import Document, error_document, instant
from datacachalog.cli.options import AsOf, Jobs, Json, Name, Names
from datacachalog.cli.progress import watch
from datacachalog.lock.rules import LockReport
from datacachalog.model import ObjectVersion
from datacachalog.spec.units import format_size


def lock(
    *names: Names,
    upgrade: Annotated[
        bool,
        Parameter(
            name="--upgrade",
            help="Resolve again what is locked already: the named datasets, or all",
        ),
    ] = False,
    check: Annotated[
        bool,
        Parameter(
            name="--check", help="Only say whether catalog and lock agree, offline; exit 3 if not"
        ),
    ] = False,
    jobs: Jobs = None,
    json: Json = False,
    options: GlobalOptions = GlobalOptions(),
    terminal: Here,
) -> int:
    """Write down exactly which files there are.

    Makes catalog.lock: keeps what it has, adds what is missing, forgets what left the catalog.
    Downloads nothing; `dcl sync` then fetches exactly those files and adds their hashes. Commit
    it, and everyone gets the same bytes.
    """
    if check and upgrade:
        raise UsageError("`--check` and `--upgrade` exclude each other")
    catalog = load_catalog(options.catalog)
    if check:
        return _show_disagreements(
            catalog.check_lock(*names), catalog.lock_file.name, terminal, json=json
        )
    with watch(terminal, len(set(names) or catalog.datasets)) as report:
        result = catalog.lock(*names, upgrade=upgrade and (names or True), jobs=jobs, report=report)
    if json:
        terminal.document("lock", _lock_document(result))
    else:
        _show_lock(result, catalog.lock_file.name, terminal)
    show_errors(result.errors, terminal)
    return Exit.FAILED if result.errors else Exit.DONE


def _show_disagreements(found: list[str], file: str, terminal: Terminal, *, json: bool) -> int:
    if json:
        terminal.document("lock_check", {"agrees": not found, "disagreements": found})
    else:
        terminal.data(visible(sentence) for sentence in found)
    if not found:
        terminal.note(f"{file} fits the catalog")
        return Exit.DONE
    terminal.note(f"{file} does not fit the catalog; run `dcl lock`")
    return Exit.VERDICT


def _show_lock(result: LockReport, file: str, terminal: Terminal) -> None:
    show_summaries(result.moved, terminal)
    counts = [
        (len(result.added), "added"),
        (len(result.moved), "moved"),
        (len(result.removed), "removed"),
        (len(result.kept), "kept"),
        (len(result.errors), "failed"),
    ]
    text = ", ".join(f"{count:,} {word}" for count, word in counts if count) or "nothing to lock"
    verb = "written" if result.is_changed else "is as it was"
    terminal.note(f"{file} {verb}: {text}")


def _lock_document(result: LockReport) -> Document:
    return {
        "changed": result.is_changed,
        "added": list(result.added),
        "kept": list(result.kept),
        "moved": [comparison_document(moved) for moved in result.moved],
        "removed": list(result.removed),
        "errors": {name: error_document(error) for name, error in result.errors.items()},
    }


def outdated(
    *names: Names,
    jobs: Jobs = None,
    json: Json = False,
    options: GlobalOptions = GlobalOptions(),
    terminal: Here,
) -> int:
    """Say what moved since the lock.

    Compares the lock with what the sources hold now. Exits with 3 if `dcl lock --upgrade`
    would change something.
    """
    catalog = load_catalog(options.catalog)
    with watch(terminal, len(set(names) or catalog.datasets)) as report:
        found = catalog.outdated(*names, jobs=jobs, report=report)
    if json:
        terminal.document("outdated", {"datasets": [comparison_document(c) for c in found]})
    moved = [comparison for comparison in found if comparison.error is None]
    if not json:
        show_summaries(moved, terminal)
    is_known = show_failures(found, terminal)
    if moved:
        terminal.note(f"{plural(len(moved), 'dataset')} would move with `dcl lock --upgrade`")
    elif is_known:
        terminal.note(f"nothing moved since {catalog.lock_file.name} was written")
    if not is_known:
        return Exit.FAILED
    return Exit.VERDICT if moved else Exit.DONE


def versions(
    name: Name,
    /,
    *,
    limit: Annotated[
        int,
        Parameter(
            name="--limit",
            metavar="N",
            help="Versions shown of each file; 0 for all",
            validator=Number(gte=0),
        ),
    ] = 10,
    key: Annotated[
        str | None,
        Parameter(name="--key", metavar="REL", help="Only this file of the dataset, or a pattern"),
    ] = None,
    ids: Annotated[bool, Parameter(name="--ids", help="Show the version ids too")] = False,
    as_of: AsOf = None,
    json: Json = False,
    options: GlobalOptions = GlobalOptions(),
    terminal: Here,
) -> int:
    """List what a dataset was, and when.

    Newest first. Each time can be pasted after `--as-of`.
    """
    catalog = load_catalog(options.catalog)
    found = catalog.versions(name, limit=limit or None, key=key, as_of=as_of)
    if json:
        body = {"dataset": name, "versions": [_version_document(version) for version in found]}
        terminal.document("versions", body)
    elif found:
        has_keys = not catalog.datasets[name].is_single
        terminal.data(_version_lines(found, terminal, has_ids=ids, has_keys=has_keys))
    else:
        of = f" of '{key}'" if key is not None else ""
        terminal.note(f"'{name}' has no versions{of}{f' as of {as_of}' if as_of else ''}")
    return Exit.DONE


_COLUMNS = (
    Column("TIME"),
    Column("SIZE", rank=2, align_right=True),
    Column("CHANGE", rank=1),
    Column("VERSION ID"),  # who asks for it wants all of it
)


def _version_lines(
    found: list[ObjectVersion], terminal: Terminal, *, has_ids: bool, has_keys: bool
) -> Iterator[str]:
    """Return one table; where there may be many files, each one's name stands above its rows."""
    rows = [_row(version, has_ids=has_ids) for version in found]
    lines = iter(render_table(terminal.out, _COLUMNS, rows, indent=2 if has_keys else 0))
    yield next(lines)
    for relpath, history in groupby(found, key=lambda version: version.relpath):
        if has_keys:
            yield terminal.out.paint(visible(relpath), "bold")
        yield from islice(lines, len(list(history)))


def _row(version: ObjectVersion, *, has_ids: bool) -> list[str | Cell]:
    size = "" if version.size is None else format_size(version.size)
    change = Cell("deleted", "red") if version.is_delete_marker else Cell("written")
    if version.is_latest:
        change = Cell(f"{change.text}, latest", change.style or "green")
    time = instant(version.last_modified) or ""
    return [time, size, change, (version.version_id or "") if has_ids else ""]


def _version_document(version: ObjectVersion) -> Document:
    return {
        "path": version.relpath,
        "uri": version.uri,
        "time": instant(version.last_modified),
        "version_id": version.version_id,
        "etag": version.etag,
        "size": version.size,
        "is_latest": version.is_latest,
        "is_delete_marker": version.is_delete_marker,
    }
