"""How the states of datasets look: a table, a summary, the errors behind it."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from datacachalog.cli.console import Cell, Column, Terminal, plural, render_table
from datacachalog.spec.units import format_age, format_size
from datacachalog.sync.results import DatasetStatus, Freshness

_COLUMNS = (
    Column("NAME"),
    Column("STATUS"),
    Column("FILES", rank=3, align_right=True),
    Column("SIZE", rank=3, align_right=True),
    Column("CHANGES", least=28, rank=1),
    Column("PIN", rank=2),
    Column("CHECKED", rank=4),
)

_STYLES = {
    Freshness.UP_TO_DATE: "green",
    Freshness.STALE: "yellow",
    Freshness.MISSING: "yellow",
    Freshness.INCOMPLETE: "yellow",
    Freshness.EDITED: "red",
    Freshness.ERROR: "red",
}


def show_states(states: Sequence[DatasetStatus], terminal: Terminal) -> None:
    """Show the table on standard output; what else there is to say goes to standard error."""
    now = datetime.now(UTC)
    rows = [_row(state, now) for state in states]
    if rows:
        terminal.data(render_table(terminal.out, _COLUMNS, rows))
    for state in states:
        if state.error is not None:
            terminal.error(f"{state.name}: {state.error}", state.error.hint)
    if len(states) > 1:
        terminal.note(_summary(states))


def _row(state: DatasetStatus, now: datetime) -> list[str | Cell]:
    known = state.error is None
    return [
        Cell(state.name, "bold"),
        Cell(state.freshness.value, _STYLES[state.freshness]),
        f"{state.files:,}" if known else "",
        format_size(state.size) if known else "",
        changes(state) if known else "",
        _pin(state),
        "" if state.checked is None else format_age(state.checked, now),
    ]


def _pin(state: DatasetStatus) -> str:
    pins = ["locked"] if state.is_locked else []
    return ", ".join(pins if state.pin == "latest" else [state.pin, *pins])


def changes(state: DatasetStatus) -> str:
    """Return what a sync would do, in a few words."""
    if state.conflicts:
        first = state.conflicts[0]
        more = f" (+{len(state.conflicts) - 1:,})" if len(state.conflicts) > 1 else ""
        return f"{first.relpath}{more}: {first.reason}"
    parts = []
    if state.downloads:
        parts.append(f"{state.downloads:,} to download ({format_size(state.download_bytes)})")
    if state.links:
        parts.append(f"{state.links:,} to link")
    if state.drops:
        parts.append(f"{state.drops:,} to remove")
    return ", ".join(parts)


def _summary(states: Sequence[DatasetStatus]) -> str:
    counts = Counter(state.freshness for state in states)
    words = [f"{counts[kind]:,} {kind.value}" for kind in Freshness if counts[kind]]
    return f"{plural(len(states), 'dataset')}: {', '.join(words)}"
