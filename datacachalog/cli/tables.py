"""Tables of text: aligned columns that fit the terminal, or stay whole for a pipe.

No lines and no boxes: a person reads columns, `awk` and `grep` read them too. Cells are
made harmless here, so a caller passes names and keys as they are.
"""

from collections.abc import Sequence
from typing import NamedTuple

from datacachalog.cli.console import Stream
from datacachalog.cli.visible import visible

_GAP = "  "


class Column(NamedTuple):
    """A column: its title, how it gives way when the terminal is narrow, and its look.

    `least` is the width that it is cut to before others are left out (None: it is not cut).
    Columns of rank 0 stay to the last; of the others, the highest rank is left out first.
    """

    title: str
    least: int | None = None
    rank: int = 0
    align_right: bool = False
    cut_middle: bool = False


class Cell(NamedTuple):
    """A text and its style."""

    text: str
    style: str = ""


def render(
    stream: Stream,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str | Cell]],
    *,
    has_head: bool = True,
    indent: int = 0,
) -> list[str]:
    """Return the table as lines without trailing blanks.

    Columns that are empty in every row are left out. On a terminal, the lines fit its
    width: columns are cut (`…`), highest rank first, and left out where even that is not
    enough. Elsewhere they are as wide as their longest cell.
    """
    cells = [[_visible_cell(value) for value in row] for row in rows]
    shown = [i for i in range(len(columns)) if any(row[i].text for row in cells)]
    if has_head:
        cells.insert(0, [Cell(column.title, "dim") for column in columns])
    widths = {i: max((cells_of(row[i].text) for row in cells), default=0) for i in shown}
    if stream.width is not None:
        _fit(widths, columns, stream.width - indent)
    margin = " " * indent
    return [margin + _line(stream, columns, widths, row) for row in cells]


def cells_of(text: str) -> int:
    """Return how many cells of a terminal `text` takes; it must be `visible`."""
    if text.isascii():
        return len(text)
    # Loaded for the first text that needs it: most tables have none.
    from rich.cells import cell_len

    return cell_len(text)


def _visible_cell(value: str | Cell) -> Cell:
    if isinstance(value, str):
        return Cell(visible(value))
    return Cell(visible(value.text), value.style)


def _fit(widths: dict[int, int], columns: Sequence[Column], width: int) -> None:
    """Narrow or remove entries of `widths` until their sum with gaps is at most `width`.

    First, long texts are cut to their least; then columns go; then what is left is cut as far
    as it must be. Room that a column left behind is given back to what was cut.
    """
    natural = dict(widths)
    by_rank = sorted(widths, key=lambda i: (columns[i].rank, i), reverse=True)
    for i in by_rank:
        least = columns[i].least
        if least is not None and (excess := _total(widths) - width) > 0:
            widths[i] = max(min(widths[i], least), widths[i] - excess)
    for i in by_rank:
        if _total(widths) > width and columns[i].rank > 0:
            del widths[i]
    while widths and (excess := _total(widths) - width) > 0:
        widest = max(widths, key=lambda i: widths[i])
        if widths[widest] <= 1:
            return
        widths[widest] -= min(excess, max(1, widths[widest] // 2))
    for i in sorted(widths):
        spare = width - _total(widths)
        widths[i] += max(0, min(spare, natural[i] - widths[i]))


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + len(_GAP) * (len(widths) - 1)


def _line(
    stream: Stream, columns: Sequence[Column], widths: dict[int, int], row: Sequence[Cell]
) -> str:
    parts = []
    for i, width in widths.items():
        text, style = row[i]
        column = columns[i]
        padding = width - cells_of(text)
        if padding < 0:
            text = cut(text, width, in_middle=column.cut_middle)
            padding = width - cells_of(text)
        if style:
            text = stream.paint(text, style)
        parts.append(" " * padding + text if column.align_right else text + " " * padding)
    return _GAP.join(parts).rstrip(" ")


def cut(text: str, width: int, *, in_middle: bool = False) -> str:
    """Return `text` in at most `width` cells; what was left out is one `…`.

    >>> cut("s3://lake/orders/year=2026/part.parquet", 20, in_middle=True)
    's3://lake/…t.parquet'
    """
    if cells_of(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    if not in_middle:
        return _head(text, width - 1).rstrip(" ") + "…"
    head = width // 2
    front = _head(text, head).rstrip(" ")
    return f"{front}…{_tail(text, width - 1 - head)}"


def _head(text: str, width: int) -> str:
    if text.isascii():
        return text[:width]
    from rich.cells import set_cell_size

    return set_cell_size(text, width)


def _tail(text: str, width: int) -> str:
    start = len(text)
    while start and cells_of(text[start - 1 :]) <= width:
        start -= 1
    return text[start:]
