"""How two resolutions of a dataset differ."""

from datetime import UTC, datetime

from datacachalog.lock.compare import Change, compare
from datacachalog.model import RemoteObject

AT = datetime(2026, 1, 1, tzinfo=UTC)


def an_object(path: str, *, etag: str = "e", size: int = 10) -> RemoteObject:
    """Return an object of the orders."""
    return RemoteObject(f"s3://lake/{path}", path, size, AT, etag)


def test_files_are_paired_by_path() -> None:
    """What is only left is removed, only right added, on both sides with other bytes changed."""
    before = [an_object("gone"), an_object("same"), an_object("moved")]
    after = [an_object("same"), an_object("moved", etag="f", size=25), an_object("new", size=7)]

    found = compare("orders", before, after)

    assert [(c.relpath, c.change, c.growth) for c in found.changes] == [
        ("gone", Change.REMOVED, -10),
        ("moved", Change.CHANGED, 15),
        ("new", Change.ADDED, 7),
    ]
    assert (found.same, found.growth, found.download_bytes) == (1, 12, 32)
    assert [found.count(change) for change in Change] == [1, 1, 1]


def test_equal_sides_have_no_changes() -> None:
    """Two equal sides compare to nothing."""
    side = [an_object("a"), an_object("b")]

    assert compare("orders", side, side).changes == ()
