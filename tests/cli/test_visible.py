"""Text from outside can do a terminal no harm."""

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from datacachalog.cli.console import Stream
from datacachalog.cli.tables import Cell, Column, cut, render
from datacachalog.cli.visible import visible
from tests.cli.conftest import Tty

NASTY = [
    pytest.param("\x1b[31mred", r"\x1b[31mred", id="escape"),
    pytest.param("\x9b31m", r"\x9b31m", id="c1"),
    pytest.param("a\nb\r\tc", r"a\nb\r\tc", id="line-breaks"),
    pytest.param("a\u202eb", r"a\u202eb", id="bidi"),
    pytest.param("a\u200bb", r"a\u200bb", id="zero-width"),
    pytest.param("a\ud800b", r"a\ud800b", id="lone-surrogate"),
    pytest.param("a\U000e0041b", r"a\U000e0041b", id="tag"),
    pytest.param("[red]x[/] :smile:", "[red]x[/] :smile:", id="markup-is-text"),
]


@pytest.mark.parametrize(("raw", "shown"), NASTY)
def test_shows_what_does_not_print_as_its_escape(raw: str, shown: str) -> None:
    """Each kind of harmful character appears as a person could type it."""
    assert visible(raw) == shown


@given(st.text(st.characters(exclude_categories=())))
def test_leaves_nothing_but_printable_text(raw: str) -> None:
    """Whatever comes in, no control, format or surrogate character comes out."""
    shown = visible(raw)

    assert shown.isprintable()
    assert not any(unicodedata.category(char)[0] == "C" for char in shown)


@given(st.text())
def test_is_stable(raw: str) -> None:
    """What is visible already stays as it is."""
    assert visible(visible(raw)) == visible(raw)


@pytest.mark.parametrize("width", [80, 200])
@given(text=st.text(st.characters(exclude_categories=()), max_size=300))
def test_survives_rich(width: int, text: str) -> None:
    """Rich renders it as one text without a control character, at any width."""
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None)

    console.print(Text(visible(text)))

    assert file.getvalue().replace("\n", "").isprintable()


@given(
    rows=st.lists(
        st.tuples(st.text(max_size=120), st.text(max_size=120), st.text(max_size=30)),
        min_size=1,
        max_size=5,
    ),
    width=st.integers(10, 200),
)
def test_tables_fit_any_terminal(rows: list[tuple[str, str, str]], width: int) -> None:
    """No line of a table is wider than its terminal, and each row is one line."""
    stream = Stream(Tty(), {"COLUMNS": str(width)})
    columns = (Column("A", least=3), Column("B", least=3, rank=1, cut_middle=True), Column("C"))

    lines = render(stream, columns, [[Cell(a, "bold"), b, c] for a, b, c in rows])

    assert len(lines) == len(rows) + 1
    assert all(cell_len(_without_style(line)) <= width for line in lines)
    assert all(_without_style(line).isprintable() for line in lines)


def _without_style(line: str) -> str:
    return line.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "")


@given(st.text(max_size=60), st.integers(0, 40), st.booleans())
def test_cut_keeps_to_the_width(raw: str, width: int, in_middle: bool) -> None:
    """A text that is cut takes at most the cells it was given."""
    assert cell_len(cut(visible(raw), width, in_middle=in_middle)) <= width
