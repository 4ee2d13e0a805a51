"""One set of settings, translated once: what wins."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from datacachalog.errors import AccessDeniedError, StorageError
from datacachalog.spec.models import StorageSettings
from datacachalog.storage import open_storage
from datacachalog.storage.s3 import S3Storage
from datacachalog.storage.s3.connection import Connection, Credentials, connect
from tests.conftest import TestS3

CONFIG = """\
[default]
region = eu-north-1
[profile lab]
region = eu-west-1
endpoint_url = https://lab.example.com/
ca_bundle = /certs/lab.pem
s3 =
    addressing_style = path
[profile split]
services = local
[services local]
s3 =
    endpoint_url = https://s3.example.com
"""
CREDENTIALS = """\
[default]
aws_access_key_id = D
aws_secret_access_key = d
[lab]
aws_access_key_id = L
aws_secret_access_key = l
"""


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write AWS configuration files for this test."""
    for name, text in (("config", CONFIG), ("credentials", CREDENTIALS)):
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def key_of(connection: Connection) -> str | None:
    """Return the access key that requests are signed with."""
    keys = S3Storage(connection).credentials()
    return keys.key if keys else None


@pytest.mark.parametrize(
    ("settings", "environ", "expected"),
    [
        ({"endpoint_url": "http://a:9000"}, {"AWS_ENDPOINT_URL": "http://b"}, "http://a:9000"),
        ({}, {"AWS_ENDPOINT_URL_S3": "http://a", "AWS_ENDPOINT_URL": "http://b"}, "http://a"),
        ({}, {"AWS_ENDPOINT_URL": "http://b/"}, "http://b"),
        (
            {},
            {"AWS_ENDPOINT_URL": "http://b", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
            None,
        ),
        ({"endpoint_url": "https://Min.IO:443/s3/"}, {}, "https://min.io/s3"),
        ({}, {}, None),
    ],
)
def test_endpoints(settings: dict[str, str], environ: dict[str, str], expected: str | None) -> None:
    """A setting wins over the service's variable, and that over the general one."""
    assert connect(StorageSettings.model_validate(settings), environ).endpoint_url == expected


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (None, "aws"),
        ("https://s3.eu-central-1.amazonaws.com", "aws"),
        ("https://bucket.vpce-1a.s3.us-east-1.vpce.amazonaws.com", "aws"),
        ("https://s3.cn-north-1.amazonaws.com.cn", "aws-cn"),
        ("https://notamazonaws.com", "https://notamazonaws.com"),
        ("http://localhost:9000/", "http://localhost:9000"),
    ],
)
def test_server_names(url: str | None, name: str) -> None:
    """Amazon's many addresses are one server; a look-alike is its address."""
    assert S3Storage(StorageSettings(endpoint_url=url, anon=True)).endpoint == name


@pytest.mark.parametrize(
    ("style", "endpoint", "bucket", "is_in_host"),
    [
        ("auto", None, "lake", True),
        ("auto", None, "my.lake", False),
        ("auto", None, "Old_Lake", False),
        ("path", None, "lake", False),
        ("auto", "http://127.0.0.1:9000", "lake", False),
        ("auto", "http://lab:9000", "lake", False),
        ("virtual", "http://lab:9000", "lake", True),
    ],
)
def test_where_the_bucket_goes(
    style: str, endpoint: str | None, bucket: str, is_in_host: bool
) -> None:
    """Into the host name at Amazon, where it fits; into the path elsewhere; or as told."""
    settings = StorageSettings.model_validate(
        {"addressing_style": style, "endpoint_url": endpoint, "anon": True}
    )
    url = S3Storage(settings).filesystem.sign(f"{bucket}/key")

    assert connect(settings, {}).is_virtual_hosted(bucket) is is_in_host
    assert (urlsplit(url).path == "/key") is is_in_host


def test_china_has_a_name_of_its_own() -> None:
    """Amazon's regions of China are another server."""
    assert connect(StorageSettings(region="cn-north-1", anon=True), {}).name == "aws-cn"


@pytest.mark.usefixtures("profiles")
@pytest.mark.parametrize(
    ("settings", "variables", "expected"),
    [
        pytest.param({"region": "a"}, {"AWS_REGION": "b"}, "a", id="setting"),
        pytest.param({}, {"AWS_REGION": "b", "AWS_DEFAULT_REGION": "c"}, "b", id="environment"),
        pytest.param({}, {"AWS_DEFAULT_REGION": "c"}, "c", id="older variable"),
        pytest.param({"profile": "lab"}, {}, "eu-west-1", id="profile"),
        pytest.param({}, {"AWS_PROFILE": "lab"}, "eu-west-1", id="profile by environment"),
        pytest.param({}, {}, "eu-north-1", id="default profile"),
        pytest.param({"profile": "split"}, {}, None, id="asked per bucket"),
    ],
)
def test_regions(
    settings: dict[str, str],
    variables: dict[str, str],
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A setting wins over the environment, and that over the profile."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert connect(StorageSettings.model_validate(settings)).region == expected


@pytest.mark.usefixtures("profiles")
@pytest.mark.parametrize(
    ("settings", "variables", "expected"),
    [
        pytest.param({"key": "K", "secret": "k"}, {"AWS_ACCESS_KEY_ID": "E"}, "K", id="setting"),
        pytest.param({"profile": "lab"}, {"AWS_ACCESS_KEY_ID": "E"}, "L", id="named profile"),
        pytest.param({}, {"AWS_ACCESS_KEY_ID": "E", "AWS_PROFILE": "lab"}, "E", id="environment"),
        pytest.param({}, {"AWS_PROFILE": "lab"}, "L", id="profile by environment"),
        pytest.param({}, {}, "D", id="default profile"),
        pytest.param({"anon": True}, {"AWS_ACCESS_KEY_ID": "E"}, None, id="anonymous"),
    ],
)
def test_whose_keys(
    settings: dict[str, str],
    variables: dict[str, str],
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Keys come from where botocore would take them."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert key_of(connect(StorageSettings.model_validate(settings))) == expected


@pytest.mark.usefixtures("profiles")
def test_the_rest_of_a_profile() -> None:
    """Endpoint, addressing style and certificates come from the profile, too."""
    lab = connect(StorageSettings(profile="lab"))
    split = connect(StorageSettings(profile="split"))

    assert (lab.endpoint_url, lab.addressing_style) == ("https://lab.example.com", "path")
    assert lab.ca_bundle == "/certs/lab.pem"
    assert split.endpoint_url == "https://s3.example.com"


@pytest.mark.usefixtures("profiles")
def test_an_unknown_profile_is_named() -> None:
    """A profile that is not there is an error with a way to see those that are."""
    with pytest.raises(StorageError, match="nobody") as caught:
        connect(StorageSettings(profile="nobody"))

    assert "list-profiles" in (caught.value.hint or "")


def test_no_credentials_at_all() -> None:
    """Where the chain finds nothing, the hint shows the ways there are."""
    with pytest.raises(AccessDeniedError, match="no AWS credentials") as caught:
        list(S3Storage(StorageSettings(endpoint_url="http://127.0.0.1:1")).scan("s3://b/k"))

    assert "anon: true" in (caught.value.hint or "")


def test_building_asks_nothing() -> None:
    """A storage is built, and named, without network and without credentials."""
    storage = open_storage("s3://b/k", StorageSettings(endpoint_url="http://127.0.0.1:1"))

    assert storage.endpoint == "http://127.0.0.1:1"


@pytest.mark.parametrize("key", ["plain", "odd//key"], ids=["plain", "odd"])
def test_keys_that_refresh_are_used(
    s3: TestS3, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys of a process that expire, as those of SSO and roles do, sign the requests."""
    script = tmp_path / "keys.sh"
    script.write_text(
        '#!/bin/sh\necho \'{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "s",'
        ' "SessionToken": "t", "Expiration": "2099-01-01T00:00:00Z"}\'\n'
    )
    script.chmod(0o755)
    (tmp_path / "config").write_text(f"[profile sso]\ncredential_process = {script}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    bucket = s3.bucket()
    bucket.put(key, b"hello")
    storage = S3Storage(StorageSettings(profile="sso", endpoint_url=s3.endpoint))

    (obj,) = storage.scan(bucket.uri("**"))

    assert b"".join(storage.read(obj, 0, 5)) == b"hello"


def test_failing_processes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What botocore says of failed credentials reaches the user, with a hint."""
    (tmp_path / "config").write_text("[profile sso]\ncredential_process = false\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    storage = S3Storage(StorageSettings(profile="sso", endpoint_url="http://127.0.0.1:1"))

    with pytest.raises(AccessDeniedError) as caught:
        list(storage.scan("s3://b/k"))

    assert "aws sso login --profile sso" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "ftp://x", "localhost:9000"],
)
def test_no_web_address(url: str) -> None:
    """An endpoint from the environment that is no web address is named."""
    with pytest.raises(StorageError, match="no web address"):
        connect(StorageSettings(), {"AWS_ENDPOINT_URL": url})


def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    """A CA bundle that is not there is an error that names it, before any request."""
    missing = str(tmp_path / "none.pem")
    settings = StorageSettings(
        endpoint_url="https://127.0.0.1:1", ca_bundle=missing, key="k", secret="s"
    )

    with pytest.raises(StorageError, match=r"none\.pem"):
        list(S3Storage(settings).scan("s3://b/k"))


def test_secrets_are_shown_nowhere() -> None:
    """Neither settings nor connection print a secret."""
    connection = connect(StorageSettings(key="AKID", secret="hush", token="hush"), {})

    assert "hush" not in repr(connection)
    assert "hush" not in repr(Credentials("AKID", "hush", "hush"))


def test_unknown_schemes() -> None:
    """A scheme that nothing serves is refused with those that are."""
    with pytest.raises(StorageError, match="gs://") as caught:
        open_storage("gs://bucket/key", StorageSettings())

    assert "`s3://`" in (caught.value.hint or "")
