"""Downloads: whole or in ranges, in order or not, and what cannot be trusted."""

import os
import threading
from collections.abc import Iterator

import pytest
from blake3 import blake3

from datacachalog import events
from datacachalog.cache.store import Store
from datacachalog.errors import IntegrityError, SourceUnreachableError
from datacachalog.model import RemoteObject
from datacachalog.sync import download, download_queue
from tests.memory_storage import MemoryStorage
from tests.projects import EventRecorder, Project, one

KIB = 1 << 10
LONG = 10.0


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let objects above 64 KiB count as large, so that tests move little."""
    monkeypatch.setattr(download, "RANGE", 64 * KIB)
    monkeypatch.setattr(download, "WHOLE", 64 * KIB)


def ranges(project: Project, key: str = "") -> list[tuple[int | None, int | None]]:
    """Return the ranges that were asked for of keys that contain `key`, sorted."""
    calls = project.storage.calls
    return sorted((c.start, c.stop) for c in calls if c.verb == "read" and key in c.uri)


def placed_hash(project: Project) -> str | None:
    """Return the blake3 that the state of `one` records."""
    entry = project.catalog(one())._placed(["one"])["one"]
    return next(iter(entry.hashes.values()))


class Lying(MemoryStorage):
    """Sends `extra` after the end of the first body that is asked for to its end."""

    def __init__(self, extra: bytes, *, is_checked: bool) -> None:
        super().__init__(chunk=16 * KIB)
        self.extra = extra
        self.is_checked = is_checked

    def read(self, obj: RemoteObject, start: int, stop: int) -> Iterator[memoryview | bytes]:
        yield from super().read(obj, start, stop)
        extra, self.extra = self.extra, b""
        if extra and self.is_checked:
            raise IntegrityError(f"{obj.uri} is longer than announced")
        if extra:
            yield extra


@pytest.mark.parametrize("is_checked", [True, False], ids=["by the storage", "by nobody"])
@pytest.mark.parametrize("size", [10, 64 * KIB + 1, 5 * 64 * KIB], ids=["whole", "two", "five"])
@pytest.mark.parametrize("jobs", [1, 4])
def test_a_body_that_is_too_long_is_asked_for_again_as_a_whole(
    project: Project, size: int, jobs: int, is_checked: bool
) -> None:
    """Whoever notices: nothing of that range is trusted, and the hash is of the right bytes."""
    data = os.urandom(size)
    project.storage = Lying(b"!", is_checked=is_checked)
    project.put("one.csv", data)
    recorder = EventRecorder()
    project.catalog(one()).sync(jobs=jobs, report=recorder)
    asked = ranges(project)

    assert project.files("one") == {"one.csv": data}
    assert placed_hash(project) == blake3(data).hexdigest()
    assert len(asked) == len(set(asked)) + 1
    assert sum(event.count for event in recorder.of(events.Transferred)) == size
    assert project.debris() == []


def test_a_small_body_that_ends_early_is_gone_on_with(project: Project) -> None:
    """Also after an error in the middle of it."""
    project.storage = MemoryStorage(chunk=10)
    project.put("one.csv", b"x" * 100)
    project.storage.fail("read", SourceUnreachableError("reset"), after=30)
    project.catalog(one()).sync()

    assert project.files("one") == {"one.csv": b"x" * 100}
    assert ranges(project) == [(0, 100), (30, 100)]


class WrongAtFirst(MemoryStorage):
    """Gives zeros for half of the first body, which then ends, or fails as a storage would say."""

    def __init__(self, *, is_noticed: bool) -> None:
        super().__init__()
        self.is_first = True
        self.is_noticed = is_noticed

    def read(self, obj: RemoteObject, start: int, stop: int) -> Iterator[memoryview | bytes]:
        if not self.is_first:
            yield from super().read(obj, start, stop)
            return
        self.is_first = False
        yield bytes((stop - start) // 2)
        if self.is_noticed:
            raise IntegrityError(f"{obj.uri} ended early")


@pytest.mark.parametrize("is_noticed", [True, False], ids=["by the storage", "by nobody"])
@pytest.mark.parametrize("size", [10, 64 * KIB + 10], ids=["whole", "ranges"])
def test_a_body_of_another_length_is_not_gone_on_with(
    project: Project, size: int, is_noticed: bool
) -> None:
    """A body compressed on the way is shorter: its bytes must not become the object's beginning."""
    data = os.urandom(size)
    project.storage = WrongAtFirst(is_noticed=is_noticed)
    project.put("one.csv", data)
    recorder = EventRecorder()
    project.catalog(one()).sync(report=recorder)

    assert project.files("one") == {"one.csv": data}
    assert placed_hash(project) == blake3(data).hexdigest()
    assert sum(event.count for event in recorder.of(events.Transferred)) == size


@pytest.mark.parametrize("count", [2, 12])
def test_few_large_objects_come_in_ranges_and_many_as_streams(project: Project, count: int) -> None:
    """Every byte once; the last few of many come in ranges, so that all threads end together."""
    objects = {f"orders/{n:02}": os.urandom(3 * 64 * KIB) for n in range(count)}
    project.put_all(objects)
    project.catalog().sync(jobs=4)
    asked = {key: len(ranges(project, key)) for key in objects}

    assert project.files() == {key.removeprefix("orders/"): data for key, data in objects.items()}
    assert sorted(asked.values()) == [1] * (count - 4) + [3] * min(count, 4)


class Waiting(MemoryStorage):
    """Holds the first range back until the second was received."""

    def __init__(self) -> None:
        super().__init__()
        self.second = threading.Event()

    def read(self, obj: RemoteObject, start: int, stop: int) -> Iterator[memoryview | bytes]:
        if start == 0:
            assert self.second.wait(LONG)
        yield from super().read(obj, start, stop)
        if start == 64 * KIB:
            self.second.set()


def test_ranges_that_wait_to_be_hashed_leave_room_for_the_one_they_wait_for(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory has room for two ranges: the third is not asked for before the first has come."""
    monkeypatch.setattr(download_queue, "BUDGET", 2 * 64 * KIB)
    data = os.urandom(10 * 64 * KIB)
    project.storage = Waiting()
    project.put("one.csv", data)
    project.catalog(one()).sync(jobs=4)
    order = [call.start for call in project.storage.calls if call.verb == "read"]

    assert project.files("one") == {"one.csv": data}
    assert sorted(order[:2], key=str) == [0, 64 * KIB]


def test_memory_stays_within_its_budget(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many requests are allowed, no more bytes are asked for at a time than have room."""
    monkeypatch.setattr(download_queue, "BUDGET", 100 * KIB)
    monkeypatch.setattr(download_queue, "OVERHEAD", 0)
    most = 0

    class Counting(MemoryStorage):
        alive = 0

        def read(self, obj: RemoteObject, start: int, stop: int) -> Iterator[memoryview | bytes]:
            nonlocal most
            with self._lock:
                self.alive += stop - start
                most = max(most, self.alive)
            yield from super().read(obj, start, stop)
            with self._lock:
                self.alive -= stop - start

    project.storage = Counting()
    project.put_all({f"orders/{n}": b"x" * 30 * KIB for n in range(40)})
    project.catalog().sync(jobs=32)

    assert len(project.files()) == 40
    assert 0 < most <= 100 * KIB


def test_fewer_threads_than_wanted_will_do(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers limit threads: what runs by then does all of the work."""
    start, count = threading.Thread.start, 0

    def start_few(thread: threading.Thread) -> None:
        nonlocal count
        count += 1
        if count > 3:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_few)
    project.put_all({f"orders/{n}": b"x" for n in range(100)})
    project.catalog().sync(jobs=32)

    assert len(project.files()) == 100
    assert count > 3


def test_an_object_is_committed_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where one thread hashes what another brought, which has yet to say that it ended."""
    second_is_done, is_stored = threading.Event(), threading.Event()

    class SlowRange(download.Range):
        __slots__ = ("done",)

        @property
        def is_done(self) -> bool:
            return self.done

        @is_done.setter
        def is_done(self, value: bool) -> None:
            self.done = value
            if value and self.start:
                second_is_done.set()
                assert is_stored.wait(LONG)

    class FirstComesLast(MemoryStorage):
        def read(self, obj: RemoteObject, start: int, stop: int) -> Iterator[memoryview | bytes]:
            assert start or second_is_done.wait(LONG)
            yield from super().read(obj, start, stop)

    def adopt(store: Store, temp: str, fingerprint: str) -> None:
        adopted(store, temp, fingerprint)
        is_stored.set()

    adopted = Store.adopt
    monkeypatch.setattr(Store, "adopt", adopt)
    monkeypatch.setattr(download, "Range", SlowRange)
    project.storage = FirstComesLast()
    data = os.urandom(2 * 64 * KIB)
    project.put("one.csv", data)
    project.catalog(one()).sync()

    assert project.files("one") == {"one.csv": data}
