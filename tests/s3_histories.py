"""Random histories of a bucket: written to moto's server, and to a few lines of obvious Python.

A history is a list of writes in order. Times never go back, and often stand still: S3 keeps
whole seconds. While versioning is suspended, a write is `null` and takes the place of an
older `null`, whose bytes are gone for good.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from tests.conftest import Bucket

START = datetime(2024, 2, 28, 23, 59, 50, tzinfo=UTC)
KEYS = ("p/a", "p/ab", "p/a/b", "p/é", "p/a b+%41", "p//x", "p/A")


@dataclass(frozen=True)
class Write:
    """One thing that was done: an object was written, or (with `data` None) deleted."""

    key: str
    data: bytes | None
    at: datetime
    is_null: bool


@st.composite
def histories(draw: st.DrawFn, *, max_size: int = 14) -> list[Write]:
    """Draw a history over few keys, few bytes and few seconds, so that much coincides."""
    writes = []
    at = START
    for _ in range(draw(st.integers(1, max_size))):
        at += timedelta(seconds=draw(st.sampled_from([0, 0, 1, 2, 86_400])))
        data = draw(st.sampled_from([None, None, b"", b"x", b"yy", b"zz"]))
        is_null = draw(st.sampled_from([False, False, False, True]))
        writes.append(Write(draw(st.sampled_from(KEYS)), data, at, is_null))
    return writes


def instants(writes: Iterable[Write]) -> st.SearchStrategy[datetime]:
    """Draw instants on, just before and just after what happened, and anywhere between."""
    times = sorted({write.at for write in writes})
    near = st.sampled_from(times).flatmap(
        lambda at: st.sampled_from([at - timedelta(microseconds=1), at, at + timedelta(seconds=1)])
    )
    first, last = (at.replace(tzinfo=None) for at in (times[0], times[-1]))
    between = st.datetimes(first - timedelta(days=1), last + timedelta(days=1))
    return near | between.map(lambda at: at.replace(tzinfo=UTC))


# --- the obvious Python -------------------------------------------------------------------------


def surviving(writes: Iterable[Write]) -> list[Write]:
    """Return what is left of a history: no `null` that was replaced, no deletion of nothing."""
    kept: list[Write] = []
    for write in writes:
        if write.data is None and not any(old.key == write.key for old in kept):
            continue  # moto leaves no marker where nothing ever was
        if write.is_null:
            kept = [old for old in kept if not (old.key == write.key and old.is_null)]
        kept.append(write)
    return kept


def replayed(writes: Iterable[Write], until: datetime | None = None) -> dict[str, Write]:
    """Return what was there at an instant: do again what is left of the history, up to it."""
    there: dict[str, Write] = {}
    for write in surviving(writes):
        if until is not None and write.at > until:
            continue
        if write.data is None:
            there.pop(write.key, None)
        else:
            there[write.key] = write
    return there


def is_left(locked: Write, writes: Iterable[Write]) -> bool:
    """Tell whether bytes that were there once can be had: only a `null` can be overwritten.

    An empty object is proven like any other.
    """
    return not locked.is_null or any(
        write.is_null and (write.key, write.data) == (locked.key, locked.data)
        for write in surviving(writes)
    )


# --- the server ---------------------------------------------------------------------------------


def play(bucket: Bucket, writes: Iterable[Write]) -> None:
    """Do all of it to a bucket with versioning, in the server's own memory, at the given times."""
    for write in writes:
        if write.data is not None:
            bucket.backend.put_object(bucket.name, write.key, write.data)
        elif write.key in bucket.stored:
            bucket.backend.delete_object(bucket.name, write.key)
        else:
            continue
        bucket.backdate(write.key, write.at)
        if write.is_null:
            bucket.make_null(write.key)
