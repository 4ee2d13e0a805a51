"""The options that commands share, as annotations cyclopts reads.

`Globals` belongs to every command; the others are taken by the commands they suit. Each
has a `DCL_*` twin in the environment; the command line stands above it.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from datacachalog.cli import command_table as commands
from datacachalog.cli.command_table import Option
from datacachalog.cli.console import Terminal
from datacachalog.cli.entries import complete_names
from datacachalog.settings import MAX_JOBS

_GLOBAL = Group("Options of every command", sort_key=9)


def _parameter(option: Option) -> Parameter:
    return Parameter(
        name=option.flags,
        metavar=option.metavar,
        env_var=option.env,
        help=option.help,
        group=_GLOBAL,
    )


@dataclass(frozen=True, slots=True)
class Globals:
    """What every command can be told."""

    catalog: Annotated[str | None, _parameter(commands.CATALOG)] = None
    quiet: Annotated[bool, _parameter(commands.QUIET)] = False
    verbose: Annotated[bool, _parameter(commands.VERBOSE)] = False
    no_progress: Annotated[bool, _parameter(commands.NO_PROGRESS)] = False
    color: Annotated[Literal["auto", "always", "never"], _parameter(commands.COLOR)] = "auto"


Options = Annotated[Globals, Parameter(name="*")]
DEFAULTS = Globals()

Here = Annotated[Terminal, Parameter(parse=False)]
"""The terminal, which `words` hands to every command."""

Names = Annotated[
    str, Parameter(name="NAME", completer=complete_names, help="Datasets; left out, all of them")
]
SomeNames = Annotated[
    str, Parameter(name="NAME", completer=complete_names, help="Datasets of the catalog")
]
Name = Annotated[
    str, Parameter(name="NAME", completer=complete_names, help="A dataset of the catalog")
]


def _flag(name: str, help_text: str, *, env: str | None) -> Parameter:
    return Parameter(name=name, help=help_text, env_var=env, show_default=False)


Json = Annotated[bool, _flag("--json", "Print one JSON document instead", env="DCL_JSON")]
DryRun = Annotated[
    bool, _flag("--dry-run", "Only say what would be done, and why", env="DCL_DRY_RUN")
]
Offline = Annotated[
    bool, _flag("--offline", "Never ask the network; use what is here", env="DCL_OFFLINE")
]
Refresh = Annotated[
    bool, _flag("--refresh", "Ask the source, however fresh the last check", env="DCL_REFRESH")
]
Force = Annotated[bool, _flag("--force", "Do it all the same", env=None)]
Jobs = Annotated[
    int | None,
    Parameter(
        name=("--jobs", "-j"),
        metavar="N",
        env_var="DCL_JOBS",
        help=f"Requests at once, 1 to {MAX_JOBS}; as many as pay if left out",
        validator=Number(gte=1, lte=MAX_JOBS),
    ),
]
AsOf = Annotated[
    str | None,
    Parameter(
        name="--as-of",
        metavar="TIME",
        env_var="DCL_AS_OF",
        help="The sources as they were then: 2024-12-10, 2024-12-10T09:30Z, 7 days",
    ),
]
VersionId = Annotated[
    str | None,
    Parameter(name="--version-id", metavar="ID", help="Exactly this version of a single object"),
]
Locked = Annotated[
    bool, _flag("--locked", "Fail if the lock does not fit the catalog", env="DCL_LOCKED")
]
Frozen = Annotated[
    bool, _flag("--frozen", "Use the lock as it is and resolve nothing", env="DCL_FROZEN")
]
NoLock = Annotated[bool, _flag("--no-lock", "Act as if there were no lock", env="DCL_NO_LOCK")]
