"""Reads are bound to one identity, whatever the server does and the key looks like."""

from datetime import UTC, datetime

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
from tests.storage.answering import AnsweringServer, Talk, answering
from tests.storage.s3.scripted import OneObject, Reply, Request, Server, error, scripted

KEYS = pytest.mark.parametrize("key", ["plain", "odd//key"], ids=["plain", "odd"])


def the_object(server: OneObject, key: str, **changes: object) -> RemoteObject:
    """Return the object as it was resolved."""
    fields = {
        "uri": f"s3://bucket/{key}",
        "relpath": "x",
        "size": len(server.body),
        "modified": datetime(2024, 7, 1, 12, tzinfo=UTC),
        "etag": "abc",
        **changes,
    }
    return RemoteObject(**fields)  # type: ignore[arg-type]


def storage_at(server: AnsweringServer, *, stall_seconds: float = 60) -> S3Storage:
    """Return a storage on a server that is played byte for byte."""
    settings = StorageSettings(endpoint_url=f"http://127.0.0.1:{server.port}", anon=True)
    return S3Storage(settings, stall_seconds=stall_seconds)


def read(server: Server, obj: RemoteObject, start: int = 0, stop: int | None = None) -> bytes:
    """Return what a new storage reads."""
    return b"".join(server.storage().read(obj, start, obj.size if stop is None else stop))


@KEYS
def test_the_whole_and_a_range(key: str) -> None:
    """Bytes are those asked for; the whole object is asked without a range."""
    source = OneObject()
    obj = the_object(source, key)
    with scripted(source) as server:
        assert read(server, obj) == source.body
        assert read(server, obj, 5, 300) == source.body[5:300]
        assert ["range" in request.headers for request in server.requests] == [False, True]


@KEYS
def test_each_request_carries_the_etag(key: str) -> None:
    """The condition travels with the request, quoted."""
    source = OneObject()
    with scripted(source) as server:
        read(server, the_object(source, key))

        assert server.requests[0].headers["if-match"] == '"abc"'


@KEYS
def test_each_request_carries_the_version(key: str) -> None:
    """A known version id is asked for by name, `null` too."""
    source = OneObject(extra={"x-amz-version-id": "null"})
    with scripted(source) as server:
        read(server, the_object(source, key, version_id="null"))

        assert server.requests[0].query["versionId"] == "null"


@KEYS
@pytest.mark.parametrize("span", [(0, None), (10, 20)], ids=["whole", "range"])
def test_a_changed_etag_is_refused(key: str, span: tuple[int, int | None]) -> None:
    """The server's own refusal (412) is understood."""
    source = OneObject(etag='"new"')
    with scripted(source) as server, pytest.raises(ObjectChangedError):
        read(server, the_object(source, key), *span)


@KEYS
@pytest.mark.parametrize("span", [(0, None), (10, 20)], ids=["whole", "range"])
def test_an_ignored_condition_is_noticed(key: str, span: tuple[int, int | None]) -> None:
    """A server that ignores If-Match gives itself away by its ETag."""
    source = OneObject(etag='"new"', ignores_if_match=True)
    with scripted(source) as server, pytest.raises(ObjectChangedError):
        read(server, the_object(source, key), *span)


@KEYS
def test_another_version_is_noticed(key: str) -> None:
    """A server that ignores `versionId` gives itself away by the one it names."""
    source = OneObject(extra={"x-amz-version-id": "v2"})
    with scripted(source) as server, pytest.raises(ObjectChangedError):
        read(server, the_object(source, key, version_id="v1"))


@KEYS
@pytest.mark.parametrize("span", [(0, None), (10, 20)], ids=["whole", "range"])
def test_another_size_is_noticed(key: str, span: tuple[int, int | None]) -> None:
    """Content-Length and Content-Range are compared with the resolved size."""
    source = OneObject()
    obj = the_object(source, key, size=len(source.body) - 1)
    with scripted(source) as server, pytest.raises(ObjectChangedError):
        read(server, obj, *span)


@KEYS
def test_an_ignored_range_is_noticed(key: str) -> None:
    """A server that answers the whole object to a range is not believed."""
    source = OneObject(ignores_range=True)
    with scripted(source) as server, pytest.raises(IntegrityError):
        read(server, the_object(source, key), 10, 20)


@KEYS
def test_a_body_cut_short_is_an_error(key: str) -> None:
    """Fewer bytes than announced do not pass for the object."""
    source = OneObject(sent=1000)
    with scripted(source) as server, pytest.raises((SourceUnreachableError, IntegrityError)):
        read(server, the_object(source, key))


@KEYS
def test_a_body_cut_short_without_a_length_is_an_error(key: str) -> None:
    """Nor where the server announced none, and just hangs up."""
    source = OneObject(sent=1000, has_length=False)
    with scripted(source) as server, pytest.raises((SourceUnreachableError, StorageError)):
        read(server, the_object(source, key))


@KEYS
def test_compressed_bodies_stay_as_they_are(key: str) -> None:
    """Content-Encoding describes the object; its bytes are not decoded."""
    source = OneObject(extra={"Content-Encoding": "gzip"})
    with scripted(source) as server:
        assert read(server, the_object(source, key)) == source.body


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
    source = OneObject()
    with scripted(lambda _: Reply(status, error(code) if code else b"")) as server:
        with pytest.raises(expected) as caught:
            read(server, the_object(source, key))

        assert type(caught.value) is expected
        assert key in str(caught.value) or code in ("RequestTimeTooSkewed", "NoSuchBucket")


@KEYS
def test_an_archived_object_says_how_to_restore_it(key: str) -> None:
    """The hint can be typed."""
    source = OneObject()
    with scripted(lambda _: Reply(403, error("InvalidObjectState"))) as server:
        with pytest.raises(ObjectArchivedError) as caught:
            read(server, the_object(source, key))

        assert "restore-object" in (caught.value.hint or "")


@KEYS
def test_a_lost_version_names_the_probable_cause(key: str) -> None:
    """A locked version that is gone was probably deleted by a lifecycle rule."""
    source = OneObject()
    with scripted(lambda _: Reply(404, error("NoSuchVersion"))) as server:
        with pytest.raises(ObjectNotFoundError, match="version v1 of") as caught:
            read(server, the_object(source, key, version_id="v1"))

        assert "lifecycle" in (caught.value.hint or "")


@KEYS
def test_no_server_at_all(key: str) -> None:
    """A refused connection is an unreachable source."""
    source = OneObject()
    with scripted(source) as server:
        storage = server.storage()
    with pytest.raises(SourceUnreachableError):
        b"".join(storage.read(the_object(source, key), 0, 10))


@KEYS
def test_requester_pays_is_sent(key: str) -> None:
    """The agreement to pay travels with GET, HEAD and LIST alike."""
    source = OneObject()
    with scripted(source) as server:
        storage = server.storage(requester_pays=True)
        b"".join(storage.read(the_object(source, key), 0, len(source.body)))
        list(storage.scan("s3://bucket/plain"))
        with pytest.raises(StorageError):
            list(storage.scan("s3://bucket/**"))

        assert len(server.requests) == 3
        assert {r.headers.get("x-amz-request-payer") for r in server.requests} == {"requester"}


@KEYS
def test_anonymous_requests_are_unsigned(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the environment are not sent where `anon` is set."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "env")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "env")
    source = OneObject()
    with scripted(source) as server:
        storage = S3Storage(StorageSettings(endpoint_url=server.url, anon=True))
        b"".join(storage.read(the_object(source, key), 0, len(source.body)))

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
    source = OneObject()
    with scripted(source) as server:
        storage = server.storage(region="eu-west-1")
        b"".join(storage.read(the_object(source, key), 0, len(source.body)))
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

    def answer(request: Request) -> Reply:
        return closed.pop() if closed else source(request)

    source = OneObject()
    with scripted(answer) as server:
        storage = server.storage()
        for _ in range(3):
            list(storage.scan("s3://bucket/plain"))
        assert server.connections == 1

        closed.append(Reply(0))
        assert len(list(storage.scan("s3://bucket/plain"))) == 1
        assert server.connections == 2


def test_bodies_that_are_given_up_are_closed() -> None:
    """Who stops reading in the middle leaves no body behind, and may ask again."""
    source = OneObject(body=bytes(8 << 20))
    obj = the_object(source, "plain")
    with scripted(source) as server:
        storage = server.storage()
        pieces = storage.read(obj, 0, obj.size)
        next(pieces)
        del pieces

        assert b"".join(storage.read(obj, 0, 5)) == bytes(5)


@pytest.mark.parametrize("is_chunked", [False, True], ids=["till the end", "chunked"])
def test_a_body_that_is_longer_is_an_error(is_chunked: bool) -> None:
    """Where no length was announced, more bytes than resolved are noticed."""

    def play(talk: Talk) -> None:
        talk.ask()
        head = b'HTTP/1.1 200 OK\r\netag: "abc"\r\n'
        if is_chunked:
            talk.say(head + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")
        else:
            talk.say(head + b"connection: close\r\n\r\nhello!")

    obj = the_object(OneObject(body=b"hello"), "plain")
    with answering(play) as server, pytest.raises(IntegrityError, match="longer"):
        b"".join(storage_at(server).read(obj, 0, 5))


@pytest.mark.parametrize("is_silent", [True, False], ids=["silent", "trickling"])
@pytest.mark.parametrize("what", ["head", "body"])
def test_servers_that_stand_still_are_given_up(what: str, is_silent: bool) -> None:
    """Neither a silent server nor one that sends a byte now and then is waited for."""

    def play(talk: Talk) -> None:
        talk.ask()
        if what == "body":
            talk.say(b'HTTP/1.1 200 OK\r\netag: "abc"\r\ncontent-length: 10240\r\n\r\n')
        else:
            talk.say(b"HTTP/1.1 404 Not Found\r\ncontent-length: 10240\r\n\r\n")
        if is_silent:
            talk.linger()
        for _ in range(100):
            talk.say(b"x")
            talk.wait(0.05)

    obj = the_object(OneObject(), "plain")
    with answering(play) as server, pytest.raises(SourceUnreachableError):
        b"".join(storage_at(server, stall_seconds=0.3).read(obj, 0, obj.size))


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
    source = OneObject()
    reply = Reply(503, error("SlowDown"), headers)
    with scripted(lambda _: reply) as server, pytest.raises(ThrottledError) as caught:
        read(server, the_object(source, "plain"))

    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("status", [500, 503, 429])
def test_refusals_are_not_tried_again_here(status: int) -> None:
    """Whoever asks decides about that: one request, one answer."""
    source = OneObject()
    with scripted(lambda _: Reply(status)) as server:
        with pytest.raises(SourceUnreachableError):
            read(server, the_object(source, "plain"))

        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("length", "is_resumable"),
    [("content-length: 3000000", True), ("transfer-encoding: chunked", False)],
    ids=["announced", "not announced"],
)
def test_only_an_announced_body_can_be_gone_on_with(length: str, is_resumable: bool) -> None:
    """One that breaks off is right as far as it came only where its length was the object's."""
    head = f'HTTP/1.1 200 OK\r\nETag: "abc"\r\n{length}\r\n\r\n'.encode()

    def play(talk: Talk) -> None:
        talk.ask()
        talk.say(head + (b"" if is_resumable else b"200000\r\n") + bytes(2 << 20))

    obj = the_object(OneObject(), "key", size=3_000_000)
    with answering(play) as server:
        pieces = storage_at(server).read(obj, 0, obj.size)
        with pytest.raises(IntegrityError) as caught:
            for _ in pieces:
                pass

    assert caught.value.is_resumable == is_resumable
