"""Command lines that need no parser: a command, names, and flags without values.

The parser takes longer to load than a small sync takes. What is not plain beyond doubt (an
option with a value, a flag twice, a variable `DCL_*`) is left to it; where both can read a
line, they read the same, which a test holds. Used by `words`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from datacachalog.cli.command_table import COMMANDS, NO_PROGRESS, QUIET, VERBOSE

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_NO_TWINS = frozenset({"DCL_CACHE_DIR"})  # variables that stand for no option
_PLAIN = {command.name: command.plain for command in COMMANDS if command.plain is not None}
_SHARED = {
    flag: option.flags[0].removeprefix("--").removeprefix("no-")
    for option in (QUIET, VERBOSE, NO_PROGRESS)
    for flag in option.flags
}
"""Flags of every command, and what each is called at the terminal."""


class PlainLine(NamedTuple):
    """A plain command line: `target` is `module:function`, as in the table of commands.

    `told` is what the terminal must know.
    """

    target: str
    names: tuple[str, ...]
    flags: frozenset[str]
    told: Mapping[str, bool]


def read(words: Sequence[str], environ: Mapping[str, str]) -> PlainLine | None:
    """Return what arranged words mean, or None if only the parser can tell.

    >>> read(["sync", "orders", "--frozen", "-q"], {})[1:]
    (('orders',), frozenset({'--frozen'}), {'quiet': True})
    >>> read(["sync", "--jobs", "4"], {}), read(["sync"], {"DCL_JOBS": "4"})
    (None, None)
    """
    command = _PLAIN.get(words[0])
    if command is None or any(v[:4] == "DCL_" and v not in _NO_TWINS for v in environ):
        return None
    names: list[str] = []
    flags: set[str] = set()
    told: dict[str, bool] = {}
    for word in words[1:]:
        shared = _SHARED.get(word)
        if word in flags or shared in told:
            return None
        if shared is not None:
            told[shared] = shared != "progress"
        elif word in command.flags:
            flags.add(word)
        elif _NAME.fullmatch(word):
            names.append(word)
        else:
            return None
    return PlainLine(command.target, tuple(names), frozenset(flags), told)
