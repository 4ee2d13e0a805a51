"""Reads are bound to one identity, whatever the server does and the key looks like."""

from dataclasses import replace
from typing import Any

import pytest

from datacachalog.errors import (
    AccessDeniedError,
    IntegrityError,
    ObjectArchivedError,
    ObjectChangedError,
    ObjectNotFoundError,
    SourceUnreachableError,
    StorageError,
    ThrottledError,
)
from datacachalog.model import RemoteObject
from datacachalog.spec.models import StorageSettings
from datacachalog.storage.s3 import S3Storage
from tests.conftest import TestS3
from tests.fake_s3 import MODIFIED, FakeS3, Reply, Request, Stall, error, etag_of, with_headers

KEYS = pytest.mark.parametrize("key", ["plain", "odd//key"], ids=["plain", "odd"])
BODY = bytes(range(256)) * 40
OBJECTS = {"plain": BODY, "odd//key": BODY}


def the_object(key: str, body: bytes = BODY, **changes: Any) -> RemoteObject:
    """Return the object as it was resolved."""
    obj = RemoteObject(f"s3://bucket/{key}", "x", len(body), MODIFIED, etag_of(body))
    return obj._replace(**changes)


def read(server: FakeS3, obj: RemoteObject, start: int = 0, stop: int | None = None) -> bytes:
    """Return what a new storage reads."""
    return b"".join(server.storage().read(obj, start, obj.size if stop is None else stop))


@KEYS
def test_the_whole_and_a_range(key: str) -> None:
    """Bytes are those asked for; the whole object is asked without a range."""
    obj = the_object(key)
    with FakeS3(OBJECTS) as server:
        assert read(server, obj) == BODY
        assert read(server, obj, 5, 300) == BODY[5:300]
        assert ["range" in request.headers for request in server.requests] == [False, True]


@KEYS
def test_each_request_carries_the_etag(key: str) -> None:
    """The condition travels with the request, quoted."""
    with FakeS3(OBJECTS) as server:
        read(server, the_object(key))

        assert server.requests[0].headers["if-match"] == f'"{etag_of(BODY)}"'


@KEYS
def test_each_request_carries_the_version(key: str) -> None:
    """A known version id is asked for by name, `null` too."""
    with FakeS3(OBJECTS, change=with_headers(x_amz_version_id="null")) as server:
        read(server, the_object(key, version_id="null"))

        assert server.requests[0].query["versionId"] == "null"


@KEYS
@pytest.mark.parametrize("span", [(0, None), (10, 20)], ids=["whole", "range"])
def test_a_changed_etag_is_refused(key: str, span: tuple[int, int | None]) -> None:
    """The server's own refusal (412) is understood."""
    with FakeS3(OBJECTS) as server, pytest.raises(ObjectChangedError):
        read(server, the_object(key, etag="old"), *span)


@KEYS
@pytest.mark.parametrize("span", [(0, None), (10, 20)], ids=["whole", "range"])
def test_an_ignored_condition_is_noticed(key: str, span: tuple[int, int | None]) -> None:
    """A server that ignores If-Match gives itself away by its ETag."""
    with FakeS3(OBJECTS, ignores={"if-match"}) as server, pytest.raises(ObjectChangedError):
        read(server, the_object(key, etag="old"), *span)


@KEYS
def test_another_version_is_noticed(key: str) -> None:
    """A server that ignores `versionId` gives itself away by the one it names."""
    change = with_headers(x_amz_version_id="v2")
    with FakeS3(OBJECTS, change=change) as server, pytest.raises(ObjectChangedError):
        read(server, the_object(key, version_id="v1"))


@KEYS
@pytest.mark.parametrize("span", [(0, None), (10, 20)], ids=["whole", "range"])
def test_another_size_is_noticed(key: str, span: tuple[int, int | None]) -> None:
    """Content-Length and Content-Range are compared with the resolved size."""
    obj = the_object(key, size=len(BODY) - 1)
    with FakeS3(OBJECTS) as server, pytest.raises(ObjectChangedError):
        read(server, obj, *span)


@KEYS
def test_an_ignored_range_is_noticed(key: str) -> None:
    """A server that answers the whole object to a range is not believed."""
    with FakeS3(OBJECTS, ignores={"range"}) as server, pytest.raises(IntegrityError):
        read(server, the_object(key), 10, 20)


@KEYS
def test_a_body_cut_short_is_an_error(key: str) -> None:
    """Fewer bytes than announced do not pass for the object."""
    server = FakeS3(OBJECTS, change=lambda request, reply: replace(reply, sent=1000))
    with server, pytest.raises((SourceUnreachableError, IntegrityError)):
        read(server, the_object(key))


@KEYS
def test_a_body_cut_short_without_a_length_is_an_error(key: str) -> None:
    """Nor where the server announced none, and just hangs up."""
    server = FakeS3(OBJECTS, change=lambda _, reply: replace(reply, sent=1000, length=None))
    with server, pytest.raises((SourceUnreachableError, StorageError)):
        read(server, the_object(key))


@KEYS
def test_compressed_bodies_stay_as_they_are(key: str) -> None:
    """Content-Encoding describes the object; its bytes are not decoded."""
    with FakeS3(OBJECTS, change=with_headers(Content_Encoding="gzip")) as server:
        assert read(server, the_object(key)) == BODY


@KEYS
@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (503, "SlowDown", ThrottledError),
        (429, "TooManyRequests", ThrottledError),
        (400, "RequestTimeout", SourceUnreachableError),
        (500, "InternalError", SourceUnreachableError),
        (502, "", SourceUnreachableError),
        (403, "InvalidObjectState", ObjectArchivedError),
        (403, "AccessDenied", AccessDeniedError),
        (400, "ExpiredToken", AccessDeniedError),
        (403, "RequestTimeTooSkewed", AccessDeniedError),
        (404, "NoSuchKey", ObjectNotFoundError),
        (404, "NoSuchBucket", ObjectNotFoundError),
        (416, "InvalidRange", ObjectChangedError),
    ],
)
def test_refusals_become_our_errors(
    key: str, status: int, code: str, expected: type[StorageError]
) -> None:
    """Each refusal becomes the same class through both clients, with a hint where one helps."""
    with FakeS3(answer=Reply(status, error(code) if code else b"")) as server:
        with pytest.raises(expected) as caught:
            read(server, the_object(key))

        assert type(caught.value) is expected
        assert key in str(caught.value) or code in ("RequestTimeTooSkewed", "NoSuchBucket")


@KEYS
def test_an_archived_object_says_how_to_restore_it(key: str) -> None:
    """The hint can be typed."""
    with FakeS3(answer=Reply(403, error("InvalidObjectState"))) as server:
        with pytest.raises(ObjectArchivedError) as caught:
            read(server, the_object(key))

        assert "restore-object" in (caught.value.hint or "")


@KEYS
def test_a_lost_version_names_the_probable_cause(key: str) -> None:
    """A locked version that is gone was probably deleted by a lifecycle rule."""
    with FakeS3(answer=Reply(404, error("NoSuchVersion"))) as server:
        with pytest.raises(ObjectNotFoundError, match="version v1 of") as caught:
            read(server, the_object(key, version_id="v1"))

        assert "lifecycle" in (caught.value.hint or "")


@KEYS
def test_no_server_at_all(key: str) -> None:
    """A refused connection is an unreachable source."""
    with FakeS3(OBJECTS) as server:
        storage = server.storage()
    with pytest.raises(SourceUnreachableError):
        b"".join(storage.read(the_object(key), 0, 10))


@KEYS
def test_requester_pays_is_sent(key: str) -> None:
    """The agreement to pay travels with GET, HEAD and LIST alike."""
    with FakeS3(OBJECTS) as server:
        storage = server.storage(requester_pays=True)
        b"".join(storage.read(the_object(key), 0, len(BODY)))
        list(storage.scan("s3://bucket/plain"))
        list(storage.scan("s3://bucket/**"))

        assert len(server.requests) == 3
        assert {r.headers.get("x-amz-request-payer") for r in server.requests} == {"requester"}


@KEYS
def test_anonymous_requests_are_unsigned(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the environment are not sent where `anon` is set."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "env")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "env")
    with FakeS3(OBJECTS) as server:
        storage = S3Storage(StorageSettings(endpoint_url=server.url, anon=True))
        b"".join(storage.read(the_object(key), 0, len(BODY)))

        assert "authorization" not in server.requests[0].headers


@KEYS
def test_the_environment_does_not_leak_in(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other clients would read from the environment changes nothing that is set."""
    for name, value in {
        "AWS_SESSION_TOKEN": "foreign",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_REQUEST_PAYER": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_REGION": "mars-1",
    }.items():
        monkeypatch.setenv(name, value)
    with FakeS3(OBJECTS) as server:
        storage = server.storage(region="eu-west-1")
        b"".join(storage.read(the_object(key), 0, len(BODY)))
        (request,) = server.requests

    assert "x-amz-security-token" not in request.headers
    assert "x-amz-request-payer" not in request.headers
    assert "Credential=test/" in request.headers["authorization"]
    assert "/eu-west-1/" in request.headers["authorization"]
    assert request.path == f"/bucket/{key}"


@KEYS
def test_large_reads_come_in_buffers_of_a_few_mib(s3: TestS3, key: str) -> None:
    """No buffer holds the whole of a large object."""
    bucket = s3.bucket()
    data = bytes(range(256)) * (40 << 10)
    bucket.put(key, data)
    storage = S3Storage(s3.settings)
    (obj,) = storage.scan(bucket.uri(key))

    pieces = list(storage.read(obj, 0, obj.size))

    assert b"".join(pieces) == data
    assert max(len(piece) for piece in pieces) <= 4 << 20


def test_connections_are_used_again() -> None:
    """Many requests take one connection, and survive its being closed."""
    closed: list[Reply] = []

    def change(request: Request, reply: Reply) -> Reply:
        return closed.pop() if closed else reply

    with FakeS3(OBJECTS, change=change) as server:
        storage = server.storage()
        for _ in range(3):
            list(storage.scan("s3://bucket/plain"))
        assert server.connections == 1

        closed.append(Reply(0))
        assert len(list(storage.scan("s3://bucket/plain"))) == 1
        assert server.connections == 2


def test_bodies_that_are_given_up_are_closed() -> None:
    """Who stops reading in the middle leaves no body behind, and may ask again."""
    body = bytes(8 << 20)
    obj = the_object("plain", body)
    with FakeS3({"plain": body}) as server:
        storage = server.storage()
        pieces = storage.read(obj, 0, obj.size)
        next(pieces)
        del pieces

        assert b"".join(storage.read(obj, 0, 5)) == bytes(5)


@pytest.mark.parametrize("is_chunked", [False, True], ids=["till the end", "chunked"])
def test_a_body_that_is_longer_is_an_error(is_chunked: bool) -> None:
    """Where no length was announced, more bytes than resolved are noticed."""
    obj = the_object("plain", b"hello")
    reply = Reply(200, b"hello!", {"ETag": f'"{obj.etag}"'}, length=None)
    if is_chunked:
        headers = {**reply.headers, "Transfer-Encoding": "chunked"}
        reply = replace(reply, body=b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", headers=headers)
    with FakeS3(answer=reply) as server, pytest.raises(IntegrityError, match="longer"):
        read(server, obj)


@pytest.mark.parametrize("stall", ["silent", "trickling"])
@pytest.mark.parametrize("status", [200, 404])
def test_servers_that_stand_still_are_given_up(status: int, stall: Stall) -> None:
    """Neither a silent server nor one that sends a byte now and then is waited for."""
    obj = the_object("plain")
    stalling = Reply(status, BODY, {"ETag": f'"{obj.etag}"'}, sent=0, stall=stall)
    with FakeS3(answer=stalling) as server, pytest.raises(SourceUnreachableError):
        b"".join(server.storage(stall_seconds=0.3).read(obj, 0, obj.size))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "Mon, 01 Jul 2024 12:00:30 GMT"}, 30.0),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
    ids=["seconds", "date", "nonsense", "none"],
)
def test_how_long_to_wait_is_told(headers: dict[str, str], seconds: float | None) -> None:
    """A throttled request says when to come back, by the server's own clock."""
    reply = Reply(503, error("SlowDown"), headers)
    with FakeS3(answer=reply) as server, pytest.raises(ThrottledError) as caught:
        read(server, the_object("plain"))

    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("status", [500, 503, 429])
def test_refusals_are_not_tried_again_here(status: int) -> None:
    """Whoever asks decides about that: one request, one answer."""
    with FakeS3(answer=Reply(status)) as server:
        with pytest.raises(SourceUnreachableError):
            read(server, the_object("plain"))

        assert len(server.requests) == 1


@pytest.mark.parametrize("is_announced", [True, False], ids=["announced", "not announced"])
def test_only_an_announced_body_can_be_gone_on_with(is_announced: bool) -> None:
    """One that breaks off is right as far as it came only where its length was the object's."""
    obj = the_object("key", bytes(3_000_000))
    reply = Reply(200, bytes(3_000_000), {"ETag": f'"{obj.etag}"'}, sent=2 << 20)
    if not is_announced:
        headers = {**reply.headers, "Transfer-Encoding": "chunked"}
        reply = Reply(200, b"200000\r\n" + bytes(2 << 20), headers, length=None)
    with FakeS3(answer=reply) as server:
        pieces = server.storage().read(obj, 0, obj.size)
        with pytest.raises(IntegrityError) as caught:
            for _ in pieces:
                pass

    assert caught.value.is_resumable == is_announced
