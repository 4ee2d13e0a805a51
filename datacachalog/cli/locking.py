"""Commands on the lock and on time: lock, outdated, versions."""

from itertools import groupby
from typing import Annotated

from cyclopts import Parameter

from datacachalog.catalog import load_catalog
from datacachalog.cli import exits
from datacachalog.cli.comparing import comparison_document, show_summaries
from datacachalog.cli.documents import Document, instant
from datacachalog.cli.options import DEFAULTS, AsOf, Here, Jobs, Json, Name, Names, Options
from datacachalog.cli.progress import watch
from datacachalog.cli.streams import Terminal
from datacachalog.cli.tables import Cell, Column, render
from datacachalog.cli.visible import plural, visible
from datacachalog.locking import LockReport
from datacachalog.model import ObjectVersion
from datacachalog.units import format_size


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
    options: Options = DEFAULTS,
    terminal: Here,
) -> int:
    """Write catalog.lock: exactly which files each dataset is.

    Keeps what is locked, adds what is missing, forgets what left the catalog. Downloads
    nothing; `dcl sync` then fetches exactly those files and adds their hashes.
    """
    catalog = load_catalog(options.catalog)
    if check:
        return _tell_disagreements(catalog.check_lock(), terminal, json=json)
    wanted = tuple(dict.fromkeys(names))
    with watch(terminal, len(wanted or catalog.datasets)) as report:
        result = catalog.lock(
            *wanted, upgrade=upgrade and (wanted or True), jobs=jobs, report=report
        )
    if json:
        terminal.document("lock", _lock_document(result))
    else:
        _tell_lock(result, catalog.lock_file.path.name, terminal)
    for name, error in result.errors.items():
        terminal.error(f"{name}: {error}", error.hint)
    return exits.FAILED if result.errors else exits.DONE


def _tell_disagreements(found: list[str], terminal: Terminal, *, json: bool) -> int:
    if json:
        terminal.document("lock_check", {"agrees": not found, "disagreements": found})
    for sentence in found if not json else ():
        terminal.error(sentence)
    if not found:
        terminal.note("catalog and lock agree")
        return exits.DONE
    if not json:
        terminal.note("run `dcl lock`")
    return exits.VERDICT


def _tell_lock(result: LockReport, file: str, terminal: Terminal) -> None:
    show_summaries(result.moved, terminal)
    counts = [
        (len(result.added), "added"),
        (len(result.moved), "moved"),
        (len(result.removed), "removed"),
        (len(result.kept), "kept"),
    ]
    text = ", ".join(f"{count} {word}" for count, word in counts if count) or "nothing to lock"
    verb = "written" if result.is_changed else "is up to date"
    terminal.note(f"{file} {verb}: {text}")


def _lock_document(result: LockReport) -> Document:
    return {
        "changed": result.is_changed,
        "added": list(result.added),
        "kept": list(result.kept),
        "moved": [comparison_document(moved) for moved in result.moved],
        "removed": list(result.removed),
    }


def outdated(
    *names: Names,
    jobs: Jobs = None,
    json: Json = False,
    options: Options = DEFAULTS,
    terminal: Here,
) -> int:
    """Say which locked datasets would move.

    Compares the lock with what the sources hold now. Exits with 3 if `dcl lock --upgrade`
    would change something.
    """
    catalog = load_catalog(options.catalog)
    wanted = tuple(dict.fromkeys(names))
    with watch(terminal, len(wanted or catalog.datasets)) as report:
        found = catalog.outdated(*wanted, jobs=jobs, report=report)
    if json:
        terminal.document("outdated", {"datasets": [comparison_document(c) for c in found]})
    else:
        show_summaries(found, terminal)
        if found:
            terminal.note(f"{plural(len(found), 'dataset')} would move with `dcl lock --upgrade`")
        else:
            terminal.note("the lock is up to date")
    return exits.VERDICT if found else exits.DONE


def versions(
    name: Name,
    /,
    *,
    limit: Annotated[
        int, Parameter(name="--limit", metavar="N", help="Versions shown of each file; 0 for all")
    ] = 10,
    key: Annotated[
        str | None,
        Parameter(name="--key", metavar="REL", help="Only this file of the dataset, or a pattern"),
    ] = None,
    ids: Annotated[bool, Parameter(name="--ids", help="Show the version ids too")] = False,
    as_of: AsOf = None,
    json: Json = False,
    options: Options = DEFAULTS,
    terminal: Here,
) -> int:
    """List what a dataset was, newest first.

    Each time can be pasted after `--as-of`.
    """
    catalog = load_catalog(options.catalog)
    found = catalog.versions(name, limit=limit or None, key=key, as_of=as_of)
    if json:
        body = {"dataset": name, "versions": [_version_document(version) for version in found]}
        terminal.document("versions", body)
    else:
        _show_versions(found, terminal, has_ids=ids, has_keys=not catalog.datasets[name].is_single)
    return exits.DONE


_COLUMNS = (
    Column("TIME"),
    Column("SIZE", align_right=True),
    Column("CHANGE", rank=1),
    Column("VERSION ID", least=12, rank=2),
)


def _show_versions(
    found: list[ObjectVersion], terminal: Terminal, *, has_ids: bool, has_keys: bool
) -> None:
    if not found:
        terminal.note("there are no versions")
        return
    for relpath, history in groupby(found, key=lambda version: version.relpath):
        if has_keys:
            terminal.out.line(terminal.out.paint(visible(relpath), "bold"))
        rows = [_row(version, has_ids=has_ids) for version in history]
        terminal.data(render(terminal.out, _COLUMNS, rows, indent=2 if has_keys else 0))


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
