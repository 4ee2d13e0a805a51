"""The datasets of a catalog, a line each: what `list` and the shell's completion show."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datacachalog.cli import exits
from datacachalog.cli.console import Terminal
from datacachalog.cli.opening import pick, read_catalog, shown_source
from datacachalog.cli.tables import Cell, Column, render
from datacachalog.errors import DatacachalogError
from datacachalog.spec.models import Dataset

if TYPE_CHECKING:
    from cyclopts.completion._engine import CompletionContext

_COLUMNS = (
    Column("NAME", least=20),
    Column("SOURCE", least=32, cut_middle=True),
    Column("AS OF", rank=1),
    Column("OWNER", rank=3),
    Column("TAGS", rank=4),
    Column("DESCRIPTION", least=24, rank=2),
)


def list_plainly(names: Sequence[str], _flags: frozenset[str], terminal: Terminal) -> int:
    """Show the named datasets of the nearest catalog, or all of them."""
    return show_entries(None, names, terminal)


def show_entries(reference: str | None, names: Iterable[str], terminal: Terminal) -> int:
    """Show the named datasets, or all of them."""
    catalog = read_catalog(reference)
    datasets = pick(catalog, names)
    if datasets:
        rows = [_row(dataset, catalog.root) for dataset in datasets]
        terminal.data(render(terminal.out, _COLUMNS, rows))
    else:
        terminal.note(f"{shown_path(catalog.path)} has no datasets; `dcl add NAME URI` adds one")
    return exits.DONE


def _row(dataset: Dataset, root: Path) -> tuple[Cell | str, ...]:
    first, *more = dataset.sources
    return (
        Cell(dataset.name, "bold"),
        f"{shown_source(first, root)}{f' (+{len(more)})' if more else ''}",
        str(dataset.pin) if dataset.is_pinned else "",
        dataset.owner or "",
        " ".join(dataset.tags),
        dataset.description or "",
    )


def shown_path(path: Path) -> str:
    """Return the path as a person would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def complete_names(context: "CompletionContext") -> dict[str, str]:
    """Return dataset names and descriptions for the shell; nothing if there is no catalog."""
    try:
        typed = context.get("--catalog")
        catalog = read_catalog(typed.raw if typed is not None else None)
    except DatacachalogError:
        return {}
    return {name: dataset.description or "" for name, dataset in catalog.datasets.items()}
