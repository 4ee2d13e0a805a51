"""Commands that write the catalog: init, add."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from datacachalog.cli import exits
from datacachalog.cli.entries import shown_path
from datacachalog.cli.opening import read_catalog
from datacachalog.cli.options import DEFAULTS, Here, Options
from datacachalog.errors import CatalogError
from datacachalog.spec.discovery import find_catalog
from datacachalog.spec.editor import NEW_CATALOG, add_to_file

_IGNORED = ("/data/", "/.datacachalog/state/")
"""Anchored: a `src/data` is nobody's cache, and `.datacachalog/catalogs` belongs into git."""


class CatalogExistsError(CatalogError, FileExistsError):
    """There is a catalog already where a new one was to be written."""


def init(
    folder: Annotated[
        str, Parameter(name="FOLDER", help="Where; the current folder if left out")
    ] = ".",
    /,
    *,
    options: Options = DEFAULTS,  # noqa: ARG001  # every command has them
    terminal: Here,
) -> int:
    """Write a commented catalog.yaml here.

    Also adds `data/` and `.datacachalog/state/` to .gitignore. Overwrites nothing and asks nothing.
    """
    place = Path(folder)
    catalog = place / "catalog.yaml"
    for name in ("catalog.yaml", "catalog.yml", "catalog.toml"):
        if os.path.lexists(place / name):
            raise CatalogExistsError(
                f"there is a {place / name} already",
                hint="`dcl add NAME URI` adds a dataset to it",
            )
    os.makedirs(place, exist_ok=True)
    with open(catalog, "x", encoding="utf-8") as file:
        file.write(NEW_CATALOG)
    terminal.note(f"wrote {shown_path(catalog)}")
    if added := _ignore(place / ".gitignore"):
        terminal.note(f"added {' and '.join(added)} to {shown_path(place / '.gitignore')}")
    terminal.note("next: `dcl add NAME URI`, then `dcl sync`")
    return exits.DONE


def _ignore(file: Path) -> list[str]:
    """Add to the .gitignore what it lacks; return what was added."""
    try:
        text = file.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        text = ""
    present = {line.strip().strip("/") for line in text.splitlines()}
    missing = [line for line in _IGNORED if not _prefixes(line) & present]
    if missing:
        before = "\n" if text and not text.endswith("\n") else ""
        with open(file, "ab") as out:
            out.write((before + "".join(f"{line}\n" for line in missing)).encode())
    return missing


def _prefixes(pattern: str) -> set[str]:
    """Return the folder of a pattern and all above it: ignoring one of them is enough."""
    parts = pattern.strip("/").split("/")
    return {"/".join(parts[: i + 1]) for i in range(len(parts))}


def add(
    name: Annotated[str, Parameter(name="NAME", help="What to call it")],
    source: Annotated[str, Parameter(name="URI", help="A URI or a path; a glob in quotes")],
    /,
    *,
    storage: Annotated[
        str | None, Parameter(name="--storage", metavar="NAME", help="One of `storages`")
    ] = None,
    description: Annotated[
        str | None, Parameter(name="--description", metavar="TEXT", help="What it is")
    ] = None,
    options: Options = DEFAULTS,
    terminal: Here,
) -> int:
    """Add a dataset to the catalog.

    Edits the file as text: comments and order stay. The catalog is checked before and after;
    if it would not be valid, the file stays as it was.
    """
    path = find_catalog(options.catalog, environ=os.environ)
    read_catalog(str(path))
    before = path.read_bytes()
    keys = {"description": description, "storage": storage}
    add_to_file(path, name, source, {key: text for key, text in keys.items() if text is not None})
    try:
        catalog = read_catalog(str(path))
    except CatalogError:
        path.write_bytes(before)
        raise
    where = catalog.declared.get(name, shown_path(path))
    terminal.note(f"added '{name}' to {where}; `dcl sync {name}` fetches it")
    return exits.DONE
