"""The command that lists the catalog's datasets.

It imports nothing that reads a catalog: with a snapshot, `dcl list` needs none of it.
"""

from importlib import import_module
from typing import Annotated

from cyclopts import Parameter

from datacachalog.cli.entries import show_entries
from datacachalog.cli.options import DEFAULTS, Here, Json, Names, Offline, Options


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
    code: int
    if status:
        # By name: what a status needs would double the time of a plain list.
        standing = import_module("datacachalog.cli.commands.status")
        code = standing.status(
            *names, offline=offline, json=json, options=options, terminal=terminal
        )
        return code
    if json:
        showing = import_module("datacachalog.cli.showing")
        code = showing.show_documents(options.catalog, names, terminal)
        return code
    return show_entries(options.catalog, names, terminal)
