"""The sums behind the bars, and the frames they make."""

from datetime import UTC, datetime

import pytest
from rich.cells import cell_len

from datacachalog.cli.tally import PLAIN, Tally
from datacachalog.errors import StorageError
from datacachalog.events import (
    DatasetFinished,
    Event,
    Planned,
    TransferFinished,
    Transferred,
    TransferStarted,
)
from datacachalog.model import RemoteObject

MB = 1_000_000


def _object(relpath: str, size: int) -> RemoteObject:
    return RemoteObject(f"s3://lake/{relpath}", relpath, size, datetime(2026, 3, 1, tzinfo=UTC))


def _tally(*events: Event, datasets: int = 2) -> Tally:
    tally = Tally(datasets)
    for event in events:
        tally.add(event)
    return tally


BIG = _object("part.parquet", 100 * MB)
SMALL = _object("tiny.csv", 10)


def test_says_what_it_waits_for() -> None:
    """Before anything is planned, the line tells that sources are being asked."""
    assert _tally().frame(80) == ["0/2 datasets  looking at the sources"]


def test_sums_what_is_planned_and_done() -> None:
    """Bytes and files add up over datasets; the large object has a bar of its own."""
    tally = _tally(
        Planned("a", 2, 100 * MB + 10, 0, 0, 0),
        Planned("b", 1, 100 * MB, 0, 0, 0),
        TransferStarted("a", BIG),
        TransferStarted("a", SMALL),
        Transferred("a", BIG, 50 * MB),
        Transferred("a", SMALL, 10),
        TransferFinished("a", SMALL),
    )

    assert tally.frame(100, PLAIN) == [
        "a/part.parquet                       "
        "  ##################-------------------   50%     50 MB/100 MB",
        "0/2 datasets  1/3 files  ##########------------------------------   25%  50 MB/200 MB",
    ]


def test_measures_the_rate_over_the_last_seconds() -> None:
    """The rate is that of the last five seconds, and tells the time left."""
    tally = _tally(Planned("a", 1, 100 * MB, 0, 0, 0), TransferStarted("a", BIG), datasets=1)
    for second in range(11):
        tally.sample(float(second))
        tally.add(Transferred("a", BIG, (1 if second < 5 else 4) * MB))
    tally.sample(11.0)

    assert tally.rate == 4 * MB
    assert tally.frame(120)[-1].endswith("29 MB/100 MB  4.0 MB/s  0:17 left")


def test_planning_again_replaces_the_plan() -> None:
    """A dataset that is resolved again counts once."""
    tally = _tally(Planned("a", 5, 500, 0, 0, 0), Planned("a", 2, 200, 0, 0, 0))

    assert (tally.files, tally.bytes) == (2, 200)


def test_an_attempt_that_starts_over_counts_back() -> None:
    """Bytes of a failed attempt are taken back, and the bar with them."""
    tally = _tally(
        Planned("a", 1, 100 * MB, 0, 0, 0),
        TransferStarted("a", BIG),
        Transferred("a", BIG, 60 * MB),
        Transferred("a", BIG, -60 * MB),
        Transferred("a", BIG, 10 * MB),
    )

    assert tally.bytes_done == 10 * MB


def test_a_failed_object_leaves_the_sum() -> None:
    """What was received of an object that failed for good counts no more."""
    tally = _tally(
        TransferStarted("a", BIG),
        Transferred("a", BIG, 60 * MB),
        TransferFinished("a", BIG, StorageError("gone")),
        DatasetFinished("a", error=StorageError("gone")),
    )

    assert (tally.bytes_done, tally.files_done, tally.finished) == (0, 0, 1)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_frames_never_wrap(width: int) -> None:
    """Every line is narrower than the terminal, whatever the names and numbers."""
    events: list[Event] = [Planned("n" * 300, 10**6, 10**15, 0, 0, 0)]
    for i in range(20):
        obj = _object(f"{'数' * 200}\x1b[31m\n{i}", 10**13)
        events += [TransferStarted("n" * 300, obj), Transferred("n" * 300, obj, 10**12)]
    tally = _tally(*events, datasets=10**5)
    tally.sample(0.0)
    tally.sample(1.0)

    frame = tally.frame(width)

    assert len(frame) == 9
    assert all(cell_len(line) < width and line.isprintable() for line in frame)
