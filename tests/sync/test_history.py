"""What a history says: the state at an instant, and the list of versions."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog.model import DeleteMarker, RemoteObject
from datacachalog.sync.history import Entry, Snapshot, list_versions, pick_as_of

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def put(key: str, second: int, version: str = "v") -> RemoteObject:
    """Return the version of `key` written at `second`; its size is the second."""
    at = DAY + timedelta(seconds=second)
    return RemoteObject(f"s3://lake/{key}", key, second, at, "e", version)


def deletion(key: str, second: int) -> DeleteMarker:
    """Return the record that `key` was deleted at `second`."""
    return DeleteMarker(f"s3://lake/{key}", key, DAY + timedelta(seconds=second), "m")


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        pytest.param(0, None, id="before the first"),
        pytest.param(1, 1, id="at the very instant of a put"),
        pytest.param(2, 1, id="between two puts"),
        pytest.param(3, 3, id="after the second put"),
        pytest.param(5, None, id="deleted"),
        pytest.param(9, 7, id="written again"),
    ],
)
def test_the_newest_entry_at_or_before_the_instant_counts(
    second: int, expected: int | None
) -> None:
    """The state at an instant is the newest entry by then, and a delete marker is an absence."""
    history: list[Entry] = [put("a", 7), deletion("a", 5), put("a", 3), put("a", 1)]

    found = pick_as_of(history, DAY + timedelta(seconds=second))

    assert (found.size if found else None) == expected


def test_document_order_decides_within_one_second() -> None:
    """A put and a deletion of the same second count in the order in which S3 lists them."""
    at = DAY + timedelta(seconds=1)

    assert pick_as_of([deletion("a", 1), put("a", 1)], at) is None
    assert pick_as_of([put("a", 1), deletion("a", 1)], at) == put("a", 1)


_events = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.booleans()), max_size=30)


@given(_events, st.integers(0, 4))
def test_a_snapshot_is_what_replaying_gives(
    events: list[tuple[str, int, bool]], instant: int
) -> None:
    """For any history, the snapshot equals writing and deleting up to the instant, in order."""
    events.sort(key=lambda event: event[1])
    state: dict[str, int] = {}
    history: dict[str, list[Entry]] = {}
    for number, (key, second, is_put) in enumerate(events):
        entry: Entry = put(key, second, str(number)) if is_put else deletion(key, second)
        history.setdefault(key, []).insert(0, entry)
        if second > instant:
            continue
        if is_put:
            state[key] = number
        else:
            state.pop(key, None)
    listed = [entry for key in sorted(history) for entry in history[key]]

    snapshot = Snapshot(DAY + timedelta(seconds=instant))
    found = {obj.relpath: int(obj.version_id or "") for obj in snapshot.pick(listed)}

    assert found == state


def test_a_snapshot_remembers_the_beginning() -> None:
    """The first appearance of anything is known after the pass, also where nothing was picked."""
    snapshot = Snapshot(DAY)

    assert list(snapshot.pick([put("a", 9), put("a", 5), put("b", 7)])) == []
    assert snapshot.first == DAY + timedelta(seconds=5)


def test_versions_are_limited_key_by_key() -> None:
    """Each key shows its newest versions, markers included, and which one is the latest."""
    history: list[Entry] = [deletion("a", 9), put("a", 5), put("a", 1), put("b", 2)]

    found = list(list_versions(history, limit=2))

    assert [(v.relpath, v.is_latest, v.is_delete_marker, v.size) for v in found] == [
        ("a", True, True, None),
        ("a", False, False, 5),
        ("b", True, False, 2),
    ]


def test_versions_as_of_leave_out_what_came_later() -> None:
    """Later versions are left out, and none of the rest passes for the latest."""
    history = [put("a", 9), put("a", 5)]

    found = list(list_versions(history, at=DAY + timedelta(seconds=6)))

    assert [(v.size, v.is_latest) for v in found] == [(5, False)]
