"""The two streams of a command, and how text and tables look on them.

Data goes to `out`, everything else to `err`. What a stream can show is decided once per run.
All that comes from outside (keys, names, paths, messages) passes through `visible` before a
person sees it, and nothing fails for want of an encoding: what it lacks appears escaped.
"""

import io
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from datacachalog.errors import Problem

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT_WIDTH = 80
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_CODE = re.compile(r"`([^`]+)`")
_WORD = re.compile(r"([^ /]*/?)( ?)")
_OFF = frozenset({"", "0", "false", "no", "off"})
_GAP = "  "


def visible(text: str) -> str:
    r"""Return `text` with every character that does not print written as its escape.

    Control characters (ESC and C1 among them), line breaks, bidirectional marks, other
    invisible characters, odd spaces and lone surrogates become `\n`, `\x1b`, `\u202e`, ...
    Printable text of any script stays as it is, so the result is one line of known width.

    >>> visible("plain, größe, 数据")
    'plain, größe, 数据'
    >>> print(visible("red\x1b[31m\nnext"))
    red\x1b[31m\nnext
    """
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable()
        else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )


def plural(count: int, noun: str) -> str:
    """Return the count with its noun.

    >>> plural(1, "file"), plural(1203, "file")
    ('1 file', '1,203 files')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shown_path(path: Path) -> str:
    """Return the path as a person would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


class Stream:
    """One text stream: `width` is in cells, None where no terminal ends lines."""

    def __init__(self, file: TextIO, environ: Mapping[str, str], color: str = "auto") -> None:
        self.file = file
        self.is_terminal = file.isatty()
        is_dumb = environ.get("TERM") == "dumb"
        self.is_live = self.is_terminal and not is_dumb and environ.get("CI", "") in _OFF
        self.has_color = _has_color(color, environ, default=self.is_terminal and not is_dumb)
        columns = environ.get("COLUMNS", "")
        self._columns = int(columns) if columns.isdigit() and int(columns) else None
        self.width = (self._columns or _measure(file)) if self.is_terminal else None
        self._console: Console | None = None
        if isinstance(file, io.TextIOWrapper):
            # UTF-8 has no lone surrogates and ASCII has next to nothing: neither may crash us.
            file.reconfigure(errors="backslashreplace")

    @property
    def console(self) -> "Console":
        """Return the one rich console of this stream; from then on, all lines go through it."""
        if self._console is None:
            from rich.console import Console

            self._console = Console(
                file=self.file,
                force_terminal=self.is_terminal,
                color_system="standard" if self.has_color else None,
                no_color=not self.has_color,
                width=self._columns,
                highlight=False,
                markup=False,
                emoji=False,
            )
        return self._console

    def line(self, text: str = "") -> None:
        """Write one line; the text is the caller's own or passed `visible` already."""
        if self._console is None:
            self.file.write(f"{text}\n")
        else:  # it may be drawing bars, which stay below
            self._console.out(text)

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
        if not self.has_color or not text or not style:
            return text
        codes = ";".join(_STYLES[name] for name in style.split())
        return f"\x1b[{codes}m{text}\x1b[0m"


def _has_color(choice: str, environ: Mapping[str, str], *, default: bool) -> bool:
    """Decide on colours: the option, then NO_COLOR, then FORCE_COLOR, then the terminal."""
    if choice != "auto":
        return choice == "always"
    if environ.get("NO_COLOR"):
        return False
    return default or environ.get("FORCE_COLOR", "") not in _OFF


def _measure(file: TextIO) -> int:
    try:
        return os.get_terminal_size(file.fileno()).columns or DEFAULT_WIDTH
    except (OSError, ValueError):
        return DEFAULT_WIDTH


class Terminal:
    """What a command speaks through: data, notes for the person, warnings and errors."""

    def __init__(self, stdout: TextIO, stderr: TextIO, environ: Mapping[str, str]) -> None:
        self._files = stdout, stderr
        self._environ = environ
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
        self.out, self.err = (Stream(file, self._environ, color) for file in self._files)
        self.quiet = quiet
        self.verbose = verbose
        self.progress = progress and not quiet

    def data(self, lines: Iterable[str]) -> None:
        """Write lines of data to standard output."""
        for line in lines:
            self.out.line(line)

    def document(self, kind: str, body: Mapping[str, Any]) -> None:
        """Write one JSON document; it is ASCII, so that no terminal can be harmed by it."""
        self.out.line(json.dumps({"schema_version": 1, "kind": kind, **body}, indent=2))

    def note(self, text: str) -> None:
        """Tell the person something, unless `--quiet`."""
        if not self.quiet:
            self._say(text)

    def warn(self, message: str, hint: str | None = None) -> None:
        """Tell the person what they should know, unless `--quiet`."""
        if not self.quiet:
            self._say(message, self.err.paint("warning:", "bold yellow") + " ")
            self._hint(hint)

    def error(self, message: str, hint: str | None = None) -> None:
        """Say what went wrong and what to do; `--quiet` does not silence it."""
        self._say(message, self.err.paint("error:", "bold red") + " ")
        self._hint(hint)

    def problems(self, problems: Iterable[Problem]) -> None:
        """Show everything that is wrong with a file, each with its place and its hint."""
        for problem in problems:
            place = visible(str(problem).removesuffix(problem.message))
            self._say(problem.message, self.err.paint(place, "bold"))
            self._hint(problem.hint, indent="  ")

    def flush(self) -> None:
        """Write out what both streams still hold; `BrokenPipeError` if nobody reads."""
        for file in self._files:
            file.flush()

    def _hint(self, hint: str | None, indent: str = "") -> None:
        if hint:
            self._say(hint, f"{indent}{self.err.paint('hint:', 'bold cyan')} ")

    def _say(self, text: str, label: str = "") -> None:
        words = _CODE.sub(lambda code: self.err.paint(code[0], "bold"), visible(text))
        self.err.line(label + words)


# --- tables -------------------------------------------------------------------------


class Column(NamedTuple):
    """A column: its title, and how it gives way where a terminal is narrow.

    It shrinks to `least` (None: not at all); a text that is longer goes on below, or ends in
    `…` where `is_cut`. Where that is not enough, columns go, the highest `rank` first; those
    of rank 0 stay to the last.
    """

    title: str
    least: int | None = None
    rank: int = 0
    align_right: bool = False
    is_cut: bool = False


class Cell(NamedTuple):
    """A text and its style."""

    text: str
    style: str = ""


def render_table(
    stream: Stream,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str | Cell]],
    *,
    has_head: bool = True,
    indent: int = 0,
) -> list[str]:
    """Return the head and each row as a text; a narrow terminal makes several lines of one.

    Columns that are empty in every row are left out. No lines and no boxes: a person reads
    columns, `awk` and `grep` read them too. Texts are made harmless here. Not rich's Table: that
    takes 0.8 ms a row, and there may be a hundred thousand.
    """
    cells = [[_harmless(cell) for cell in row] for row in rows]
    shown = [i for i in range(len(columns)) if any(row[i].text for row in cells)]
    if has_head:
        cells.insert(0, [Cell(column.title, "dim") for column in columns])
    widths = {i: max((_cells_of(row[i].text) for row in cells), default=0) for i in shown}
    if stream.width is not None:
        _fit(widths, columns, stream.width - indent)
    return [_row(stream, row, columns, widths, " " * indent) for row in cells]


def _harmless(cell: str | Cell) -> Cell:
    return Cell(visible(cell)) if isinstance(cell, str) else Cell(visible(cell.text), cell.style)


def _row(
    stream: Stream,
    row: Sequence[Cell],
    columns: Sequence[Column],
    widths: dict[int, int],
    margin: str,
) -> str:
    texts = (_wrap(row[i].text, width, columns[i].is_cut) for i, width in widths.items())
    lines = []
    for parts in zip_longest(*texts, fillvalue=""):
        filled = []
        for (i, width), text in zip(widths.items(), parts, strict=True):
            blank = " " * (width - _cells_of(text))
            painted = stream.paint(text, row[i].style)
            filled.append(blank + painted if columns[i].align_right else painted + blank)
        lines.append(margin + _GAP.join(filled).rstrip(" "))
    return "\n".join(lines)


def _fit(widths: dict[int, int], columns: Sequence[Column], width: int) -> None:
    """Narrow or remove entries of `widths` until, with gaps, they fit into `width`.

    Room that a column left behind is given back to what shrank.
    """

    def excess() -> int:
        return sum(widths.values()) + len(_GAP) * (len(widths) - 1) - width

    natural = dict(widths)
    by_rank = sorted(widths, key=lambda i: (columns[i].rank, i), reverse=True)
    for i in by_rank:
        least = columns[i].least
        if least is not None and excess() > 0:
            widths[i] = max(min(widths[i], least), widths[i] - excess())
    for i in by_rank:
        if excess() > 0 and columns[i].rank > 0:
            del widths[i]
    while excess() > 0 and max(widths.values()) > 2:  # two cells hold any character
        widths[max(widths, key=lambda i: widths[i])] -= 1
    for i in sorted(widths):
        widths[i] += max(0, min(-excess(), natural[i] - widths[i]))


def _cells_of(text: str) -> int:
    """Return how many cells of a terminal `text` takes; it must be `visible`."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _wrap(text: str, width: int, is_cut: bool) -> list[str]:
    """Return `text` as lines of at most `width` cells, broken after blanks and slashes."""
    if _cells_of(text) <= width:
        return [text]
    from rich.cells import chop_cells, set_cell_size

    if is_cut:
        return [set_cell_size(text, width - 1).rstrip(" ") + "…"]
    lines: list[str] = []
    for word, blank in _WORD.findall(text):
        if lines and _cells_of((lines[-1] + word).rstrip(" ")) <= width:
            lines[-1] += word + blank
        else:
            lines += chop_cells(word, width) or [""]
            lines[-1] += blank
    return [line.rstrip(" ") for line in lines]
