"""All of history, in true order: against a model, and against other servers' order."""

from datetime import UTC, datetime, timedelta
from itertools import groupby

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datacachalog.errors import AccessDeniedError, VersioningNotSupportedError
from datacachalog.model import DeleteMarker, RemoteObject
from datacachalog.storage.s3 import S3Storage
from tests.conftest import Bucket, TestS3
from tests.fake_s3 import FakeS3, Reply, error

KEYS = ["p/a", "p/ab", "p/a/b", "p/é", "p/a b+%41", "p//x"]
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["put", "delete"]), st.sampled_from(KEYS), st.booleans()),
    min_size=1,
    max_size=14,
)
Told = tuple[str, str | None, int | None]


def play(bucket: Bucket, actions: list[tuple[str, str, bool]]) -> list[Told]:
    """Do `actions` and return the history they make: a few lines of obvious Python.

    The flag tells that versioning is suspended meanwhile: the write is then `null`, and
    takes the place of an older `null`.
    """
    history: dict[str, list[Told]] = {}
    for number, (action, key, is_suspended) in enumerate(actions):
        if action == "delete" and key not in history:
            continue  # moto leaves no marker where nothing ever was
        if action == "put":
            version = bucket.put(key, b"x" * number)
        else:
            version = bucket.client.delete_object(Bucket=bucket.name, Key=key)["VersionId"]
        if is_suspended:
            bucket.make_null(key)
            version = "null"
        kept = [entry for entry in history.get(key, []) if entry[1] != version]
        history[key] = [(key, version, number if action == "put" else None), *kept]
    return [entry for key in sorted(history, key=str.encode) for entry in history[key]]


def told(storage: S3Storage, uri: str, bucket: Bucket) -> list[Told]:
    """Return what the storage tells of `uri`."""
    return [
        (e.uri.removeprefix(bucket.uri()), e.version_id, getattr(e, "size", None))
        for e in storage.versions(uri)
    ]


@pytest.mark.parametrize("page_size", [1, 2, 3, 1000])
@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(actions=ACTIONS)
def test_history_is_what_happened(
    s3: TestS3, page_size: int, actions: list[tuple[str, str, bool]]
) -> None:
    """Puts, deletes and suspensions, also within one second, come back in true order."""
    bucket = s3.bucket(versioning=True)
    storage = S3Storage(s3.settings, page_size=page_size)
    expected = play(bucket, actions)

    assert told(storage, bucket.uri("**"), bucket) == expected
    for key, entries in groupby(expected, key=lambda entry: entry[0]):
        assert told(storage, bucket.uri(key), bucket) == list(entries)


def test_siblings_of_a_literal_key_are_neither_told_nor_listed(s3: TestS3) -> None:
    """Of `p/a` and many `p/a…`, one page is enough."""
    bucket = s3.bucket(versioning=True)
    for i in range(12):
        bucket.put(f"p/a{i or ''}", b"x")
    storage = S3Storage(s3.settings, page_size=2)

    assert [e.uri for e in storage.versions(bucket.uri("p/a"))] == [bucket.uri("p/a")]


def test_paths_lie_below_the_patterns_folder(s3: TestS3) -> None:
    """History has the relpaths that a scan has."""
    bucket = s3.bucket(versioning=True)
    bucket.put("p/y=1/a.csv", b"x")
    storage = S3Storage(s3.settings)

    for pattern in ("p/y=*/*.csv", "p/**", "p/y=1/a.csv"):
        (scanned,) = storage.scan(bucket.uri(pattern))
        (version,) = storage.versions(bucket.uri(pattern))
        assert version.relpath == scanned.relpath


def test_versions_before_versioning(s3: TestS3) -> None:
    """What was written before versioning began is `null`, and readable as that."""
    bucket = s3.bucket()
    bucket.put("a", b"before")
    bucket.version("Enabled")
    storage = S3Storage(s3.settings)

    (version,) = storage.versions(bucket.uri("a"))
    assert isinstance(version, RemoteObject)

    assert version.version_id == "null"
    assert b"".join(storage.read(version, 0, 6)) == b"before"


@pytest.mark.parametrize("pattern", ["a", "**", "none"])
def test_a_bucket_without_history_says_so(s3: TestS3, pattern: str) -> None:
    """An unversioned bucket is not an empty history."""
    bucket = s3.bucket()
    bucket.put("a", b"x")

    with pytest.raises(VersioningNotSupportedError, match=bucket.name):
        list(S3Storage(s3.settings).versions(bucket.uri(pattern)))


def test_no_such_key_in_a_versioned_bucket(s3: TestS3) -> None:
    """There, nothing is an empty history."""
    bucket = s3.bucket(versioning=True)

    assert list(S3Storage(s3.settings).versions(bucket.uri("none"))) == []


def test_folder_markers_have_no_history(s3: TestS3) -> None:
    """A marker is left out; a key that had bytes and became a marker counts as deleted."""
    bucket = s3.bucket(versioning=True)
    bucket.put("d/", b"")
    bucket.put("f/", b"bytes")
    bucket.put("f/", b"")

    kinds = [(e.uri, type(e)) for e in S3Storage(s3.settings).versions(bucket.uri("**"))]

    assert kinds == [(bucket.uri("f/"), DeleteMarker), (bucket.uri("f/"), RemoteObject)]


def test_the_missing_permission_is_named() -> None:
    """Versions need more than a listing; the error says what."""
    with (
        FakeS3(answer=Reply(403, error("AccessDenied"))) as server,
        pytest.raises(AccessDeniedError, match="s3:ListBucketVersions"),
    ):
        list(server.storage().versions("s3://bucket/**"))


def test_servers_that_list_markers_last(s3: TestS3) -> None:
    """Where both kinds are grouped, times and the flag of the newest restore the order."""
    bucket = s3.bucket(versioning=True, prefix="grouped")
    start = datetime(2024, 1, 1, tzinfo=UTC)
    for key in ("a", "b"):
        for number, action in enumerate(["put", "delete", "put", "delete"]):
            if action == "put":
                bucket.put(key, b"x" * number)
            else:
                bucket.delete(key)
            bucket.backdate(key, start + timedelta(days=number))

    for page_size in (1, 3, 1000):
        storage = S3Storage(s3.settings, page_size=page_size)
        sizes = [getattr(e, "size", None) for e in storage.versions(bucket.uri("**"))]
        assert sizes == [None, 2, None, 0] * 2
