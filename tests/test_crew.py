"""Other processes carry parcels, and nothing is lost with them."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from blake3 import blake3

from datacachalog import crew, events, worker
from datacachalog.cache.store import Store
from datacachalog.checksums import Checksum
from datacachalog.haul import Haul
from datacachalog.model import RemoteObject
from datacachalog.pool import Pool, Valve
from datacachalog.retry import Cancel, Cancelled
from datacachalog.run import Run
from datacachalog.storage.s3 import S3Storage
from tests.conftest import TestS3

WIDTH = 8


def width() -> int:
    """Tell a carrier how many requests it may make."""
    return WIDTH


class Carried:
    """A haul of everything in a new bucket, and what became of it."""

    def __init__(self, s3: TestS3, cache: Path, number: int) -> None:
        self.bodies = {f"{i:03}": f"body {i}".encode() for i in range(number)}
        self.bucket = s3.bucket()
        for key, body in self.bodies.items():
            self.bucket.put(key, body)
        self.storage = S3Storage(s3.settings)
        self.objects = list(self.storage.scan(self.bucket.uri("*")))
        self.cancel = Cancel()
        self.hashes: dict[str, str] = {}
        self.handed_back: list[str] = []
        self.demanded: dict[str, Sequence[Checksum]] = {}
        self.events: list[events.Event] = []
        nobody = Pool(1, self.cancel)
        self.haul = Haul(
            dataset="d",
            storage=self.storage,
            endpoint=self.storage.endpoint,
            store=Store(cache),
            run=Run(nobody, nobody, Valve(1), self.cancel, self.events.append),
            demand=lambda obj: self.demanded.get(obj.relpath, ()),
            arrived=self.note,
            handed_back=lambda obj: self.handed_back.append(obj.relpath),
            is_over=lambda: False,
        )
        self.haul.waiting.extend(self.objects)

    def note(self, obj: RemoteObject, _: str, blake3: str) -> None:
        """Note an arrival."""
        self.hashes[obj.relpath] = blake3

    def stored(self, obj: RemoteObject) -> bytes | None:
        """Return the bytes of the object in the store, if it is there and untouched."""
        store, fingerprint = self.haul.store, obj.fingerprint(self.haul.endpoint)
        if store.find(fingerprint, size=obj.size, mtime_ns=obj.mtime_ns) is None:
            return None
        return Path(store.path(fingerprint)).read_bytes()

    @property
    def temporary(self) -> list[str]:
        """Return what lies half-made in the store."""
        return os.listdir(self.haul.store.root / "v1" / "tmp")


@pytest.fixture
def carried(s3: TestS3, tmp_path: Path) -> Callable[[int], Carried]:
    """Make hauls of so many objects."""
    return lambda number: Carried(s3, tmp_path / "cache", number)


def test_a_worker_brings_everything(carried: Callable[[int], Carried]) -> None:
    """What a worker brings is stored, hashed, and reported as if it had come here."""
    some = carried(150)

    crew.work(some.haul, width)

    assert some.hashes == {key: blake3(body).hexdigest() for key, body in some.bodies.items()}
    assert [some.stored(obj) for obj in some.objects] == [
        some.bodies[obj.relpath] for obj in some.objects
    ]
    assert (some.handed_back, some.temporary) == ([], [])
    assert sum(e.count for e in some.events if isinstance(e, events.Transferred)) == sum(
        obj.size for obj in some.objects
    )


def test_a_lane_and_a_worker_share(carried: Callable[[int], Carried]) -> None:
    """Each object is carried once, whoever takes it."""
    some = carried(150)
    thread = threading.Thread(target=crew.work, args=(some.haul, width))

    thread.start()
    some.haul.carry(width)
    thread.join()

    assert some.hashes == {key: blake3(body).hexdigest() for key, body in some.bodies.items()}
    finished = [e.object.relpath for e in some.events if isinstance(e, events.TransferFinished)]
    assert sorted(finished) == sorted(some.bodies)


def test_what_is_not_right_is_handed_back(carried: Callable[[int], Carried]) -> None:
    """An object that changed and a checksum that does not fit are left to those who explain."""
    some = carried(20)
    some.bucket.put("003", b"another")
    some.demanded["005"] = [Checksum("md5", "0" * 32)]

    crew.work(some.haul, width)

    assert sorted(some.handed_back) == ["003", "005"]
    assert len(some.hashes) == 18
    assert some.temporary == []


def test_a_worker_that_dies_loses_nothing(carried: Callable[[int], Carried]) -> None:
    """What a killed worker had not brought is handed back; the rest waits for others."""
    some = carried(300)
    started: list[crew.Process] = []

    def start() -> "crew.Process":
        started.append(crew.start())
        return started[-1]

    def note(obj: RemoteObject, _: str, blake3: str) -> None:
        some.note(obj, _, blake3)
        started[-1].kill()

    some.haul.arrived = note

    crew.work(some.haul, width, start=start)

    waiting = [obj.relpath for obj in some.haul.waiting]
    assert sorted([*some.hashes, *some.handed_back, *waiting]) == sorted(some.bodies)
    assert some.handed_back
    assert len(started) == 1


@pytest.mark.parametrize(
    "source", ["raise SystemExit", "print('no answer')"], ids=["ends", "babbles"]
)
def test_a_worker_that_is_none(source: str, carried: Callable[[int], Carried]) -> None:
    """A process that is no worker costs nothing but the attempt."""
    some = carried(100)

    def start() -> "crew.Process":
        return subprocess.Popen(
            [sys.executable, "-c", source],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    crew.work(some.haul, width, start=start)

    assert not some.hashes
    assert len(some.handed_back) + len(some.haul.waiting) == 100


def test_no_worker_to_be_had(carried: Callable[[int], Carried]) -> None:
    """Where no process can be started, all waits for the lane."""
    some = carried(3)

    def start() -> "crew.Process":
        raise OSError("no more processes")

    crew.work(some.haul, width, start=start)

    assert len(some.haul.waiting) == 3


def test_an_interrupted_run_ends_its_workers(carried: Callable[[int], Carried]) -> None:
    """After Ctrl-C no worker lives on, and nothing half-made is left."""
    some = carried(300)
    started: list[crew.Process] = []

    def start() -> "crew.Process":
        started.append(crew.start())
        return started[-1]

    some.haul.arrived = lambda *_: some.cancel.set()

    with pytest.raises(Cancelled):
        crew.work(some.haul, width, start=start)
    assert started[0].returncode is not None
    assert some.temporary == []


def test_a_worker_without_its_parent_ends(s3: TestS3, tmp_path: Path) -> None:
    """A worker whose input ends before it was told so gives up and cleans up."""
    process = crew.start()
    assert process.stdin is not None
    assert process.stdout is not None
    storage = S3Storage(s3.settings)
    worker.write(process.stdin, worker.Errand(storage, storage.endpoint, tmp_path / "cache", WIDTH))

    process.stdin.close()

    assert process.wait(60) == 0
    process.stdout.close()


@pytest.mark.parametrize(
    ("parcels", "width", "expected"),
    [(511, 256, False), (512, 256, True), (5_000, 256, True), (5_000, 16, False)],
)
def test_when_workers_pay(
    parcels: int, width: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is hired where there is much to do, and not where few requests were asked for."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)

    assert (crew.size(parcels, width) == 1) is expected


def test_one_processor_needs_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing runs side by side, a second process only costs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)

    assert crew.size(100_000, 256) == 0
