"""What is done for Amazon's own servers only, and TLS: played on loopback.

A proxy named by the environment gets the requests to `*.amazonaws.com`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from datacachalog.errors import SourceUnreachableError, StorageError
from datacachalog.model import RemoteObject
from datacachalog.spec.models import StorageSettings
from datacachalog.storage import Precondition
from datacachalog.storage.s3 import S3Storage
from tests.fake_s3 import MODIFIED, FakeS3, Reply, Request, error, etag_of, with_headers
from tests.storage.certificates import Certificates, make_certificates

AMAZON = "http://s3.us-east-1.amazonaws.com"
KEYS = pytest.mark.parametrize("key", ["plain", "odd//key"], ids=["plain", "odd"])
BODY = bytes(range(256)) * 40
OBJECTS = {"plain": BODY, "odd//key": BODY, "key": BODY}


@contextmanager
def through_proxy(server: FakeS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    """Let `server` be the proxy on the way to Amazon."""
    with server:
        monkeypatch.setenv("http_proxy", server.url.replace("//", "//me:pass@"))
        yield server


def storage(**settings: str) -> S3Storage:
    """Return a storage on Amazon."""
    given = {"endpoint_url": AMAZON, "key": "test", "secret": "test", **settings}
    return S3Storage(StorageSettings.model_validate(given))


def the_object(key: str) -> RemoteObject:
    """Return the object as it was resolved."""
    return RemoteObject(f"s3://bucket/{key}", "x", len(BODY), MODIFIED, etag_of(BODY))


def in_frankfurt() -> FakeS3:
    """Return a bucket of eu-central-1 that refuses what is signed for another region."""

    def answer(request: Request) -> Reply:
        home = {"x-amz-bucket-region": "eu-central-1"}
        if "/eu-central-1/" not in request.headers["authorization"]:
            body = error("AuthorizationHeaderMalformed")
            return Reply(400, b"" if request.method == "HEAD" else body, home)
        return with_headers(**home)(request, server.respond(request))

    server = FakeS3(dict(OBJECTS), answer=answer)
    return server


@KEYS
@pytest.mark.parametrize("region", [{}, {"region": "us-west-2"}], ids=["unknown", "wrong"])
def test_the_buckets_region_is_found(
    key: str, region: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading first, with no region or a wrong one, ends at the right one."""
    obj = the_object(key)
    with through_proxy(in_frankfurt(), monkeypatch):
        data = b"".join(storage(**region).read(obj, 0, obj.size))

    assert data == BODY


@pytest.mark.parametrize("first", ["HEAD", "LIST", "PUT"])
def test_a_wrong_region_heals(first: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever is asked first, it is asked again at the right region, which is then known."""
    path = tmp_path / "file"
    path.write_bytes(b"new")
    with through_proxy(in_frankfurt(), monkeypatch) as server:
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
    with through_proxy(in_frankfurt(), monkeypatch) as server:
        s3 = storage(**region)

        assert [s3.region_of("bucket") for _ in range(2)] == [expected] * 2
        assert [request.method for request in server.requests] == requests


def test_the_region_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a listing or a HEAD has proven is not asked again."""
    with through_proxy(in_frankfurt(), monkeypatch) as server:
        s3 = storage(region="eu-central-1")
        (obj,) = s3.scan("s3://bucket/plain")
        b"".join(s3.read(obj, 0, obj.size))
        b"".join(s3.read(obj, 0, obj.size))

        assert [request.method for request in server.requests] == ["HEAD", "GET", "GET"]


def test_proxies_are_logged_in_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy gets whole addresses and the login; the signature leaves it out."""
    with through_proxy(in_frankfurt(), monkeypatch) as server:
        list(storage(region="eu-central-1").scan("s3://bucket/plain"))
        (request,) = server.requests

    assert request.headers["proxy-authorization"] == "Basic bWU6cGFzcw=="
    assert request.headers["host"] == "s3.us-east-1.amazonaws.com"
    assert "proxy-authorization" not in request.headers["authorization"]


def test_uploads_carry_a_checksum_and_are_proven(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Amazon verifies the bytes by their CRC32 and enforces the condition."""
    path = tmp_path / "file"
    path.write_bytes(b"123456789")
    with through_proxy(FakeS3(), monkeypatch) as server:
        done = storage(region="us-east-1").upload(
            path, "s3://bucket/key", precondition=Precondition.ABSENT, advance=lambda _: None
        )

    written = [request for request in server.requests if request.method == "PUT"]
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
    obj = the_object(key)
    with FakeS3(OBJECTS, tls=certificates.context()) as server:
        data = b"".join(server.storage(**settings).read(obj, 0, obj.size))

    assert data == BODY


@KEYS
def test_a_certificate_that_is_not(key: str, certificates: Certificates) -> None:
    """An unknown authority is an error, never a silent exception."""
    obj = the_object(key)
    with (
        FakeS3(OBJECTS, tls=certificates.context()) as server,
        pytest.raises(StorageError, match="certificate") as caught,
    ):
        b"".join(server.storage().read(obj, 0, obj.size))

    assert not isinstance(caught.value, SourceUnreachableError)
    assert "ca_bundle" in (caught.value.hint or "")
