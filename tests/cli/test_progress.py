"""Progress from many threads: bars on a terminal, lines elsewhere."""

import io
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from rich.cells import cell_len
from rich.console import Console

from datacachalog.cli.console import Terminal
from datacachalog.cli.progress import Bars, watch
from datacachalog.errors import SourceUnreachableError, StorageError
from datacachalog.events import (
    DatasetFinished,
    Event,
    Planned,
    Report,
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
MB = 1_000_000


def _object(relpath: str, size: int) -> RemoteObject:
    return RemoteObject(f"s3://lake/{relpath}", relpath, size, datetime(2026, 3, 1, tzinfo=UTC))


BIG = _object("in/part.parquet", 100 * MB)
SMALL = _object("tiny.csv", 10)


def _terminal(file: io.StringIO, **options: bool) -> Terminal:
    terminal = Terminal(io.StringIO(), file, {"COLUMNS": "80", "NO_COLOR": "1"})
    terminal.configure(quiet=options.get("quiet", False), progress=options.get("progress", True))
    return terminal


def _bars(width: int = 103, datasets: int = 2) -> Bars:
    console = Console(file=Tty(), width=width, force_terminal=True, color_system=None)
    return Bars(console, datasets, ignore)


def _count(bars: Bars, *events: Event) -> list[str]:
    """Give events to bars and return the lines that they then draw."""
    with bars.drawn() as report:
        for event in events:
            report(event)
    lines = bars._console.render_lines(bars._frame(), pad=False)
    return ["".join(segment.text for segment in line).rstrip() for line in lines]


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

    with watch(_terminal(file), 1) as report:
        report(Planned("a", 1, 5, 0, 0, 0))
        _wait_for(file, "0/1 files")
        report(WARNING)
        _wait_for(file, "hint: look")

    assert _screen(file.getvalue()) == ["warning: a: it is odd", "hint: look"]


def test_bars_end_with_the_body() -> None:
    """An error in the body goes on, and the bars are gone before it is shown."""
    file = Tty()

    with pytest.raises(ZeroDivisionError), watch(_terminal(file), 1) as report:
        _fail_while_drawn(file, report)

    assert _screen(file.getvalue()) == []


def _fail_while_drawn(file: Tty, report: Report) -> None:
    report(Planned("a", 1, 5, 0, 0, 0))
    _wait_for(file, "0/1 files")
    raise ZeroDivisionError


def test_the_cursor_stays_visible() -> None:
    """A run that is killed while bars are drawn leaves a terminal that can be used."""
    file = Tty()
    with watch(_terminal(file), 1) as report:
        report(Planned("a", 1, 5, 0, 0, 0))
        _wait_for(file, "0/1 files")
        seen = re.findall(r"\x1b\[\?25[hl]", file.getvalue())

    assert seen[-1] == "\x1b[?25h"


def test_a_terminal_that_is_gone_takes_only_its_bars() -> None:
    """The run goes on without them."""

    class Gone(Tty):
        def write(self, _text: str) -> int:
            raise OSError(5, "Input/output error")

    with watch(_terminal(Gone()), 1) as report:
        report(DONE)


def _wait_for(file: io.StringIO, text: str) -> None:
    """Wait until the drawing thread has written `text`, half a minute at most."""
    deadline = time.monotonic() + 30
    while text not in file.getvalue():
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def _screen(text: str) -> list[str]:
    """Return the lines that stand on a terminal after `text`, as far as rich moves its cursor."""
    lines, row = [""], 0
    for code, plain in re.findall(r"(\x1b\[[^A-Za-z]*[A-Za-z]|\r|\n)|([^\x1b\r\n]+)", text):
        if code == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif code == "\x1b[1A":
            row -= 1
        elif code == "\x1b[2K":
            lines[row] = ""
        lines[row] += plain
    return [line for line in lines if line]


@pytest.mark.parametrize("is_live", [False, True], ids=["piped", "terminal"])
def test_a_warning_for_many_datasets_is_told_once(is_live: bool) -> None:
    """And then for how many more it holds; another one is told too."""
    file = Tty() if is_live else io.StringIO()
    with watch(_terminal(file), 3) as report:
        for name in ("a", "b", "c"):
            report(Warned(name, "too recent"))
        report(Warned("c", "odd"))

    assert _screen(file.getvalue()) == [
        "warning: a: too recent",
        "warning: c: odd",
        "warning: 2 more datasets: too recent",
    ]


# --- what the bars say --------------------------------------------------------------


def test_bars_count_events_of_many_threads() -> None:
    """No event is lost between workers and the thread that draws."""
    bars = _bars()

    def work(report: Report) -> None:
        for _ in range(1000):
            report(TransferStarted("a", SMALL))
            report(Transferred("a", SMALL, 10))
            report(TransferFinished("a", SMALL))

    with bars.drawn() as report, ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [report] * 8))

    assert (bars.files_done, bars.bytes_done) == (8000, 80_000)


def test_says_what_it_waits_for() -> None:
    """Before anything is planned, the line tells that sources are being asked."""
    assert _count(_bars()) == ["0/2 datasets  looking at the sources"]


def test_sums_what_is_planned_and_done() -> None:
    """Bytes and files add up over datasets; the large object has a bar of its own."""
    large, total = _count(
        _bars(),
        Planned("a", 2, 100 * MB + 10, 0, 0, 0),
        Planned("b", 1, 100 * MB, 0, 0, 0),
        TransferStarted("a", BIG),
        TransferStarted("a", SMALL),
        Transferred("a", BIG, 50 * MB),
        Transferred("a", SMALL, 10),
        TransferFinished("a", SMALL),
    )

    assert re.match(r"a/part.parquet +━+╸ +50% 50.0/100.0 MB ", large)
    assert re.match(r"0/2 datasets  1/3 files +━+╸? +25% 50.0/200.0 MB ", total)


def test_planning_again_replaces_the_plan() -> None:
    """A dataset that is resolved again counts once."""
    bars = _bars()

    _count(bars, Planned("a", 5, 500, 0, 0, 0), Planned("a", 2, 200, 0, 0, 0))

    assert (bars.files, bars.bytes) == (2, 200)


def test_an_attempt_that_starts_over_counts_back() -> None:
    """Bytes of a failed attempt are taken back, and the bar with them."""
    large, total = _count(
        _bars(),
        Planned("a", 1, 100 * MB, 0, 0, 0),
        TransferStarted("a", BIG),
        Transferred("a", BIG, 60 * MB),
        Transferred("a", BIG, -60 * MB),
        Transferred("a", BIG, 10 * MB),
    )

    assert "10.0/100.0 MB" in large
    assert "10.0/100.0 MB" in total


def test_a_failed_object_leaves_the_sum() -> None:
    """What was received of an object that failed for good counts no more."""
    bars = _bars(datasets=1)
    lines = _count(
        bars,
        Planned("a", 1, 100 * MB, 0, 0, 0),
        TransferStarted("a", BIG),
        Transferred("a", BIG, 60 * MB),
        TransferFinished("a", BIG, StorageError("gone")),
        DatasetFinished("a", error=StorageError("gone")),
    )

    assert (bars.bytes_done, bars.files_done) == (0, 0)
    assert len(lines) == 1
    assert lines[0].startswith("1/1 datasets  0/1 files")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_bars_never_wrap(width: int) -> None:
    """Every line is narrower than the terminal, whatever the names and numbers."""
    events: list[Event] = [Planned("n" * 300, 10**6, 10**15, 0, 0, 0)]
    for i in range(20):
        obj = _object(f"{'数' * 200}\x1b[31m\n{i}", 10**13)
        events += [TransferStarted("n" * 300, obj), Transferred("n" * 300, obj, 10**12)]

    lines = _count(_bars(width, datasets=10**5), *events)

    assert len(lines) == 9
    assert all(cell_len(line) < width and line.isprintable() for line in lines)
