"""Progress from many threads: bars on a terminal, lines elsewhere."""

import io
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from datacachalog.cli.console import Terminal
from datacachalog.cli.progress import Bars, watch
from datacachalog.errors import SourceUnreachableError
from datacachalog.events import (
    DatasetFinished,
    Event,
    Planned,
    Retrying,
    TransferFinished,
    Transferred,
    TransferStarted,
    Warned,
    ignore,
)
from datacachalog.model import RemoteObject
from tests.cli.conftest import Tty

RETRY = Retrying("a", "s3://b/k", SourceUnreachableError("no answer\x1b[2J"), 1, 1.25)
WARNING = Warned("a", "it is odd", "look")
DONE = DatasetFinished("a", downloaded=1, downloaded_bytes=5)


def _terminal(file: io.StringIO, **options: bool) -> Terminal:
    terminal = Terminal(io.StringIO(), file, {"COLUMNS": "80", "NO_COLOR": "1"})
    terminal.configure(quiet=options.get("quiet", False), progress=options.get("progress", True))
    return terminal


def test_lines_tell_what_a_person_needs() -> None:
    """In a pipe: retries, warnings and a line for each dataset, harmless."""
    file = io.StringIO()

    with watch(_terminal(file), 1) as report:
        for event in (Planned("a", 1, 5, 0, 0, 0), RETRY, WARNING, DONE):
            report(event)

    assert file.getvalue().splitlines() == [
        r"a: no answer\x1b[2J; trying again in 1.2 s",
        "warning: a: it is odd",
        "hint: look",
        "a: 1 downloaded (5 B)",
    ]


def test_a_dry_run_has_no_line_for_each_dataset() -> None:
    """What a dry run finds is shown at its end."""
    file = io.StringIO()

    with watch(_terminal(file), 1, is_dry=True) as report:
        report(DONE)

    assert file.getvalue() == ""


def test_quiet_watches_nothing() -> None:
    """With `--quiet` events are dropped where they arise."""
    with watch(_terminal(Tty(), quiet=True), 1) as report:
        assert report is ignore


@pytest.mark.parametrize(
    ("file", "options"),
    [
        pytest.param(io.StringIO(), {}, id="pipe"),
        pytest.param(Tty(), {"progress": False}, id="no-progress"),
    ],
)
def test_bars_need_a_terminal_and_leave(file: io.StringIO, options: dict[str, bool]) -> None:
    """Elsewhere, and with `--no-progress`, there are lines."""
    with watch(_terminal(file, **options), 1) as report:
        report(DONE)

    assert file.getvalue() == "a: 1 downloaded (5 B)\n"


def test_bars_erase_themselves() -> None:
    """Warnings stay above, and nothing of the bars is left at the end."""
    file = Tty()

    with Bars(_terminal(file), 1, interval=0.001).drawn() as report:
        report(Planned("a", 1, 5, 0, 0, 0))
        _wait_for(file, "0/1 files")
        report(WARNING)
        _wait_for(file, "hint: look\n0/1 datasets")

    assert _screen(file.getvalue()) == ["warning: a: it is odd", "hint: look"]


def test_bars_count_events_of_many_threads() -> None:
    """No event is lost between workers and the thread that draws."""
    obj = RemoteObject("s3://b/k", "k", 10, datetime(2026, 3, 1, tzinfo=UTC))
    events: list[Event] = [TransferStarted("a", obj), Transferred("a", obj, 10)]
    events.append(TransferFinished("a", obj))
    bars = Bars(_terminal(Tty()), 1)

    def work(report: object) -> None:
        for _ in range(1000):
            for event in events:
                report(event)  # type: ignore[operator]  # it is a Report

    with bars.drawn() as report, ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [report] * 8))

    assert (bars.tally.files_done, bars.tally.bytes_done) == (8000, 80_000)


def test_bars_end_with_the_body() -> None:
    """An error in the body goes on, and the bars are gone before it is shown."""
    file = Tty()

    with pytest.raises(ZeroDivisionError):
        _fail_while_drawn(file)

    assert _screen(file.getvalue()) == []


def _fail_while_drawn(file: Tty) -> None:
    with Bars(_terminal(file), 1, interval=0.001).drawn() as report:
        report(Planned("a", 1, 5, 0, 0, 0))
        _wait_for(file, "0/1 files")
        raise ZeroDivisionError


def _wait_for(file: io.StringIO, text: str) -> None:
    """Wait until the drawing thread has written `text`, half a minute at most."""
    deadline = time.monotonic() + 30
    while text not in file.getvalue():
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def _screen(text: str) -> list[str]:
    """Return the lines that stand on a terminal after `text`, as far as we move its cursor."""
    lines: list[str] = []
    for move, plain in re.findall(r"(\x1b\[\d+A\r\x1b\[J)|([^\x1b]+)", text):
        if move:
            up = int(move[2:].split("A")[0])
            lines = lines[: len(lines) - up]
        else:
            lines += plain.splitlines()
    return lines


@pytest.mark.parametrize("is_live", [False, True], ids=["piped", "terminal"])
def test_a_warning_for_many_datasets_is_told_once(is_live: bool) -> None:
    """And then for how many more it holds; another one is told too."""
    file = Tty() if is_live else io.StringIO()
    with watch(_terminal(file), 3) as report:
        for name in ("a", "b", "c"):
            report(Warned(name, "too recent"))
        report(Warned("c", "odd"))
    text = re.sub(r"\x1b\[[\d;]*[A-Za-z]|\r", "", file.getvalue())

    assert [line for line in text.splitlines() if line.startswith("warning")] == [
        "warning: a: too recent",
        "warning: c: odd",
        "warning: 2 more datasets: too recent",
    ]
