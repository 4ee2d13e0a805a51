"""Streams: what is data, what is talk, and what a stream can show."""

import io
import json
import os
from pathlib import Path

import pytest

from datacachalog.cli.console import Stream, Terminal
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
