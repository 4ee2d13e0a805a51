"""Hauls and convoys: what lanes carry lands in the store as if it had been read one by one."""

import errno
import hashlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from blake3 import blake3

from datacachalog import arrival, events
from datacachalog.cache.store import Store
from datacachalog.catalog import Catalog
from datacachalog.errors import (
    AccessDeniedError,
    CacheError,
    ChecksumMismatchError,
    OfflineError,
    StorageError,
)
from datacachalog.haul import Haul
from datacachalog.model import RemoteObject
from datacachalog.pool import Pool, Valve
from datacachalog.retry import Cancel, Cancelled
from datacachalog.run import Run
from datacachalog.spec import Dataset, StorageSettings
from datacachalog.storage.s3 import S3Storage
from tests.projects import Ear, Project, current_umask, mode_of
from tests.storage.answering import Talk, answer, answering
from tests.storage.certificates import make_certificates
from tests.storage.s3.scripted import DATE, Reply, Request, Server, error, scripted

KIB = 1 << 10
MODIFIED = datetime(2024, 7, 1, 12, tzinfo=UTC)


@dataclass
class Shelf:
    """An S3 with the bucket `bucket`; `odd` answers a key's next GETs in place of the shelf."""

    objects: dict[str, bytes]
    odd: dict[str, list[Callable[[Reply], Reply]]] = field(default_factory=dict)

    def __call__(self, request: Request) -> Reply:
        """Answer ListObjectsV2 and GET."""
        if "list-type" in request.query:
            return Reply(200, self.listing())
        key = request.path.removeprefix("/bucket/")
        odd = self.odd.get(key)
        bend = odd.pop(0) if odd else lambda reply: reply
        return bend(self.found(key, request))

    def found(self, key: str, request: Request) -> Reply:
        """Return the right answer to a GET."""
        body = self.objects[key]
        if request.headers.get("if-match") != etag(body):
            return Reply(412, error("PreconditionFailed"))
        headers = {"ETag": etag(body), "Last-Modified": DATE}
        span = request.headers.get("range")
        if span is None:
            return Reply(200, body, headers)
        first, _, last = span.removeprefix("bytes=").partition("-")
        headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        return Reply(206, body[int(first) : int(last) + 1], headers)

    def listing(self) -> bytes:
        """Return one page that holds all."""
        entries = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2024-07-01T12:00:00.000Z</LastModified>"
            f"<ETag>{etag(body)}</ETag><Size>{len(body)}</Size></Contents>"
            for key, body in sorted(self.objects.items())
        )
        return f"<ListBucketResult>{entries}</ListBucketResult>".encode()


def etag(body: bytes) -> str:
    """Return an object's ETag, as S3 spells it."""
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def shelf_of(count: int, size: int = 100) -> Shelf:
    """Return a shelf of objects of about `size` bytes, the first of them empty."""
    return Shelf({f"d/{n:03}": os.urandom(n and size + n) for n in range(count)})


def hashes(shelf: Shelf) -> list[str]:
    """Return the blake3 of all objects, in order."""
    return [blake3(body).hexdigest() for body in shelf.objects.values()]


def total(shelf: Shelf) -> int:
    """Return the bytes of all objects."""
    return sum(map(len, shelf.objects.values()))


@dataclass
class Team:
    """A project whose datasets lie on the server."""

    project: Project
    server: Server

    def catalog(self, **options: object) -> Catalog:
        """Return a new catalog: everything in the bucket."""
        dataset = Dataset(**{"name": "all", "source": "s3://bucket/d/**", **options})  # type: ignore[arg-type]
        storage = self.server.storage()
        return self.project.catalog(dataset, open_storage=lambda *_: storage)

    @property
    def files(self) -> dict[str, bytes]:
        """Return what is in place, by key."""
        return {f"d/{name}": data for name, data in self.project.files("all").items()}

    def asked(self, key: str = "") -> list[str]:
        """Return the keys (or the one) that were asked for, in order."""
        paths = [r.path for r in self.server.requests if "list-type" not in r.query]
        return [path for path in paths if path.endswith(key)]

    @property
    def listings(self) -> int:
        """Return how often the bucket was listed."""
        return sum("list-type" in request.query for request in self.server.requests)


@contextmanager
def team(project: Project, shelf: Shelf) -> Iterator[Team]:
    """Give a project over a server with this shelf."""
    with scripted(shelf) as server:
        yield Team(project, server)


# --- how it should be -------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 8, None])
def test_small_objects_land_with_one_request_each(project: Project, jobs: int | None) -> None:
    """Of all sizes, the empty one too; one listing, one GET each, nothing left behind."""
    shelf = shelf_of(50, 20 * KIB)
    with team(project, shelf) as it:
        report = it.catalog().sync(jobs=jobs)

        assert it.files == shelf.objects
        assert it.listings == 1
        assert sorted(it.asked()) == [f"/bucket/{key}" for key in shelf.objects]
        assert project.debris() == []
        assert [found.downloaded for found in report.outcomes] == [50]


def test_what_a_lane_stores_is_as_any_other(project: Project) -> None:
    """Read-only, of the remote's time, and the record knows its blake3."""
    shelf = shelf_of(20)
    with team(project, shelf) as it:
        it.catalog().sync()
        record = it.catalog()._states.read("all")

    assert record is not None
    assert list(record.files.blake3) == [
        blake3(body).hexdigest() for body in shelf.objects.values()
    ]
    stored = project.stored()
    assert len(stored) == 20
    assert {mode_of(path) for path in stored} == {0o444 & ~current_umask()}
    assert {path.stat().st_mtime for path in stored} == {MODIFIED.timestamp()}


def test_the_events_add_up(project: Project) -> None:
    """Each object starts and finishes once, with all of its bytes between."""
    shelf = shelf_of(20)
    ear = Ear()
    with team(project, shelf) as it:
        it.catalog().sync(report=ear)
    started = sorted(e.object.relpath for e in ear.of(events.TransferStarted))

    assert started == sorted(e.object.relpath for e in ear.of(events.TransferFinished))
    assert len(started) == 20
    assert sum(e.count for e in ear.of(events.Transferred)) == total(shelf)


def test_through_a_proxy(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """No lane leads there, and all comes all the same."""
    shelf = shelf_of(20)
    with team(project, shelf) as it:
        monkeypatch.setenv("http_proxy", it.server.url)
        monkeypatch.setenv("no_proxy", "")
        it.catalog().sync()

        assert it.files == shelf.objects


def test_offline_asks_nothing(project: Project) -> None:
    """No lane is opened, not even to be refused."""
    shelf = shelf_of(20)
    with team(project, shelf) as it:
        it.catalog().sync()
        shutil.rmtree(project.cache)
        shutil.rmtree(project.data)
        asked = len(it.server.requests)
        with pytest.raises(OfflineError):
            it.catalog().sync(offline=True)

        assert len(it.server.requests) == asked


# --- what goes wrong --------------------------------------------------------------------------

ONCE: dict[str, Callable[[Reply], Reply]] = {
    "busy": lambda _: Reply(503, error("SlowDown")),
    "error": lambda _: Reply(500, error("InternalError")),
    "hung up": lambda _: Reply(0),
    "cut": lambda reply: Reply(200, reply.body, reply.headers, sent=7),
    "no length": lambda reply: Reply(200, reply.body, reply.headers, length=None),
    "another length": lambda reply: Reply(200, reply.body[:-1], reply.headers),
}


@pytest.mark.parametrize("case", ONCE)
def test_what_goes_wrong_once_is_repeated(project: Project, case: str) -> None:
    """By `read`: each object is there in the end, and its bytes were counted once."""
    shelf = shelf_of(20)
    shelf.odd = {f"d/{n:03}": [ONCE[case]] for n in (3, 7, 19)}
    ear = Ear()
    with team(project, shelf) as it:
        it.catalog().sync(report=ear)

        assert it.files == shelf.objects
        assert project.debris() == []
        assert all(2 <= len(it.asked(key)) <= 3 for key in ("003", "007", "019"))
        assert len(ear.of(events.TransferFinished)) == 20
        assert sum(e.count for e in ear.of(events.Transferred)) == total(shelf)


def test_a_refusal_is_said_as_ever(project: Project) -> None:
    """The error is that of reading the object; nothing is left, nothing in place."""
    shelf = shelf_of(20)
    shelf.odd = {"d/007": [lambda _: Reply(403, error("AccessDenied"))] * 9}
    with team(project, shelf) as it, pytest.raises(AccessDeniedError, match="d/007"):
        it.catalog().sync()

    assert project.debris() == []
    assert project.files("all") == {}


def test_a_haul_gives_up_where_all_goes_wrong(project: Project) -> None:
    """Hundreds of refusals are not collected before the first is told."""
    shelf = shelf_of(300)
    shelf.odd = {key: [lambda _: Reply(403, error("AccessDenied"))] * 2 for key in shelf.objects}
    with team(project, shelf) as here:
        with pytest.raises(AccessDeniedError):
            here.catalog().sync(jobs=1)

        assert len(here.asked()) < 40


def test_a_wrong_checksum_names_the_object(project: Project) -> None:
    """Both checksums, and the object they belong to."""
    shelf = shelf_of(20)
    demanded = f"md5:{'0' * 32}"
    found = etag(shelf.objects["d/007"]).strip('"')
    with team(project, shelf) as it, pytest.raises(ChecksumMismatchError) as caught:
        it.catalog(checksum={"007": demanded}).sync()

    assert "s3://bucket/d/007" in str(caught.value)
    assert found in str(caught.value)
    assert demanded in str(caught.value)
    assert project.debris() == []


def test_right_checksums_are_checked(project: Project) -> None:
    """Whatever the algorithm, as the bytes come."""
    shelf = shelf_of(20)
    sums = {key[2:]: f"md5:{etag(body)[1:-1]}" for key, body in shelf.objects.items()}
    with team(project, shelf) as it:
        it.catalog(checksum=sums).sync()

        assert it.files == shelf.objects
        assert len(it.asked()) == 20


def test_an_object_that_changes_meanwhile_is_resolved_again(project: Project) -> None:
    """Between the listing and the GET: the new bytes come, and only what is new is fetched."""
    shelf = shelf_of(20)

    def change(reply: Reply) -> Reply:
        shelf.objects["d/007"] = b"new"
        return Reply(412, error("PreconditionFailed"))

    shelf.odd = {"d/007": [change]}
    ear = Ear()
    with team(project, shelf) as it:
        it.catalog().sync(report=ear)

        assert it.files == shelf.objects
        assert it.files["d/007"] == b"new"
        assert it.listings == 2
        assert ["resolving again" in e.message for e in ear.of(events.Warned)] == [True]
        assert project.debris() == []


def test_another_object_in_place_of_the_right_one(project: Project) -> None:
    """A server that ignores conditions is found out by what it says of itself."""
    shelf = shelf_of(20)

    def replace(reply: Reply) -> Reply:
        shelf.objects["d/007"] = b"x" * len(reply.body)
        return Reply(200, shelf.objects["d/007"], {"ETag": etag(shelf.objects["d/007"])})

    shelf.odd = {"d/007": [replace]}
    with team(project, shelf) as it:
        it.catalog().sync()

        assert it.files == shelf.objects
        assert it.listings == 2


def test_the_cache_may_be_removed_meanwhile(project: Project) -> None:
    """All comes again that was there."""
    shelf = shelf_of(20)
    has_gone = False

    def remove(event: events.Event) -> None:
        nonlocal has_gone
        if isinstance(event, events.TransferFinished) and not has_gone:
            has_gone = True
            shutil.rmtree(project.cache / "v1")

    with team(project, shelf) as it:
        it.catalog().sync(report=remove)

        assert has_gone
        assert it.files == shelf.objects
        assert project.debris() == []


def no_room(fd: int, *_: object) -> int:
    """Write nothing."""
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["write", "utime", "close"])
def test_a_full_disk(project: Project, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """The error says what to do, and nothing is left."""
    real = getattr(os, call)

    def refuse(fd: int, *args: object, **options: object) -> object:
        if is_temporary(fd):
            if call == "close":
                real(fd)
            no_room(fd)
        return real(fd, *args, **options)

    with team(project, shelf_of(20)) as it, monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        if call == "write":
            patched.setattr(os, "pwrite", no_room)
        with pytest.raises(CacheError, match="No space left") as caught:
            it.catalog().sync()

    assert "prune" in (caught.value.hint or "")
    assert project.debris() == []


def is_temporary(fd: object) -> bool:
    """Tell whether a descriptor is that of a download under way."""
    try:
        return isinstance(fd, int) and "/v1/tmp/" in os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return False


def test_a_certificate_that_is_not_trusted(project: Project, tmp_path: Path) -> None:
    """The error is that of `read`, with its hint, once the listing has been believed."""
    shelf = shelf_of(20)
    certificates = make_certificates(tmp_path, is_own=False)
    objects = [
        RemoteObject(f"s3://bucket/{key}", key[2:], len(body), MODIFIED, etag(body)[1:-1])
        for key, body in shelf.objects.items()
    ]

    class Listed(S3Storage):
        """Lists without asking."""

        def scan(self, uri: str) -> Iterator[RemoteObject]:
            yield from objects

    with scripted(shelf, tls=certificates.context()) as server:
        storage = Listed(StorageSettings(endpoint_url=server.url, key="k", secret="s"))
        dataset = Dataset(name="all", source="s3://bucket/d/**")
        catalog = project.catalog(dataset, open_storage=lambda *_: storage)
        with pytest.raises(StorageError, match="certificate") as caught:
            catalog.sync()

    assert "ca_bundle" in (caught.value.hint or "")
    assert project.debris() == []


# --- the end of a run -------------------------------------------------------------------------


def haul_of(
    storage: S3Storage, count: int, root: Path, report: events.Report, cancel: Cancel
) -> Haul:
    """Return a haul of as many objects of five bytes; it hands back to nobody."""

    def refuse(obj: RemoteObject) -> None:
        raise AssertionError(obj)

    objects = [
        RemoteObject(f"s3://bucket/{n}", f"{n}", 5, MODIFIED, etag(b"hello")[1:-1])
        for n in range(count)
    ]
    run = Run(Pool(1, cancel), Pool(1, cancel), Valve(1), cancel, report)
    return Haul(
        "all",
        storage,
        storage.endpoint,
        Store(root),
        run,
        demand=lambda _: [],
        arrived=lambda *_: None,
        handed_back=refuse,
        is_over=lambda: False,
        waiting=deque(objects),
    )


def test_ctrl_c_leaves_no_temporary_file(tmp_path: Path) -> None:
    """What was under way is removed, its bytes are taken back, and nothing is handed back."""
    cancel, ear = Cancel(), Ear()

    def report(event: events.Event) -> None:
        ear(event)
        if len(ear.of(events.Transferred)) == 3:
            cancel.set()

    def play(talk: Talk) -> None:
        talk.ask()
        talk.say(answer(b"hel", content_length="5", etag=etag(b"hello")))
        talk.linger()

    with answering(play) as server:
        settings = StorageSettings(
            endpoint_url=f"http://127.0.0.1:{server.port}", key="k", secret="s"
        )
        haul = haul_of(S3Storage(settings), 20, tmp_path, report, cancel)
        with pytest.raises(Cancelled):
            haul.carry(lambda: 4)

        assert list((tmp_path / "v1" / "tmp").iterdir()) == []
        assert haul.run.temps == set()
        assert sum(e.count for e in ear.of(events.Transferred)) == 0
        assert len(haul.waiting) == 16
        assert server.is_deserted()


# --- large objects ----------------------------------------------------------------------------


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let objects above 64 KiB count as large, so that tests move little."""
    monkeypatch.setattr(arrival, "RANGE", 64 * KIB)


def large_shelf(count: int) -> Shelf:
    """Return a shelf of large objects."""
    return Shelf({f"d/{n:03}": os.urandom(200 * KIB + n) for n in range(count)})


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("jobs", [1, 3, None])
@pytest.mark.parametrize("count", [1, 3, 12])
def test_large_objects_land_whole(project: Project, count: int, jobs: int | None) -> None:
    """Few by their ranges, many as one stream each; every byte is asked for once."""
    shelf = large_shelf(count)
    ear = Ear()
    with team(project, shelf) as it:
        it.catalog().sync(jobs=jobs, report=ear)
        record = it.catalog()._states.read("all")

        assert it.files == shelf.objects
        assert project.debris() == []
    assert record is not None
    assert list(record.files.blake3) == [
        blake3(body).hexdigest() for body in shelf.objects.values()
    ]
    assert sum(e.count for e in ear.of(events.Transferred)) == total(shelf)
    assert len(ear.of(events.TransferFinished)) == count


LARGE_ONCE = {
    **{name: ONCE[name] for name in ("busy", "error", "hung up", "no length")},
    "cut": lambda reply: Reply(206, reply.body, reply.headers, sent=50_000),
}


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("case", LARGE_ONCE)
@pytest.mark.parametrize("count", [2, 12])
def test_a_range_that_goes_wrong_is_repeated(project: Project, count: int, case: str) -> None:
    """Whether hung up, refused or cut: the object is whole, and nothing is left open."""
    shelf = large_shelf(count)
    shelf.odd = {key: [LARGE_ONCE[case]] * 2 for key in shelf.objects}
    ear = Ear()
    with team(project, shelf) as it:
        it.catalog().sync(report=ear)

        assert it.files == shelf.objects
        assert project.debris() == []
        assert sum(e.count for e in ear.of(events.Transferred)) == total(shelf)


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("count", [1, 12])
def test_a_connection_hung_up_counts_a_range_once(project: Project, count: int) -> None:
    """A range that was sent again ends as one: the failed arrival is cleaned up after."""
    shelf = large_shelf(count)
    last = min(shelf.objects)  # the smallest: it comes over connections that were used
    hung_up, refused = Reply(0), Reply(403, error("AccessDenied"))
    first: list[Callable[[Reply], Reply]] = [lambda reply: reply] * (2 if count == 1 else 0)
    shelf.odd = {last: [*first, lambda _: hung_up, *[lambda _: refused] * 99]}
    with team(project, shelf) as it, pytest.raises(AccessDeniedError):
        it.catalog().sync(jobs=2)

    assert project.debris() == []


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("call", ["ftruncate", "pwrite"])
@pytest.mark.parametrize("count", [1, 12])
def test_a_full_disk_for_large_objects(
    project: Project, monkeypatch: pytest.MonkeyPatch, call: str, count: int
) -> None:
    """The error says what to do, whether the room is reserved or used, and nothing is left."""
    with team(project, large_shelf(count)) as it, monkeypatch.context() as patched:
        patched.setattr(os, call, no_room)
        with pytest.raises(CacheError, match="No space left"):
            it.catalog().sync()

    assert project.debris() == []


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("count", [1, 12])
def test_a_wrong_checksum_of_a_large_object(project: Project, count: int) -> None:
    """It names the object, and nothing is left."""
    shelf = large_shelf(count)
    with team(project, shelf) as it, pytest.raises(ChecksumMismatchError, match="d/000"):
        it.catalog(checksum={"000": f"md5:{'0' * 32}"}).sync()

    assert project.debris() == []


@pytest.mark.usefixtures("small_ranges")
def test_a_large_object_that_changes_meanwhile(project: Project) -> None:
    """It is resolved again."""
    shelf = large_shelf(6)

    def change(reply: Reply) -> Reply:
        shelf.objects["d/003"] = os.urandom(300 * KIB)
        return Reply(412, error("PreconditionFailed"))

    shelf.odd = {"d/003": [change]}
    with team(project, shelf) as it:
        it.catalog().sync()

        assert it.files == shelf.objects
        assert project.debris() == []
