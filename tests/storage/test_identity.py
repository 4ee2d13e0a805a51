"""Which field of `info()` identifies an object, filesystem by filesystem."""

from datetime import UTC, datetime
from typing import Any

import pytest

from datacachalog.storage.identity import Identity, identity_of, in_utc, modified_of


@pytest.mark.parametrize(
    ("protocol", "info", "expected"),
    [
        ("s3", {"ETag": '"abc"', "VersionId": "v1"}, Identity("v1", "abc")),
        ("s3", {"ETag": '"abc"', "VersionId": "null"}, Identity(None, "abc")),
        ("s3", {}, Identity()),
        ("gs", {"generation": 17, "etag": "CNf="}, Identity("17", None)),
        ("az", {"etag": "0x8D", "version_id": None}, Identity(None, "0x8D")),
        ("https", {"ETag": '"abc"'}, Identity(None, "abc")),
        ("https", {"ETag": 'W/"abc"'}, Identity()),
        ("https", {"ETag": 'W/"abc"', "Digest": "sha-256=x"}, Identity(None, "sha-256=x")),
        ("hf", {"blob_id": "f00"}, Identity(None, "f00")),
        ("sftp", {"size": 3, "mtime": 1767225600.0}, Identity()),
        ("memory", {"size": 3, "created": 1767225600.0}, Identity()),
        ("file", {"size": 3, "mtime": 1.5, "ino": 7}, Identity()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_table(protocol: str, info: dict[str, Any], expected: Identity) -> None:
    """What stays while bytes change, and what changes while they stay, identifies nothing."""
    assert identity_of([protocol], info) == expected
    assert expected.is_weak == (expected == Identity())


@pytest.mark.parametrize(
    "value",
    [
        datetime(2024, 3, 5, 7, tzinfo=UTC),
        datetime(2024, 3, 5, 7),  # noqa: DTZ001 - that is the case
        "2024-03-05T07:00:00Z",
        "2024-03-05T08:00:00+01:00",
        "Tue, 05 Mar 2024 07:00:00 GMT",
        1709622000,
        1709622000.0,
    ],
    ids=repr,
)
def test_times_of_every_spelling(value: datetime | str | float) -> None:
    """Filesystems tell times as values, texts and numbers."""
    assert in_utc(value) == datetime(2024, 3, 5, 7, tzinfo=UTC)
    assert modified_of({"mtime": value}) == datetime(2024, 3, 5, 7, tzinfo=UTC)


def test_creation_is_no_modification() -> None:
    """A filesystem that tells only when something was made does not tell when it changed."""
    assert modified_of({"created": 1709622000.0}) is None
