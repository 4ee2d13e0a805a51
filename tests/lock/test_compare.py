"""How two sides differ: entries of a lock, and what a catalog means at two times."""

from datetime import UTC, datetime
from typing import Any

import pytest

from datacachalog.errors import (
    AccessDeniedError,
    DatacachalogError,
    InvalidPinError,
    LockError,
    ObjectNotFoundError,
)
from datacachalog.lock.compare import Change, compare
from datacachalog.lock.file import LockedDataset, PinKind, read
from datacachalog.model import RemoteObject
from tests.lock.test_rules import lock_of, locked
from tests.projects import Project, one, orders

AT = datetime(2026, 1, 1, tzinfo=UTC)


def an_object(path: str, *, etag: str = "e", size: int = 10) -> RemoteObject:
    """Return an object of the orders."""
    return RemoteObject(f"s3://lake/{path}", path, size, AT, etag)


def an_entry(*objects: RemoteObject, **hashes: str) -> LockedDataset:
    """Return the entry of the orders."""
    return LockedDataset("orders", "d", PinKind.ETAG, objects, hashes)


def test_files_are_paired_by_path() -> None:
    """What is only left is removed, only right added, on both sides with other bytes changed."""
    before = an_entry(an_object("gone"), an_object("same"), an_object("moved"))
    after = an_entry(
        an_object("same"), an_object("moved", etag="f", size=25), an_object("new", size=7)
    )

    found = compare("orders", before, after)

    assert [(c.relpath, c.change, c.growth) for c in found.changes] == [
        ("gone", Change.REMOVED, -10),
        ("moved", Change.CHANGED, 15),
        ("new", Change.ADDED, 7),
    ]
    assert (found.same, found.growth, found.download_bytes) == (1, 12, 32)
    assert [found.count(change) for change in Change] == [1, 1, 1]


def test_files_with_the_same_hash_do_not_differ() -> None:
    """The same bytes may have been written twice; without hashes, the ETag decides."""
    old, new = an_object("a", etag="e1"), an_object("a", etag="e2")
    hashes = {"a": "ab" * 32}

    assert compare("orders", an_entry(old), an_entry(new)).count(Change.CHANGED) == 1
    assert compare("orders", an_entry(old, **hashes), an_entry(new, **hashes)).changes == ()


def changes(found: list[Any]) -> dict[str, dict[str, str]]:
    """Return what differs: kinds of change by path, by dataset."""
    return {c.name: {change.relpath: change.change.value for change in c.changes} for c in found}


def test_outdated_says_what_an_upgrade_would_move(project: Project) -> None:
    """By each dataset's own pin; what would stay is left out."""
    project.put_all({"orders/a": b"1", "orders/b": b"1", "one.csv": b"1"})
    datasets = orders(), one(), orders(name="pinned", as_of="2024-01-01T00:00:03Z")
    catalog = locked(project, *datasets)
    nothing = catalog.outdated()
    project.put_all({"orders/a": b"22", "orders/c": b"333"})
    project.delete("orders/b")
    found = catalog.outdated()

    assert nothing == []
    assert changes(found) == {"orders": {"a": "changed", "b": "removed", "c": "added"}}
    assert (found[0].growth, found[0].download_bytes) == (3, 5)
    assert changes(list(catalog.lock(upgrade=True).moved)) == changes(found)


def test_a_source_that_is_away_does_not_hide_the_others(project: Project) -> None:
    """Its error is its own."""
    project.put_all({"orders/a": b"1", "one.csv": b"1"})
    catalog = locked(project, orders(), one())
    project.put("orders/a", b"2")
    project.storage.fail("scan", AccessDeniedError("not permitted"), times=2)
    outdated, diff = catalog.outdated(), catalog.diff()

    for found in (outdated, diff):
        assert {c.name: str(c.error) if c.error else c.count(Change.CHANGED) for c in found} == {
            "orders": 1,
            "one": "not permitted",
        }


SIDES = {
    "lock": {"a": b"1", "b": b"1"},
    "placed": {"a": b"1", "b": b"1", "c": b"333"},
    "latest": {"c": b"4444"},
    "2024-01-02": {"a": b"1", "b": b"1"},
}


@pytest.mark.parametrize("before", SIDES)
@pytest.mark.parametrize("after", SIDES)
def test_any_two_sides_are_compared(project: Project, before: str, after: str) -> None:
    """The lock, what is placed, what is latest, and instants."""
    at = datetime(2024, 1, 1, tzinfo=UTC)
    project.put("orders/a", b"1", at=at)
    project.put("orders/b", b"1", at=at)
    project.catalog().lock()
    project.put("orders/c", b"333", at=datetime(2024, 2, 1, tzinfo=UTC))
    project.catalog(lock_mode="ignore").sync()
    project.put("orders/c", b"4444")
    project.delete("orders/a")
    project.delete("orders/b")
    found = project.catalog().diff(before, after)

    old, new = SIDES[before], SIDES[after]
    expected = {
        **dict.fromkeys(new.keys() - old.keys(), "added"),
        **dict.fromkeys(old.keys() - new.keys(), "removed"),
        **{path: "changed" for path in old.keys() & new.keys() if old[path] != new[path]},
    }
    assert changes(found) == ({"orders": expected} if expected else {})


def test_two_locks_are_compared_without_asking(project: Project) -> None:
    """As files or as values, with what one of them lacks, and with what left the catalog."""
    project.put_all({"orders/a": b"1", "one.csv": b"1"})
    project.catalog(orders()).lock()
    old = (project.root / "catalog.lock").rename(project.base / "old.lock")
    project.put("orders/a", b"2")
    project.catalog(orders(), one()).lock()
    project.storage.calls.clear()
    catalog = project.catalog(one())

    by_path = catalog.diff(str(old), "lock")
    by_value = catalog.diff(read(old), lock_of(project))
    assert changes(by_path) == {"one": {"one.csv": "added"}, "orders": {"a": "changed"}}
    assert by_value == by_path
    assert changes(catalog.diff(str(old), "lock", "one")) == {"one": {"one.csv": "added"}}
    assert project.storage.calls == []


def test_sides_are_left_out(project: Project) -> None:
    """Then it is from the lock, or from what is placed, to what is latest."""
    project.put("orders/a", b"1")
    project.catalog().sync()
    project.put("orders/a", b"22")
    from_placed = project.catalog().diff()
    project.catalog().lock()
    from_lock = project.catalog().diff()

    assert (changes(from_placed), from_lock) == ({"orders": {"a": "changed"}}, [])


def test_a_dataset_that_was_not_there_yet_is_empty(project: Project) -> None:
    """On one side it was added; on both, there is no difference. A wrong key is an error."""
    project.put("orders/a", b"1", at=datetime(2024, 3, 1, tzinfo=UTC))
    catalog = project.catalog()

    assert changes(catalog.diff("2024-01-01", "2024-04-01")) == {"orders": {"a": "added"}}
    assert catalog.diff("2024-01-01", "2024-02-01") == []
    (found,) = project.catalog(one()).diff("2024-01-01", "2024-02-01")
    assert isinstance(found.error, ObjectNotFoundError)


def test_dates_and_datetimes_are_sides(project: Project) -> None:
    """As text is."""
    project.put("orders/a", b"1", at=datetime(2024, 1, 1, tzinfo=UTC))
    project.put("orders/a", b"22", at=datetime(2024, 2, 1, tzinfo=UTC))
    first, second = datetime(2024, 1, 5, tzinfo=UTC), datetime(2024, 2, 5, tzinfo=UTC)
    catalog = project.catalog()

    assert catalog.diff(first, second) == catalog.diff(first.date(), "2024-02-05")
    assert changes(catalog.diff(first, second)) == {"orders": {"a": "changed"}}


@pytest.mark.parametrize(
    ("side", "error", "message", "hint"),
    [
        ("lok", InvalidPinError, "'lok' is no side of a comparison", "did you mean 'lock'?"),
        (
            "yesterday",
            InvalidPinError,
            "'yesterday' is no side of a comparison",
            "write `lock`, `latest`, `placed`, a time, or the path of a lock file",
        ),
        ("no.lock", LockError, "there is no lock 'no.lock'", "check the path"),
        (
            "2024-01-01T10:00",
            InvalidPinError,
            "'2024-01-01T10:00' has no time zone",
            "write `2024-01-01T10:00Z` for UTC, or an offset such as `2024-01-01T10:00+02:00`",
        ),
    ],
)
def test_what_is_no_side_is_refused(
    project: Project, side: str, error: type[DatacachalogError], message: str, hint: str
) -> None:
    """Before anything is asked, and once."""
    with pytest.raises(error) as caught:
        project.catalog(orders(), one()).diff(side, "latest")

    assert (str(caught.value), caught.value.hint) == (message, hint)
    assert project.storage.calls == []
