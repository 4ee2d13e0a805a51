"""The table of commands: what `dcl --help` shows and where each command lives.

Nothing here is imported until a command is run: `target` is `module:function`, and the
summaries are written here so that the root help needs no command module at all.
"""

from typing import NamedTuple


class Plain(NamedTuple):
    """What to call where no parser is needed: a function of names, flags and the terminal.

    `flags` are those that the command has besides everyone's, without values.
    """

    target: str
    flags: tuple[str, ...] = ()


class Command(NamedTuple):
    """One command: its words, where its function is, one line on it, and its section.

    `plain` reads its simplest lines: names, and flags without values.
    """

    name: str
    target: str
    summary: str
    section: str
    plain: Plain | None = None


_CATALOG = "Catalog"
_DATA = "Data"
_TIME = "Time and lock"
_CHECKS = "Checks"
_MACHINE = "This machine"

SECTIONS = (_DATA, _TIME, _CATALOG, _CHECKS, _MACHINE)
"""The sections of the root help, in its order."""

_HERE = "datacachalog.cli.commands"
_RUN_FLAGS = (
    *("--dry-run", "--refresh", "--offline", "--json"),
    *("--locked", "--frozen", "--no-lock"),
)

COMMANDS: tuple[Command, ...] = (
    Command(
        "sync",
        f"{_HERE}.sync:sync",
        "Bring datasets up to date on disk",
        _DATA,
        plain=Plain("datacachalog.cli.bringing:sync_plainly", _RUN_FLAGS),
    ),
    Command(
        "fetch",
        f"{_HERE}.sync:fetch",
        "Bring datasets up to date, print their paths",
        _DATA,
        plain=Plain("datacachalog.cli.bringing:fetch_plainly", ("--all", *_RUN_FLAGS)),
    ),
    Command("path", f"{_HERE}.sync:path", "Print where a fetched dataset lies", _DATA),
    Command("get", f"{_HERE}.sync:get", "Fetch a URI that no catalog names", _DATA),
    Command("push", f"{_HERE}.push:push", "Upload a file as a dataset's new content", _DATA),
    Command(
        "invalidate",
        f"{_HERE}.push:invalidate",
        "Drop datasets from the cache, so that they download anew",
        _DATA,
    ),
    Command(
        "invalidate-glob",
        f"{_HERE}.push:invalidate_glob",
        "Drop some files of a dataset from the cache",
        _DATA,
    ),
    Command("lock", f"{_HERE}.lock:lock", "Write down exactly which files there are", _TIME),
    Command("outdated", f"{_HERE}.lock:outdated", "Say what moved since the lock", _TIME),
    Command("diff", f"{_HERE}.diff:diff", "Show which files differ between two sides", _TIME),
    Command("versions", f"{_HERE}.lock:versions", "List what a dataset was, and when", _TIME),
    Command("init", f"{_HERE}.catalog:init", "Write a commented catalog.yaml here", _CATALOG),
    Command("add", f"{_HERE}.catalog:add", "Add a dataset to the catalog", _CATALOG),
    Command(
        "validate", "datacachalog.cli.showing:validate", "Check the catalog, offline", _CATALOG
    ),
    Command(
        "list",
        "datacachalog.cli.listing:list_datasets",
        "List the catalog's datasets",
        _CATALOG,
        plain=Plain("datacachalog.cli.entries:list_plainly"),
    ),
    Command("show", f"{_HERE}.check:show", "Show all about one dataset", _CATALOG),
    Command(
        "schema", "datacachalog.cli.showing:schema", "Print the catalog's JSON schema", _CATALOG
    ),
    Command("status", f"{_HERE}.status:status", "Compare what is here with the source", _CHECKS),
    Command("verify", f"{_HERE}.check:verify", "Hash the files here once more", _CHECKS),
    Command("doctor", f"{_HERE}.check:doctor", "Say what is in effect, and what is wrong", _CHECKS),
    Command("cache dir", f"{_HERE}.cache:directory", "Print the cache folder", _MACHINE),
    Command("cache stats", f"{_HERE}.cache:stats", "Count what the cache holds", _MACHINE),
    Command("cache prune", f"{_HERE}.cache:prune", "Remove what was not used lately", _MACHINE),
    Command("cache clear", f"{_HERE}.cache:clear", "Remove everything from the cache", _MACHINE),
    Command(
        "demo", f"{_HERE}.demo:demo", "Walk through it all, on an S3 server of its own", _MACHINE
    ),
    Command(
        "completion",
        "datacachalog.cli.completion:completion",
        "Print a shell's completion script",
        _MACHINE,
    ),
)


class Option(NamedTuple):
    """One global option: its spellings, its value's name, its `DCL_*` twin, and its help."""

    flags: tuple[str, ...]
    metavar: str | None
    env: str
    help: str


CATALOG = Option(
    ("--catalog", "-c"),
    "PATH|NAME",
    "DCL_CATALOG",
    "The catalog file, or the name of one in .datacachalog/catalogs",
)
QUIET = Option(("--quiet", "-q"), None, "DCL_QUIET", "Say nothing but errors")
VERBOSE = Option(
    ("--verbose", "-v"), None, "DCL_VERBOSE", "Say more; show the traceback of a defect"
)
NO_PROGRESS = Option(("--no-progress",), None, "DCL_NO_PROGRESS", "Draw no progress bars")
COLOR = Option(
    ("--color",), "WHEN", "DCL_COLOR", "auto, always or never; NO_COLOR and FORCE_COLOR count too"
)

GLOBAL_OPTIONS = (CATALOG, QUIET, VERBOSE, NO_PROGRESS, COLOR)
"""Options of every command, allowed before its name too."""

WITH_VALUE = frozenset(
    {
        *(flag for option in GLOBAL_OPTIONS if option.metavar for flag in option.flags),
        *("--jobs", "-j", "--as-of", "--version-id"),
    }
)
"""Options whose next word is their value, so that it is not taken for a command."""

GROUPS: dict[str, str] = {"cache": "Look at or empty the shared cache"}
"""The commands that only hold other commands, with their summaries."""
