"""The command diff, and how comparisons are shown: for a terminal, a program, a pull request."""

import re
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated

from cyclopts import Parameter

from datacachalog import lockfile
from datacachalog.catalog import load_catalog
from datacachalog.cli import exits
from datacachalog.cli.documents import Document
from datacachalog.cli.opening import complete_names
from datacachalog.cli.options import DEFAULTS, AsOf, Here, Jobs, Json, Options
from datacachalog.cli.progress import watch
from datacachalog.cli.streams import Terminal
from datacachalog.cli.tables import Cell, Column, render
from datacachalog.cli.visible import visible
from datacachalog.cli.words import UsageError
from datacachalog.comparison import Change, Comparison, FileChange
from datacachalog.locktext import Lock
from datacachalog.units import format_size

_SIDES_HELP = (
    "`lock`, `latest`, `placed`, a time, a lock file, or `-` for one on standard input;"
    " else `lock`, or `placed` if there is none"
)
_SIGNS = {Change.ADDED: "+", Change.REMOVED: "-", Change.CHANGED: "~"}
_STYLES = {Change.ADDED: "green", Change.REMOVED: "red", Change.CHANGED: "yellow"}


def diff(
    before: Annotated[str | None, Parameter(name="A", help=_SIDES_HELP)] = None,
    after: Annotated[str | None, Parameter(name="B", help="The other side; else `latest`")] = None,
    /,
    *,
    dataset: Annotated[
        tuple[str, ...],
        Parameter(
            name="--dataset", metavar="NAME", completer=complete_names, help="Only these datasets"
        ),
    ] = (),
    stat: Annotated[bool, Parameter(name="--stat", help="Only counts and sizes")] = False,
    markdown: Annotated[
        bool, Parameter(name="--markdown", help="Write Markdown, for a pull request")
    ] = False,
    exit_code: Annotated[
        bool, Parameter(name="--exit-code", help="Exit with 3 if the sides differ")
    ] = False,
    as_of: AsOf = None,
    jobs: Jobs = None,
    json: Json = False,
    options: Options = DEFAULTS,
    terminal: Here,
) -> int:
    """Show which files differ between two sides, and by how many bytes.

    dcl diff                          what moved since the lock
    dcl diff 2026-01-01 2026-02-01    what happened in January
    git show main:catalog.lock | dcl diff - lock
    """
    if json and markdown:
        raise UsageError("`--json` and `--markdown` exclude each other")
    catalog = load_catalog(options.catalog)
    if after is not None and as_of is not None:
        raise UsageError("`--as-of` is the other side, and that is given already")
    old, new = _read(before), _read(after or as_of)
    with watch(terminal, len(dataset or catalog.datasets)) as report:
        found = catalog.diff(old, new, *dataset, jobs=jobs, report=report)
    if json:
        terminal.document("diff", {"datasets": [comparison_document(c) for c in found]})
    elif markdown:
        terminal.data(_markdown(found, has_files=not stat))
    else:
        _show(found, terminal, has_files=not stat)
    return exits.VERDICT if exit_code and found else exits.DONE


def _read(side: str | None) -> str | Lock | None:
    if side != "-":
        return side
    return lockfile.decode(sys.stdin.buffer.read(), where="standard input")


def show_summaries(found: Iterable[Comparison], terminal: Terminal) -> None:
    """Write a line for each dataset that differs: counts of files, and bytes."""
    rows: list[list[str | Cell]] = [
        [
            comparison.name,
            *(_count(comparison, change) for change in Change),
            _growth(comparison.growth),
        ]
        for comparison in found
    ]
    if rows:
        terminal.data(render(terminal.out, _SUMMARY, rows))


_SUMMARY = (
    Column("NAME", least=12, cut_middle=True),
    Column("ADDED", align_right=True),
    Column("REMOVED", align_right=True),
    Column("CHANGED", align_right=True),
    Column("BYTES", align_right=True),
)
_FILES = (
    Column(""),
    Column("FILE", least=20, cut_middle=True),
    Column("BEFORE", align_right=True, rank=1),
    Column("AFTER", align_right=True, rank=1),
)


def _count(comparison: Comparison, change: Change) -> Cell:
    count = comparison.count(change)
    return Cell(f"{count:,}", _STYLES[change] if count else "dim")


def _growth(count: int) -> str:
    """Return a difference of sizes with its sign.

    >>> _growth(1200), _growth(-1200), _growth(0)
    ('+1.2 kB', '-1.2 kB', '0 B')
    """
    sign = {True: "+", False: "-"}[count > 0] if count else ""
    return f"{sign}{format_size(abs(count))}"


def _show(found: Sequence[Comparison], terminal: Terminal, *, has_files: bool) -> None:
    if not found:
        terminal.note("no difference")
        return
    if not has_files:
        show_summaries(found, terminal)
        return
    for comparison in found:
        title = terminal.out.paint(visible(comparison.name), "bold")
        terminal.out.line(f"{title}: {summary(comparison)}")
        rows = [_file_row(change) for change in comparison.changes]
        terminal.data(render(terminal.out, _FILES, rows, has_head=False, indent=2))


def summary(comparison: Comparison) -> str:
    """Return what differs in a few words: `2 added, 1 removed (+1.2 kB)`."""
    counts = [f"{n:,} {change.value}" for change in Change if (n := comparison.count(change))]
    return f"{', '.join(counts)} ({_growth(comparison.growth)})"


def _file_row(change: FileChange) -> list[str | Cell]:
    style = _STYLES[change.change]
    return [
        Cell(_SIGNS[change.change], style),
        Cell(change.relpath, style),
        format_size(change.before.size) if change.before else "",
        format_size(change.after.size) if change.after else "",
    ]


_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~-])")


def _markdown(found: Sequence[Comparison], *, has_files: bool) -> list[str]:
    if not found:
        return ["No data changed."]
    lines = [
        "| dataset | added | removed | changed | bytes |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for comparison in found:
        counts = " | ".join(f"{comparison.count(change):,}" for change in Change)
        lines.append(f"| {_plain(comparison.name)} | {counts} | {_growth(comparison.growth)} |")
    if has_files:
        for comparison in found:
            lines.extend(_markdown_files(comparison))
    return lines


def _markdown_files(comparison: Comparison) -> list[str]:
    head = f"<details><summary>{_plain(comparison.name)}: {summary(comparison)}</summary>"
    rows = [
        f"| {_SIGNS[c.change]} | {_plain(c.relpath)} |"
        f" {format_size(c.before.size) if c.before else ''} |"
        f" {format_size(c.after.size) if c.after else ''} |"
        for c in comparison.changes
    ]
    table = ["| | file | before | after |", "| --- | --- | ---: | ---: |", *rows]
    return ["", head, "", *table, "", "</details>"]


def _plain(text: str) -> str:
    """Return a name or key so that Markdown shows it as it is."""
    return _SPECIAL.sub(r"\\\1", visible(text))


def comparison_document(comparison: Comparison) -> Document:
    """Return one dataset's differences."""
    return {
        "name": comparison.name,
        **{change.value: comparison.count(change) for change in Change},
        "same": comparison.same,
        "bytes": comparison.growth,
        "files": [_change_document(change) for change in comparison.changes],
    }


def _change_document(change: FileChange) -> Document:
    return {
        "path": change.relpath,
        "change": change.change.value,
        "size_before": change.before.size if change.before else None,
        "size_after": change.after.size if change.after else None,
        "version_before": change.before.version_id if change.before else None,
        "version_after": change.after.version_id if change.after else None,
    }
