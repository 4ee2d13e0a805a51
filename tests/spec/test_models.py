"""The models: what one dataset, storage or setting may say."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from datacachalog.checksums import Checksum
from datacachalog.model import Ago, AsOf, Latest, VersionId
from datacachalog.spec.models import (
    CacheSettings,
    Dataset,
    StorageSettings,
)


def test_a_dataset_needs_a_name_and_a_source_only() -> None:
    """Everything else has a default that does nothing."""
    dataset = Dataset(name="x", source="s3://lake/x.csv")

    assert dataset.sources == ("s3://lake/x.csv",)
    assert dataset.pin == Latest()
    assert (dataset.is_single, dataset.is_glob, dataset.is_pinned) == (True, False, False)


@pytest.mark.parametrize(
    ("source", "is_single", "is_glob"),
    [
        ("s3://lake/x", True, False),
        ("s3://lake/odd[[]1].csv", True, False),
        ("s3://lake/*", False, True),
        ("s3://lake/", False, True),
        (["s3://lake/x"], False, False),
        (["s3://lake/x", "s3://lake/y/*"], False, True),
    ],
)
def test_a_dataset_knows_whether_it_is_one_object(
    source: str | list[str], is_single: bool, is_glob: bool
) -> None:
    """A list stays a list, also of one."""
    dataset = Dataset(name="x", source=source)

    assert (dataset.is_single, dataset.is_glob) == (is_single, is_glob)


def test_a_pin_comes_from_as_of_or_the_version() -> None:
    """Each way of pinning gives its own kind of pin."""
    instant = datetime(2024, 12, 10, tzinfo=UTC)

    assert Dataset(name="x", source="s3://l/x", as_of=instant).pin == AsOf(instant)
    assert Dataset(name="x", source="s3://l/x", as_of="7 days").pin == Ago(timedelta(days=7))
    assert Dataset(name="x", source="s3://l/x", version_id="v1").pin == VersionId("v1")
    assert not Dataset(name="x", source="s3://l/x", as_of="latest").is_pinned


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"version_id": "v", "as_of": "2024"}, "`version_id` and `as_of` exclude each other"),
        ({"version_id": "v", "source": "s3://l/*"}, "`version_id` needs a single object"),
        (
            {"checksum": "md5:" + "0" * 32, "source": "s3://l/*"},
            "one checksum cannot hold for several objects",
        ),
        (
            {"source": ["s3://l/x", "y.csv"]},
            "the sources are of different kinds (file, s3)",
        ),
        ({"path": "../x"}, "the path '../x' leaves the project"),
        ({"path": "a/../../x"}, "the path 'a/../../x' leaves the project"),
        ({"path": "/x"}, "the path '/x' is not relative to the catalog"),
        ({"path": "~/x"}, "the path '~/x' is not relative to the catalog"),
        ({"path": "C:/x"}, "the path 'C:/x' is not relative to the catalog"),
        ({"path": "."}, "the path '.' is the project itself"),
        ({"path": ".git/x"}, "the path '.git/x' is not usable"),
        ({"path": ".datacachalog"}, "the path '.datacachalog' is not usable"),
        ({"name": "../x"}, "'../x' is not a name"),
        ({"name": "-x"}, "'-x' is not a name"),
        ({"name": "x\n"}, r"'x\n' is not a name"),
        ({"name": ""}, "'' is not a name"),
        ({"reader": "eval"}, "'eval' is not a reader"),
        ({"max_age": "soon"}, "'soon' is not a duration"),
    ],
)
def test_a_broken_rule_is_one_sentence(keys: dict[str, object], message: str) -> None:
    """A dataset that contradicts itself cannot be made."""
    with pytest.raises(ValidationError) as caught:
        Dataset.model_validate({"name": "x", "source": "s3://l/x", **keys})

    assert [str(error["ctx"]["error"]) for error in caught.value.errors()] == [message]


def test_a_dataset_cannot_be_changed() -> None:
    """Values are frozen: whoever holds one may rely on it."""
    dataset = Dataset(name="x", source="s3://l/x")

    with pytest.raises(ValidationError, match="frozen"):
        dataset.name = "y"


def test_free_keys_are_left_out_and_others_refused() -> None:
    """`x-*` keys are for the user; anything else unknown is an error."""
    assert Dataset.model_validate({"name": "x", "source": "s3://l/x", "x-mine": 1}).name == "x"
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Dataset.model_validate({"name": "x", "source": "s3://l/x", "mine": 1})


def test_local_sources_resolve_and_remote_ones_stay() -> None:
    """Only paths depend on where the catalog is."""
    local = Dataset(name="x", source=["a.csv", "b/*.csv"]).with_resolved_paths(Path("/work"))
    remote = Dataset(name="x", source="s3://l/x")

    assert local.sources == ("file:///work/a.csv", "file:///work/b/*.csv")
    assert remote.with_resolved_paths(Path("/work")) is remote


def test_a_dataset_dumps_to_json() -> None:
    """Pins and durations read as they were written."""
    dataset = Dataset(name="x", source="s3://l/x", as_of="2024-12-10", max_age="P1D")  # type: ignore[arg-type]  # text is read, too
    dumped = dataset.model_dump(mode="json", exclude_defaults=True)

    assert dumped == {
        "name": "x",
        "source": "s3://l/x",
        "as_of": "2024-12-10",
        "max_age": "1 day",
    }


# --- checksums ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "checksum"),
    [
        ("md5:" + "AB" * 16, "md5:" + "ab" * 16),
        (" sha256:" + "0" * 64, "sha256:" + "0" * 64),
        ("SHA-256:" + "0" * 64, "sha256:" + "0" * 64),
        ("blake3:" + "0" * 64, "blake3:" + "0" * 64),
    ],
)
def test_a_checksum_is_kept_in_one_spelling(text: str, checksum: str) -> None:
    """Whoever compares need not think of case."""
    assert Dataset(name="x", source="s3://l/x", checksum=text).checksum == checksum


def test_checksums_of_many_objects_are_found_by_path() -> None:
    """A file without a checksum is free; a single one holds for the single file."""
    digest = "md5:900150983cd24fb0d6963f7d28e17f72"
    many = Dataset(name="x", source="s3://l/*", checksum={"a.csv": digest})
    single = Dataset(name="x", source="s3://l/x", checksum=digest)

    assert many.checksum_of("a.csv") == single.checksum_of("any") == Checksum.parse(digest)
    assert many.checksum_of("b.csv") is None


# --- storages -----------------------------------------------------------------------


def test_secrets_are_never_shown() -> None:
    """Neither a repr nor a dump carries a key."""
    settings = StorageSettings(key="AKIA", secret="hush", token="hush-hush")

    assert settings.secret == "hush"
    assert "hush" not in f"{settings!r} {settings} {settings.model_dump()}"
    assert "AKIA" not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_an_empty_text_is_a_setting_left_out() -> None:
    """`${VAR:-}` is how a catalog leaves a setting to the environment."""
    settings = StorageSettings(profile="", endpoint_url="")

    assert settings == StorageSettings()


@pytest.mark.parametrize(
    ("keys", "key", "message"),
    [
        (
            {"anon": True, "profile": "me"},
            "anon",
            "`anon: true` sends no credentials, but some are given",
        ),
        ({"key": "k"}, "key", "`key` is given without `secret`"),
        ({"secret": "s"}, "secret", "`secret` is given without `key`"),
        (
            {"endpoint_url": "localhost:9000"},
            "endpoint_url",
            "the endpoint 'localhost:9000' is no web address",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    keys: dict[str, object], key: str, message: str
) -> None:
    """The error points at one of the keys."""
    with pytest.raises(ValidationError) as caught:
        StorageSettings.model_validate(keys)
    error = caught.value.errors()[0]["ctx"]["error"]

    assert (error.key, error.message) == (key, message)


def test_a_cache_size_is_bytes() -> None:
    """Whoever evicts compares numbers."""
    assert CacheSettings.model_validate({"max_size": "50 GB"}).max_size == 50_000_000_000
