"""Commands that only read the catalog, and ask neither network nor cache: validate, list, schema.

They import no storage and no transfer, so that `dcl list` stays instant.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from datacachalog import uri
from datacachalog.cli import exits
from datacachalog.cli.documents import dataset_document, invalid_document
from datacachalog.cli.opening import pick, read_catalog
from datacachalog.cli.options import DEFAULTS, Here, Json, Names, Offline, Options
from datacachalog.cli.tables import Cell, Column, render
from datacachalog.cli.visible import plural
from datacachalog.errors import InvalidCatalogError
from datacachalog.loader import LoadedCatalog
from datacachalog.model import Latest
from datacachalog.schema import schema_text
from datacachalog.spec import Dataset

_COLUMNS = (
    Column("NAME", least=20),
    Column("SOURCE", least=32, cut_middle=True),
    Column("AS OF", rank=1),
    Column("OWNER", rank=3),
    Column("TAGS", rank=4),
    Column("DESCRIPTION", least=24, rank=2),
)


def validate(*, json: Json = False, options: Options = DEFAULTS, terminal: Here) -> int:
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
        return exits.USAGE
    if json:
        body = {"valid": True, "problems": [], "datasets": len(catalog.datasets)}
        terminal.document("validation", body)
    for warning in catalog.warnings:
        terminal.warn(warning)
    terminal.note(
        f"{shown_path(catalog.path)} is valid: {plural(len(catalog.datasets), 'dataset')}"
    )
    return exits.DONE


def list_datasets(
    *names: Names,
    status: Annotated[
        bool,
        Parameter(name="--status", help="Compare with the sources, as `dcl status`"),
    ] = False,
    offline: Offline = False,
    json: Json = False,
    options: Options = DEFAULTS,
    terminal: Here,
) -> int:
    """List the catalog's datasets.

    Asks no network, unless `--status` is given.
    """
    if status:
        # By name: what a status needs would double the time of a plain list.
        checking = import_module("datacachalog.cli.checking")
        code: int = checking.status(
            *names, offline=offline, json=json, options=options, terminal=terminal
        )
        return code
    catalog = read_catalog(options.catalog)
    datasets = pick(catalog, names)
    if json:
        body = {
            "catalog": str(catalog.path),
            "datasets": [dataset_document(dataset, catalog) for dataset in datasets],
        }
        terminal.document("datasets", body)
    elif datasets:
        rows = [_row(dataset, catalog) for dataset in datasets]
        terminal.data(render(terminal.out, _COLUMNS, rows))
    else:
        terminal.note(f"{shown_path(catalog.path)} has no datasets; `dcl add NAME URI` adds one")
    return exits.DONE


def _row(dataset: Dataset, catalog: LoadedCatalog) -> list[str | Cell]:
    return [
        Cell(dataset.name, "bold"),
        shown_sources(dataset, catalog.root),
        "" if isinstance(dataset.pin, Latest) else str(dataset.pin),
        dataset.owner or "",
        " ".join(dataset.tags),
        dataset.description or "",
    ]


def shown_sources(dataset: Dataset, root: Path) -> str:
    """Return the first source as its author wrote it, and how many more there are."""
    first, *more = dataset.sources
    return f"{shown_source(first, root)}{f' (+{len(more)})' if more else ''}"


def shown_source(source: str, root: Path) -> str:
    """Return a URI as it is, and a local source relative to the project where it is below it."""
    if uri.scheme_of(source) != "file":
        return source
    path = uri.split(source)[2]
    return path.removeprefix(f"{uri.escape(str(root))}/")


def shown_path(path: Path) -> str:
    """Return the path as a person would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def schema(*, options: Options = DEFAULTS, terminal: Here) -> int:  # noqa: ARG001  # every command has them
    """Print the catalog's JSON schema.

    Editors use it to complete and check a catalog.yaml; see its first line.
    """
    terminal.data(schema_text().splitlines())
    return exits.DONE
