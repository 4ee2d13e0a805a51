"""Which sources are accepted, and what they name."""

from pathlib import Path

import pytest

from datacachalog.errors import InvalidValueError, UnsupportedSchemeError
from datacachalog.uri import (
    check_source,
    fixed_folder,
    resolve_local,
    split,
)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("s3://lake/a.csv", "s3://lake/a.csv"),
        ("S3://lake/a.csv", "s3://lake/a.csv"),
        ("s3://lake/", "s3://lake/**"),
        ("s3://lake/orders/", "s3://lake/orders/**"),
        ("s3://lake/a%20b c//d::e", "s3://lake/a%20b c//d::e"),
        ("s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/x", None),
        ("file:///data/x.csv", "file:///data/x.csv"),
        ("memory://lake/x", "memory://lake/x"),
        ("in/x.csv", "in/x.csv"),
        ("in/", "in/**"),
        ("../shared/x.csv", "../shared/x.csv"),
        ("~/x.csv", "~/x.csv"),
    ],
)
def test_a_good_source_is_kept_as_it_is(text: str, kept: str | None) -> None:
    """Keys stay raw; only the scheme's case and a trailing slash are spelt out."""
    assert check_source(text) == (kept or text)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "the source is empty", "write a URI such as `s3://bucket/key`, or a path"),
        (
            "s3://lake",
            "the source 's3://lake' names no object",
            "write `s3://lake/**` for everything in the bucket",
        ),
        ("s3:///x", "the source 's3:///x' names no bucket", "write `s3://bucket/key`"),
        ("s3://la*e/x", "the source 's3://la*e/x' names no bucket", "write `s3://bucket/key`"),
        ("s3:lake/x", "the source 's3:lake/x' is no complete URI", "write `s3://lake/x`"),
        ("s3:/lake/x", "the source 's3:/lake/x' is no complete URI", "write `s3://lake/x`"),
        (
            "file://x.csv",
            "the source 'file://x.csv' is not absolute",
            "write `file:///…`, or `x.csv` for a path relative to the catalog",
        ),
        (
            "s3://lake/x\n",
            r"the source 's3://lake/x\n' holds a control character",
            "match such a character with `?`",
        ),
        (
            "s3://lake/x?versionId=3",
            "the source 's3://lake/x?versionId=3' holds a version",
            'write `source: s3://lake/x` and `version_id: "3"`',
        ),
    ],
)
def test_a_bad_source_says_what_to_write(text: str, message: str, hint: str) -> None:
    """Each slip gets one sentence and its corrected spelling."""
    with pytest.raises(InvalidValueError) as caught:
        check_source(text)

    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("s3a://lake/x", "write `s3://lake/x`"),
        ("gs://lake/x", "write `s3://bucket/key`, `file:///path`, or a path"),
        ("https://lake.s3.eu-west-1.amazonaws.com/a/x", "write `s3://lake/a/x`"),
        ("https://s3.amazonaws.com/lake/a/x", "write `s3://lake/a/x`"),
        (
            "simplecache::s3://lake/x",
            "name the stored object itself, such as `s3://bucket/key`",
        ),
        (
            "s3://lake/x::file://y",
            "name the stored object itself, such as `s3://bucket/key`",
        ),
    ],
)
def test_other_schemes_are_refused(text: str, hint: str) -> None:
    """Only schemes of the table are spoken, one at a time."""
    with pytest.raises(UnsupportedSchemeError) as caught:
        check_source(text)

    assert caught.value.hint == hint


@pytest.mark.parametrize("text", ["s3://AKIA:hush@lake/x", "http://me:hush@host/x"])
def test_credentials_in_a_source_are_refused_and_not_repeated(text: str) -> None:
    """The error does not carry the secret on."""
    with pytest.raises(InvalidValueError, match="must not hold credentials") as caught:
        check_source(text)

    assert "hush" not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("key", "folder"),
    [
        ("a/b/c.csv", "a/b"),
        ("c.csv", ""),
        ("a/b*/c", "a"),
        ("a/part-*.csv", "a"),
        ("a/odd[[]1]/x", "a/odd[1]"),
        ("a[[]/b*", "a["),
        ("**", ""),
    ],
)
def test_the_fixed_folder_ends_before_the_first_pattern(key: str, folder: str) -> None:
    """Relative paths begin below the folder that every match shares."""
    assert fixed_folder(key) == folder


def test_a_bucket_and_its_key_are_split_at_the_first_slash() -> None:
    """All beyond the bucket is the key, slashes and all."""
    assert split("s3://lake//a//b") == ("s3", "lake", "/a//b")


@pytest.mark.parametrize(
    ("source", "resolved"),
    [
        ("in/*.csv", "file:///work/[[]old]/in/*.csv"),
        ("../x.csv", "file:///work/x.csv"),
        ("/abs/*.csv", "file:///abs/*.csv"),
        ("file:///abs/x.csv", "file:///abs/x.csv"),
        ("s3://lake/x", "s3://lake/x"),
    ],
)
def test_local_sources_become_absolute(source: str, resolved: str) -> None:
    """A folder's own brackets never turn into a pattern."""
    assert resolve_local(source, Path("/work/[old]")) == resolved


def test_the_home_folder_is_spelt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """`~/` is the user's home, as in a shell."""
    monkeypatch.setenv("HOME", "/home/ada")

    assert resolve_local("~/x/*.csv", Path("/work")) == "file:///home/ada/x/*.csv"
