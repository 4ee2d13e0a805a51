"""The options that several commands share, as annotations and dataclasses that cyclopts reads.

Most have a `DCL_*` twin in the environment; the command line stands above it.
"""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from datacachalog.cli.app import UsageError, option
from datacachalog.cli.completion import complete_names
from datacachalog.settings import MAX_JOBS

Names = Annotated[
    str, Parameter(name="NAME", completer=complete_names, help="Datasets; left out, all of them")
]
SomeNames = Annotated[
    str, Parameter(name="NAME", completer=complete_names, help="Datasets of the catalog")
]
Name = Annotated[
    str, Parameter(name="NAME", completer=complete_names, help="A dataset of the catalog")
]
Json = Annotated[bool, option("--json", help="Print one JSON document instead", env="DCL_JSON")]
Offline = Annotated[
    bool,
    option("--offline", help="Never ask the network; use what is here", env="DCL_OFFLINE"),
]
Jobs = Annotated[
    int | None,
    option(
        "--jobs",
        "-j",
        metavar="N",
        help=f"Requests at once, 1 to {MAX_JOBS}; as many as pay if left out",
        env="DCL_JOBS",
        validator=Number(gte=1, lte=MAX_JOBS),
    ),
]
AsOf = Annotated[
    str | None,
    option(
        "--as-of",
        metavar="TIME",
        help="The sources as they were then: 2024-12-10, 2024-12-10T09:30Z, 7 days",
        env="DCL_AS_OF",
    ),
]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class StatusOptions:
    """How datasets are compared with their sources, and what the lock means to that."""

    refresh: Annotated[
        bool,
        option("--refresh", help="Ask the source, however fresh the last check", env="DCL_REFRESH"),
    ] = False
    offline: Offline = False
    as_of: AsOf = None
    locked: Annotated[
        bool, option("--locked", help="Fail if the lock does not fit the catalog", env="DCL_LOCKED")
    ] = False
    frozen: Annotated[
        bool, option("--frozen", help="Use the lock as it is and resolve nothing", env="DCL_FROZEN")
    ] = False
    no_lock: Annotated[
        bool, option("--no-lock", help="Act as if there were no lock", env="DCL_NO_LOCK")
    ] = False
    jobs: Jobs = None
    json: Json = False

    @property
    def lock_mode(self) -> str:
        """Return what the lock means to a run, as `load_catalog` takes it.

        The three options exclude each other.
        """
        modes = {"locked": self.locked, "frozen": self.frozen, "no-lock": self.no_lock}
        chosen = [name for name, is_given in modes.items() if is_given]
        if len(chosen) > 1:
            raise UsageError(f"`--{chosen[0]}` and `--{chosen[1]}` exclude each other")
        return {"no-lock": "ignore"}.get(chosen[0], chosen[0]) if chosen else "obey"


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadOptions(StatusOptions):
    """How datasets are brought up to date: what `sync` and `fetch` take alike."""

    version_id: Annotated[
        str | None,
        option("--version-id", metavar="ID", help="Exactly this version of a single object"),
    ] = None
    dry_run: Annotated[
        bool, option("--dry-run", help="Only say what would be done, and why", env="DCL_DRY_RUN")
    ] = False
