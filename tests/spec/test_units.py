"""Sizes, durations and instants."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog.errors import InvalidPinError, InvalidValueError
from datacachalog.model import Ago, AsOf, Latest
from datacachalog.spec.units import (
    format_age,
    format_duration,
    format_size,
    parse_duration,
    parse_instant,
    parse_pin,
    parse_size,
)

# --- sizes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("17", 17),
        ("17 B", 17),
        ("50 GB", 50 * 10**9),
        ("50GB", 50 * 10**9),
        ("50 gb", 50 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("0.1 kB", 100),
        ("2 TiB", 2 * 2**40),
        ("9.007199254740993 PB", 9_007_199_254_740_993),
    ],
)
def test_a_size_is_exact(text: str, size: int) -> None:
    """Units of 1000 and 1024 are told apart, and no byte is lost to rounding."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("50 G", "write `50 GB` (powers of 1000) or `50 GiB` (of 1024)"),
        ("50 K", "write `50 kB` (powers of 1000) or `50 KiB` (of 1024)"),
        ("50 apples", "write a unit such as kB, MB, GB or GiB: `50 GB`"),
        ("-1 GB", "write a number and a unit, such as `50 GB` or `1.5 GiB`"),
        ("much", "write a number and a unit, such as `50 GB` or `1.5 GiB`"),
        ("", "write a number and a unit, such as `50 GB` or `1.5 GiB`"),
        (True, "write a number and a unit, such as `50 GB` or `1.5 GiB`"),
    ],
)
def test_what_is_no_size_says_what_would_be(value: str, hint: str) -> None:
    """An ambiguous or senseless size is refused with a spelling that works."""
    with pytest.raises(InvalidValueError) as caught:
        parse_size(value)

    assert caught.value.hint == hint


@given(st.integers(0, 10**21))
def test_a_formatted_size_is_within_five_percent(size: int) -> None:
    """What people read can be read back, to the digits shown."""
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.051)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_951, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (1_200_000_000, "1.2 GB"),
        (10**21, "1000 EB"),
    ],
)
def test_sizes_read_well_at_the_edges_of_units(size: int, text: str) -> None:
    """No size reads as a thousand of a unit while a larger unit exists."""
    assert format_size(size) == text


# --- durations ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("10 minutes", timedelta(minutes=10)),
        ("10 min", timedelta(minutes=10)),
        ("1.5 h", timedelta(minutes=90)),
        ("1 hour, 30 minutes", timedelta(minutes=90)),
        ("7 days", timedelta(days=7)),
        ("2 weeks", timedelta(days=14)),
        ("P7D", timedelta(days=7)),
        ("P2W", timedelta(days=14)),
        ("PT1H30M", timedelta(minutes=90)),
        ("P1DT12H", timedelta(hours=36)),
        ("pt0.5s", timedelta(milliseconds=500)),
        ("PT0S", timedelta(0)),
    ],
)
def test_a_duration_is_words_or_iso_8601(text: str, duration: timedelta) -> None:
    """Both spellings are read, and amounts add up."""
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        ("7", "'7' is not a duration", "add a unit: `7 seconds` or `7 minutes`"),
        (7, "`7` is not a duration", "add a unit: `7 seconds` or `7 minutes`"),
        (
            "2 months",
            "'2 months' is not a duration: months and years differ in length",
            "write days: `60 days`",
        ),
        (
            "7 moons",
            "'7 moons' is not a duration",
            "write a number and a unit, such as `10 minutes`, `7 days` or `PT1H30M`",
        ),
        (
            "P",
            "'P' is not a duration",
            "write a number and a unit, such as `10 minutes`, `7 days` or `PT1H30M`",
        ),
        (
            "200 years",
            "'200 years' is not a duration: months and years differ in length",
            "write days: `73000 days`",
        ),
        (
            "99999999999999999999 days",
            "'99999999999999999999 days' is not between 0 and 100 years",
            "write a number and a unit, such as `10 minutes`, `7 days` or `PT1H30M`",
        ),
    ],
)
def test_what_is_no_duration_says_what_would_be(value: str, message: str, hint: str) -> None:
    """A refused duration is one sentence and a spelling that works."""
    with pytest.raises(InvalidPinError) as caught:
        parse_duration(value)

    assert (caught.value.message, caught.value.hint) == (message, hint)


@given(st.integers(0, 36_000 * 86_400))
def test_a_formatted_duration_reads_back(seconds: int) -> None:
    """A duration is shown in a spelling that is accepted, and off by less than its last unit."""
    shown = parse_duration(format_duration(seconds))
    unit = 1 if seconds < 3600 else 60 if seconds < 86400 else 3600

    assert seconds - unit < shown.total_seconds() <= seconds


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (0.0, "0 s"),
        (0.04, "0.0 s"),
        (4.12, "4.1 s"),
        (42.0, "42 s"),
        (59.7, "1 min"),
        (65.0, "1 min 5 s"),
        (3600.0, "1 h"),
        (86_400.0, "1 day"),
        (90_000.0, "1 day 1 h"),
        (timedelta(days=7), "7 days"),
    ],
)
def test_durations_read_well(duration: float | timedelta, text: str) -> None:
    """Two units at most, and no decimals where they would not matter."""
    assert format_duration(duration) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "just now"),
        (59, "just now"),
        (60, "1 minute ago"),
        (7200, "2 hours ago"),
        (86_400 * 3, "3 days ago"),
        (86_400 * 65, "2 months ago"),
        (86_400 * 800, "2 years ago"),
        (-7200, "in 2 hours"),
    ],
)
def test_ages_read_well(seconds: int, text: str) -> None:
    """An age has one unit, the largest."""
    now = datetime(2026, 3, 1, tzinfo=UTC)

    assert format_age(now - timedelta(seconds=seconds), now) == text


# --- instants -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("2024", "2024-12-31T23:59:59.999999+00:00"),
        ("2024-02", "2024-02-29T23:59:59.999999+00:00"),
        ("2023-02", "2023-02-28T23:59:59.999999+00:00"),
        ("2024-12-10", "2024-12-10T23:59:59.999999+00:00"),
        ("2024-12-10T09Z", "2024-12-10T09:59:59.999999+00:00"),
        ("2024-12-10T00Z", "2024-12-10T00:59:59.999999+00:00"),
        ("2024-12-10T09:30Z", "2024-12-10T09:30:59.999999+00:00"),
        ("2024-12-10T09:30:05Z", "2024-12-10T09:30:05.999999+00:00"),
        ("2024-12-10T09:30:05.865Z", "2024-12-10T09:30:05.865999+00:00"),
        ("2024-12-10T09:30:05.865123Z", "2024-12-10T09:30:05.865123+00:00"),
        ("2024-12-10T09:30:05.865123789Z", "2024-12-10T09:30:05.865123+00:00"),
        ("2024-12-10 09:30Z", "2024-12-10T09:30:59.999999+00:00"),
        ("2024-12-10t09:30z", "2024-12-10T09:30:59.999999+00:00"),
        ("2024-12-10T01:30+02:00", "2024-12-09T23:30:59.999999+00:00"),
        ("2024-12-10T09:30-0530", "2024-12-10T15:00:59.999999+00:00"),
        ("2024-12-10T09:30 +02", "2024-12-10T07:30:59.999999+00:00"),
    ],
)
def test_an_instant_is_the_end_of_the_unit_it_names(text: str, end: str) -> None:
    """What is cut off is filled up to the last microsecond, in the zone that is given."""
    assert parse_instant(text).at.isoformat() == end


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "2024-12-10T09:30",
            "'2024-12-10T09:30' has no time zone",
            "write `2024-12-10T09:30Z` for UTC, or an offset such as `2024-12-10T09:30+02:00`",
        ),
        (
            "2024-12-10 09",
            "'2024-12-10 09' has no time zone",
            "write `2024-12-10 09Z` for UTC, or an offset such as `2024-12-10 09+02:00`",
        ),
        (
            "2024-02-30",
            "'2024-02-30' is not an instant: day is out of range for month",
            "write a date (`2024-12-10`) or an instant with a zone (`2024-12-10T09:30Z`)",
        ),
        (
            "2024-13",
            "'2024-13' is not an instant: there is no month 13",
            "write a date (`2024-12-10`) or an instant with a zone (`2024-12-10T09:30Z`)",
        ),
        (
            "2024-12-10T09:30+25:00",
            "'2024-12-10T09:30+25:00' is not an instant: there is no offset +25:00",
            "write a date (`2024-12-10`) or an instant with a zone (`2024-12-10T09:30Z`)",
        ),
        ("20241210", "'20241210' is not an instant", "write `2024-12-10`"),
        (
            "2024-12-10T9:30Z",
            "'2024-12-10T9:30Z' is not an instant",
            "write `2024-12-10` or an instant with a zone (`2024-12-10T09:30Z`)",
        ),
        (
            "9999",
            "'9999' is not an instant: the year is out of range",
            "write a date (`2024-12-10`) or an instant with a zone (`2024-12-10T09:30Z`)",
        ),
        (
            "yesterday",
            "'yesterday' is neither an instant nor a duration",
            "write a date (`2024-12-10`), an instant with a zone (`2024-12-10T09:30Z`), "
            "a duration (`7 days`) or `latest`",
        ),
    ],
)
def test_what_is_no_pin_says_what_would_be(text: str, message: str, hint: str) -> None:
    """A refused pin is one sentence, and a hint that can be typed."""
    with pytest.raises(InvalidPinError) as caught:
        parse_pin(text)

    assert (caught.value.message, caught.value.hint) == (message, hint)


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9998, 12, 30)))  # noqa: DTZ001
def test_an_aware_datetime_is_taken_exactly(naive: datetime) -> None:
    """From Python an instant is what it is, whatever zone it is told in."""
    moment = naive.replace(tzinfo=timezone(timedelta(hours=5, minutes=30)))

    assert parse_instant(moment).at == moment


@given(st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9998, 12, 31)))  # noqa: DTZ001
def test_an_instant_survives_being_written(naive: datetime) -> None:
    """The text of a pin means the pin: to the microsecond where it names one."""
    pin = parse_instant(naive.replace(tzinfo=UTC))

    assert parse_instant(pin.at.isoformat(timespec="microseconds")) == pin


@given(st.dates(max_value=date(9998, 12, 31)))
def test_every_moment_of_a_day_is_within_the_day(day: date) -> None:
    """A date covers its last microsecond and nothing of the next day."""
    end = parse_instant(day).at

    assert end.date() == day
    assert (end + timedelta(microseconds=1)).date() == day + timedelta(days=1)


def test_a_naive_datetime_is_refused_with_its_fix() -> None:
    """From Python, too, a time without a zone is no instant."""
    with pytest.raises(InvalidPinError, match="has no time zone") as caught:
        parse_instant(datetime(2024, 12, 10, 9, 30))  # noqa: DTZ001

    assert caught.value.hint is not None
    assert "`2024-12-10T09:30:00Z`" in caught.value.hint


# --- pins ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("latest", Latest),
        ("Latest", Latest),
        ("2024", AsOf),
        (2024, AsOf),
        ("2024-12-10", AsOf),
        (date(2024, 12, 10), AsOf),
        (datetime(2024, 12, 10, tzinfo=UTC), AsOf),
        ("7 days", Ago),
        ("7 days ago", Ago),
        ("P7D", Ago),
        (timedelta(days=7), Ago),
        (Latest(), Latest),
    ],
    ids=repr,
)
def test_a_pin_is_told_by_its_look(value: object, kind: type) -> None:
    """Instants, durations and `latest` need no marker."""
    assert isinstance(parse_pin(value), kind)


def test_a_pin_remembers_what_was_written() -> None:
    """Messages repeat the user's own words."""
    assert str(parse_pin("2024-12-10")) == "2024-12-10"
    assert str(parse_pin("7 days")) == "7 days"


@pytest.mark.parametrize("value", [True, None, 3.5, ["2024"]], ids=repr)
def test_other_kinds_of_values_are_no_pins(value: object) -> None:
    """A value of another kind is refused, not guessed at."""
    with pytest.raises(InvalidPinError, match="is not an instant"):
        parse_pin(value)
