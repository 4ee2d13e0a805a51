"""Placed files: columns that say what values would."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog.cache.placed_files import NOTHING, PlacedFile, PlacedFiles
from datacachalog.model import RemoteObject

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def placed(relpath: str = "a", blake3: str | None = "b3", **options: object) -> PlacedFile:
    """Return one file as it usually is."""
    obj = RemoteObject(f"s3://lake/x/{relpath}", relpath, 3, NOW, "e1")
    return PlacedFile(obj._replace(**options), blake3, obj.mtime_ns)  # type: ignore[arg-type] # fields


def test_files_are_sorted_and_found_by_their_paths() -> None:
    """Or None, where nothing was placed."""
    found = PlacedFiles.of([placed("b"), placed("a")])

    assert list(found) == [placed("a"), placed("b")]
    assert (found.find("b"), found.find("aa"), found.find("c")) == (placed("b"), None, None)


@pytest.mark.parametrize(
    ("relpaths", "inside", "others"),
    [
        (["a", "b"], ["a", "b"], []),
        (["b", "x"], ["b"], ["a"]),
        ([], [], ["a", "b"]),
    ],
    ids=["all", "some", "none"],
)
def test_files_are_split_by_paths(
    relpaths: list[str], inside: list[str], others: list[str]
) -> None:
    """What a resolution still has, and what is gone."""
    ours, gone = PlacedFiles.of([placed("a"), placed("b")]).split(relpaths)

    assert (ours.relpath, gone.relpath) == (inside, others)


@pytest.mark.parametrize(
    ("file", "same"),
    [
        pytest.param(placed(), True, id="equal"),
        pytest.param(placed(modified=NOW + timedelta(1)), True, id="the same by its ETag"),
        pytest.param(placed(etag="e2"), False, id="another"),
        pytest.param(placed(blake3=None), False, id="invalidated"),
    ],
)
def test_files_are_compared_with_objects(file: PlacedFile, same: bool) -> None:
    """Values that differ may still be of one object."""
    assert PlacedFiles.of([file]).same([placed().object]) == [same]


def test_changes_leave_the_files_that_stay_as_they_were() -> None:
    """One is written anew, one dropped, one new; all are sorted, whatever order they came in."""
    before = PlacedFiles.of([placed("a"), placed("b"), placed("c", etag="old"), placed("d")])
    hits = [placed("a", modified=NOW + timedelta(1)).object, placed("b").object]

    after = before.with_changes(hits, [placed("ba"), placed("c", etag="new"), placed("A")])

    assert list(after) == [
        placed("A"), placed("a"), placed("b"), placed("ba"), placed("c", etag="new"),
    ]  # fmt: skip
    assert list(before)[2] == placed("c", etag="old")


@given(
    names=st.sets(st.sampled_from("abcdefghij")),
    stay=st.sets(st.sampled_from("abcdefghij")),
    new=st.sets(st.sampled_from("aabcdefghijxyz_")),
    base=st.sampled_from(["s3://lake/x/", "s3://other/"]),
)
def test_any_change_gives_what_making_all_anew_would(
    names: set[str], stay: set[str], new: set[str], base: str
) -> None:
    """Whatever stays, is replaced, dropped or added, at the ends or in between."""
    before = PlacedFiles.of(placed(name, etag="old") for name in names)
    hits = [file for file in before if file.object.relpath in stay - new]
    fresh = [placed(name, etag="new", uri=base + name) for name in new]

    after = before.with_changes([file.object for file in hits], fresh)

    assert list(after) == list(PlacedFiles.of([*hits, *fresh]))


def test_a_version_id_that_a_file_lacks_is_learnt() -> None:
    """From what the file was found to be; a file that has one keeps its own."""
    before = PlacedFiles.of([placed("a"), placed("b", version_id="v1"), placed("c")])
    hits = [placed(name, version_id="v2").object for name in "ab"]

    after = before.with_changes(hits, [])

    assert list(after) == [placed("a", version_id="v2"), placed("b", version_id="v1")]


def test_nothing_is_placed_at_first() -> None:
    """Nor found."""
    assert (len(NOTHING), NOTHING.find("a"), list(NOTHING)) == (0, None, [])
