"""Transfers: large objects in ranges, many at once, and what is left when something fails."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from datacachalog import events
from datacachalog.cache.file_lock import FileLock
from datacachalog.cache.state import StateFolder
from datacachalog.errors import (
    AccessDeniedError,
    CacheError,
    DatacachalogError,
    SourceUnreachableError,
    ThrottledError,
)
from datacachalog.model import RemoteObject
from datacachalog.spec.models import CacheSettings
from datacachalog.sync import download
from tests.memory_storage import MemoryStorage
from tests.projects import EventRecorder, Project, one

LONG = 10.0
KIB = 1 << 10


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let objects above 64 KiB count as large, so that tests move little."""
    monkeypatch.setattr(download, "RANGE", 64 * KIB)
    monkeypatch.setattr(download, "WHOLE", 64 * KIB)


def recorded_hash(project: Project, name: str = "one") -> str | None:
    """Return the blake3 in a dataset's state."""
    state = StateFolder(project.state_file(name).parent).read(name)
    return state.files.blake3[0] if state is not None else None


# --- large objects ------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize(
    "size",
    [64 * KIB, 64 * KIB + 1, 128 * KIB - 1, 128 * KIB, 1000 * KIB + 7],
    ids=["one range", "one byte more", "one byte less", "two ranges", "many"],
)
def test_a_large_object_comes_in_ranges_and_is_whole(project: Project, size: int) -> None:
    """Each byte is asked for once, and the recorded hash is that of all of them, in order."""
    data = os.urandom(size)
    project.put("one.csv", data)
    project.catalog(one()).sync()
    spans = sorted((c.start, c.stop) for c in project.storage.calls if c.verb == "read")

    assert project.files("one") == {"one.csv": data}
    assert recorded_hash(project) == blake3(data).hexdigest()
    assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
    assert spans[-1][1] == size
    assert len(spans) == -(-size // (64 * KIB))


class Crowd(MemoryStorage):
    """Holds reads until so many are under way at once."""

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self.barrier = threading.Barrier(wanted)

    def read(self, obj: RemoteObject, start: int, stop: int) -> Iterator[memoryview | bytes]:
        self.barrier.wait(LONG)
        yield from super().read(obj, start, stop)


@pytest.mark.usefixtures("small_ranges")
def test_the_ranges_of_one_object_come_in_parallel(project: Project) -> None:
    """As many at once as there are jobs."""
    project.storage = Crowd(4)
    project.put("one.csv", os.urandom(8 * 64 * KIB))
    project.catalog(one()).sync(jobs=4)

    assert len(project.files("one")["one.csv"]) == 8 * 64 * KIB


def test_small_objects_come_in_parallel(project: Project) -> None:
    """As many at once as there are jobs."""
    project.storage = Crowd(4)
    project.put_all({f"orders/{n}": b"x" for n in range(16)})
    project.catalog().sync(jobs=4)

    assert len(project.files()) == 16


class Late(MemoryStorage):
    """Gives the first range of an object last of all."""

    def __init__(self, others: int) -> None:
        super().__init__()
        self.others = threading.Semaphore(0)
        self.wanted = others

    def read(self, obj: RemoteObject, start: int, stop: int) -> Iterator[memoryview | bytes]:
        if start == 0:
            for _ in range(self.wanted):
                assert self.others.acquire(timeout=LONG)
        yield from super().read(obj, start, stop)
        self.others.release()


@pytest.mark.usefixtures("small_ranges")
def test_ranges_are_hashed_in_order_whatever_comes_first(project: Project) -> None:
    """The hash waits for the first range, the bytes do not."""
    data = os.urandom(6 * 64 * KIB)
    project.storage = Late(5)
    project.put("one.csv", data)
    project.catalog(one()).sync(jobs=6)

    assert recorded_hash(project) == blake3(data).hexdigest()


@pytest.mark.usefixtures("small_ranges")
def test_a_range_that_fails_is_continued_alone(project: Project) -> None:
    """The others' bytes are kept, and no byte is asked for twice."""
    data = os.urandom(4 * 64 * KIB)
    project.storage = MemoryStorage(chunk=16 * KIB)
    project.put("one.csv", data)
    project.storage.fail("read", SourceUnreachableError("reset"), after=16 * KIB)
    recorder = EventRecorder()
    project.catalog(one()).sync(jobs=1, report=recorder)
    spans = [(c.start, c.stop) for c in project.storage.calls if c.verb == "read"]

    assert project.files("one") == {"one.csv": data}
    assert spans[:2] == [(0, 64 * KIB), (16 * KIB, 64 * KIB)]
    assert sum(e.count for e in recorder.of(events.Transferred)) == len(data)


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("jobs", [1, 4])
def test_a_large_object_that_fails_leaves_nothing(project: Project, jobs: int) -> None:
    """No temporary file, no descriptor, no lock; one event says that it is over."""
    project.put("one.csv", os.urandom(8 * 64 * KIB))
    project.storage.fail("read", AccessDeniedError("no"), after=64 * KIB - 1, times=1)
    recorder = EventRecorder()
    before = descriptors()
    with pytest.raises(AccessDeniedError):
        project.catalog(one()).sync(jobs=jobs, report=recorder)
    (locked,) = (project.cache / "v1" / "locks").iterdir()

    assert project.debris() == []
    assert descriptors() == before
    assert FileLock(str(locked)).acquire(sleep=refuse_to_wait)
    assert [str(e.error) for e in recorder.of(events.TransferFinished)] == ["no"]


@pytest.mark.usefixtures("small_ranges")
def test_a_large_object_left_half_by_another_s_failure_leaves_nothing(project: Project) -> None:
    """Its ranges that had not begun never will; what was opened is closed."""
    project.put_all({"orders/big": os.urandom(20 * 64 * KIB), "orders/small": b"x"})
    project.storage.fail("read", AccessDeniedError("no"), match="small")
    before = descriptors()
    with pytest.raises(AccessDeniedError):
        project.catalog().sync(jobs=2)

    assert project.debris() == []
    assert descriptors() == before


def descriptors() -> set[str]:
    """Return what files this process has open, where one can see it."""
    found = set()
    for fd in Path("/proc/self/fd").glob("*"):
        try:
            target = os.readlink(fd)
        except OSError:
            continue
        if target.startswith("/") and "/v1/" in target:
            found.add(target)
    return found


def refuse_to_wait(seconds: float) -> None:
    """Fail: nobody should hold the lock any more."""
    raise AssertionError("still locked")


@pytest.mark.usefixtures("small_ranges")
def test_few_large_objects_are_open_at_a_time(project: Project) -> None:
    """However many there are: descriptors are few."""
    project.put_all({f"orders/{n:03}": os.urandom(64 * KIB + 1) for n in range(60)})
    most = 0

    def count(event: events.Event) -> None:
        nonlocal most
        if isinstance(event, events.TransferStarted):
            most = max(most, len(list((project.cache / "v1" / "tmp").iterdir())))

    project.catalog().sync(jobs=4, report=count)

    assert len(project.files()) == 60
    assert 1 <= most <= 8


@pytest.mark.usefixtures("small_ranges")
def test_what_another_run_is_fetching_is_waited_for_and_not_fetched_twice(
    project: Project,
) -> None:
    """The others come meanwhile; then it lies there."""
    data = os.urandom(3 * 64 * KIB)
    obj = project.put("orders/big", data)
    project.put("orders/small", b"x")
    catalog = project.catalog()
    listed = next(o for o in project.storage.scan("memory://lake/orders/**") if o.size == obj.size)
    fingerprint = listed.fingerprint("memory")
    lock = FileLock(catalog.store.lock_path(fingerprint))
    lock.acquire(sleep=refuse_to_wait)

    def finish_the_other_run(event: events.Event) -> None:
        if isinstance(event, events.TransferFinished):
            temp = catalog.store.temp()
            Path(temp).write_bytes(data)
            catalog.store.finalize(temp, listed.mtime_ns)
            catalog.store.adopt(temp, fingerprint)
            lock.release()

    catalog.sync(report=finish_the_other_run)

    assert project.files() == {"big": data, "small": b"x"}
    assert [c.uri for c in project.storage.calls if c.verb == "read"] == [
        "memory://lake/orders/small"
    ]


def test_memory_holds_few_buffers_at_a_time(project: Project) -> None:
    """A buffer is written and let go before the next is asked for."""

    class Counting(MemoryStorage):
        alive = most = 0

        def read(self, obj: RemoteObject, start: int, stop: int) -> Iterator[memoryview | bytes]:
            for piece in super().read(obj, start, stop):
                with self._lock:
                    Counting.alive += 1
                    Counting.most = max(Counting.most, Counting.alive)
                yield piece
                with self._lock:
                    Counting.alive -= 1

    project.storage = Counting(chunk=1 << 20)
    project.put("one.csv", bytes(100 << 20))
    project.catalog(one()).sync(jobs=8)

    assert 1 <= Counting.most <= 8


# --- failures -----------------------------------------------------------------------------------


def test_throttling_is_tried_again_and_narrows_the_run(project: Project) -> None:
    """The listener hears of each; everything arrives."""
    project.put_all({f"orders/{n}": b"x" for n in range(20)})
    project.storage.fail("read", ThrottledError("slow down"), times=5)
    recorder = EventRecorder()
    project.catalog().sync(report=recorder)

    assert len(project.files()) == 20
    assert [type(e.error) for e in recorder.of(events.Retrying)] == [ThrottledError] * 5


def test_a_listing_that_fails_is_tried_again(project: Project) -> None:
    """As reads are."""
    project.put("orders/a", b"1")
    project.storage.fail("scan", SourceUnreachableError("reset"), times=2)
    recorder = EventRecorder()
    project.catalog().sync(report=recorder)

    assert project.files() == {"a": b"1"}
    assert [e.attempt for e in recorder.of(events.Retrying)] == [2, 3]


def test_what_arrived_before_a_failure_is_not_fetched_again(project: Project) -> None:
    """Objects stay in the store."""
    project.put_all({f"orders/{n}": b"x" * (n + 1) for n in range(9)})
    project.storage.fail("read", AccessDeniedError("no"), match="orders/0")
    with pytest.raises(AccessDeniedError):
        project.catalog().sync(jobs=1)
    project.storage.calls.clear()
    (outcome,) = project.catalog().sync().outcomes

    assert project.storage.count("read") == 1
    assert (outcome.downloaded, outcome.linked) == (1, 8)


@pytest.mark.parametrize("call", ["write", "open", "replace", "close"])
@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("size", [10, 200 * KIB], ids=["small", "large"])
def test_a_full_disk_is_a_clear_error_wherever_it_shows(
    project: Project, monkeypatch: pytest.MonkeyPatch, call: str, size: int
) -> None:
    """Also at `close`; old data stays, and no half file remains."""
    project.put("one.csv", b"old")
    project.catalog(one()).sync()
    project.put("one.csv", os.urandom(size))
    if call == "write" and size > 64 * KIB:
        call = "pwrite"
    really: Callable[..., object] = getattr(os, call)

    def full(*args: object, **options: object) -> object:
        if call == "open" and "/v1/tmp/" not in str(args[0]):
            return really(*args, **options)
        if call == "replace" and "/v1/objects/" not in str(args[1]):
            return really(*args, **options)
        if call == "close" and "/v1/tmp/" not in os.readlink(f"/proc/self/fd/{args[0]}"):
            return really(*args, **options)
        if call == "close":
            really(*args)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(CacheError) as caught:
        project.catalog(one()).sync()
    monkeypatch.undo()

    assert "No space left on device" in str(caught.value)
    assert caught.value.hint == (
        "make room (`dcl cache prune`), or set DCL_CACHE_DIR to a larger disk"
    )
    assert project.files("one") == {"one.csv": b"old"}
    assert project.debris() == []


@pytest.mark.parametrize("link", ["copy", "hardlink"])
def test_a_full_project_disk_changes_nothing_at_all(
    project: Project, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    """All is staged before anything is dropped or renamed: never half of it."""
    cache = CacheSettings.model_validate({"link": link})
    project.put_all({f"orders/{n}": b"old %d" % n for n in range(9)})
    project.catalog(cache=cache).sync()
    before = project.files()
    project.put_all({f"orders/{n}": b"new %d" % n for n in range(1, 9)})
    project.delete("orders/0")
    calls: list[int] = []

    def full(*args: object) -> int:
        calls.append(1)
        if len(calls) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really(*args)

    name = "sendfile" if link == "copy" else "link"
    really: Callable[..., int] = getattr(os, name)
    monkeypatch.setattr(os, name, full)
    with pytest.raises(CacheError) as caught:
        project.catalog(cache=cache).sync(jobs=1)
    monkeypatch.undo()

    assert "cannot be put in place: No space left on device" in str(caught.value)
    assert caught.value.hint == "make room, then run the command again"
    assert project.files() == before
    assert project.debris() == []
    assert project.catalog(cache=cache).sync().outcomes[0].linked == 8


def test_every_transfer_that_starts_ends_for_the_listener(project: Project) -> None:
    """With the number of bytes that it has."""
    project.put_all({"orders/a": b"12345", "orders/b": b""})
    recorder = EventRecorder()
    project.catalog().sync(report=recorder)
    started = {e.object.relpath for e in recorder.of(events.TransferStarted)}
    finished = {e.object.relpath: e.error for e in recorder.of(events.TransferFinished)}

    assert started == {"a", "b"}
    assert finished == {"a": None, "b": None}
    assert sum(e.count for e in recorder.of(events.Transferred)) == 5


def test_a_listener_that_fails_does_not_leave_debris(project: Project) -> None:
    """It is a program's own bug, and it is raised."""
    project.put_all({f"orders/{n}": b"x" for n in range(9)})

    def fail(event: events.Event) -> None:
        if isinstance(event, events.Transferred):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        project.catalog().sync(report=fail)

    assert project.debris() == []


def test_errors_of_ours_are_os_errors_but_never_taken_for_one(project: Project) -> None:
    """An error that storages raise comes through as it is."""
    assert issubclass(AccessDeniedError, OSError)
    project.put("orders/a", b"1")
    error = AccessDeniedError("no", hint="ask")
    project.storage.fail("read", error)
    with pytest.raises(DatacachalogError) as caught:
        project.catalog().sync()

    assert caught.value is error


# --- what fails around a download ---------------------------------------------------------------


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("size", [10, 64 * KIB + 1], ids=["whole", "ranges"])
@pytest.mark.parametrize("kind", [events.TransferStarted, events.TransferFinished])
def test_a_listener_that_fails_ends_the_run(
    project: Project, kind: type[events.Event], size: int
) -> None:
    """Whatever it fails at: nothing waits for ever, and nothing stays open, locked or behind."""
    project.put_all({f"orders/{n}": b"x" * size for n in range(9)})

    def fail(event: events.Event) -> None:
        if isinstance(event, kind):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        project.catalog().sync(report=fail)
    locks = [FileLock(str(path)) for path in (project.cache / "v1" / "locks").iterdir()]

    assert project.debris() == []
    assert all(lock.acquire(sleep=_never) for lock in locks)


def _never(seconds: float) -> None:
    raise AssertionError(f"waited for {seconds} s")


def test_a_size_that_no_disk_has_takes_no_memory(project: Project) -> None:
    """A listing may claim any size: it is an error before a range is thought of."""
    obj = project.put("orders/a", b"x" * 10)
    project.storage.claim(obj._replace(size=10**18))
    with pytest.raises(CacheError, match="cannot take the file"):
        project.catalog().sync()

    assert project.debris() == []
