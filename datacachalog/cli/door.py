"""The one door: every command comes in here, and every error goes out here.

`run` turns words into a command, the command's answer or error into an exit code, and
nothing else in the command line catches what it cannot handle.
"""

import os
from collections.abc import Sequence
from typing import TextIO

from datacachalog.cli import exits
from datacachalog.cli.app import UsageError, arrange, overview, parse
from datacachalog.cli.command_table import GROUPS
from datacachalog.cli.console import Terminal
from datacachalog.errors import (
    CatalogError,
    DatacachalogError,
    InvalidCatalogError,
    PartialFailureError,
    UnsupportedSchemeError,
)

_REPORT_AT = "run it again with `-v` for the traceback, and please report it"


def run(argv: Sequence[str], stdout: TextIO, stderr: TextIO) -> int:
    """Run one command line and return its exit code; see `exits` for what it means.

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
        return exits.DONE
    except OSError as exc:
        # A full disk can surface only when the output is flushed.
        _silence(stdout)
        return _complain_of_system(exc, terminal)
    return code


def _answer(argv: Sequence[str], terminal: Terminal) -> int:
    """Run the command and turn whatever stops it into words and a code."""
    try:
        return _dispatch(argv, terminal)
    except KeyboardInterrupt:
        terminal.error("interrupted")
        return exits.INTERRUPTED
    except DatacachalogError as exc:
        return _complain(exc, terminal)
    except BrokenPipeError:
        raise
    except OSError as exc:
        return _complain_of_system(exc, terminal)
    except Exception as exc:  # noqa: BLE001  # the door: a defect must not look like a crash
        if terminal.verbose:
            import traceback

            terminal.err.line(traceback.format_exc().rstrip())
        terminal.error(f"internal error: {type(exc).__name__}: {exc}", _REPORT_AT)
        return exits.FAILED


def _dispatch(argv: Sequence[str], terminal: Terminal) -> int:
    words = arrange(argv)
    if not words or (len(words) == 1 and words[0] in GROUPS):
        terminal.data(overview(words, terminal))
        return exits.DONE
    call = parse(words, terminal)
    if call.told:
        terminal.configure(**call.told)
    code: int | None = call.function(*call.args, **call.kwargs)
    return exits.DONE if code is None else code


def _complain(error: DatacachalogError, terminal: Terminal) -> int:
    """Show an error that stopped a command; return the exit code of its class."""
    if isinstance(error, InvalidCatalogError):
        terminal.problems(error.problems)
    elif isinstance(error, PartialFailureError):
        for name, cause in error.errors.items():
            terminal.error(f"{name}: {cause}", cause.hint)
    else:
        terminal.error(str(error), error.hint)
    wrong_input = UsageError, CatalogError, UnsupportedSchemeError
    return exits.USAGE if isinstance(error, wrong_input) else exits.FAILED


def _complain_of_system(error: OSError, terminal: Terminal) -> int:
    place = f": '{error.filename}'" if error.filename else ""
    terminal.error(f"{error.strerror or error}{place}")
    return exits.FAILED


def _silence(stream: TextIO) -> None:
    try:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, stream.fileno())
        os.close(devnull)
    except (OSError, ValueError):
        # Not a stream of the process (a test's, say): nothing is written at its end.
        return
