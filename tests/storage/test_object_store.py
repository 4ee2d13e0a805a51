"""Bytes by obstore: bound to one object, given up when they stall, explained the complete way."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from datacachalog.errors import (
    IntegrityError,
    InvalidValueError,
    ObjectChangedError,
    ObjectNotFoundError,
    SourceUnreachableError,
    StorageError,
    ThrottledError,
)
from datacachalog.model import RemoteObject
from datacachalog.storage.base import MisreadKeyError, Precondition
from datacachalog.storage.object_store import SMALL, ObjectStoreStorage
from datacachalog.storage.object_store_settings import chosen_engine, reachable_engine
from datacachalog.storage.s3.connection import Credentials
from tests.fake_s3 import Change, FakeS3, Reply, Request, Stall, error, with_headers
from tests.processes import ROOT as PROJECT
from tests.processes import in_child, interrupt
from tests.storage.certificates import make_certificates
from tests.storage.recording_storage import ROOT, RecordingStorage, described, reaching

LARGE = bytes(range(256)) * 1000
BODIES = {"small": b"hello", "large": LARGE}
BOTH = pytest.mark.parametrize("key", list(BODIES))


def obj_of(key: str) -> RemoteObject:
    """Return what a listing says of one of `BODIES`."""
    return described(key, BODIES[key])


def changed(change: Callable[[Reply], Reply]) -> Change:
    """Change each answer in the same way."""
    return lambda request, reply: change(reply)


@contextmanager
def serving(
    change: Change = lambda request, reply: reply, **options: Any
) -> Iterator[tuple[FakeS3, RecordingStorage, ObjectStoreStorage]]:
    """Serve `BODIES`, with a complete way that has them as well."""
    with FakeS3(BODIES, change=change) as server:
        complete = RecordingStorage(server.url, BODIES)
        yield server, complete, ObjectStoreStorage(complete, **options)


def read(
    storage: ObjectStoreStorage, obj: RemoteObject, start: int = 0, stop: int | None = None
) -> bytes:
    """Return what reading gives."""
    return b"".join(storage.read(obj, start, obj.size if stop is None else stop))


@BOTH
@pytest.mark.parametrize("is_worker", [False, True], ids=["main thread", "worker"])
def test_bytes_come_by_one_bound_get(key: str, is_worker: bool) -> None:
    """With If-Match, and whatever thread asks."""
    obj = obj_of(key)._replace(version_id="v1")
    found = []
    with serving() as (server, complete, storage):
        if is_worker:
            thread = threading.Thread(target=lambda: found.append(read(storage, obj)))
            thread.start()
            thread.join()
        else:
            found.append(read(storage, obj))
        (request,) = server.requests

        assert found == [BODIES[key]]
        assert request.headers["if-match"] == f'"{obj.etag}"'
        assert request.query == {"versionId": "v1"}
        assert request.headers["accept-encoding"] == "identity"
        assert complete.calls == []


@BOTH
def test_a_range_comes_by_one_get(key: str) -> None:
    """Of exactly those bytes."""
    with serving() as (server, complete, storage):
        assert read(storage, obj_of(key), 1, 4) == BODIES[key][1:4]
        assert read(storage, obj_of(key), 3, 3) == b""
        assert server.requests[0].headers["range"] == "bytes=1-3"
        assert complete.calls == [f"read {ROOT}/{key}"]


@BOTH
@pytest.mark.parametrize(
    ("change", "changes"),
    [
        pytest.param(with_headers(ETag='"other"'), {}, id="etag"),
        pytest.param(with_headers(x_amz_version_id="v2"), {"version_id": "v1"}, id="version"),
        pytest.param(
            with_headers(Last_Modified="Mon, 01 Jul 2024 12:00:01 GMT"), {"etag": None}, id="time"
        ),
        pytest.param(
            changed(lambda reply: replace(reply, body=reply.body + b"more")), {}, id="longer"
        ),
        pytest.param(changed(lambda reply: replace(reply, body=reply.body[:-1])), {}, id="shorter"),
        pytest.param(
            changed(lambda reply: Reply(412, error("PreconditionFailed"))), {}, id="refused"
        ),
    ],
)
def test_another_object_is_noticed(key: str, change: Change, changes: dict[str, Any]) -> None:
    """Whatever conditions the server ignored; it is not asked again."""
    with serving(change) as (server, complete, storage):
        with pytest.raises(ObjectChangedError, match=f"{ROOT}/{key} changed since"):
            read(storage, obj_of(key)._replace(**changes))
        assert len(server.requests) == 1
        assert complete.calls == []


@pytest.mark.parametrize(
    "changes",
    [{"version_id": "null"}, {"etag": None}, {"version_id": "v1", "etag": None}],
    ids=["null", "time alone", "version alone"],
)
def test_an_object_with_less_identity_is_read(changes: dict[str, Any]) -> None:
    """A server need not tell versions."""
    with serving() as (_, complete, storage):
        assert read(storage, obj_of("small")._replace(**changes)) == b"hello"
        assert complete.calls == []


@pytest.mark.parametrize(
    "span", ["bytes 0-9/256000", "bytes 10-29/256000"], ids=["elsewhere", "longer"]
)
def test_another_range_than_asked_is_no_answer(span: str) -> None:
    """Obstore refuses it, so the complete way is asked."""
    with serving(with_headers(Content_Range=span)) as (server, complete, storage):
        assert read(storage, obj_of("large"), 10, 20) == LARGE[10:20]
        assert len(server.requests) == 1
        assert complete.calls == [f"read {ROOT}/large"]


@BOTH
def test_a_part_is_not_taken_for_the_whole(key: str) -> None:
    """Where no range was asked for."""
    size = len(BODIES[key])

    def change(request: Request, reply: Reply) -> Reply:
        headers = {**reply.headers, "Content-Range": f"bytes 0-2/{size}"}
        return replace(reply, status=206, body=reply.body[:3], headers=headers)

    with serving(change) as (_, complete, storage):
        with pytest.raises(ObjectChangedError):
            read(storage, obj_of(key))
        assert complete.calls == []


def test_a_range_with_more_bytes_than_it_says_is_noticed() -> None:
    """And no more than asked is given."""
    change = changed(lambda reply: replace(reply, body=reply.body + b"more"))
    with serving(change) as (_, _, storage), pytest.raises(IntegrityError, match="is longer"):
        read(storage, obj_of("large"), 10, 20)


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
@BOTH
def test_bytes_stay_as_they_are(key: str, encoding: str) -> None:
    """A Content-Encoding is not undone."""
    with serving(with_headers(Content_Encoding=encoding)) as (_, _, storage):
        assert read(storage, obj_of(key)) == BODIES[key]


# --- what goes the complete way -----------------------------------------------------------


@pytest.mark.parametrize("key", ["a//b", "a/../b", "./a", "/a", "a/", "a\nb", "a\x7f", "a\udc80"])
def test_keys_that_obstore_cannot_express(key: str) -> None:
    """Each is described and read the complete way, as itself."""
    twin = key.strip("/")
    with FakeS3({twin: b"twin"}) as server:
        complete = RecordingStorage(server.url, {key: b"odd"})
        storage = ObjectStoreStorage(complete)
        odd = described(key, b"odd", below=0)
        if not key.endswith("/"):  # that would be a pattern
            assert [obj.uri for obj in storage.scan(f"{ROOT}/{key}")] == [odd.uri]
        assert read(storage, odd) == b"odd"
        assert server.requests == []


@pytest.mark.parametrize("etag", ["a\r\nHost: evil", "\x00", "ä"])
def test_etags_that_no_header_takes(etag: str) -> None:
    """They are left to the complete way; no bytes of them are sent."""
    with serving() as (server, _complete, storage):
        assert read(storage, obj_of("small")._replace(etag=etag)) == b"hello"
        assert server.requests == []


def test_history_uploads_and_the_clock(tmp_path: Path) -> None:
    """Obstore has none of it."""
    (tmp_path / "a").write_bytes(b"a")
    with serving() as (server, complete, storage):
        assert list(storage.versions(f"{ROOT}/small")) == []
        assert storage.version(f"{ROOT}/small", "v1").size == 5
        assert storage.now() == complete.now()
        storage.upload(
            tmp_path / "a", f"{ROOT}/a", precondition=Precondition.ABSENT, advance=lambda n: None
        )
        assert storage.endpoint == server.url
        assert server.requests == []


@BOTH
@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(503, error("SlowDown")), id="throttled"),
        pytest.param(Reply(500, b"", length=None), id="failed"),
        pytest.param(Reply(0), id="hung up"),
        pytest.param(Reply(403, error("AccessDenied")), id="not permitted"),
        pytest.param(Reply(401, error("Unauthorized")), id="not known"),
        pytest.param(Reply(404, error("NoSuchKey")), id="missing"),
        pytest.param(Reply(200, b"hel", {"ETag": '"x"'}, length=None), id="without a length"),
    ],
)
def test_what_obstore_fails_at_is_asked_once_more(key: str, reply: Reply) -> None:
    """The complete way's answer counts, and so does its error; only it asks again."""
    with serving(changed(lambda _: reply)) as (server, complete, storage):
        assert read(storage, obj_of(key)) == BODIES[key]
        assert len(server.requests) == 1
        complete.error = ThrottledError("the server asks to slow down", retry_after=7)
        with pytest.raises(ThrottledError) as caught:
            read(storage, obj_of(key))
        assert caught.value.retry_after == 7
        assert complete.calls == [f"read {ROOT}/{key}"] * 2


def test_a_body_cut_short_is_continued_the_complete_way() -> None:
    """From where it broke off."""
    change = changed(lambda reply: replace(reply, sent=100_000))
    with serving(change) as (_server, complete, storage):
        assert read(storage, obj_of("large")) == LARGE
        assert complete.calls == [f"read {ROOT}/large"]


def test_a_listing_that_showed_what_is_not_there_is_not_trusted_again() -> None:
    """A key that ends in a slash is listed without it: the read fails, the next scan is right."""
    objects = {"p/tail/": b"odd", "p/a": b"1"}
    with FakeS3(objects) as server:
        complete = RecordingStorage(server.url, objects)
        storage = ObjectStoreStorage(complete)
        wrong = next(obj for obj in storage.scan(f"{ROOT}/p/**") if obj.size == 3)
        with pytest.raises(MisreadKeyError, match="is s3://lake/p/tail/ in truth"):
            read(storage, wrong)
        found = {obj.uri for obj in storage.scan(f"{ROOT}/p/**")}

        assert found == {f"{ROOT}/p/tail/", f"{ROOT}/p/a"}


def test_twenty_unexplained_errors_end_it_for_five_minutes() -> None:
    """Then obstore is tried again; successes in between count against them."""
    times = [0.0]
    is_bad = [True]

    def change(request: Request, reply: Reply) -> Reply:
        return Reply(500, error("InternalError")) if is_bad[0] else reply

    with serving(change, clock=lambda: times[0]) as (server, _, storage):
        for _ in range(19):
            read(storage, obj_of("small"))
        is_bad[0] = False
        read(storage, obj_of("small"))
        is_bad[0] = True
        for _ in range(2):
            read(storage, obj_of("small"))
        asked = len(server.requests)
        assert asked == 22
        assert str(storage.engine) == "fsspec (obstore failed where it did not)"
        read(storage, obj_of("small"))
        assert len(server.requests) == asked
        times[0] = 301.0
        assert storage.engine.name == "obstore"
        read(storage, obj_of("small"))
        assert len(server.requests) == asked + 1


def test_a_known_error_of_both_ways_is_not_unexplained() -> None:
    """A hundred missing objects do not end it."""
    with serving() as (_, complete, storage):
        complete.objects = {}
        for _ in range(30):
            with pytest.raises(ObjectNotFoundError):
                list(storage.scan(f"{ROOT}/missing"))
        assert storage.engine.name == "obstore"


# --- servers that stall -------------------------------------------------------------------


STALLS = pytest.mark.parametrize("stall", ["silent", "trickling"])


@STALLS
def test_a_large_body_that_stalls_is_given_up(stall: Stall) -> None:
    """After the time that one may stall, and not asked for the complete way: it stalls there."""
    stalling = changed(lambda reply: replace(reply, sent=2, stall=stall))
    with serving(stalling, stall_seconds=0.4) as (_, complete, storage):
        with pytest.raises(SourceUnreachableError, match=r"bytes in 0 s of s3://lake/large"):
            read(storage, obj_of("large"))
        assert complete.calls == []


@STALLS
def test_a_small_body_that_stalls_is_left_to_the_complete_way(
    stall: Stall,
) -> None:
    """Which sees whether it moves."""
    stalling = changed(lambda reply: replace(reply, sent=0, stall=stall))
    with serving(stalling, stall_seconds=0.4) as (_, complete, storage):
        assert read(storage, obj_of("small")) == b"hello"
        assert complete.calls == [f"read {ROOT}/small"]


INTERRUPTED = """
import sys
from datacachalog.storage.object_store import ObjectStoreStorage
from tests.storage.recording_storage import ROOT, RecordingStorage, described

storage = ObjectStoreStorage(RecordingStorage(sys.argv[1]))
if sys.argv[2] == "scan":
    list(storage.scan(f"{ROOT}/p/**"))
for _ in storage.read(described(sys.argv[2], bytes(int(sys.argv[3]))), 0, int(sys.argv[3])):
    pass
"""


@pytest.mark.parametrize("what", ["scan", "small", "large"])
def test_ctrl_c_in_the_main_thread_ends_a_silent_request(what: str) -> None:
    """Within two seconds, and at once as a rule."""
    asked = threading.Event()

    def answer(request: Request) -> Reply:
        asked.set()
        return Reply(0, stall="silent")

    with FakeS3(answer=answer) as server:
        size = SMALL + 1 if what == "large" else 5
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED, server.url, what, str(size)],
            cwd=PROJECT,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert asked.wait(20)

        assert interrupt(process).rstrip().endswith("KeyboardInterrupt")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_goes_the_complete_way() -> None:
    """Obstore's threads are left behind; the parent goes on with it."""
    with serving() as (server, complete, storage):
        assert read(storage, obj_of("small")) == b"hello"

        def check() -> None:
            assert read(storage, obj_of("small")) == b"hello"
            assert complete.calls == [f"read {ROOT}/small"]
            assert str(storage.engine) == "fsspec (in a forked process)"

        assert in_child(check) == 0
        assert read(storage, obj_of("small")) == b"hello"
        assert len(server.requests) == 2


# --- how the server is reached ------------------------------------------------------------

READ_BY_OBSTORE = """
ACCESS_KEY_ID SECRET_ACCESS_KEY SESSION_TOKEN TOKEN DEFAULT_REGION REGION BUCKET BUCKET_NAME
ENDPOINT ENDPOINT_URL ENDPOINT_URL_S3 ENDPOINT_URL_STS STS_ENDPOINT VIRTUAL_HOSTED_STYLE_REQUEST
S3_EXPRESS IMDSV1_FALLBACK METADATA_ENDPOINT UNSIGNED_PAYLOAD CHECKSUM_ALGORITHM
CONTAINER_CREDENTIALS_RELATIVE_URI CONTAINER_CREDENTIALS_FULL_URI
CONTAINER_AUTHORIZATION_TOKEN_FILE WEB_IDENTITY_TOKEN_FILE ROLE_ARN ROLE_SESSION_NAME
SKIP_SIGNATURE COPY_IF_NOT_EXISTS CONDITIONAL_PUT DISABLE_TAGGING DISABLE_BULK_DELETE
REQUEST_PAYER SERVER_SIDE_ENCRYPTION SSE_KMS_KEY_ID SSE_BUCKET_KEY_ENABLED SSE_CUSTOMER_KEY_BASE64
ALLOW_HTTP ALLOW_INVALID_CERTIFICATES CONNECT_TIMEOUT DEFAULT_CONTENT_TYPE HTTP1_ONLY HTTP2_ONLY
HTTP2_KEEP_ALIVE_INTERVAL HTTP2_KEEP_ALIVE_TIMEOUT HTTP2_KEEP_ALIVE_WHILE_IDLE
HTTP2_MAX_FRAME_SIZE POOL_IDLE_TIMEOUT POOL_MAX_IDLE_PER_HOST PROXY_URL PROXY_CA_CERTIFICATE
PROXY_EXCLUDES RANDOMIZE_ADDRESSES TIMEOUT READ_TIMEOUT USER_AGENT
"""


@pytest.mark.parametrize("poison", ["poison", "true", "false", "http://127.0.0.1:9"])
def test_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch, poison: str) -> None:
    """Requests go where the connection says, signed with its keys, and say nothing more."""
    for name in READ_BY_OBSTORE.split():
        monkeypatch.setenv(f"AWS_{name}", poison)
    with serving() as (server, complete, storage):
        read(storage, obj_of("small"))
        (request,) = server.requests
        extra = {name for name in request.headers if name.startswith("x-amz-")}

        assert request.path == "/lake/small"
        assert "Credential=test/" in request.headers["authorization"]
        assert "/us-east-1/s3/" in request.headers["authorization"]
        assert extra == {"x-amz-content-sha256", "x-amz-date"}
        assert complete.calls == []


@pytest.mark.parametrize(
    ("fields", "present", "absent"),
    [
        pytest.param({"is_anonymous": True}, set(), {"authorization"}, id="anonymous"),
        pytest.param(
            {"is_requester_pays": True},
            {"x-amz-request-payer", "authorization"},
            set(),
            id="requester pays",
        ),
    ],
)
def test_the_connection_decides(
    fields: dict[str, Any], present: set[str], absent: set[str]
) -> None:
    """Who signs, and who pays."""
    with FakeS3(BODIES) as server:
        complete = RecordingStorage(server.url, given=reaching(server.url, **fields))
        storage = ObjectStoreStorage(complete)
        list(storage.scan(f"{ROOT}/*"))
        list(storage.scan(f"{ROOT}/small"))
        read(storage, obj_of("small"))

        for request in server.requests:
            assert present <= set(request.headers)
            assert not absent & set(request.headers)
        assert complete.calls == []


@pytest.mark.parametrize("is_virtual", [False, True], ids=["path style", "virtual style"])
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY"])
def test_a_proxy_is_the_one_that_botocore_takes(
    monkeypatch: pytest.MonkeyPatch, name: str, is_virtual: bool
) -> None:
    """And the bucket stands where the connection says."""
    with FakeS3(answer=Reply(500)) as proxy:
        monkeypatch.setenv(name, proxy.url)
        url = "http://s3.example.test"
        connection = reaching(url, addressing_style="virtual" if is_virtual else "path")
        read(ObjectStoreStorage(RecordingStorage(url, BODIES, connection)), obj_of("small"))
        (request,) = proxy.requests

        host = "lake.s3.example.test" if is_virtual else "s3.example.test"
        assert request.headers["host"] == host
        assert request.path == ("/small" if is_virtual else "/lake/small")


@pytest.mark.parametrize(
    "names",
    [
        {"ALL_PROXY": ""},
        {"http_proxy": "", "no_proxy": "*"},
        {"http_proxy": "", "no_proxy": "127.0.0.1"},
    ],
    ids=["all", "none by a star", "none by a host"],
)
def test_a_proxy_that_botocore_does_not_take_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, names: dict[str, str]
) -> None:
    """Whatever obstore would make of the environment."""
    with FakeS3(answer=Reply(500)) as proxy, serving() as (_, complete, storage):
        for name, value in names.items():
            monkeypatch.setenv(name, value or proxy.url)
        assert read(storage, obj_of("small")) == b"hello"
        assert proxy.requests == []
        assert complete.calls == []


def test_keys_are_renewed_before_they_end() -> None:
    """Keys that live two seconds are asked for once each, not for every request."""
    times = [datetime(2024, 7, 1, tzinfo=UTC)]
    given: list[Credentials] = []

    def keys() -> Credentials:
        expires = datetime.now(UTC) + timedelta(seconds=2) + (times[0] - began)
        given.append(Credentials(f"key{len(given)}", "secret", f"token{len(given)}", expires))
        return given[-1]

    began = times[0] = datetime.now(UTC)
    with FakeS3(BODIES) as server:
        complete = RecordingStorage(server.url, BODIES, keys=keys)
        storage = ObjectStoreStorage(complete, now=lambda: times[0])
        for _ in range(20):
            read(storage, obj_of("small"))
        assert len(given) == 1
        times[0] += timedelta(seconds=3)
        for _ in range(200):
            read(storage, obj_of("small"))
            if server.requests[-1].headers["x-amz-security-token"] == "token1":
                break
        assert "Credential=key1/" in server.requests[-1].headers["authorization"]
        assert complete.calls == []


@pytest.mark.parametrize("is_silent", [False, True], ids=["an error", "none"])
def test_without_credentials_the_complete_way_says_so(is_silent: bool) -> None:
    """It names what can be done."""

    def keys() -> None:
        if not is_silent:
            raise StorageError("no AWS credentials were found")

    with FakeS3(BODIES) as server:
        complete = RecordingStorage(server.url, BODIES, keys=keys)
        complete.error = StorageError("no AWS credentials were found")
        with pytest.raises(StorageError, match="no AWS credentials were found"):
            read(ObjectStoreStorage(complete), obj_of("small"))
        assert server.requests == []


@pytest.mark.parametrize(
    ("is_own", "fields", "is_fast"),
    [
        pytest.param(False, {"ca_bundle": True}, True, id="authority named"),
        pytest.param(False, {}, False, id="authority unknown"),
        pytest.param(True, {"ca_bundle": True}, False, id="self-signed"),
        pytest.param(True, {"is_verified": False}, True, id="not verified"),
    ],
)
def test_certificates(tmp_path: Path, is_own: bool, fields: dict[str, Any], is_fast: bool) -> None:
    """What rustls refuses goes the complete way, whose verdict counts."""
    certificates = make_certificates(tmp_path, is_own=is_own)
    if fields.get("ca_bundle"):
        fields = {"ca_bundle": str(certificates.authority)}
    with FakeS3(BODIES, tls=certificates.context()) as server:
        complete = RecordingStorage(server.url, BODIES, reaching(server.url, **fields))
        assert read(ObjectStoreStorage(complete), obj_of("small")) == b"hello"
        assert (complete.calls == []) is is_fast
        assert bool(server.requests) is is_fast


@pytest.mark.parametrize("bucket", ["arn:aws:s3:us-east-1:1:accesspoint", "lake--use1-az4--x-s3"])
def test_buckets_that_are_no_host_s_name_go_the_complete_way(bucket: str) -> None:
    """Access points by ARN, and directory buckets."""
    with serving() as (server, complete, storage):
        list(storage.scan(f"s3://{bucket}/**"))

        assert complete.calls == [f"scan s3://{bucket}/**"]
        assert server.requests == []


def test_a_region_that_was_wrong_is_wrong_once() -> None:
    """The complete way finds the bucket's, and obstore takes it from there."""

    def change(request: Request, reply: Reply) -> Reply:
        if "/eu-west-1/s3/" in request.headers["authorization"]:
            return reply
        complete.region = "eu-west-1"
        return Reply(400, error("AuthorizationHeaderMalformed"))

    with serving(change) as (server, complete, storage):
        for _ in range(3):
            assert read(storage, obj_of("small")) == b"hello"
        assert len(server.requests) == 3
        assert complete.calls == [f"read {ROOT}/small"]


# --- which engine -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configured", "environ", "said"),
    [
        ("auto", {}, "obstore"),
        ("fsspec", {}, "fsspec (chosen by `engine`)"),
        ("auto", {"DCL_ENGINE": "fsspec"}, "fsspec (chosen by DCL_ENGINE)"),
        ("fsspec", {"DCL_ENGINE": "auto"}, "obstore"),
        ("fsspec", {"DCL_ENGINE": ""}, "fsspec (chosen by `engine`)"),
    ],
)
def test_the_engine_is_chosen_by_hand(configured: str, environ: dict[str, str], said: str) -> None:
    """The environment stands above the storage."""
    assert str(chosen_engine(configured, environ)) == said


def test_a_wrong_engine_is_one_error() -> None:
    """It names the variable, and what to write."""
    with pytest.raises(InvalidValueError, match="DCL_ENGINE is 'rust'") as caught:
        chosen_engine("auto", {"DCL_ENGINE": "rust"})
    assert "`fsspec`" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("fields", "environ", "said"),
    [
        ({"sse_customer_key": b"k"}, {}, "fsspec (a storage with `sse_customer_key`)"),
        ({"ca_bundle": "/"}, {}, "fsspec (`ca_bundle` is not one file)"),
        ({}, {"AWS_USE_FIPS_ENDPOINT": "true"}, "fsspec (AWS_USE_FIPS_ENDPOINT is set)"),
        ({}, {}, "obstore"),
    ],
)
def test_what_obstore_cannot_be_told_is_said(
    fields: dict[str, Any], environ: dict[str, str], said: str
) -> None:
    """With the reason, for `dcl doctor`."""
    connection = reaching(None, **fields)

    assert str(reachable_engine(connection, environ)) == said


def test_an_unreachable_connection_goes_the_complete_way() -> None:
    """The customer's key is sent by it alone."""
    with FakeS3(BODIES) as server:
        complete = RecordingStorage(server.url, BODIES, reaching(server.url, sse_customer_key=b"k"))
        storage = ObjectStoreStorage(complete)
        assert read(storage, obj_of("large")) == LARGE
        assert storage.engine.name == "fsspec"
        assert server.requests == []
