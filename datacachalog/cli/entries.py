"""The datasets of a catalog, a line each: what `list` and the shell's completion show.

They come from a snapshot as long as the catalog is what it was. Only where there is none is
the catalog read, with all the libraries that takes; so those are loaded by name.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from datacachalog import snapshot
from datacachalog.cli import exits
from datacachalog.cli.console import Cell, Column, Terminal, render_table
from datacachalog.errors import DatacachalogError, DatasetNotFoundError
from datacachalog.settings import cache_dir
from datacachalog.spec.discovery import find_catalog
from datacachalog.suggest import did_you_mean

if TYPE_CHECKING:
    from cyclopts.completion._engine import CompletionContext

_T = TypeVar("_T")

_COLUMNS = (
    Column("NAME"),
    Column("SOURCE", least=32),
    Column("AS OF", rank=1),
    Column("OWNER", rank=3),
    Column("TAGS", rank=4),
    Column("DESCRIPTION", least=24, rank=2, is_cut=True),
)


class Entry(NamedTuple):
    """One dataset as a list shows it; what it does not have is an empty text."""

    name: str
    source: str
    as_of: str
    owner: str
    tags: str
    description: str


def read_entries(path: Path) -> dict[str, Entry]:
    """Return the entries of the catalog at `path` by name; asks no network."""
    at = snapshot.place(cache_dir(None, os.environ), path)
    rows = snapshot.recall(at, os.environ)
    if rows is None:
        reading = snapshot.Reading(os.environ)
        rows = import_module("datacachalog.cli.opening").entry_rows(path, reading)
        snapshot.keep(at, reading, rows)
    return {row[0]: Entry(*row) for row in rows}


def list_plainly(names: Sequence[str], _flags: frozenset[str], terminal: Terminal) -> int:
    """Show the named datasets of the nearest catalog, or all of them."""
    return show_entries(None, names, terminal)


def show_entries(reference: str | None, names: Iterable[str], terminal: Terminal) -> int:
    """Show the named datasets, or all of them."""
    path = find_catalog(reference, environ=os.environ)
    entries = choose(read_entries(path), names, path)
    if entries:
        rows = [(Cell(entry.name, "bold"), *entry[1:]) for entry in entries]
        terminal.data(render_table(terminal.out, _COLUMNS, rows))
    else:
        terminal.note(f"{shown_path(path)} has no datasets; `dcl add NAME URI` adds one")
    return exits.DONE


def choose(known: Mapping[str, _T], names: Iterable[str], path: Path) -> list[_T]:
    """Return what is named in the order given, or all of the catalog at `path` in its order."""
    wanted = list(dict.fromkeys(names)) or list(known)
    for name in wanted:
        if name not in known:
            raise DatasetNotFoundError(
                f"no dataset '{name}' in {path.name}",
                hint=did_you_mean(name, known) or "see `dcl list`",
            )
    return [known[name] for name in wanted]


def shown_path(path: Path) -> str:
    """Return the path as a person would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def complete_names(context: "CompletionContext") -> dict[str, str]:
    """Return dataset names and descriptions for the shell; nothing if there is no catalog."""
    try:
        typed = context.get("--catalog")
        path = find_catalog(typed.raw if typed is not None else None, environ=os.environ)
        entries = read_entries(path)
    except DatacachalogError:
        return {}
    return {entry.name: entry.description for entry in entries.values()}
