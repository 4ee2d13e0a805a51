"""Commands that read or write the catalog, offline: init, add, validate, list, schema."""

import os
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from datacachalog import uri
from datacachalog.cli.app import Exit, GlobalOptions, Here
from datacachalog.cli.console import Cell, Column, plural, render_table, shown_path
from datacachalog.cli.json import dataset_document, invalid_document
from datacachalog.cli.options import Json, Names, Offline, StatusOptions
from datacachalog.errors import CatalogError, DatasetNotFoundError, InvalidCatalogError
from datacachalog.spec.discovery import find_catalog
from datacachalog.spec.editor import NEW_CATALOG, add_to_file
from datacachalog.spec.loader import LoadedCatalog, load
from datacachalog.spec.models import Dataset
from datacachalog.spec.schema import schema_text
from datacachalog.suggest import did_you_mean


def read_catalog(reference: str | None) -> LoadedCatalog:
    """Return the catalog at a path, of a name, or (None) the nearest; asks no network."""
    return load(find_catalog(reference, environ=os.environ), environ=os.environ)


def pick(catalog: LoadedCatalog, names: Iterable[str]) -> list[Dataset]:
    """Return the named datasets in the order given, or all of them in the catalog's."""
    known = catalog.datasets
    wanted = list(dict.fromkeys(names)) or list(known)
    for name in wanted:
        if name not in known:
            raise DatasetNotFoundError(
                f"no dataset '{name}' in {catalog.path.name}",
                hint=did_you_mean(name, known) or "see `dcl list`",
            )
    return [known[name] for name in wanted]


def shown_source(source: str, root: Path) -> str:
    """Return a URI as it is, and a local source relative to the project where it is below it."""
    if uri.scheme_of(source) != "file":
        return source
    path = uri.split(source)[2]
    return path.removeprefix(f"{uri.escape(str(root))}/")


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
    options: GlobalOptions = GlobalOptions(),  # noqa: ARG001  # every command has them
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
    return Exit.DONE


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
    options: GlobalOptions = GlobalOptions(),
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
    return Exit.DONE


def validate(
    *, json: Json = False, options: GlobalOptions = GlobalOptions(), terminal: Here
) -> int:
    """Check the catalog, offline.

    Reads the file and all that it includes, and shows every problem at once with its place.
    Asks no network and needs no credentials.
    """
    try:
        catalog = read_catalog(options.catalog)
    except InvalidCatalogError as exc:
        if not json:
            raise
        terminal.document("validation", invalid_document(exc))
        return Exit.USAGE
    if json:
        body = {"valid": True, "problems": [], "datasets": len(catalog.datasets)}
        terminal.document("validation", body)
    for warning in catalog.warnings:
        terminal.warn(warning)
    terminal.note(
        f"{shown_path(catalog.path)} is valid: {plural(len(catalog.datasets), 'dataset')}"
    )
    return Exit.DONE


def list_datasets(
    *names: Names,
    status: Annotated[
        bool,
        Parameter(name="--status", help="Compare with the sources, as `dcl status`"),
    ] = False,
    offline: Offline = False,
    json: Json = False,
    options: GlobalOptions = GlobalOptions(),
    terminal: Here,
) -> int:
    """List the catalog's datasets.

    Asks no network, unless `--status` is given.
    """
    if status:
        # By name: what a status needs would double the time of a plain list.
        command = import_module("datacachalog.cli.commands.status")
        how = StatusOptions(offline=offline, json=json)
        code: int = command.status(*names, how=how, options=options, terminal=terminal)
        return code
    catalog = read_catalog(options.catalog)
    datasets = pick(catalog, names)
    if json:
        documents = [dataset_document(dataset, catalog) for dataset in datasets]
        terminal.document("datasets", {"catalog": str(catalog.path), "datasets": documents})
    elif datasets:
        rows = [_row(dataset, catalog.root) for dataset in datasets]
        terminal.data(render_table(terminal.out, _COLUMNS, rows))
    else:
        terminal.note(f"{shown_path(catalog.path)} has no datasets; `dcl add NAME URI` adds one")
    return Exit.DONE


_COLUMNS = (
    Column("NAME"),
    Column("SOURCE", least=32),
    Column("AS OF", rank=1),
    Column("OWNER", rank=3),
    Column("TAGS", rank=4),
    Column("DESCRIPTION", least=24, rank=2, is_cut=True),
)


def _row(dataset: Dataset, root: Path) -> list[str | Cell]:
    first, *more = dataset.sources
    return [
        Cell(dataset.name, "bold"),
        f"{shown_source(first, root)}{f' (+{len(more)})' if more else ''}",
        str(dataset.pin) if dataset.is_pinned else "",
        dataset.owner or "",
        " ".join(dataset.tags),
        dataset.description or "",
    ]


def schema(*, options: GlobalOptions = GlobalOptions(), terminal: Here) -> int:  # noqa: ARG001  # every command has them
    """Print the catalog's JSON schema.

    Editors use it to complete and check a catalog.yaml; see its first line.
    """
    terminal.data(schema_text().splitlines())
    return Exit.DONE
