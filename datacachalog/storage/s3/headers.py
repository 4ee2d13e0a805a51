"""What stands in the headers of S3's answers: ETags and times."""

from collections.abc import Mapping
from datetime import UTC, datetime


def unquoted(etag: str | None) -> str | None:
    """Return an ETag as the model keeps it: without quotes, None for none."""
    return (etag.strip('"') or None) if etag else None


def quoted(etag: str) -> str:
    """Return an ETag as a condition takes it."""
    return f'"{etag}"'


def read_date(text: str) -> datetime:
    """Return the time (aware, UTC) that a header tells; raise ValueError if it is none."""
    from email.utils import parsedate_to_datetime  # slow to load

    found = parsedate_to_datetime(text)
    # `-0000` says that it is UTC and that the zone is unknown.
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that `Retry-After` asks for, given as such or as a date."""
    text = headers.get("retry-after", "")
    if text.isdecimal():
        return float(text)
    try:
        now = read_date(headers["date"]) if "date" in headers else datetime.now(UTC)
        return max(0.0, (read_date(text) - now).total_seconds())
    except (TypeError, ValueError):
        return None
