"""Streams, what is made harmless, and tables that fit."""

import io
import json
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from datacachalog.cli.console import Cell, Column, Stream, Terminal, render_table, visible
from datacachalog.errors import Problem
from tests.cli.conftest import Tty


def _terminal(**environ: str) -> tuple[Terminal, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Terminal(out, err, environ), out, err


@pytest.mark.parametrize(
    ("is_terminal", "color", "environ", "expected"),
    [
        pytest.param(True, "auto", {}, True, id="terminal"),
        pytest.param(False, "auto", {}, False, id="pipe"),
        pytest.param(True, "auto", {"NO_COLOR": "1"}, False, id="NO_COLOR"),
        pytest.param(True, "auto", {"NO_COLOR": ""}, True, id="empty-NO_COLOR"),
        pytest.param(False, "auto", {"FORCE_COLOR": "1"}, True, id="FORCE_COLOR"),
        pytest.param(False, "auto", {"FORCE_COLOR": "0"}, False, id="FORCE_COLOR=0"),
        pytest.param(
            False, "auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, id="NO_COLOR-wins"
        ),
        pytest.param(True, "auto", {"TERM": "dumb"}, False, id="dumb"),
        pytest.param(True, "never", {"FORCE_COLOR": "1"}, False, id="never"),
        pytest.param(False, "always", {"NO_COLOR": "1"}, True, id="always"),
    ],
)
def test_decides_on_colors(
    is_terminal: bool, color: str, environ: dict[str, str], expected: bool
) -> None:
    """The option stands above NO_COLOR, that above FORCE_COLOR, that above the terminal."""
    stream = Stream(Tty() if is_terminal else io.StringIO(), environ, color)

    assert stream.has_color is expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, True, id="terminal"),
        pytest.param({"CI": "true"}, False, id="CI"),
        pytest.param({"CI": "false"}, True, id="CI=false"),
        pytest.param({"TERM": "dumb"}, False, id="dumb"),
    ],
)
def test_draws_only_where_someone_watches(environ: dict[str, str], expected: bool) -> None:
    """Bars need a terminal that can move its cursor, and no CI around it."""
    assert Stream(Tty(), environ).is_live is expected


def test_talk_never_reaches_standard_output() -> None:
    """Notes, warnings, errors and hints go to standard error."""
    terminal, out, err = _terminal()

    terminal.note("a note")
    terminal.warn("a warning", "do this")
    terminal.error("an error")

    assert out.getvalue() == ""
    assert err.getvalue() == "a note\nwarning: a warning\nhint: do this\nerror: an error\n"


def test_quiet_leaves_errors() -> None:
    """`--quiet` silences all talk but errors."""
    terminal, _, err = _terminal()
    terminal.configure(quiet=True)

    terminal.note("a note")
    terminal.warn("a warning")
    terminal.error("an error", "do this")

    assert err.getvalue() == "error: an error\nhint: do this\n"


def test_talk_is_harmless() -> None:
    """A key in a message cannot move the cursor or start a line of its own."""
    terminal, _, err = _terminal()

    terminal.error("no object 's3://b/\x1b[2Jx\nerror: forged'")

    assert err.getvalue() == "error: no object 's3://b/\\x1b[2Jx\\nerror: forged'\n"


def test_problems_have_place_and_hint() -> None:
    """Each problem is a line of its own that an editor can jump to."""
    terminal, _, err = _terminal()

    terminal.problems([Problem("unknown key `x`", "catalog.yaml", 12, 5, "did you mean `y`?")])

    assert err.getvalue() == "catalog.yaml:12:5: unknown key `x`\n  hint: did you mean `y`?\n"


def test_documents_are_ascii() -> None:
    """JSON holds nothing that a terminal could act on, and reads back as it was."""
    terminal, out, _ = _terminal()
    name = "ключ\x9b31m\u202e\ud800"

    terminal.document("thing", {"name": name})

    assert out.getvalue().isascii()
    assert json.loads(out.getvalue()) == {"schema_version": 1, "kind": "thing", "name": name}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_encoding_fails(encoding: str) -> None:
    """What an encoding lacks appears escaped."""
    raw = io.BytesIO()
    stream = Stream(io.TextIOWrapper(raw, encoding=encoding), {})

    stream.line("数据 \udcff é")
    stream.file.flush()

    assert b"\\udcff" in raw.getvalue()


def test_paths_are_exact_for_programs() -> None:
    """A pipe gets the bytes of a path, also those that are no UTF-8."""
    raw = io.BytesIO()
    stream = Stream(io.TextIOWrapper(raw, encoding="utf-8"), {})

    stream.path(Path(os.fsdecode(b"/data/\xff.csv")))

    assert raw.getvalue() == b"/data/\xff.csv\n"


def test_paths_are_harmless_for_people() -> None:
    """A terminal gets a path with everything odd escaped."""
    file = Tty()

    Stream(file, {}).path(Path("/data/\x1b[2J.csv"))

    assert file.getvalue() == "/data/\\x1b[2J.csv\n"


# --- what is made harmless ----------------------------------------------------------


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


# --- tables -------------------------------------------------------------------------


COLUMNS = (
    Column("NAME"),
    Column("SIZE", align_right=True),
    Column("SOURCE", least=16),
    Column("NOTE", least=12, rank=1, is_cut=True),
)
ROWS = [
    ["customers", "12 MB", "s3://lake/customers/current.parquet", ""],
    ["数据", "1 B", "s3://lake/data.csv", "half-width cells count"],
]


def test_aligns_and_cuts_nothing_in_a_pipe() -> None:
    """Columns start in one place, counted in cells, and no text is lost."""
    lines = render_table(Stream(io.StringIO(), {}), COLUMNS, ROWS)

    assert lines == [
        "NAME        SIZE  SOURCE                               NOTE",
        "customers  12 MB  s3://lake/customers/current.parquet",
        "数据         1 B  s3://lake/data.csv                   half-width cells count",
    ]


def test_shrinks_before_it_leaves_out() -> None:
    """Where their least widths are enough, all columns stay; what is longer goes on below."""
    lines = render_table(Stream(Tty(), {"COLUMNS": "52", "NO_COLOR": "1"}), COLUMNS, ROWS)

    assert lines == [
        "NAME        SIZE  SOURCE                NOTE",
        "customers  12 MB  s3://lake/customers/\n                  current.parquet",
        "数据         1 B  s3://lake/data.csv    half-width…",
    ]


def test_leaves_out_what_matters_least() -> None:
    """Where they are not, a column goes, and its room is given back."""
    lines = render_table(Stream(Tty(), {"COLUMNS": "40", "NO_COLOR": "1"}), COLUMNS, ROWS)

    assert lines == [
        "NAME        SIZE  SOURCE",
        "customers  12 MB  s3://lake/customers/\n                  current.parquet",
        "数据         1 B  s3://lake/data.csv",
    ]


def test_reasons_wrap_at_their_blanks() -> None:
    """A sentence stays one, on several lines."""
    columns = (Column("FILE"), Column("WHY", least=16))
    stream = Stream(Tty(), {"COLUMNS": "24", "NO_COLOR": "1"})

    assert render_table(stream, columns, [["a.csv", "changed at the source on Monday"]]) == [
        "FILE   WHY",
        "a.csv  changed at the\n       source on Monday",
    ]


def test_leaves_out_empty_columns() -> None:
    """A column that says nothing takes no room."""
    lines = render_table(Stream(io.StringIO(), {}), COLUMNS, [["a", "", "b", ""]])

    assert lines == ["NAME  SOURCE", "a     b"]


def test_styles_only_where_there_are_colors() -> None:
    """Styles are codes on a terminal and nothing elsewhere."""
    columns, rows = (Column("NAME"),), [[Cell("a", "bold")]]

    assert render_table(Stream(io.StringIO(), {}), columns, rows)[1] == "a"
    assert render_table(Stream(Tty(), {}), columns, rows)[1] == "\x1b[1ma\x1b[0m"


@given(
    rows=st.lists(
        st.tuples(st.text(max_size=120), st.text(max_size=120), st.text(max_size=30)),
        min_size=1,
        max_size=5,
    ),
    width=st.integers(10, 200),
)
def test_tables_fit_any_terminal(rows: list[tuple[str, str, str]], width: int) -> None:
    """No line of a table is wider than its terminal, and what stays of it is whole."""
    stream = Stream(Tty(), {"COLUMNS": str(width), "NO_COLOR": "1"})
    columns = (Column("A", least=3), Column("B", least=3, rank=1, is_cut=True), Column("C", rank=2))

    texts = render_table(stream, columns, [[Cell(a, "bold"), b, c] for a, b, c in rows])
    lines = [line for text in texts for line in text.split("\n")]
    alone = render_table(stream, columns[:1], [[a] for a, _, _ in rows])

    assert len(texts) == len(rows) + 1
    assert all(cell_len(line) <= width and line.isprintable() for line in lines)
    assert [_solid(text) for text in alone[1:]] == [_solid(visible(a)) for a, _, _ in rows]


def _solid(text: str) -> str:
    """Return `text` without blanks and line ends."""
    return text.replace("\n", "").replace(" ", "")
