"""Sizes, durations and instants: what people write, and what they like to read.

Owns every rule about `50 GB`, `7 days` and `2024-12-10`; used by the catalog's models, the
command line and messages. Knows nothing of catalogs. Each parser raises one sentence with a
hint that can be typed.
"""

import re
from calendar import monthrange
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache

from datacachalog.errors import InvalidPinError, InvalidValueError
from datacachalog.model import Ago, AsOf, Latest

# --- sizes --------------------------------------------------------------------------

_SIZE = r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)"
_READ_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB")
_SIZE_UNITS = {"": 1, "b": 1}
_SIZE_UNITS |= {unit.lower(): 1000**i for i, unit in enumerate(_READ_UNITS, 1)}
_SIZE_UNITS |= {f"{unit[0].lower()}ib": 1024**i for i, unit in enumerate(_READ_UNITS, 1)}


def parse_size(value: int | str) -> int:
    """Return a size in bytes: kB, MB, GB are powers of 1000 and KiB, MiB, GiB of 1024.

    >>> parse_size("50 GB")
    50000000000
    >>> parse_size("1.5 GiB")
    1610612736
    >>> parse_size(4096)
    4096
    """
    text = str(value).strip()
    match = re.fullmatch(_SIZE, text)
    if match is None or isinstance(value, bool):
        raise InvalidValueError(
            f"{_quote(value)} is not a size",
            hint="write a number and a unit, such as `50 GB` or `1.5 GiB`",
        )
    number, unit = match.groups()
    factor = _SIZE_UNITS.get(unit.lower())
    if factor is None:
        raise InvalidValueError(f"{_quote(value)} is not a size", hint=_size_hint(number, unit))
    whole, _, fraction = number.partition(".")
    # In integers: a float loses bytes beyond 2**53.
    return int(whole) * factor + (int(fraction) * factor // 10 ** len(fraction) if fraction else 0)


def _size_hint(number: str, unit: str) -> str:
    letter = unit[0].upper()
    for decimal in _READ_UNITS:
        if decimal[0].upper() == letter:
            return f"write `{number} {decimal}` (powers of 1000) or `{number} {letter}iB` (of 1024)"
    return f"write a unit such as kB, MB, GB or GiB: `{number} GB`"


def format_size(size: int) -> str:
    """Return a size as people read it, in powers of 1000.

    >>> format_size(999), format_size(1_234_567), format_size(50_000_000_000)
    ('999 B', '1.2 MB', '50 GB')
    """
    if size < 1000:
        return f"{size} B"
    amount, unit = size / 1000, 0
    # 999.5 would round to 1000: the next unit reads better.
    while amount >= 999.5 and unit < len(_READ_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.{1 if amount < 9.95 else 0}f} {_READ_UNITS[unit]}"


# --- durations ----------------------------------------------------------------------

_SECONDS_OF = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION_UNITS = {
    word: _SECONDS_OF[short]
    for short, words in {
        "s": "s sec secs second seconds",
        "min": "m min mins minute minutes",
        "h": "h hr hrs hour hours",
        "d": "d day days",
        "w": "w week weeks",
    }.items()
    for word in words.split()
}
_UNEVEN_UNITS = {"mo": 30, "month": 30, "months": 30, "y": 365, "year": 365, "years": 365}
_AMOUNT = r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)[\s,]*"
_ISO_DURATION = (
    r"(?i:"
    r"P(?=.)(?:(?P<w>\d+(?:\.\d+)?)W)?(?:(?P<d>\d+(?:\.\d+)?)D)?"
    r"(?:T(?=.)(?:(?P<h>\d+(?:\.\d+)?)H)?(?:(?P<min>\d+(?:\.\d+)?)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?)"
)
_LONGEST = timedelta(days=36_500)
_DURATION_HINT = "write a number and a unit, such as `10 minutes`, `7 days` or `PT1H30M`"


def parse_duration(value: str | timedelta) -> timedelta:
    """Return a duration, written in words (`7 days`, `1 h 30 min`, `90s`) or as ISO 8601 (`P7D`).

    Months and years are refused: they have no fixed length.

    >>> parse_duration("7 days")
    datetime.timedelta(days=7)
    >>> parse_duration("PT1H30M") == parse_duration("1 hour 30 minutes") == parse_duration("90m")
    True
    """
    if isinstance(value, timedelta):
        duration = value
    elif not isinstance(value, str):
        raise InvalidPinError(f"{_quote(value)} is not a duration", hint=_unitless_hint(value))
    else:
        duration = _parse_duration_text(value.strip())
    if not timedelta(0) <= duration <= _LONGEST:
        raise InvalidPinError(
            f"{_quote(value)} is not between 0 and 100 years", hint=_DURATION_HINT
        )
    return duration


@lru_cache(maxsize=256)  # a default is read again for each dataset
def _parse_duration_text(text: str) -> timedelta:
    if iso := re.fullmatch(_ISO_DURATION, text):
        amounts = iso.groupdict(default="0").items()
        return _from_seconds(text, sum(float(n) * _SECONDS_OF[unit] for unit, n in amounts))
    seconds, position = 0.0, 0
    while match := re.compile(_AMOUNT).match(text, position):
        amount, unit = match.group(1), match.group(2).lower()
        if days := _UNEVEN_UNITS.get(unit):
            raise InvalidPinError(
                f"{text!r} is not a duration: months and years differ in length",
                hint=f"write days: `{float(amount) * days:g} days`",
            )
        if unit not in _DURATION_UNITS:
            break
        seconds += float(amount) * _DURATION_UNITS[unit]
        position = match.end()
    if position == 0 or position < len(text):
        hint = _unitless_hint(text) if text.isdigit() else _DURATION_HINT
        raise InvalidPinError(f"{text!r} is not a duration", hint=hint)
    return _from_seconds(text, seconds)


def _from_seconds(text: str, seconds: float) -> timedelta:
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise InvalidPinError(
            f"{_quote(text)} is not between 0 and 100 years", hint=_DURATION_HINT
        ) from None


def _unitless_hint(value: object) -> str:
    return f"add a unit: `{value} seconds` or `{value} minutes`"


def format_duration(duration: timedelta | float) -> str:
    """Return a duration (a float counts seconds) as people read it: two units at most.

    >>> format_duration(4.12), format_duration(65), format_duration(timedelta(days=7))
    ('4.1 s', '1 min 5 s', '7 days')
    """
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds % 1 and seconds < 9.95 else f"{seconds:.0f} s"
    minutes, s = divmod(round(seconds), 60)
    hours, min_ = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return _count(days, "day") + (f" {h} h" if h else "")
    if h:
        return f"{h} h" + (f" {min_} min" if min_ else "")
    return f"{min_} min" + (f" {s} s" if s else "")


_AGES = (
    *((365 * 86400, "year"), (30 * 86400, "month")),
    *((86400, "day"), (3600, "hour"), (60, "minute")),
)


def format_age(then: datetime, now: datetime) -> str:
    """Return how long before `now` something was, in its largest unit.

    >>> noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    >>> format_age(noon - timedelta(minutes=5), noon), format_age(noon, noon)
    ('5 minutes ago', 'just now')
    """
    seconds = (now - then).total_seconds()
    for length, unit in _AGES:
        if abs(seconds) >= length:
            age = _count(int(abs(seconds) // length), unit)
            return f"{age} ago" if seconds > 0 else f"in {age}"
    return "just now"


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


# --- instants -----------------------------------------------------------------------

_INSTANT = (
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)(?P<time>[Tt ]\s*(?P<hour>\d\d)"
    r"(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?)?)?)?)?"
    r"\s*(?P<zone>[Zz]|[+-]\d\d(?::?\d\d)?)?"
)
_LOOKS_LIKE_INSTANT = r"\d{4}(-|$)|\d{8}([Tt ]|$)"
_PIN_HINT = (
    "write a date (`2024-12-10`), an instant with a zone (`2024-12-10T09:30Z`), "
    "a duration (`7 days`) or `latest`"
)
_INSTANT_HINT = "write a date (`2024-12-10`) or an instant with a zone (`2024-12-10T09:30Z`)"


def parse_instant(value: str | date | datetime) -> AsOf:
    """Return the last microsecond of the unit that is named, from a year down to a fraction.

    Text follows RFC 3339, cut off after any unit, with a space allowed for the `T`; days and
    longer are those of UTC. An aware `datetime` is taken exactly. Raises `InvalidPinError` for
    a time without a zone, with the corrected spelling as the hint.

    >>> parse_instant("2024-12-10").at.isoformat()
    '2024-12-10T23:59:59.999999+00:00'
    >>> parse_instant("2024-12-10T09:30:05Z").at.isoformat()
    '2024-12-10T09:30:05.999999+00:00'
    >>> parse_instant("2024-12-10 09:30+02:00").at.isoformat()
    '2024-12-10T07:30:59.999999+00:00'
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise _naive(value.isoformat())
        return AsOf(_in_utc(value, str(value)), value.isoformat().replace("+00:00", "Z"))
    return _parse_instant_text(value.isoformat() if isinstance(value, date) else value.strip())


@lru_cache(maxsize=256)  # a default is read again for each dataset
def _parse_instant_text(text: str) -> AsOf:
    match = re.fullmatch(_INSTANT, text)
    if match is None or (match["zone"] and not match["time"]):
        raise InvalidPinError(f"{text!r} is not an instant", hint=_correct_instant(text))
    if match["time"] and not match["zone"]:
        raise _naive(text)
    return AsOf(_in_utc(_end_of_unit(match, text), text), text)


def _end_of_unit(match: re.Match[str], text: str) -> datetime:
    year, month = int(match["year"]), int(match["month"] or 12)
    time = (int(match["hour"] or 23), int(match["minute"] or 59), int(match["second"] or 59))
    fraction = int((match["fraction"] or "")[:6].ljust(6, "9"))
    try:
        day = int(match["day"] or monthrange(year, month)[1])
        return datetime(year, month, day, *time, fraction, tzinfo=_zone(match["zone"] or "Z"))
    except ValueError as exc:
        reason = str(exc).partition("; must be")[0]
        reason = reason.replace("bad month number", "there is no month")
        raise InvalidPinError(f"{text!r} is not an instant: {reason}", hint=_INSTANT_HINT) from None


def _zone(text: str) -> timezone:
    if text in "Zz":
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 23 or minutes > 59:
        raise ValueError(f"there is no offset {text}")
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if text[0] == "-" else offset)


def _in_utc(moment: datetime, text: str) -> datetime:
    # The last year is left out so that the end of any unit can be stepped over.
    with suppress(OverflowError):
        utc = moment.astimezone(UTC)
        if utc.year < 9999:
            return utc
    raise InvalidPinError(
        f"{text!r} is not an instant: the year is out of range", hint=_INSTANT_HINT
    )


def _naive(text: str) -> InvalidPinError:
    return InvalidPinError(
        f"{text!r} has no time zone",
        hint=f"write `{text}Z` for UTC, or an offset such as `{text}+02:00`",
    )


def _correct_instant(text: str) -> str:
    if match := re.match(r"(\d{4})(\d\d)(\d\d)", text):
        return f"write `{'-'.join(match.groups())}`"
    if match := re.match(r"\d{4}-\d\d-\d\d", text):
        return f"write `{match.group()}` or an instant with a zone (`{match.group()}T09:30Z`)"
    return _INSTANT_HINT


# --- pins ---------------------------------------------------------------------------


def parse_pin(value: object) -> Latest | AsOf | Ago:
    """Return the pin that text, a date, an aware datetime or a timedelta means.

    >>> parse_pin("latest")
    Latest()
    >>> parse_pin("7 days").delta.days
    7
    >>> parse_pin("2024-12").at.isoformat()
    '2024-12-31T23:59:59.999999+00:00'
    """
    if isinstance(value, Latest | AsOf | Ago):
        return value
    if isinstance(value, date):
        return parse_instant(value)
    if isinstance(value, timedelta):
        return Ago(parse_duration(value), format_duration(value))
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise InvalidPinError(f"{_quote(value)} is not an instant", hint=_PIN_HINT)
    text = value.strip()
    if text.lower() == "latest":
        return Latest()
    if re.match(_LOOKS_LIKE_INSTANT, text):
        return parse_instant(text)
    if text[:1].isdigit() or re.fullmatch(_ISO_DURATION, text):
        return Ago(parse_duration(text.removesuffix(" ago")), text)
    raise InvalidPinError(f"{text!r} is neither an instant nor a duration", hint=_PIN_HINT)


def _quote(value: object) -> str:
    if isinstance(value, str):
        return repr(value)
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"
