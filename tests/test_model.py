"""The values: what identifies bytes, and what only looks as if it did."""

import pickle
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog.model import Ago, AsOf, RemoteObject, VersionId

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
OBJECT = RemoteObject("s3://lake/a", "a", 3, NOW, "e1", "v1")


def changed(**options: object) -> RemoteObject:
    """Return the object with some fields changed."""
    return OBJECT._replace(**options)  # type: ignore[arg-type] # fields by name


@pytest.mark.parametrize(
    ("other", "same"),
    [
        pytest.param(changed(), True, id="itself"),
        pytest.param(changed(relpath="b"), True, id="elsewhere on disk"),
        pytest.param(changed(etag="e2"), True, id="the version decides"),
        pytest.param(changed(version_id="v2"), False, id="another version"),
        pytest.param(changed(uri="s3://lake/b"), False, id="another key"),
        pytest.param(changed(size=4), False, id="another size"),
        pytest.param(changed(version_id=None), True, id="a listing knows no version"),
        pytest.param(changed(version_id=None, etag="e2"), False, id="then the ETag decides"),
        pytest.param(changed(version_id="null", etag="e2"), False, id="`null` is no version"),
        pytest.param(
            changed(version_id=None, modified=NOW + timedelta(1)), True, id="not the time"
        ),
        pytest.param(changed(version_id=None, etag=None), False, id="nothing to go by"),
    ],
)
def test_sameness(other: RemoteObject, same: bool) -> None:
    """Both ways alike."""
    assert OBJECT.is_same_as(other) is same
    assert other.is_same_as(OBJECT) is same


def test_without_version_and_etag_size_and_time_decide() -> None:
    """As on local disks of some servers."""
    plain = changed(version_id=None, etag=None)

    assert plain.is_same_as(plain._replace())
    assert not plain.is_same_as(plain._replace(modified=NOW + timedelta(microseconds=1)))


@pytest.mark.parametrize(
    ("options", "endpoint", "same"),
    [
        ({}, "aws", True),
        ({"relpath": "b", "modified": NOW + timedelta(1)}, "aws", True),
        ({"etag": "e2"}, "aws", True),
        ({"version_id": "v2"}, "aws", False),
        ({"uri": "s3://lake/b"}, "aws", False),
        ({}, "http://localhost:9000", False),
        ({"version_id": None}, "aws", False),
    ],
    ids=["itself", "place and time", "etag", "version", "key", "server", "no version"],
)
def test_fingerprints(options: dict[str, object], endpoint: str, same: bool) -> None:
    """What identifies the bytes, and nothing else; equal keys of two servers never meet."""
    assert (OBJECT.fingerprint("aws") == changed(**options).fingerprint(endpoint)) is same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"version_id": "null"}, {"version_id": "null", "etag": "e2"}),
        ({"version_id": None}, {"version_id": None, "size": 4}),
        ({"version_id": None, "etag": None}, {"version_id": None, "etag": None, "size": 4}),
        (
            {"version_id": None, "etag": None},
            {"version_id": None, "etag": None, "modified": NOW + timedelta(microseconds=1)},
        ),
        ({"version_id": "x"}, {"version_id": None, "etag": "x"}),
        ({"uri": "s3://a/b\0c"}, {"uri": "s3://a/b", "version_id": "c"}),
    ],
    ids=["null", "size", "size alone", "time alone", "kinds apart", "no way round"],
)
def test_fingerprints_that_must_differ(one: dict[str, object], other: dict[str, object]) -> None:
    """What stands for other bytes may not share a place in the store."""
    assert changed(**one).fingerprint("aws") != changed(**other).fingerprint("aws")


def test_a_fingerprint_is_64_hex_digits_for_any_key() -> None:
    """Lone surrogates, too: keys are bytes in the end."""
    fingerprint = changed(uri="s3://lake/\udcff\n🙂").fingerprint("aws")

    assert len(fingerprint) == 64
    assert set(fingerprint) <= set("0123456789abcdef")


@given(st.datetimes(min_value=datetime(1, 1, 2), timezones=st.just(UTC)))  # noqa: DTZ001 - bound
def test_times_are_exact_to_the_microsecond(at: datetime) -> None:
    """Floating point would lose some."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)

    assert epoch + timedelta(microseconds=changed(modified=at).mtime_ns // 1000) == at


INSTANTS = st.datetimes(timezones=st.just(UTC)) | st.datetimes(timezones=st.just(UTC)).map(
    lambda at: at.replace(microsecond=999_999)
)


@given(INSTANTS, INSTANTS)
def test_two_instants_never_share_a_folder(one: datetime, other: datetime) -> None:
    """The part of the name that says the time is injective."""
    assert (AsOf(one).slug == AsOf(other).slug) is (one == other)


def test_the_text_of_a_pin_is_for_people_only() -> None:
    """It takes no part in comparisons."""
    assert AsOf(NOW, "yesterday") == AsOf(NOW)
    assert str(AsOf(NOW, "yesterday")) == "yesterday"
    assert str(AsOf(NOW)) == "2026-03-01T12:00:00.123456Z"
    assert Ago(timedelta(days=7), "7 days") == Ago(timedelta(days=7))
    assert str(VersionId("v1")) == "version v1"


def test_values_are_frozen_and_travel() -> None:
    """Between threads, and between processes."""
    with pytest.raises(AttributeError):
        OBJECT.size = 4  # type: ignore[misc] # that is the point

    assert pickle.loads(pickle.dumps(OBJECT)) == OBJECT
