"""The two streams of a command, and how it speaks on them.

Data goes to `out`, everything else to `err`. Whether a stream is a terminal, how wide it
is and whether it has colours is decided here, once per run. Nothing written here can
fail for want of an encoding: what it lacks appears escaped.
"""

import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from datacachalog.cli.visible import visible
from datacachalog.errors import Problem

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_CODE = re.compile(r"`([^`]+)`")

DEFAULT_WIDTH = 80


class Stream:
    """One text stream: `width` is in cells, None where no terminal cuts lines short."""

    def __init__(self, file: TextIO, environ: Mapping[str, str], color: str = "auto") -> None:
        self.file = file
        self.is_terminal = file.isatty()
        dumb = environ.get("TERM") == "dumb"
        self.is_live = self.is_terminal and not dumb and environ.get("CI", "") in _OFF
        self.has_color = _has_color(color, environ, default=self.is_terminal and not dumb)
        self._columns = environ.get("COLUMNS", "")
        self.width = self.measure() if self.is_terminal else None
        self._held: list[str] | None = None
        if isinstance(file, io.TextIOWrapper):
            # UTF-8 has no lone surrogates and ASCII has next to nothing: neither may crash us.
            file.reconfigure(errors="backslashreplace")

    def line(self, text: str = "") -> None:
        """Write one line; the text is the caller's own or passed `visible` already."""
        self.write(f"{text}\n")

    def write(self, text: str) -> None:
        """Write text as it is."""
        if self._held is None:
            self.file.write(text)
        else:
            self._held.append(text)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Write all that the body writes in one go, so that a redrawn screen does not flicker."""
        held: list[str] = []
        self._held = held
        try:
            yield
        finally:
            self._held = None
            self.file.write("".join(held))
            self.file.flush()

    def measure(self) -> int:
        """Return the terminal's width in cells as it is now."""
        if self._columns.isdigit() and int(self._columns) > 0:
            return int(self._columns)
        try:
            return os.get_terminal_size(self.file.fileno()).columns or DEFAULT_WIDTH
        except (OSError, ValueError):
            return DEFAULT_WIDTH

    def path(self, path: str | os.PathLike[str]) -> None:
        """Write a path as a line: for a program exactly its bytes, for a person `visible`."""
        text = os.fspath(path)
        buffer = getattr(self.file, "buffer", None)
        if self.is_terminal:
            self.line(visible(text))
        elif buffer is None:
            self.line(text)
        else:
            self.file.flush()
            buffer.write(os.fsencode(text) + b"\n")

    def paint(self, text: str, style: str) -> str:
        """Return `text` in a style (`bold`, `dim`, a colour, or several by spaces)."""
        if not self.has_color or not text:
            return text
        codes = ";".join(_STYLES[name] for name in style.split())
        return f"\x1b[{codes}m{text}\x1b[0m"


class Terminal:
    """What a command speaks through: data, notes for the person, warnings and errors."""

    def __init__(self, stdout: TextIO, stderr: TextIO, environ: Mapping[str, str]) -> None:
        self._files = stdout, stderr
        self._environ = environ
        self.verbose = False
        self.configure()

    def configure(
        self,
        *,
        color: str = "auto",
        quiet: bool = False,
        verbose: bool = False,
        progress: bool = True,
    ) -> None:
        """Apply the global options; until then, their defaults hold."""
        stdout, stderr = self._files
        self.out = Stream(stdout, self._environ, color)
        self.err = Stream(stderr, self._environ, color)
        self.quiet = quiet
        self.verbose = verbose
        self.progress = progress and not quiet

    def data(self, lines: Iterable[str]) -> None:
        """Write lines of data to standard output."""
        for line in lines:
            self.out.line(line)

    def document(self, kind: str, body: Mapping[str, Any]) -> None:
        """Write one JSON document; it is ASCII, so that no terminal can be harmed by it."""
        text = json.dumps({"schema_version": 1, "kind": kind, **body}, indent=2)
        self.out.line(text)

    def note(self, text: str) -> None:
        """Tell the person something, unless `--quiet`."""
        if not self.quiet:
            self.err.line(self._with_code(visible(text)))

    def warn(self, message: str, hint: str | None = None) -> None:
        """Tell the person what they should know, unless `--quiet`."""
        if not self.quiet:
            self._tell("warning", "bold yellow", message, hint)

    def error(self, message: str, hint: str | None = None) -> None:
        """Say what went wrong and what to do; `--quiet` does not silence it."""
        self._tell("error", "bold red", message, hint)

    def problems(self, problems: Iterable[Problem]) -> None:
        """Show everything that is wrong with a file, each with its place and its hint."""
        for problem in problems:
            message = visible(problem.message)
            place = visible(str(problem)).removesuffix(message)
            self.err.line(self.err.paint(place, "bold") + self._with_code(message))
            if problem.hint:
                self._hint(problem.hint, indent="  ")

    def _hint(self, hint: str, indent: str = "") -> None:
        label = self.err.paint("hint:", "bold cyan")
        self.err.line(f"{indent}{label} {self._with_code(visible(hint))}")

    def flush(self) -> None:
        """Write out what both streams still hold; `BrokenPipeError` if nobody reads."""
        for file in self._files:
            file.flush()

    def _tell(self, label: str, style: str, message: str, hint: str | None) -> None:
        self.err.line(f"{self.err.paint(f'{label}:', style)} {self._with_code(visible(message))}")
        if hint:
            self._hint(hint)

    def _with_code(self, text: str) -> str:
        if not self.err.has_color:
            return text
        return _CODE.sub(lambda match: self.err.paint(f"`{match[1]}`", "bold"), text)


_OFF = frozenset({"", "0", "false", "no", "off"})


def _has_color(choice: str, environ: Mapping[str, str], *, default: bool) -> bool:
    """Decide on colours: the option, then NO_COLOR, then FORCE_COLOR, then the terminal."""
    if choice != "auto":
        return choice == "always"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR", "") not in _OFF:
        return True
    return default
