"""Commands that only read the catalog, and ask neither network nor cache: validate, schema.

They import no storage and no transfer.
"""

from collections.abc import Iterable

from datacachalog.cli import exits
from datacachalog.cli.console import Terminal, plural
from datacachalog.cli.entries import shown_path as shown_path
from datacachalog.cli.json import dataset_document, invalid_document
from datacachalog.cli.opening import pick, read_catalog
from datacachalog.cli.opening import shown_source as shown_source
from datacachalog.cli.options import DEFAULTS, Here, Json, Options
from datacachalog.errors import InvalidCatalogError
from datacachalog.spec.schema import schema_text


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


def show_documents(reference: str | None, names: Iterable[str], terminal: Terminal) -> int:
    """Print the named datasets, or all of them, as `dcl list --json` does."""
    catalog = read_catalog(reference)
    datasets = [dataset_document(dataset, catalog) for dataset in pick(catalog, names)]
    terminal.document("datasets", {"catalog": str(catalog.path), "datasets": datasets})
    return exits.DONE


def schema(*, options: Options = DEFAULTS, terminal: Here) -> int:  # noqa: ARG001  # every command has them
    """Print the catalog's JSON schema.

    Editors use it to complete and check a catalog.yaml; see its first line.
    """
    terminal.data(schema_text().splitlines())
    return exits.DONE
