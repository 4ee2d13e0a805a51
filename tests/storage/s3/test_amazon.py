"""What is done for Amazon's own servers only, and TLS: played on loopback.

A proxy named by the environment gets the requests to `*.amazonaws.com`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from datacachalog.errors import SourceUnreachableError, StorageError
from datacachalog.model import RemoteObject
from datacachalog.spec.models import StorageSettings
from datacachalog.storage import Precondition
from datacachalog.storage.s3 import S3Storage
from tests.storage.certificates import Certificates, make_certificates
from tests.storage.s3.scripted import DATE, OneObject, Reply, Request, Server, error, scripted

AMAZON = "http://s3.us-east-1.amazonaws.com"
KEYS = pytest.mark.parametrize("key", ["plain", "odd//key"], ids=["plain", "odd"])


@contextmanager
def amazon(answer: Callable[[Request], Reply], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Play Amazon through a proxy."""
    with scripted(answer) as server:
        monkeypatch.setenv("http_proxy", server.url.replace("//", "//me:pass@"))
        yield server


def storage(**settings: str) -> S3Storage:
    """Return a storage on Amazon."""
    given = {"endpoint_url": AMAZON, "key": "test", "secret": "test", **settings}
    return S3Storage(StorageSettings.model_validate(given))


def the_object(key: str, size: int) -> RemoteObject:
    """Return the object as it was resolved."""
    modified = datetime(2024, 7, 1, 12, tzinfo=UTC)
    return RemoteObject(f"s3://bucket/{key}", "x", size, modified, "abc")


class InFrankfurt:
    """A bucket of eu-central-1 that refuses what is signed for another region."""

    def __init__(self) -> None:
        self.source = OneObject(extra={"x-amz-bucket-region": "eu-central-1"})

    def __call__(self, request: Request) -> Reply:
        """Answer, or send away."""
        home = {"x-amz-bucket-region": "eu-central-1"}
        if "/eu-central-1/" not in request.headers["authorization"]:
            body = error("AuthorizationHeaderMalformed")
            return Reply(400, b"" if request.method == "HEAD" else body, home)
        if request.method == "PUT":
            self.source.body = request.body
            return Reply(200, headers={"ETag": self.source.etag})
        if "list-type" in request.query:
            return Reply(200, b"<ListBucketResult/>")
        return self.source(request)


@KEYS
@pytest.mark.parametrize("region", [{}, {"region": "us-west-2"}], ids=["unknown", "wrong"])
def test_the_buckets_region_is_found(
    key: str, region: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading first, with no region or a wrong one, ends at the right one."""
    bucket = InFrankfurt()
    with amazon(bucket, monkeypatch):
        obj = the_object(key, len(bucket.source.body))
        data = b"".join(storage(**region).read(obj, 0, obj.size))

    assert data == bucket.source.body


@pytest.mark.parametrize("first", ["HEAD", "LIST", "PUT"])
def test_a_wrong_region_heals(first: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever is asked first, it is asked again at the right region, which is then known."""
    bucket = InFrankfurt()
    path = tmp_path / "file"
    path.write_bytes(b"new")
    with amazon(bucket, monkeypatch) as server:
        s3 = storage(region="us-west-2")
        if first == "PUT":
            s3.upload(
                path, "s3://bucket/key", precondition=Precondition.ANYTHING, advance=lambda _: None
            )
        else:
            list(s3.scan("s3://bucket/**" if first == "LIST" else "s3://bucket/key"))
        count = len(server.requests)

        assert s3.region_of("bucket") == "eu-central-1"
        assert len(server.requests) == count


@pytest.mark.parametrize(
    ("region", "expected", "requests"),
    [({}, "eu-central-1", ["HEAD", "HEAD"]), ({"region": "eu-west-1"}, "eu-west-1", [])],
    ids=["unknown", "configured"],
)
def test_where_a_bucket_lies(
    region: dict[str, str], expected: str, requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A region that nobody named is asked for, and remembered."""
    with amazon(InFrankfurt(), monkeypatch) as server:
        s3 = storage(**region)

        assert [s3.region_of("bucket") for _ in range(2)] == [expected] * 2
        assert [request.method for request in server.requests] == requests


def test_the_region_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a listing or a HEAD has proven is not asked again."""
    with amazon(InFrankfurt(), monkeypatch) as server:
        s3 = storage(region="eu-central-1")
        (obj,) = s3.scan("s3://bucket/plain")
        b"".join(s3.read(obj, 0, obj.size))
        b"".join(s3.read(obj, 0, obj.size))

        assert [request.method for request in server.requests] == ["HEAD", "GET", "GET"]


def test_proxies_are_logged_in_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy gets whole addresses and the login; the signature leaves it out."""
    with amazon(InFrankfurt(), monkeypatch) as server:
        list(storage(region="eu-central-1").scan("s3://bucket/plain"))
        (request,) = server.requests

    assert request.headers["proxy-authorization"] == "Basic bWU6cGFzcw=="
    assert request.headers["host"] == "s3.us-east-1.amazonaws.com"
    assert "proxy-authorization" not in request.headers["authorization"]


def test_uploads_carry_a_checksum_and_are_proven(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Amazon verifies the bytes by their CRC32 and enforces the condition."""
    written: list[Request] = []

    def answer(request: Request) -> Reply:
        if request.method == "PUT":
            written.append(request)
            return Reply(200, headers={"ETag": '"e"'})
        if written:
            return Reply(200, b"123456789", {"ETag": '"e"', "Last-Modified": DATE})
        return Reply(200 if request.path == "/bucket" else 404)

    path = tmp_path / "file"
    path.write_bytes(b"123456789")
    with amazon(answer, monkeypatch):
        done = storage(region="us-east-1").upload(
            path, "s3://bucket/key", precondition=Precondition.ABSENT, advance=lambda _: None
        )

    assert [r.headers["x-amz-checksum-crc32"] for r in written] == ["y/Q5Jg=="]
    assert [r.headers["if-none-match"] for r in written] == ["*"]
    assert done.unproven is None


# --- TLS --------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["authority", "self-signed"])
def certificates(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Certificates:
    """Make certificates for 127.0.0.1 that no system trusts: of an authority, or its own."""
    folder = tmp_path_factory.mktemp("tls")
    return make_certificates(folder, is_own=request.param == "self-signed")


@contextmanager
def secured(certificates: Certificates, source: OneObject) -> Iterator[Server]:
    """Run a server over TLS."""
    with scripted(source, tls=certificates.context()) as server:
        yield server


@KEYS
@pytest.mark.parametrize("trust", ["bundle", "environment", "folder", "unverified"])
def test_certificates_that_are_trusted(
    key: str,
    trust: str,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A bundle by setting or environment, a folder of them, or no check at all: both agree."""
    source = OneObject()
    settings: dict[str, Any] = {}
    if trust == "bundle":
        settings["ca_bundle"] = str(certificates.authority)
    elif trust == "unverified":
        settings["verify"] = False
    elif trust == "environment":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificates.authority))
    else:
        (tmp_path / "certs").mkdir()
        (tmp_path / "certs" / "lab.pem").write_bytes(certificates.authority.read_bytes())
        settings["ca_bundle"] = str(tmp_path / "certs")
    obj = the_object(key, len(source.body))
    with secured(certificates, source) as server:
        data = b"".join(server.storage(**settings).read(obj, 0, obj.size))

    assert data == source.body


@KEYS
def test_a_certificate_that_is_not(key: str, certificates: Certificates) -> None:
    """An unknown authority is an error, never a silent exception."""
    source = OneObject()
    obj = the_object(key, len(source.body))
    with (
        secured(certificates, source) as server,
        pytest.raises(StorageError, match="certificate") as caught,
    ):
        b"".join(server.storage().read(obj, 0, obj.size))

    assert not isinstance(caught.value, SourceUnreachableError)
    assert "ca_bundle" in (caught.value.hint or "")
