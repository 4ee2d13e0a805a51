"""Keys are found once for all ways to the server, refreshed in time, and told to nobody."""

import logging
import traceback
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from datacachalog.errors import StorageError
from datacachalog.spec.models import StorageSettings
from datacachalog.storage import Precondition
from datacachalog.storage.s3 import S3Storage
from datacachalog.storage.s3.connection import connect
from tests.conftest import TestS3
from tests.fake_s3 import FakeS3, Reply, Request, error

PROVIDER = """\
#!/bin/sh
count=$(cat {count} 2>/dev/null || echo 0); count=$((count + 1)); echo $count > {count}
ends=$(date -u -d "+{seconds} seconds" +%Y-%m-%dT%H:%M:%SZ)
echo "{{\\"Version\\": 1, \\"AccessKeyId\\": \\"A$count\\", \\"SecretAccessKey\\": \\"s\\",
 \\"SessionToken\\": \\"t\\", \\"Expiration\\": \\"$ends\\"}}"
"""
SSE_KEY = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="
SSE_HEADER = "x-amz-server-side-encryption-customer-key"


def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, seconds: int) -> Path:
    """Set up a profile `lab` whose keys live so long; return where their number is noted."""
    script, count = tmp_path / "keys.sh", tmp_path / "count"
    script.write_text(PROVIDER.format(count=count, seconds=seconds))
    script.chmod(0o755)
    (tmp_path / "config").write_text(f"[profile lab]\ncredential_process = {script}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return count


def test_keys_that_end_are_replaced_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that live two seconds go on being valid: each request carries newer ones."""
    provider(tmp_path, monkeypatch, seconds=2)
    with FakeS3({"plain": b""}) as server:
        storage = S3Storage(StorageSettings(profile="lab", endpoint_url=server.url))
        for _ in range(2):
            list(storage.scan("s3://bucket/plain"))
        keys = storage.credentials()
        used = [r.headers["authorization"].split("=")[1].split("/")[0] for r in server.requests]

    assert len(set(used)) == 2
    assert keys is not None
    assert keys.key not in used
    assert keys.expires is not None
    assert timedelta(0) < keys.expires - datetime.now(UTC) <= timedelta(seconds=2)


def test_keys_that_last_are_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider is not asked again while its keys are good for long."""
    count = provider(tmp_path, monkeypatch, seconds=3600)
    with FakeS3({"plain": b""}) as server:
        storage = S3Storage(StorageSettings(profile="lab", endpoint_url=server.url))
        for _ in range(3):
            list(storage.scan("s3://bucket/plain"))
            storage.credentials()

    assert count.read_text().strip() == "1"


def test_keys_that_are_given_need_nobody() -> None:
    """Fixed keys do not end; without signing there are none."""
    settings = StorageSettings(key="K", secret="s", token="t")
    keys = S3Storage(settings).credentials()

    assert keys is not None
    assert (keys.key, keys.secret, keys.token, keys.expires) == ("K", "s", "t", None)
    assert S3Storage(StorageSettings(anon=True)).credentials() is None


# --- encryption with keys of the customer -------------------------------------------------


def test_the_customers_key_travels_with_each_request(tmp_path: Path) -> None:
    """HEAD, GET and PUT carry it; a listing does not."""
    path = tmp_path / "file"
    path.write_bytes(b"new")
    with FakeS3() as server:
        storage = server.storage(sse_customer_key=SSE_KEY)
        done = storage.upload(
            path, "s3://bucket/key", precondition=Precondition.ANYTHING, advance=lambda _: None
        )
        b"".join(storage.read(done.object, 0, 3))
        list(storage.scan("s3://bucket/**"))
        carried = {r.method: r.headers.get(SSE_HEADER) for r in server.requests}
        listing = server.requests[-1].headers

    assert carried["HEAD"] == carried["PUT"] == SSE_KEY
    assert SSE_HEADER not in listing


@pytest.mark.parametrize("spelled", [SSE_KEY, "k" * 32], ids=["base64", "characters"])
def test_how_the_customers_key_is_spelled(spelled: str) -> None:
    """In base64, or as 32 characters."""
    assert connect(StorageSettings(sse_customer_key=spelled), {}).sse_customer_key == b"k" * 32


def test_what_is_no_customers_key() -> None:
    """A key of another length is refused, without being told."""
    with pytest.raises(StorageError, match="32 bytes") as caught:
        connect(StorageSettings(sse_customer_key="hush"), {})

    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_secret_follows_a_redirect(status: int) -> None:
    """A host that the user did not name gets nothing: no token, no key, no request."""
    with FakeS3({"plain": b""}) as stranger:
        away = Reply(status, headers={"Location": f"{stranger.url}/bucket/plain"})
        with FakeS3(answer=away) as server:
            storage = server.storage(token="hush", sse_customer_key=SSE_KEY)
            with pytest.raises(StorageError):
                list(storage.scan("s3://bucket/plain"))
            with suppress(OSError):
                storage.filesystem.cat_file("bucket/plain")

        assert stranger.requests == []


# --- secrets ------------------------------------------------------------------------------


def test_secrets_are_told_to_nobody(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """No log at any level, no traceback and no `repr` holds a secret."""
    path = tmp_path / "file"
    path.write_bytes(b"new")
    texts = []

    def answer(request: Request) -> Reply:
        if request.method == "PUT":
            return Reply(403, error("AccessDenied"))
        return Reply(200 if request.path == "/bucket" else 404)

    with FakeS3(answer=answer) as server, caplog.at_level(logging.DEBUG):
        storage = server.storage(secret="hushsecret", token="hushtoken", sse_customer_key=SSE_KEY)
        with pytest.raises(StorageError) as caught:
            storage.upload(
                path, "s3://bucket/k", precondition=Precondition.ABSENT, advance=lambda _: None
            )
        texts += traceback.format_exception(caught.value)
        with pytest.raises(FileNotFoundError):
            storage.filesystem.cat_file("bucket/k")
        texts += [repr(storage), repr(storage.connection), repr(storage.filesystem)]
    texts += [record.getMessage() for record in caplog.records]
    whole = "\n".join(texts)

    assert "botocore.auth" in {record.name for record in caplog.records}
    assert not any(secret in whole for secret in ("hush", SSE_KEY, "k" * 32))


# --- a filesystem of the user's own -------------------------------------------------------


def test_a_users_own_filesystem(s3: TestS3) -> None:
    """What the user has set up is asked by, and its facts are known."""
    import s3fs

    bucket = s3.bucket(versioning=True)
    bucket.put("a/b", b"hello")
    own = s3fs.S3FileSystem(
        key="test", secret="test", endpoint_url=s3.endpoint, requester_pays=True
    )
    storage = S3Storage(filesystem=own)
    (obj,) = storage.scan(bucket.uri("a/*"))

    assert storage.filesystem is own
    assert storage.endpoint == s3.endpoint
    assert storage.connection.is_requester_pays
    assert b"".join(storage.read(obj, 0, 5)) == b"hello"
    assert len(list(storage.versions(bucket.uri("a/b")))) == 1


def test_filesystems_travel(s3: TestS3) -> None:
    """Who computes in other processes can send the filesystem there."""
    import pickle

    bucket = s3.bucket()
    bucket.put("a", b"hello")
    sent = pickle.loads(pickle.dumps(S3Storage(s3.settings).filesystem))

    assert sent.cat_file(f"{bucket.name}/a") == b"hello"
