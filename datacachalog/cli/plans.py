"""How a dry run looks: for each dataset what would be done, to which files, and why."""

from collections.abc import Iterator

from datacachalog.cli.console import Cell, Column, Terminal, render_table, visible
from datacachalog.spec.units import format_size
from datacachalog.sync.plan import Plan
from datacachalog.sync.results import Outcome, SyncReport

_FEW = 20
"""Files shown per dataset, unless `--verbose`."""

_COLUMNS = (
    Column(""),
    Column("", least=32),
    Column("", align_right=True),
    Column("", least=24, rank=1),
)


def show_plans(report: SyncReport, terminal: Terminal) -> None:
    """Show what a sync would do, on standard output."""
    for outcome in report.outcomes:
        if outcome.plan is not None:
            _show_plan(outcome, outcome.plan, terminal)
    plans = [outcome.plan for outcome in report.outcomes if outcome.plan is not None]
    downloads = sum(len(plan.downloads) for plan in plans)
    size = sum(plan.download_bytes for plan in plans)
    terminal.note(f"dry run: {downloads:,} to download ({format_size(size)}); nothing was done")


def _show_plan(outcome: Outcome, plan: Plan, terminal: Terminal) -> None:
    name = terminal.out.paint(visible(outcome.name), "bold")
    terminal.out.line(f"{name}: {_counts(plan)}")
    rows = list(_rows(plan))
    shown = rows if terminal.verbose else rows[:_FEW]
    if shown:
        lines = render_table(terminal.out, _COLUMNS, shown, indent=2, has_head=False)
        terminal.data(lines)
    if hidden := len(rows) - len(shown):
        terminal.out.line(f"  … and {hidden:,} more; `-v` shows all")


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
