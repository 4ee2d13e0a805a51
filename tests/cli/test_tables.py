"""Tables are aligned, and whole where no terminal cuts them."""

import io

from datacachalog.cli.console import Stream
from datacachalog.cli.tables import Cell, Column, render
from tests.cli.conftest import Tty

COLUMNS = (
    Column("NAME", least=20),
    Column("SIZE", align_right=True),
    Column("SOURCE", least=16, cut_middle=True),
    Column("NOTE", least=12, rank=1),
)
ROWS = [
    ["customers", "12 MB", "s3://lake/customers/current.parquet", ""],
    ["数据", "1 B", "s3://lake/data.csv", "half-width cells count"],
]


def test_aligns_and_cuts_nothing_in_a_pipe() -> None:
    """Columns start in one place, counted in cells, and no text is lost."""
    lines = render(Stream(io.StringIO(), {}), COLUMNS, ROWS)

    assert lines == [
        "NAME        SIZE  SOURCE                               NOTE",
        "customers  12 MB  s3://lake/customers/current.parquet",
        "数据         1 B  s3://lake/data.csv                   half-width cells count",
    ]


def test_cuts_before_it_leaves_out() -> None:
    """Where their least widths are enough, all columns stay, and sources keep both ends."""
    lines = render(Stream(Tty(), {"COLUMNS": "52", "NO_COLOR": "1"}), COLUMNS, ROWS)

    assert lines == [
        "NAME        SIZE  SOURCE                NOTE",
        "customers  12 MB  s3://lake/…t.parquet",
        "数据         1 B  s3://lake/data.csv    half-width…",
    ]


def test_leaves_out_what_matters_least() -> None:
    """Where they are not, a column goes, and its room is given back."""
    lines = render(Stream(Tty(), {"COLUMNS": "40", "NO_COLOR": "1"}), COLUMNS, ROWS)

    assert lines == [
        "NAME        SIZE  SOURCE",
        "customers  12 MB  s3://lake/c…nt.parquet",
        "数据         1 B  s3://lake/data.csv",
    ]


def test_leaves_out_empty_columns() -> None:
    """A column that says nothing takes no room."""
    lines = render(Stream(io.StringIO(), {}), COLUMNS, [["a", "", "b", ""]])

    assert lines == ["NAME  SOURCE", "a     b"]


def test_styles_only_where_there_are_colors() -> None:
    """Styles are codes on a terminal and nothing elsewhere."""
    columns, rows = (Column("NAME"),), [[Cell("a", "bold")]]

    assert render(Stream(io.StringIO(), {}), columns, rows)[1] == "a"
    assert render(Stream(Tty(), {}), columns, rows)[1] == "\x1b[1ma\x1b[0m"
