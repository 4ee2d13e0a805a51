"""Commands on what is here: status compares it with the sources, show tells all of one dataset."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from datacachalog.catalog import load_catalog
from datacachalog.cli.app import Exit, GlobalOptions, Here, show_errors
from datacachalog.cli.commands.catalog import pick, read_catalog, shown_source
from datacachalog.cli.console import (
    Cell,
    Column,
    Terminal,
    plural,
    render_table,
    shown_path,
)
from datacachalog.cli.json import dataset_document, status_document
from datacachalog.cli.options import Json, Name, Names, StatusOptions
from datacachalog.cli.progress import watch
from datacachalog.model import Latest
from datacachalog.spec.landing import landing
from datacachalog.spec.loader import LoadedCatalog
from datacachalog.spec.models import Dataset
from datacachalog.spec.units import format_age, format_duration, format_size
from datacachalog.sync.results import DatasetStatus, Freshness


def status(
    *names: Names,
    check: Annotated[
        bool,
        Parameter(name="--check", help="Exit with 3 if anything is not up to date"),
    ] = False,
    how: StatusOptions = StatusOptions(),
    options: GlobalOptions = GlobalOptions(),
    terminal: Here,
) -> int:
    """Compare what is here with the source.

    Changes nothing. Says for each dataset whether it is up to date, and what a sync would do.
    """
    catalog = load_catalog(options.catalog, lock_mode=how.lock_mode)
    with watch(terminal, len(set(names) or catalog.datasets)) as report:
        states = catalog.status(
            *names,
            as_of=how.as_of,
            refresh=how.refresh,
            offline=how.offline,
            jobs=how.jobs,
            report=report,
        )
    if how.json:
        terminal.document("status", {"datasets": [status_document(state) for state in states]})
    else:
        _show_states(states, terminal)
    if any(state.error is not None for state in states):
        return Exit.FAILED
    is_current = all(state.freshness is Freshness.UP_TO_DATE for state in states)
    return Exit.VERDICT if check and not is_current else Exit.DONE


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


def _show_states(states: Sequence[DatasetStatus], terminal: Terminal) -> None:
    """Show the table on standard output; what else there is to say goes to standard error."""
    now = datetime.now(UTC)
    rows = [_row(state, now) for state in states]
    if rows:
        terminal.data(render_table(terminal.out, _COLUMNS, rows))
    show_errors({s.name: s.error for s in states if s.error is not None}, terminal)
    if len(states) > 1:
        terminal.note(_summary(states))


def _row(state: DatasetStatus, now: datetime) -> list[str | Cell]:
    known = state.error is None
    return [
        Cell(state.name, "bold"),
        Cell(state.freshness.value, _STYLES[state.freshness]),
        f"{state.files:,}" if known else "",
        format_size(state.size) if known else "",
        _changes(state) if known else "",
        _pin(state),
        "" if state.checked is None else format_age(state.checked, now),
    ]


def _pin(state: DatasetStatus) -> str:
    pins = ["locked"] if state.is_locked else []
    return ", ".join(pins if state.pin == "latest" else [state.pin, *pins])


def _changes(state: DatasetStatus) -> str:
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


def show(
    name: Name,
    /,
    *,
    json: Json = False,
    options: GlobalOptions = GlobalOptions(),
    terminal: Here,
) -> int:
    """Show all about one dataset.

    What the catalog says of it, with defaults merged, and what is on disk. Asks no network.
    """
    loaded = read_catalog(options.catalog)
    dataset = pick(loaded, [name])[0]
    state = load_catalog(loaded.path).status(name, offline=True)[0]
    if json:
        on_disk = status_document(state) if _is_here(state) else None
        body = {**dataset_document(dataset, loaded), "on_disk": on_disk}
        terminal.document("dataset", body)
        return Exit.DONE
    facts = [(Cell(term, "dim"), text) for term, text in _facts(dataset, loaded, state) if text]
    columns = Column(""), Column("", least=20)
    terminal.data(render_table(terminal.out, columns, facts, has_head=False))
    return Exit.DONE


def _facts(dataset: Dataset, catalog: LoadedCatalog, state: DatasetStatus) -> list[tuple[str, str]]:
    """Return what is worth a line about a dataset; an empty text is none."""
    checksum = dataset.checksum
    return [
        ("name", dataset.name),
        ("description", dataset.description or ""),
        ("owner", dataset.owner or ""),
        ("tags", ", ".join(dataset.tags)),
        *(("source", shown_source(source, catalog.root)) for source in dataset.sources),
        ("exclude", ", ".join(dataset.exclude)),
        ("as of", "" if isinstance(dataset.pin, Latest) else str(dataset.pin)),
        ("storage", dataset.storage or ""),
        ("lands in", shown_path(catalog.root / landing(dataset, catalog.data))),
        ("format", dataset.format or ""),
        ("reader", dataset.reader or ""),
        ("read args", _pairs(dataset.read_args)),
        ("checksum", checksum if isinstance(checksum, str) else _pairs(checksum or {})),
        ("push", "allowed" if dataset.push else ""),
        ("if empty", "accepted" if dataset.allow_empty else ""),
        ("if unreachable", "an error" if dataset.on_stale == "error" else ""),
        ("trusted for", format_duration(dataset.max_age) if dataset.max_age else ""),
        ("metadata", _pairs(dataset.metadata)),
        ("declared in", catalog.declared.get(dataset.name, "")),
        ("on disk", _on_disk(state)),
        ("identity", "weak" if _is_weak(state) else ""),
    ]


def _is_weak(state: DatasetStatus) -> bool:
    """Tell whether a change of the source may go unseen: only size and time identify a file."""
    return state.plan is not None and any(o.is_weak for o in state.plan.resolution.objects)


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in values.items())


def _is_here(state: DatasetStatus) -> bool:
    return state.checked is not None or state.freshness not in (Freshness.MISSING, Freshness.ERROR)


def _on_disk(state: DatasetStatus) -> str:
    locked = "locked; " if state.is_locked else ""
    if not _is_here(state):
        return f"{locked}not fetched"
    age = f"checked {format_age(state.checked, datetime.now(UTC))}" if state.checked else ""
    if state.error is not None:
        return f"{age}; {state.error}"
    size = f"{locked}{plural(state.files, 'file')}, {format_size(state.size)}"
    return "; ".join(filter(None, [f"{size}, {age}" if age else size, _changes(state)]))
