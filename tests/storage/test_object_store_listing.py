"""Listings by obstore: how many requests they take, and what sends them the complete way."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from datacachalog.errors import StorageError
from datacachalog.storage.object_store import ObjectStoreStorage
from tests.fake_s3 import Change, FakeS3, Reply, Request, error, page_of, with_headers
from tests.storage.recording_storage import ROOT, RecordingStorage, described


@contextmanager
def serving(
    objects: dict[str, bytes], **options: Any
) -> Iterator[tuple[FakeS3, RecordingStorage, ObjectStoreStorage]]:
    """Serve `objects`, with a complete way that has the same."""
    with FakeS3(objects, **options) as server:
        complete = RecordingStorage(server.url, objects)
        yield server, complete, ObjectStoreStorage(complete)


def keys(folder: str, count: int, suffix: str = "") -> dict[str, bytes]:
    """Return so many objects in a folder."""
    return {f"{folder}{n:06d}{suffix}": b"x" for n in range(count)}


def uris(storage: ObjectStoreStorage, pattern: str, **options: object) -> list[str]:
    """Return the keys that `pattern` gives, sorted."""
    found = storage.scan(f"{ROOT}/{pattern}", **options)  # type: ignore[arg-type]
    return sorted(obj.uri.removeprefix(f"{ROOT}/") for obj in found)


@pytest.mark.parametrize("count", [1, 2, 999, 1000, 1001, 2000])
def test_a_listing_takes_its_pages_and_one_request_more(count: int) -> None:
    """The one more proves that nothing comes behind the last key; nothing else is asked."""
    with serving(keys("p/", count)) as (server, complete, storage):
        found = list(storage.scan(f"{ROOT}/p/**"))

        assert found == [described(key, b"x", below=2) for key in keys("p/", count)]
        assert len(server.requests) == -(-count // 1000) + 1
        assert complete.calls == []


def test_nothing_is_believed_only_from_the_complete_way() -> None:
    """An empty listing may as well be an answer that is no listing: one request, then that."""
    with serving({}) as (server, complete, storage):
        assert uris(storage, "p/**") == []
        assert len(server.requests) == 1
        assert complete.calls == [f"scan {ROOT}/p/**"]


def test_a_prefix_within_a_name_skips_what_lies_beside() -> None:
    """A folder's other names are neither listed before the prefix nor after it."""
    years = {f"raw/{year}-{n:04d}": b"x" for year in range(2020, 2030) for n in range(990)}
    with serving(years) as (server, complete, storage):
        assert len(uris(storage, "raw/2024-*")) == 990
        assert len(server.requests) == 1
        assert uris(storage, "raw/2030-*") == []
        assert complete.calls == [f"scan {ROOT}/raw/2030-*"]


def test_a_pattern_without_folders_passes_over_them() -> None:
    """Large folders below are jumped over, small ones dropped."""
    objects = keys("d/", 10, ".csv") | keys("d/a/", 3) | keys("d/b/", 3500) | {"d/z.csv": b"z"}
    with serving(objects) as (server, complete, storage):
        assert uris(storage, "d/*.csv") == [*keys("d/", 10, ".csv"), "d/z.csv"]
        assert len(server.requests) == 3
        assert complete.calls == []


def test_many_folders_below_are_left_to_the_complete_way() -> None:
    """It can ask for one level alone."""
    objects = {f"d/{n:02d}/{i:04d}": b"x" for n in range(20) for i in range(1500)} | {"d/z": b"z"}
    with serving(objects) as (server, complete, storage):
        assert uris(storage, "d/*") == ["d/z"]
        assert len(server.requests) < 8
        assert complete.calls == [f"scan {ROOT}/d/*"]


def test_the_root_is_asked_once_more() -> None:
    """Whether keys begin with a slash, which obstore would not show."""
    with serving(keys("p/", 1500)) as (server, complete, storage):
        assert len(uris(storage, "**")) == 1500
        assert len(server.requests) == 4
        assert complete.calls == []


@pytest.mark.parametrize("low", [{}, {".hidden": b"h"}], ids=["plain", "a dot first"])
@pytest.mark.parametrize("pattern", ["**", "*", "lea*", "[a-z]*"])
def test_keys_that_begin_with_a_slash_keep_it(low: dict[str, bytes], pattern: str) -> None:
    """At the root, such keys and their twins without it stay apart."""
    objects = low | {"/lead": b"1", "data": b"2", "leaf": b"3"}
    with serving(objects) as (_, complete, storage):
        assert uris(storage, pattern) == uris(complete, pattern)  # type: ignore[arg-type]


def test_a_dot_first_at_the_root_is_no_doubt() -> None:
    """Names that sort before a slash take one more request."""
    with serving({".hidden": b"h", "data": b"2"}) as (server, complete, storage):
        assert uris(storage, "**") == [".hidden", "data"]
        assert len(server.requests) == 4
        assert complete.calls == []


@pytest.mark.parametrize("odd", ["p/a//b", "p/../b", "p/./b", "p//", "p/m/\x7f", "p/b/"])
def test_one_odd_key_is_listed_as_it_is(odd: str) -> None:
    """And all others with it, by the complete way."""
    objects = {"p/a": b"1", "p/b": b"2", odd: b"3"}
    with serving(objects) as (_, complete, storage):
        assert uris(storage, "p/**") == sorted(objects)
        assert complete.calls == [f"scan {ROOT}/p/**"]


@pytest.mark.parametrize("pattern", ["a//*", "/*", "./*", "a/../*", "\x01/*"])
def test_folders_that_obstore_cannot_name_go_the_complete_way(pattern: str) -> None:
    """Nothing is asked of obstore."""
    with serving({"x": b"1"}) as (server, complete, storage):
        uris(storage, pattern)

        assert server.requests == []
        assert complete.calls == [f"scan {ROOT}/{pattern}"]


def test_empty_objects_and_folder_markers_are_told_apart() -> None:
    """One HEAD each, unless it is known to be an object; the folder's own marker needs none."""
    objects = keys("p/", 1500) | {"p/": b"", "p/done": b"", "p/sub/": b"", "p/sub/x": b"1"}
    expected = sorted(key for key in objects if key[-1] != "/")
    with serving(objects) as (server, complete, storage):
        assert uris(storage, "p/**") == expected
        assert [r.path for r in server.requests if r.method == "HEAD"] == [
            "/lake/p/done",
            "/lake/p/sub",
        ]
        server.requests.clear()
        assert uris(storage, "p/**", known={f"{ROOT}/p/done"}) == expected
        assert [r.path for r in server.requests if r.method == "HEAD"] == ["/lake/p/sub"]
        assert complete.calls == []


def test_many_empty_entries_go_the_complete_way() -> None:
    """Rather than ask for each."""
    objects = {"p/a": b"1"} | {f"p/{n}/": b"" for n in range(5)}
    with serving(objects) as (server, complete, storage):
        assert uris(storage, "p/**") == ["p/a"]
        assert {request.method for request in server.requests} == {"GET"}
        assert complete.calls == [f"scan {ROOT}/p/**"]


def test_thorough_is_the_complete_way() -> None:
    """From the start."""
    with serving({"p/a": b"1"}) as (server, _complete, storage):
        assert uris(storage, "p/**", is_thorough=True) == ["p/a"]
        assert server.requests == []


# --- servers that lie ---------------------------------------------------------------------

OBJECTS = keys("p/", 25)


def _pages(
    answer: Callable[[list[str]], bytes], *, when: Callable[[Request], bool] = lambda _: True
) -> Change:
    """Answer listings that `when` picks with what `answer` makes of the keys."""

    def change(request: Request, reply: Reply) -> Reply:
        is_changed = request.is_listing and when(request)
        return Reply(200, answer(sorted(OBJECTS))) if is_changed else reply

    return change


def _is_later(request: Request) -> bool:
    return bool(request.query.get("continuation-token") or request.query.get("start-after"))


def _some(names: list[str], token: str | None = None) -> bytes:
    return page_of([(name, b"x") for name in names], token=token)


LIES: dict[str, Change] = {
    "goes on, but not where": _pages(
        lambda names: _some(names[:10], "here").replace(b"NextContinuationToken", b"Nothing"),
        when=lambda request: not _is_later(request),
    ),
    "ends too early": _pages(lambda names: _some(names[:10]), when=lambda r: not _is_later(r)),
    "says the same for ever": _pages(lambda names: _some(names[:10], "again")),
    "keys fall": _pages(lambda names: _some(names[::-1])),
    "keys fall to the next page": _pages(lambda names: _some(names[:5]), when=_is_later),
    "keys twice": _pages(
        lambda names: _some(names).replace(names[1].encode(), names[0].encode()),
    ),
    "keys outside": _pages(lambda names: _some([*names, "q/a"])),
    "an error in a 200": _pages(lambda names: error("InternalError")),
    "an error in a later 200": _pages(lambda names: error("InternalError"), when=_is_later),
    "a page of a web site": _pages(lambda names: b"<html><body>Log in</body></html>"),
    "no XML": _pages(lambda names: b"Log in"),
    "no sizes": _pages(lambda names: _some(names).replace(b"Size>", b"Sighs>")),
    "nothing any more": lambda request, reply: Reply(0),
    "a failure": lambda request, reply: Reply(500, error("InternalError")),
    "not permitted": lambda request, reply: Reply(403, error("AccessDenied")),
}


@pytest.mark.parametrize("page_size", [10, 1000])
@pytest.mark.parametrize("change", LIES.values(), ids=LIES)
def test_what_a_listing_does_not_prove_is_asked_the_complete_way(
    change: Change, page_size: int
) -> None:
    """Once; and its answer counts."""
    with serving(OBJECTS, page_size=page_size, change=change) as (_, complete, storage):
        found = uris(storage, "p/**")

        assert found == sorted(OBJECTS)
        assert complete.calls == [f"scan {ROOT}/p/**"]


def test_the_complete_way_s_error_is_the_one_to_see() -> None:
    """It knows what the server said."""
    with serving(OBJECTS, change=LIES["a failure"]) as (_, complete, storage):
        complete.error = StorageError("the server failed")
        with pytest.raises(StorageError, match="the server failed"):
            uris(storage, "p/**")


def test_an_object_is_described_by_one_head() -> None:
    """With its version, if the server tells it."""
    versioned = with_headers(x_amz_version_id="v1")
    with serving({"p/[a] ?%20": b"1"}, change=versioned) as (server, complete, storage):
        (found,) = storage.scan(f"{ROOT}/p/[[]a] [?]%20")

        assert (found.uri, found.relpath, found.version_id) == (
            f"{ROOT}/p/[a] ?%20",
            "[a] ?%20",
            "v1",
        )
        assert [request.method for request in server.requests] == ["HEAD"]
        assert complete.calls == []


def test_a_missing_object_is_explained_the_complete_way() -> None:
    """It knows folders from buckets."""
    with serving({"p/a": b"1"}) as (_, complete, storage):
        with pytest.raises(StorageError, match="there is no object at s3://lake/p"):
            list(storage.scan(f"{ROOT}/p"))
        assert complete.calls == [f"scan {ROOT}/p"]
