"""Uploads: conditional, in parts, tidy when they fail, and honest about what is not proven."""

import os
import threading
from pathlib import Path

import pytest

from datacachalog.errors import (
    AccessDeniedError,
    IntegrityError,
    ObjectNotFoundError,
    PushConflictError,
    SourceUnreachableError,
)
from datacachalog.model import RemoteObject
from datacachalog.storage import Advance, Precondition, Uploaded
from datacachalog.storage.s3 import S3Storage
from datacachalog.storage.s3 import upload as uploading
from tests.conftest import Bucket, TestS3
from tests.fake_s3 import FakeS3, Reply, Request, error

PART = 5 << 20
"""The least that moto accepts."""


def no_progress(count: int) -> None:
    """Receive progress and do nothing."""


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Give a file of two parts and a bit."""
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(2 * PART + 123))
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Give a file that goes in one PUT."""
    path = tmp_path / "small.bin"
    path.write_bytes(b"brand new")
    return path


def push(
    s3: TestS3,
    bucket: Bucket,
    path: Path,
    *,
    precondition: RemoteObject | Precondition = Precondition.ABSENT,
    advance: Advance = no_progress,
) -> Uploaded:
    """Upload `path` to `key` in parts of the least size."""
    client = S3Storage(s3.settings)._client
    return uploading.upload(
        client, path, bucket.name, "key", precondition=precondition, advance=advance, part_size=PART
    )


def test_parts_make_one_object(s3: TestS3, large: Path) -> None:
    """A large file arrives whole, progress adds up, and nothing is left open."""
    bucket = s3.bucket()
    moved: list[int] = []

    done = push(s3, bucket, large, advance=moved.append)

    assert bucket.read("key") == large.read_bytes()
    assert sum(moved) == large.stat().st_size
    assert done.object.etag is not None
    assert done.object.etag.endswith("-3")
    assert bucket.uploads() == []


def test_a_large_upload_over_what_changed(s3: TestS3, large: Path) -> None:
    """A conflict is found before a byte is sent."""
    bucket = s3.bucket()
    bucket.put("key", b"one")
    (known,) = S3Storage(s3.settings).scan(bucket.uri("key"))
    bucket.put("key", b"two")
    moved: list[int] = []

    with pytest.raises(PushConflictError, match=r"expected 3 bytes of .* found 3 bytes of"):
        push(s3, bucket, large, precondition=known, advance=moved.append)
    assert moved == []
    assert bucket.read("key") == b"two"


def test_a_file_that_changes_meanwhile(s3: TestS3, large: Path) -> None:
    """Parts of two states of a file do not become an object."""
    bucket = s3.bucket()

    def touch(_: int) -> None:
        os.utime(large, (1, 1))

    with pytest.raises(IntegrityError, match="changed while"):
        push(s3, bucket, large, advance=touch)
    assert bucket.uploads() == []
    assert list(S3Storage(s3.settings).scan(bucket.uri("*"))) == []


def test_a_small_write_to_an_enforcing_server_is_proven(s3: TestS3, small: Path) -> None:
    """Conditions on PUT are enforced by moto, and that is found out."""
    assert push(s3, s3.bucket(), small).unproven is None


def test_a_large_write_to_an_unknown_server_is_not_proven(s3: TestS3, large: Path) -> None:
    """Whether conditions hold when parts are completed cannot be known; it is said."""
    done = push(s3, s3.bucket(), large)

    assert "not seen to enforce" in (done.unproven or "")


def test_history_proves_what_the_server_does_not(s3: TestS3, large: Path) -> None:
    """Where versions are kept, the one below ours is compared with the expected one."""
    bucket = s3.bucket(versioning=True)
    bucket.put("key", b"old")
    (known,) = S3Storage(s3.settings).scan(bucket.uri("key"))

    assert push(s3, bucket, large, precondition=known).unproven is None


def test_an_overwritten_stranger_is_told(s3: TestS3, large: Path) -> None:
    """A write by someone else during the upload is found in the history, and named."""
    bucket = s3.bucket(versioning=True)
    bucket.put("key", b"old")
    (known,) = S3Storage(s3.settings).scan(bucket.uri("key"))
    versions: list[str | None] = []
    lock = threading.Lock()

    def meanwhile(_: int) -> None:
        with lock:
            if not versions:
                versions.append(bucket.put("key", b"stranger"))

    done = push(s3, bucket, large, precondition=known, advance=meanwhile)

    assert f"overwritten version {versions[0]}" in (done.unproven or "")


def test_no_such_bucket(s3: TestS3, small: Path) -> None:
    """A bucket that does not exist is not an absent object."""
    missing = Bucket("no-such-bucket", s3.client, s3.endpoint)

    with pytest.raises(ObjectNotFoundError, match="no bucket 'no-such-bucket'"):
        push(s3, missing, small)


# --- servers that do otherwise ----------------------------------------------------------


def put(
    server: FakeS3, path: Path, precondition: RemoteObject | Precondition = Precondition.ABSENT
) -> Uploaded:
    """Upload `path` to the server's one key."""
    return server.storage().upload(
        path, "s3://bucket/key", precondition=precondition, advance=no_progress
    )


def test_a_server_that_ignores_conditions_is_noticed(small: Path) -> None:
    """It is told that a write between could have been lost; the object is there."""
    with FakeS3(ignores={"if-match", "if-none-match"}) as server:
        done = put(server, small)

    assert "ignores conditions" in (done.unproven or "")
    assert server.objects == {"key": b"brand new"}


def test_a_server_that_refuses_conditions_still_gets_the_file(small: Path) -> None:
    """Without conditions, what was compared before must do; it is said."""

    def answer(request: Request) -> Reply:
        if "if-none-match" in request.headers:
            return Reply(501, error("NotImplemented"))
        return server.respond(request)

    with FakeS3(answer=answer) as server:
        done = put(server, small)

    assert "not seen to enforce" in (done.unproven or "")
    assert server.objects == {"key": b"brand new"}


def test_someone_was_first(small: Path) -> None:
    """A write that falls between the check and ours is seen by the server, and shown."""

    def answer(request: Request) -> Reply:
        if request.method == "PUT":
            server.objects["key"] = b"theirs"
        return server.respond(request)

    with (
        FakeS3(answer=answer) as server,
        pytest.raises(PushConflictError, match="expected no object, found 6 bytes"),
    ):
        put(server, small)

    assert server.objects == {"key": b"theirs"}


def test_a_conflicting_request_is_tried_again(small: Path) -> None:
    """409 means that another write is under way."""
    refusals = [Reply(409, error("ConditionalRequestConflict"))]

    def answer(request: Request) -> Reply:
        is_refused = request.method == "PUT" and refusals
        return refusals.pop() if is_refused else server.respond(request)

    with FakeS3(answer=answer) as server:
        assert put(server, small).unproven is None

    assert server.objects == {"key": b"brand new"}


def test_a_lost_answer_to_a_write_that_happened(small: Path) -> None:
    """Without an answer, what is there is compared with what was sent."""
    lost = [Reply(0)]

    def change(request: Request, reply: Reply) -> Reply:
        return lost.pop() if request.method == "PUT" and lost else reply

    with FakeS3(change=change) as server:
        done = put(server, small)

    assert done.object.size == 9


def test_a_lost_answer_to_a_write_that_did_not_happen(small: Path) -> None:
    """Nothing changed: the caller may try again."""

    def answer(request: Request) -> Reply:
        return Reply(0) if request.method == "PUT" else server.respond(request)

    with FakeS3(answer=answer) as server, pytest.raises(SourceUnreachableError):
        put(server, small)

    assert server.objects == {}


def test_denied_writes_name_the_permission(small: Path) -> None:
    """403 on the write says what is missing."""

    def change(request: Request, reply: Reply) -> Reply:
        return Reply(403, error("AccessDenied")) if request.method == "PUT" else reply

    with FakeS3(change=change) as server, pytest.raises(AccessDeniedError, match="s3:PutObject"):
        put(server, small)


def test_a_lost_part_is_sent_again(large: Path) -> None:
    """One part's failure costs that part, and progress still adds up."""
    failures = [Reply(500, error("InternalError"))]
    moved: list[int] = []

    def change(request: Request, reply: Reply) -> Reply:
        is_lost = request.query.get("partNumber") == "2" and failures
        return failures.pop() if is_lost else reply

    with FakeS3(change=change) as server:
        uploading.upload(
            server.storage()._client, large, "bucket", "key",
            precondition=Precondition.ABSENT, advance=moved.append, part_size=PART,
        )  # fmt: skip

    assert server.objects == {"key": large.read_bytes()}
    assert sum(moved) == large.stat().st_size


def test_a_failed_upload_is_aborted(large: Path) -> None:
    """Parts that can no longer become an object are not left to be paid for."""

    def change(request: Request, reply: Reply) -> Reply:
        is_denied = request.query.get("partNumber") == "2"
        return Reply(403, error("AccessDenied")) if is_denied else reply

    with FakeS3(change=change) as server:
        with pytest.raises(AccessDeniedError):
            uploading.upload(
                server.storage()._client, large, "bucket", "key",
                precondition=Precondition.ABSENT, advance=no_progress, part_size=PART,
            )  # fmt: skip
        aborted = [r for r in server.requests if r.method == "DELETE"]

    assert [r.query for r in aborted] == [{"uploadId": "up & id"}]
    assert server.objects == {}


def test_an_empty_file(s3: TestS3, tmp_path: Path) -> None:
    """A file without bytes becomes an object without bytes."""
    path = tmp_path / "empty"
    path.touch()
    bucket = s3.bucket()

    assert push(s3, bucket, path).object.size == 0


def test_no_unusual_headers_for_look_alikes(small: Path) -> None:
    """Many of them refuse checksums, or do not answer whom they should tell to continue."""
    with FakeS3() as server:
        put(server, small)

        sent = {name for request in server.requests for name in request.headers}
    assert not any("checksum" in name or name == "expect" for name in sent)


def test_a_server_that_takes_no_bytes_is_given_up(large: Path) -> None:
    """Where no block of a body is taken any more, nobody waits for ever."""
    given_up = threading.Event()

    def answer(request: Request) -> Reply:
        if request.method != "PUT":
            return server.respond(request)
        given_up.wait(20)
        return Reply(0)

    with FakeS3(answer=answer, takes_bodies=False) as server:
        storage = server.storage(stall_seconds=0.5)
        with pytest.raises(SourceUnreachableError, match="takes no more bytes"):
            storage.upload(
                large, "s3://bucket/key", precondition=Precondition.ABSENT, advance=no_progress
            )
        given_up.set()
