"""The command diff, and how comparisons are shown: for a terminal, a program, a pull request."""

import html
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated

from cyclopts import Parameter

from datacachalog.catalog import load_catalog
from datacachalog.cli.app import Exit, GlobalOptions, Here, UsageError, show_errors
from datacachalog.cli.completion import complete_names
from datacachalog.cli.console import Cell, Column, Terminal, render_table, visible
from datacachalog.cli.json import Document, error_document
from datacachalog.cli.options import Jobs, Json
from datacachalog.cli.progress import watch
from datacachalog.lock import lockfile
from datacachalog.lock.compare import Change, Comparison, FileChange
from datacachalog.lock.file import CatalogLock
from datacachalog.model import RemoteObject
from datacachalog.spec.units import format_size
from datacachalog.suggest import nearest

_SIDES_HELP = (
    "`lock`, `latest`, `placed`, a time, a lock file, or `-` for one on standard input;"
    " else `lock`, or `placed` if there is none"
)
_OPTIONS = ("--dataset", "--stat", "--markdown", "--exit-code", "--as-of", "--jobs", "--json")

_MANY = 50
"""Files shown of each dataset in Markdown, unless `--verbose`."""

_SIGNS = {Change.ADDED: "+", Change.REMOVED: "-", Change.CHANGED: "~"}
_STYLES = {Change.ADDED: "green", Change.REMOVED: "red", Change.CHANGED: "yellow"}


def diff(
    before: Annotated[
        str | None, Parameter(name="A", help=_SIDES_HELP, allow_leading_hyphen=True)
    ] = None,
    after: Annotated[
        str | None,
        Parameter(name="B", help="The other side; else `latest`", allow_leading_hyphen=True),
    ] = None,
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
    as_of: Annotated[
        str | None,
        Parameter(name="--as-of", metavar="TIME", help="The other side, in place of B: a time"),
    ] = None,
    jobs: Jobs = None,
    json: Json = False,
    options: GlobalOptions = GlobalOptions(),
    terminal: Here,
) -> int:
    """Show which files differ between two sides.

    Files that were added, removed or changed, and their sizes, dataset by dataset:

        dcl diff                          what moved since the lock
        dcl diff 2026-01-01 2026-02-01    what happened in January
        git show main:catalog.lock | dcl diff - lock
    """
    if json and markdown:
        raise UsageError("`--json` and `--markdown` exclude each other")
    if after is not None and as_of is not None:
        raise UsageError("`--as-of` is the other side, and that is given already")
    if before == after == "-":
        raise UsageError("standard input can be only one of the sides")
    catalog = load_catalog(options.catalog)
    old, new = _read(before), _read(after or as_of)
    with watch(terminal, len(dataset or catalog.datasets)) as report:
        found = catalog.diff(old, new, *dataset, jobs=jobs, report=report)
    moved = [comparison for comparison in found if comparison.error is None]
    if json:
        terminal.document("diff", {"datasets": [comparison_document(c) for c in found]})
    elif markdown:
        most = None if terminal.verbose else _MANY
        terminal.data(_markdown(moved, most=0 if stat else most))
    elif stat:
        show_summaries(moved, terminal)
    else:
        _show(moved, terminal)
    is_known = show_failures(found, terminal)
    if is_known and not found and not markdown:
        terminal.note("no difference")
    if not is_known:
        return Exit.FAILED
    return Exit.VERDICT if exit_code and moved else Exit.DONE


def _read(side: str | None) -> str | CatalogLock | None:
    if side == "-":
        return lockfile.decode(sys.stdin.buffer.read(), where="standard input")
    if side is not None and side.startswith("-"):
        # cyclopts lets `-` through only together with whatever else begins so.
        meant = nearest(side, _OPTIONS)
        hint = f"did you mean `{meant}`?" if meant else "see `dcl diff --help`"
        raise UsageError(f"`dcl diff` has no option '{side}'", hint=hint)
    return side


def show_failures(found: Iterable[Comparison], terminal: Terminal) -> bool:
    """Say which datasets could not be compared, and why; return whether there were none."""
    failed = {c.name: c.error for c in found if c.error is not None}
    show_errors(failed, terminal)
    return not failed


def show_summaries(found: Iterable[Comparison], terminal: Terminal) -> None:
    """Write a line for each dataset that differs: counts of files, and bytes."""
    rows: list[list[str | Cell]] = [
        [c.name, *(_count(c, change) for change in Change), _growth(c.growth)] for c in found
    ]
    if rows:
        terminal.data(render_table(terminal.out, _SUMMARY, rows))


_SUMMARY = (
    Column("NAME"),
    Column("ADDED", align_right=True),
    Column("REMOVED", align_right=True),
    Column("CHANGED", align_right=True),
    Column("BYTES", align_right=True),
)
_FILES = (
    Column(""),
    Column("FILE", least=20),
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


def _show(found: Iterable[Comparison], terminal: Terminal) -> None:
    for comparison in found:
        title = terminal.out.paint(visible(comparison.name), "bold")
        terminal.out.line(f"{title}: {summary(comparison)}")
        rows = [_file_row(change) for change in comparison.changes]
        terminal.data(render_table(terminal.out, _FILES, rows, has_head=False, indent=2))


def summary(comparison: Comparison) -> str:
    """Return what differs in a few words: `2 added, 1 removed (+1.2 kB)`."""
    counts = [f"{n:,} {change.value}" for change in Change if (n := comparison.count(change))]
    return f"{', '.join(counts)} ({_growth(comparison.growth)})"


def _file_row(change: FileChange) -> list[str | Cell]:
    style = _STYLES[change.change]
    return [
        Cell(_SIGNS[change.change], style),
        Cell(change.relpath, style),
        _size(change.before),
        _size(change.after),
    ]


# --- for a pull request -------------------------------------------------------------


def _markdown(found: Sequence[Comparison], *, most: int | None) -> list[str]:
    """Return a table of datasets, then for each one a table of files that folds away.

    At most `most` files of each (None: all of them): a comment has its limits.
    """
    if not found:
        return ["No data changed."]
    lines = [
        "| dataset | added | removed | changed | bytes |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for comparison in found:
        counts = " | ".join(f"{comparison.count(change):,}" for change in Change)
        lines.append(f"| {_code(comparison.name)} | {counts} | {_growth(comparison.growth)} |")
    if most != 0:
        for comparison in found:
            lines.extend(_markdown_files(comparison, most))
    return lines


def _markdown_files(comparison: Comparison, most: int | None) -> list[str]:
    # A line that begins with a tag is HTML to its end, not Markdown.
    title = html.escape(f"{comparison.name}: {summary(comparison)}")
    rows = [
        f"| {_SIGNS[c.change]} | {_code(c.relpath)} | {_size(c.before)} | {_size(c.after)} |"
        for c in comparison.changes[:most]
    ]
    if hidden := len(comparison.changes) - len(rows):
        rows.append(f"| | … and {hidden:,} more | | |")
    return [
        "",
        f"<details><summary>{title}</summary>",
        "",
        "| | file | before | after |",
        "| --- | --- | ---: | ---: |",
        *rows,
        "",
        "</details>",
    ]


def _size(obj: RemoteObject | None) -> str:
    return "" if obj is None else format_size(obj.size)


def _code(text: str) -> str:
    r"""Return a name or path as code, in which nothing is a mark, a link or a mention.

    >>> print(_code("a|b"), _code("tick`s"))
    `a\|b` ``tick`s``
    """
    text = visible(text).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if {text[0], text[-1]} & {"`", " "} else ""
    return f"{fence}{pad}{text}{pad}{fence}"


# --- for a program ------------------------------------------------------------------


def comparison_document(comparison: Comparison) -> Document:
    """Return one dataset's differences."""
    return {
        "name": comparison.name,
        **{change.value: comparison.count(change) for change in Change},
        "same": comparison.same,
        "bytes": comparison.growth,
        "download_bytes": comparison.download_bytes,
        "error": error_document(comparison.error),
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
