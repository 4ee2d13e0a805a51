"""One call's pin: what it means, what it excludes, and what it is called on disk."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog.errors import InvalidPinError, SourceUnreachableError
from datacachalog.model import Ago, AsOf, Latest, VersionId
from datacachalog.sync.run import PLAIN, Instant, RunContext, SyncOptions, slug
from tests.memory_storage import MemoryStorage

NOON = datetime(2026, 3, 8, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("as_of", "at"),
    [
        pytest.param("2024-12-10", "2024-12-10T23:59:59.999999+00:00", id="text"),
        pytest.param(date(2024, 12, 10), "2024-12-10T23:59:59.999999+00:00", id="date"),
        pytest.param(
            datetime(2024, 12, 10, 9, tzinfo=UTC), "2024-12-10T09:00:00+00:00", id="datetime"
        ),
        pytest.param(
            datetime.fromisoformat("2024-12-10T09:00:00+02:00"),
            "2024-12-10T07:00:00+00:00",
            id="another zone",
        ),
    ],
)
def test_an_instant_is_a_text_a_date_or_a_datetime(as_of: Instant, at: str) -> None:
    """A date is the end of its day, a datetime is exactly itself."""
    pin = SyncOptions(as_of).pin

    assert isinstance(pin, AsOf)
    assert pin.at == datetime.fromisoformat(at)


def test_no_instant_leaves_each_dataset_its_own() -> None:
    """Nothing asked for is no pin; `latest` is one, and opts out of the catalog's."""
    assert SyncOptions().pin is None
    assert SyncOptions("latest").pin == Latest()


@pytest.mark.parametrize(
    ("as_of", "hint"),
    [
        pytest.param(
            "2024-12-10 09:30",
            "write `2024-12-10 09:30Z` for UTC, or an offset such as `2024-12-10 09:30+02:00`",
            id="text",
        ),
        pytest.param(
            datetime(2024, 12, 10, 9, 30),  # noqa: DTZ001 - that is the point
            "write `2024-12-10T09:30:00Z` for UTC, or an offset such as"
            " `2024-12-10T09:30:00+02:00`",
            id="datetime",
        ),
    ],
)
def test_a_naive_time_is_refused_with_the_corrected_spelling(as_of: Instant, hint: str) -> None:
    """A time without a zone could be any of two dozen."""
    with pytest.raises(InvalidPinError, match="has no time zone") as caught:
        _ = SyncOptions(as_of).pin

    assert caught.value.hint == hint


def test_a_version_and_a_time_exclude_each_other() -> None:
    """One call asks for one state."""
    with pytest.raises(InvalidPinError, match="exclude each other"):
        _ = SyncOptions("2024-12-10", version_id="v1").pin


def test_a_duration_needs_the_servers_clock() -> None:
    """Offline, `7 days` has no meaning; the hint is a time that has."""
    with pytest.raises(InvalidPinError, match="'7 days' counts from the server's clock") as caught:
        _ = SyncOptions("7 days", offline=True).pin

    assert isinstance(SyncOptions("7 days").pin, Ago)
    assert str(caught.value.hint).startswith("give the time itself, such as `2")


def test_a_duration_is_one_instant_for_a_whole_run() -> None:
    """However long the run takes and however many datasets it has, `7 days` is one time."""
    storage = MemoryStorage(start=NOON)
    with RunContext(PLAIN) as run:
        first = run.settle(Ago(timedelta(days=7)), storage)
        storage.clock += timedelta(minutes=5)
        second = run.settle(Ago(timedelta(days=7)), storage)

    assert first == second == SyncOptions("2026-03-01T12:00:00Z").pin
    assert str(first) == "2026-03-01T12:00:00Z"
    assert storage.count("now") == 1


def test_the_clock_is_asked_again_after_a_failure() -> None:
    """A hiccup of the network is no reason to fail."""
    storage = MemoryStorage(start=NOON)
    storage.fail("now", SourceUnreachableError("hiccup"))
    with RunContext(PLAIN) as run:
        pin = run.settle(Ago(timedelta(days=7)), storage)

    assert str(pin) == "2026-03-01T12:00:00Z"


def test_what_is_no_duration_asks_nobody() -> None:
    """Other pins stay as they are."""
    storage = MemoryStorage()
    with RunContext(PLAIN) as run:
        pins = [run.settle(pin, storage) for pin in (Latest(), VersionId("v"), AsOf(NOON))]

    assert pins == [Latest(), VersionId("v"), AsOf(NOON)]
    assert storage.calls == []


_instants = st.datetimes(
    min_value=datetime(1900, 1, 1),  # noqa: DTZ001 - zone below
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
).map(AsOf)
_ends = st.sampled_from(
    ["2024", "2024-12", "2024-12-31", "2024-12-31T23Z", "2024-12-31T23:59Z", "2024-12-31T23:59:59Z"]
).map(lambda text: SyncOptions(text).pin)
_ids = st.text("aAbB09._-/+=~é", min_size=1, max_size=5).map(VersionId)
_pins = st.one_of(_instants, _ends, _ids, st.just(Latest()))


@given(one=_pins, other=_pins)
def test_two_pins_never_share_a_folder(one: AsOf, other: AsOf) -> None:
    """Different states have different names, also where upper and lower case are one."""
    same = slug(one).casefold() == slug(other).casefold()

    assert same == (one == other)
    assert "/" not in slug(one)


@pytest.mark.parametrize(
    ("version_id", "begin", "length"),
    [
        ("3f0a-1b", "v-3f0a-1b", 9),
        ("L4kqtJlcpXroDTDmJ", "v-L4kqtJlcpXroDTDmJ~", 28),
        ("3/L4+x", "v~", 34),
    ],
)
def test_a_version_is_recognised_by_its_folder(version_id: str, begin: str, length: int) -> None:
    """An id that a file system takes stands in the name; a hash tells apart what it may not."""
    found = slug(VersionId(version_id))

    assert found.startswith(begin)
    assert len(found) == length
