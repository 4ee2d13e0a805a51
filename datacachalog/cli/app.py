"""From the words of a command line to a command: cyclopts parses, this decides around it.

Global options may stand before the command; `help` and unknown commands are handled here,
and what cyclopts complains of becomes a `UsageError`. cyclopts itself is imported when
a line is parsed that is not plain, never for the root help.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from datacachalog import __version__
from datacachalog.cli import plain
from datacachalog.cli.command_table import COMMANDS, GLOBAL_OPTIONS, GROUPS, SECTIONS, WITH_VALUE
from datacachalog.cli.console import DEFAULT_WIDTH, Terminal
from datacachalog.cli.manual import Formatter, Manual
from datacachalog.errors import DatacachalogError
from datacachalog.suggest import nearest

if TYPE_CHECKING:
    from cyclopts import App
    from cyclopts.exceptions import CycloptsError

    from datacachalog.cli.options import Globals

_NAMES = frozenset(command.name for command in COMMANDS)
_HELP = frozenset({"--help", "-h"})
_COMPLETE = "__complete"  # what the completion scripts of cyclopts call


class UsageError(DatacachalogError):
    """The command line cannot be understood."""


class Call(NamedTuple):
    """A parsed command line: what to call, with what, and what the terminal is told before."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    told: Mapping[str, Any]


def arrange(argv: Sequence[str]) -> list[str]:
    """Return the words with the command first.

    Without a command that is `[]`, and for a group without one it is `[group]`: then its
    help is wanted. Raises `UsageError` for a command that does not exist.

    >>> arrange(["-c", "core", "--json", "cache", "stats", "-q"])
    ['cache', 'stats', '-c', 'core', '--json', '-q']
    >>> arrange(["help", "cache"]), arrange(["--help"])
    (['cache'], [])
    """
    if list(argv[:1]) == [_COMPLETE]:
        return list(argv)
    before, rest = _split_at_command(argv)
    if rest[:1] == ["help"]:
        before, rest = [*before, "--help"], rest[1:]
    length = _command_length(rest) if rest else 0
    is_command = " ".join(rest[:length]) in _NAMES
    if not is_command:
        stray = [word for word in (*before, *rest[length:]) if word not in _HELP]
        if stray:
            raise UsageError(
                f"'{stray[0]}' without a command does nothing",
                hint=f"see `{' '.join(['dcl', *rest[:length], '--help'])}`",
            )
        return rest[:length]
    return [*rest[:length], *before, *rest[length:]]


def _split_at_command(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    i = 0
    while i < len(argv) and argv[i].startswith("-") and argv[i] != "--":
        i += 2 if argv[i] in WITH_VALUE else 1
    return list(argv[:i]), list(argv[i:])


def _command_length(words: Sequence[str]) -> int:
    """Return how many words name the command, or the group that stands without one."""
    first = words[0]
    if first in _NAMES:
        return 1
    if first not in GROUPS:
        known = {name.split(" ")[0] for name in _NAMES}
        raise _no_command(first, "dcl", known)
    second = next((word for word in words[1:2] if not word.startswith("-")), None)
    if second is None:
        return 1
    if f"{first} {second}" not in _NAMES:
        known = {name.split(" ")[1] for name in _NAMES if name.startswith(f"{first} ")}
        raise _no_command(second, f"dcl {first}", known)
    return 2


def _no_command(word: str, parent: str, known: set[str]) -> UsageError:
    meant = nearest(word, known)
    hint = f"did you mean `{parent} {meant}`?" if meant else f"see `{parent} --help`"
    return UsageError(f"`{parent}` has no command '{word}'", hint=hint)


def parse(words: Sequence[str], terminal: Terminal) -> Call:
    """Return the call that arranged words mean; raises `UsageError`."""
    line = plain.read(words, os.environ)
    if line is not None:
        return Call(_function(line.target), (line.names, line.flags, terminal), {}, line.told)
    from cyclopts.exceptions import CycloptsError

    app = build_app(terminal)
    wants_help = any(word in _HELP for word in words[: _end_of_options(words)])
    console = _help_console(terminal) if wants_help else None
    try:
        command, bound, ignored = app.parse_args(
            list(words),
            console=console,
            print_error=False,
            exit_on_error=False,
            help_on_error=False,
            verbose=False,
        )
    except CycloptsError as exc:
        raise _as_usage_error(exc, words) from exc
    injected = {} if wants_help else dict.fromkeys(ignored, terminal)
    return Call(command, bound.args, {**bound.kwargs, **injected}, _told(bound.kwargs))


def _function(target: str) -> Callable[..., int]:
    module, _, name = target.partition(":")
    found: Callable[..., int] = getattr(import_module(module), name)
    return found


def _told(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the options of every command mean to the terminal."""
    options: Globals | None = kwargs.get("options")
    if options is None:
        return {}
    return {
        "color": options.color,
        "quiet": options.quiet,
        "verbose": options.verbose,
        "progress": not options.no_progress,
    }


def _end_of_options(words: Sequence[str]) -> int:
    return words.index("--") if "--" in words else len(words)


def build_app(terminal: Terminal) -> "App":
    """Return the cyclopts application: every command by name, none of them imported."""
    from cyclopts import App, Group, Parameter

    def new_app(name: str, **more: Any) -> App:
        return App(
            name=name,
            help_flags=("--help", "-h"),
            version_flags=(),
            help_formatter=Formatter(terminal.out),
            help_format="plaintext",
            default_parameter=Parameter(negative=(), show_default=False),
            group_arguments=Group("Arguments", sort_key=1),
            group_parameters=Group("Options", sort_key=2),
            **more,
        )

    app = new_app("dcl", version=__version__)
    groups = {name: new_app(name, help=summary) for name, summary in GROUPS.items()}
    for group in groups.values():
        app.command(group)
    for command in COMMANDS:
        parent, _, name = command.name.rpartition(" ")
        (groups[parent] if parent else app).command(command.target, name=name)
    return app


def _help_console(terminal: Terminal) -> Any:
    # cyclopts hands it to the formatter, which writes to the terminal itself.
    from rich.console import Console

    return Console(file=terminal.out.file, width=terminal.out.width or DEFAULT_WIDTH)


# --- what cyclopts complains of -----------------------------------------------------


def _as_usage_error(exc: "CycloptsError", words: Sequence[str]) -> UsageError:
    """Return the complaint as one sentence with a hint, in this program's words."""
    from cyclopts import exceptions as theirs

    command = f"dcl {' '.join(words[: _command_length(words)])}"
    see = f"see `{command} --help`"
    if isinstance(exc, theirs.UnknownOptionError):
        word = (exc.token.keyword or exc.token.value).partition("=")[0]
        known = {name for argument in exc.argument_collection for name in argument.names}
        meant = nearest(word, known) if word.startswith("--") else None
        hint = f"did you mean `{meant}`?" if meant else see
        return UsageError(f"`{command}` has no option '{word}'", hint=hint)
    if isinstance(exc, theirs.MissingArgumentError) and exc.argument is not None:
        name = exc.keyword or exc.argument.name
        what = f"a value after `{name}`" if name.startswith("-") else name
        return UsageError(f"`{command}` needs {what}", hint=see)
    if isinstance(exc, theirs.UnusedCliTokensError) and exc.unused_tokens:
        return UsageError(f"`{command}` does not take '{exc.unused_tokens[0]}'", hint=see)
    if isinstance(exc, theirs.RepeatArgumentError):
        return UsageError(f"`{exc.token.keyword}` is given more than once", hint=see)
    sentence = str(exc).strip().rstrip(".")
    return UsageError(sentence[:1].lower() + sentence[1:], hint=see)


# --- the root help ------------------------------------------------------------------


def overview(words: Sequence[str], terminal: Terminal) -> list[str]:
    """Return the lines of `dcl --help` or of a group's; needs neither cyclopts nor rich."""
    manual = Manual(terminal.out, longest_term=_LONGEST_TERM)
    group = " ".join(words)
    manual.text(f"{GROUPS[group]}." if group else "Named, cached, reproducible data.")
    manual.usage(" ".join(["dcl", *words, "COMMAND [OPTIONS] [ARGS]"]))
    for section in SECTIONS:
        entries = [
            (command.name, command.summary)
            for command in COMMANDS
            if command.section == section and command.name.startswith(f"{group} ".lstrip())
        ]
        if entries:
            manual.section("Commands" if group else section, entries)
    manual.section("Options of every command, before or after it", _GLOBAL_ENTRIES)
    manual.text(_EPILOGUE)
    return manual.lines[:-1]


_GLOBAL_ENTRIES = (
    *(
        (f"{', '.join(option.flags)} {option.metavar or ''}".rstrip(), option.help, option.env)
        for option in GLOBAL_OPTIONS
    ),
    ("--help, -h", "Show this, or the help of a command"),
    ("--version, -V", "Show the version"),
)
_LONGEST_TERM = max(len(term) for term, *_ in _GLOBAL_ENTRIES)
_EPILOGUE = (
    "Exit codes: 0 done, 1 some dataset failed, 2 the command line or the catalog is wrong, "
    "3 a check says no, 130 interrupted."
)
