"""The command line itself: words in, an exit code out.

`run` is the one way in. cyclopts parses and lays out help; a command's module is imported when
the command is run. Every error ends here, as words and an exit code.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial, reduce
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TextIO

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts import exceptions as parsing

from datacachalog.cli.console import Terminal
from datacachalog.errors import (
    CatalogError,
    DatacachalogError,
    InvalidCatalogError,
    PartialFailureError,
    UnsupportedSchemeError,
)
from datacachalog.suggest import nearest

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel, InlineText
    from rich.console import Console, ConsoleOptions


class Exit(IntEnum):
    """The exit codes of `dcl`, which scripts rely on."""

    DONE = 0
    """Everything asked for is done."""

    FAILED = 1
    """Some dataset failed, the others are done; or `dcl` itself has a defect."""

    USAGE = 2
    """The command line, the catalog or the lock is wrong; nothing was done."""

    VERDICT = 3
    """A check ran and its answer is no: `status --check`, `outdated`, `verify`, …"""

    INTERRUPTED = 130
    """Ctrl-C: 128 + SIGINT, as shells report it."""


class UsageError(DatacachalogError):
    """The command line cannot be understood."""


# --- the commands -------------------------------------------------------------------


class Command(NamedTuple):
    """One command: its words, its `module:function` in this package, and one line on it."""

    name: str
    target: str
    summary: str


SECTIONS = {
    "Data": (
        Command("sync", "commands.sync:sync", "Bring datasets up to date on disk"),
        Command("fetch", "commands.sync:fetch", "Bring datasets up to date, print their paths"),
        Command("path", "commands.sync:path", "Print where a fetched dataset lies"),
        Command("get", "commands.sync:get", "Fetch a URI that no catalog names"),
        Command("push", "commands.push:push", "Upload a file as a dataset's new content"),
        Command(
            "invalidate",
            "commands.cache:invalidate",
            "Drop datasets from the cache, so that they download anew",
        ),
        Command(
            "invalidate-glob",
            "commands.cache:invalidate_glob",
            "Drop some files of a dataset from the cache",
        ),
    ),
    "Time and lock": (
        Command("lock", "commands.lock:lock", "Write down exactly which files there are"),
        Command("outdated", "commands.lock:outdated", "Say what moved since the lock"),
        Command("diff", "commands.diff:diff", "Show which files differ between two sides"),
        Command("versions", "commands.lock:versions", "List what a dataset was, and when"),
    ),
    "Catalog": (
        Command("init", "commands.catalog:init", "Write a commented catalog.yaml here"),
        Command("add", "commands.catalog:add", "Add a dataset to the catalog"),
        Command("validate", "commands.catalog:validate", "Check the catalog, offline"),
        Command("list", "commands.catalog:list_datasets", "List the catalog's datasets"),
        Command("show", "commands.status:show", "Show all about one dataset"),
        Command("schema", "commands.catalog:schema", "Print the catalog's JSON schema"),
    ),
    "Checks": (
        Command("status", "commands.status:status", "Compare what is here with the source"),
        Command("verify", "commands.check:verify", "Hash the files here once more"),
        Command("doctor", "commands.check:doctor", "Say what is in effect, and what is wrong"),
    ),
    "This machine": (
        Command("cache dir", "commands.cache:directory", "Print the cache folder"),
        Command("cache stats", "commands.cache:stats", "Count what the cache holds"),
        Command("cache prune", "commands.cache:prune", "Remove what was not used lately"),
        Command("cache clear", "commands.cache:clear", "Remove everything from the cache"),
        Command("demo", "commands.demo:demo", "Walk through it all, on an S3 server of its own"),
        Command("completion", "completion:completion", "Print a shell's completion script"),
    ),
}
"""All commands, by the sections of `dcl --help`, which shows the summaries and imports nothing."""

COMMANDS = tuple(command for commands in SECTIONS.values() for command in commands)

GROUPS = {"cache": "Look at or empty the shared cache"}
"""The commands that only hold other commands, with their summaries."""


# --- what every command takes -------------------------------------------------------


def option(*names: str, help: str, env: str | None = None, **more: Any) -> Parameter:  # noqa: A002
    """Return how cyclopts reads an option; `env` is its twin in the environment."""
    return Parameter(name=names, help=help, env_var=env, **more)


_GLOBAL = Group("Options of every command, before or after it", sort_key=9)
_global_option = partial(option, group=_GLOBAL)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalOptions:
    """What every command can be told, before its name too."""

    catalog: Annotated[
        str | None,
        _global_option(
            "--catalog",
            "-c",
            metavar="PATH|NAME",
            help="The catalog file, or the name of one in .datacachalog/catalogs",
            env="DCL_CATALOG",
        ),
    ] = None
    quiet: Annotated[
        bool, _global_option("--quiet", "-q", help="Say nothing but errors", env="DCL_QUIET")
    ] = False
    verbose: Annotated[
        bool,
        _global_option(
            "--verbose",
            "-v",
            help="Say more; show the traceback of a defect",
            env="DCL_VERBOSE",
        ),
    ] = False
    no_progress: Annotated[
        bool,
        _global_option("--no-progress", help="Draw no progress bars", env="DCL_NO_PROGRESS"),
    ] = False
    color: Annotated[
        Literal["auto", "always", "never"],
        _global_option(
            "--color",
            metavar="WHEN",
            help="auto, always or never; NO_COLOR and FORCE_COLOR count too",
            env="DCL_COLOR",
        ),
    ] = "auto"


Here = Annotated[Terminal, Parameter(parse=False)]
"""The terminal, which every command is given."""

_WITH_VALUE = {"--catalog", "-c", "--color", "--jobs", "-j", "--as-of", "--version-id"}
"""Options before a command's name whose next word is their value, and not the command."""

_HELP = ("--help", "-h")
_PACKAGE = "datacachalog.cli."


def _new_app(
    name: str, *, least_column: int = 0, version_flags: tuple[str, ...] = (), **more: Any
) -> App:
    return App(
        name=name,
        help_flags=_HELP,
        help_format="plaintext",
        default_parameter=Parameter(negative=(), show_default=False),
        group_arguments=Group("Arguments", sort_key=1),
        group_parameters=Group("Options", sort_key=2),
        help_formatter=HelpFormatter(least_column),
        version_flags=version_flags,
        **more,
    )


def build_app() -> App:
    """Return the cyclopts application: every command by name, none of them imported."""
    app = _new_app("dcl")
    groups = {name: _new_app(name, help=summary) for name, summary in GROUPS.items()}
    for group in groups.values():
        app.command(group)
    for command in COMMANDS:
        parent, _, name = command.name.rpartition(" ")
        (groups[parent] if parent else app).command(_PACKAGE + command.target, name=name)
    return app


# --- from words to an exit code -----------------------------------------------------


def run(argv: Sequence[str], stdout: TextIO, stderr: TextIO) -> int:
    """Run one command line and return its exit code.

    Reads the process's environment and working directory; writes to the given streams
    only. Never raises: what is not an error of this package is a defect, shown in one
    line (with `-v`, its traceback), and counts as failed.
    """
    terminal = Terminal(stdout, stderr, os.environ)
    terminal.verbose = bool({"-v", "--verbose"}.intersection(argv))
    try:
        code = _answer(argv, terminal)
        terminal.flush()
    except BrokenPipeError:
        # The reader has what it wanted (`| head`). Python would complain once more at exit.
        _silence(stdout)
        return Exit.DONE
    except OSError as exc:
        # A full disk can surface only when the output is flushed.
        _silence(stdout)
        return _show_system_error(exc, terminal)
    return code


def _answer(argv: Sequence[str], terminal: Terminal) -> int:
    """Run the command and turn whatever stops it into words and a code."""
    try:
        return _dispatch(argv, terminal)
    except KeyboardInterrupt:
        terminal.error("interrupted")
        return Exit.INTERRUPTED
    except DatacachalogError as exc:
        return _show_error(exc, terminal)
    except BrokenPipeError:
        raise
    except OSError as exc:
        return _show_system_error(exc, terminal)
    except Exception as exc:  # noqa: BLE001  # a defect must not look like a crash
        if terminal.verbose:
            import traceback

            terminal.err.line(traceback.format_exc().rstrip())
        terminal.error(
            f"internal error: {type(exc).__name__}: {exc}",
            "run it again with `-v` for the traceback, and please report it",
        )
        return Exit.FAILED


def _dispatch(argv: Sequence[str], terminal: Terminal) -> int:
    words = arrange(argv)
    command = _command_words(words)
    options = words[len(command) :]
    if not command or " ".join(command) in GROUPS:
        stray = [word for word in options if word not in _HELP]
        if stray:
            raise _stray_option(stray[0], command)
        _show_overview(command, terminal)
        return Exit.DONE
    asks_help = any(word in _HELP for word in takewhile(lambda word: word != "--", options))
    if asks_help and " ".join(command) in {known.name for known in COMMANDS}:
        _show_help(command, terminal)
        return Exit.DONE
    call = _parse(words, terminal)
    code: int | None = call()
    return Exit.DONE if code is None else code


def arrange(argv: Sequence[str]) -> list[str]:
    """Return the words with the command first, and options that stood before it behind its name.

    >>> arrange(["-c", "core", "--json", "cache", "stats", "-q"])
    ['cache', 'stats', '-c', 'core', '--json', '-q']
    >>> arrange(["help", "cache"])
    ['cache', '--help']
    """
    i = 0
    while i < len(argv) and argv[i].startswith("-") and argv[i] != "--":
        i += 2 if argv[i] in _WITH_VALUE else 1
    before, rest = list(argv[:i]), list(argv[i:])
    if rest[:1] == ["help"]:
        before, rest = [*before, "--help"], rest[1:]
    command = _command_words(rest)
    return [*command, *before, *rest[len(command) :]]


def _command_words(words: Sequence[str]) -> list[str]:
    """Return the words that name the command, whether there is one of that name or not."""
    length = 2 if words and words[0] in GROUPS else 1
    return list(takewhile(lambda word: not word.startswith("-"), words[:length]))


def _parse(words: Sequence[str], terminal: Terminal) -> Callable[[], int | None]:
    """Return the call that arranged words mean, and tell the terminal the global options."""
    try:
        command, bound, unparsed = build_app().parse_args(
            list(words), print_error=False, exit_on_error=False
        )
    except CycloptsError as exc:
        raise _as_usage_error(exc) from exc
    options: GlobalOptions | None = bound.kwargs.get("options")
    if options is not None:
        terminal.configure(
            color=options.color,
            quiet=options.quiet,
            verbose=options.verbose,
            progress=not options.no_progress,
        )
    return lambda: command(*bound.args, **bound.kwargs, **dict.fromkeys(unparsed, terminal))


def _as_usage_error(exc: CycloptsError) -> UsageError:
    """Return what cyclopts complains of as one sentence with a hint, in this program's words."""
    command = " ".join(["dcl", *(exc.command_chain or ())])
    see = f"see `{command} --help`"
    if isinstance(exc, parsing.UnknownCommandError) and exc.unused_tokens:
        word = exc.unused_tokens[0]
        meant = nearest(word, (name for name in exc.app or () if not name.startswith("-")))
        hint = f"did you mean `{command} {meant}`?" if meant else see
        return UsageError(f"`{command}` has no command '{word}'", hint=hint)
    if isinstance(exc, parsing.UnknownOptionError):
        word = (exc.token.keyword or exc.token.value).partition("=")[0]
        known = {name for argument in exc.argument_collection for name in argument.names}
        meant = nearest(word, known) if word.startswith("--") else None
        hint = f"did you mean `{meant}`?" if meant else see
        return UsageError(f"`{command}` has no option '{word}'", hint=hint)
    if isinstance(exc, parsing.MissingArgumentError) and exc.argument is not None:
        name = exc.keyword or exc.argument.name
        what = f"a value after `{name}`" if name.startswith("-") else name
        return UsageError(f"`{command}` needs {what}", hint=see)
    if isinstance(exc, parsing.UnusedCliTokensError) and exc.unused_tokens:
        return UsageError(f"`{command}` does not take '{exc.unused_tokens[0]}'", hint=see)
    if isinstance(exc, parsing.RepeatArgumentError):
        return UsageError(f"`{exc.token.keyword}` is given more than once", hint=see)
    sentence = str(exc).strip().rstrip(".")
    return UsageError(sentence[:1].lower() + sentence[1:], hint=see)


def _stray_option(word: str, command: Sequence[str]) -> UsageError:
    hint = f"see `{' '.join(['dcl', *command, '--help'])}`"
    return UsageError(f"'{word}' without a command does nothing", hint=hint)


def _show_error(error: DatacachalogError, terminal: Terminal) -> int:
    """Show an error that stopped a command; return the exit code of its class."""
    if isinstance(error, InvalidCatalogError):
        terminal.problems(error.problems)
    elif isinstance(error, PartialFailureError):
        show_errors(error.errors, terminal)
    else:
        terminal.error(str(error), error.hint)
    wrong_input = UsageError, CatalogError, UnsupportedSchemeError
    return Exit.USAGE if isinstance(error, wrong_input) else Exit.FAILED


def show_errors(errors: Mapping[str, DatacachalogError], terminal: Terminal) -> None:
    """Show why each of some datasets failed."""
    for name, error in errors.items():
        terminal.error(f"{name}: {error}", error.hint)


def _show_system_error(error: OSError, terminal: Terminal) -> int:
    place = f": '{error.filename}'" if error.filename else ""
    terminal.error(f"{error.strerror or error}{place}")
    return Exit.FAILED


def _silence(stream: TextIO) -> None:
    try:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, stream.fileno())
        os.close(devnull)
    except (OSError, ValueError):
        # Not a stream of the process (a test's, say): nothing is written at its end.
        return


# --- help ---------------------------------------------------------------------------

_WIDEST = 100
_NO_BREAK = "\ue000"  # a blank where rich must not wrap, which takes `\xa0` for any other
_EPILOGUE = (
    "Exit codes: 0 done, 1 some dataset failed, 2 the command line or the catalog is wrong, "
    "3 a check says no, 130 interrupted."
)


def _show_overview(command: Sequence[str], terminal: Terminal) -> None:
    """Show the help of `dcl` or of a group, for which no command is imported."""
    group = " ".join(command)
    app = _new_app(
        "dcl",
        help=f"{GROUPS[group]}." if group else "Named, cached, reproducible data.",
        usage=" ".join(["dcl", *command, "COMMAND [OPTIONS] [ARGS]"]),
        help_epilogue=_EPILOGUE,
        least_column=24,
        version_flags=("--version", "-V"),
    )
    for i, (section, commands) in enumerate(SECTIONS.items()):
        title = None if group else Group(section, sort_key=i)
        for number, (name, target, summary) in enumerate(commands):
            if name.startswith(f"{group} ".lstrip()):
                app.command(
                    _PACKAGE + target, name=name, help=summary, group=title, sort_key=number
                )
    app["--help"].help, app["--help"].group = "Show this, or the help of a command", _GLOBAL
    app["--version"].help, app["--version"].group = "Show the version", _GLOBAL
    app.default(_take_global_options)
    _print_help(app, [], terminal)


def _take_global_options(*, options: GlobalOptions = GlobalOptions()) -> None:
    """Stand for what every command takes."""


def _show_help(command: Sequence[str], terminal: Terminal) -> None:
    """Show a command's help, its usage with the names of its arguments, not `[ARGS...]`."""
    app = build_app()
    target = reduce(lambda parent, name: parent[name], command, app)
    usage = ["dcl", *command, "[OPTIONS]"]
    for argument in target.assemble_argument_collection():
        kind = argument.field_info.kind
        if argument.show and argument.field_info.is_positional:
            name = f"{argument.name}{'...' if kind is kind.VAR_POSITIONAL else ''}"
            usage.append(name if argument.required else f"[{name}]")
    target.usage = " ".join(usage)
    _print_help(app, command, terminal)


def _print_help(app: App, words: Sequence[str], terminal: Terminal) -> None:
    console = terminal.out.console
    console.width = min(terminal.out.width or _WIDEST, _WIDEST)
    with console.capture() as capture:
        app.help_print(list(words), console=console)
    # A table fills its columns with blanks, also at the end of a line.
    text = capture.get().replace(_NO_BREAK, " ").rstrip()
    terminal.data(line.rstrip() for line in text.splitlines())


class HelpFormatter:
    """Lays out help for cyclopts: titled lists of terms, without boxes, as fit for a pipe.

    A column of terms gets at least `least_column` cells, so that several lists align.
    """

    def __init__(self, least_column: int) -> None:
        self._least_column = least_column

    # The protocol names its parameters, `options` among them.
    # ruff: noqa: ARG002

    def render_usage(self, console: "Console", options: "ConsoleOptions", usage: str) -> None:
        """Show the usage line."""
        from rich.text import Text

        console.print(Text.assemble(("Usage:", "bold"), f" {usage.strip()}"))

    def render_description(
        self, console: "Console", options: "ConsoleOptions", description: "InlineText"
    ) -> None:
        """Show the command's docstring: paragraphs are filled, indented lines stay as they are."""
        for paragraph in str(description.primary_renderable).strip().split("\n\n"):
            console.print()
            if paragraph.startswith(" "):
                console.print(paragraph, soft_wrap=True)
            else:
                console.print(" ".join(paragraph.split()))

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        """Show one list of arguments, options or commands."""
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="cyan", no_wrap=True, min_width=self._least_column)
        table.add_column()
        for entry in panel.entries:
            table.add_row(", ".join(entry.display_labels_with_metavar), _explanation(entry))
        if panel.entries:
            console.print()
            console.print(Text(f"{panel.title}:", "bold"))
            console.print(Padding(table, (0, 0, 0, 2)))


def _explanation(entry: "HelpEntry") -> str:
    twins = "".join(f" [env:{_NO_BREAK}{name}]" for name in entry.env_var or ())
    return f"{entry.description.primary_renderable}{twins}"
