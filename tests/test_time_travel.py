"""Catalogs read as of an instant, and locks, from YAML to bytes on an S3 that keeps versions.

Random histories are compared with a few lines of obvious Python (`s3_histories`), through the
real storage and its small pages; then single stories, told as a user would.
"""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datacachalog import load_catalog
from datacachalog.catalog import Catalog
from datacachalog.errors import (
    InvalidCatalogError,
    LockError,
    NothingThereYetError,
    ObjectArchivedError,
    ObjectNotFoundError,
    PartialFailureError,
    VersioningNotSupportedError,
)
from datacachalog.events import Warned
from datacachalog.model import AsOf, Latest, Pin, Resolution
from datacachalog.spec.models import Dataset
from datacachalog.storage.s3 import S3Storage
from datacachalog.sync.resolve import Policy, resolve
from tests.conftest import Bucket, TestS3, moto_server
from tests.projects import EventRecorder, contents
from tests.s3_histories import KEYS, Write, histories, instants, is_left, play, replayed

T = TypeVar("T")

shared = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)


# --- against a model ----------------------------------------------------------------------------


def once(action: Callable[[], T]) -> T:
    """Try once only."""
    return action()


def ask(storage: S3Storage, source: str, pin: Pin) -> Resolution:
    """Resolve a source that may be empty, as a lock would."""
    return resolve(
        Dataset(name="x", source=source, allow_empty=True),
        pin,
        storage,
        previous=None,
        policy=Policy(),
        now=datetime.now(UTC),
        retry=once,
        with_versions=True,
    )


def found(resolution: Resolution, bucket: Bucket) -> dict[str, tuple[int, str | None]]:
    """Return sizes and ETags by key."""
    prefix = bucket.uri()
    return {o.uri.removeprefix(prefix): (o.size, o.etag) for o in resolution.objects}


def expected(there: dict[str, Write]) -> dict[str, tuple[int, str]]:
    """Return the same of the model: here, an ETag is an MD5."""
    bodies = {key: write.data or b"" for key, write in there.items()}
    return {key: (len(data), hashlib.md5(data).hexdigest()) for key, data in bodies.items()}


@pytest.fixture(params=[1, 2, 3, 1000], ids="pages of {}".format)
def storage(s3: TestS3, request: pytest.FixtureRequest) -> S3Storage:
    """Give the real storage, with small pages and with large ones."""
    return S3Storage(s3.settings, page_size=request.param)


@settings(shared, max_examples=75)
@given(data=st.data())
def test_any_instant_of_any_history(s3: TestS3, storage: S3Storage, data: st.DataObject) -> None:
    """What resolves at an instant is what doing it all again up to then leaves, key by key."""
    writes = data.draw(histories())
    bucket = s3.bucket(versioning=True)
    play(bucket, writes)
    for at in data.draw(st.lists(instants(writes), min_size=2, max_size=2)):
        there = expected(replayed(writes, at))

        assert found(ask(storage, bucket.uri("p/**"), AsOf(at)), bucket) == there
        key = data.draw(st.sampled_from(KEYS))
        one = found(ask(storage, bucket.uri(key), AsOf(at)), bucket)
        assert one == {k: v for k, v in there.items() if k == key}
    now = ask(storage, bucket.uri("p/**"), Latest())
    assert found(now, bucket) == expected(replayed(writes))
    assert all(obj.version_id is not None for obj in now.objects)


@settings(shared, max_examples=50)
@given(before=histories(), after=histories(max_size=8), data=st.data())
def test_a_lock_brings_back_any_history(
    s3: TestS3,
    tmp_path_factory: pytest.TempPathFactory,
    before: list[Write],
    after: list[Write],
    data: st.DataObject,
) -> None:
    """After the source moved on, a fresh checkout has the locked bytes; or an error, never others.

    Only a `null` that was overwritten since is lost, and the same bytes again are no loss.
    """
    folder = tmp_path_factory.mktemp("lock")
    bucket = s3.bucket(versioning=True)
    play(bucket, before)
    at = data.draw(st.none() | instants(before))
    pin = "" if at is None else f"\n    as_of: {at.isoformat()}"
    project = Project(s3, folder)
    project.write(f"""
  p:
    source: {bucket.uri("p/**")}
    allow_empty: true{pin}""")
    project.open().lock()
    locked = replayed(before, at)
    shift = before[-1].at - after[0].at
    later = [replace(write, at=write.at + shift) for write in after]
    play(bucket, later)
    is_lost = not all(is_left(write, [*before, *later]) for write in locked.values())
    fresh = project.checkout()
    report = fresh.open(lock_mode="frozen").sync(check=False)

    (outcome,) = report.outcomes
    if is_lost:
        assert str(outcome.error).startswith("what the lock names is lost: ")
        assert fresh.files("p") == {}
    else:
        assert outcome.plan is not None
        objects = outcome.plan.resolution.objects
        files = fresh.files("p")
        assert {o.uri.removeprefix(bucket.uri()): files.pop(o.relpath) for o in objects} == {
            key: write.data for key, write in locked.items()
        }
        assert files == {}


# --- as a user would ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Project:
    """A checkout: a folder with a catalog, and a cache of its own."""

    s3: TestS3
    folder: Path

    def write(self, datasets: str, head: str = "") -> None:
        """Write the catalog."""
        (self.folder / "catalog.yaml").write_text(
            f"""{head}
storages:
  test:
    endpoint_url: {self.s3.endpoint}
    key: "${{TEST_KEY:-test}}"
    secret: "${{TEST_KEY:-test}}"
defaults: {{storage: test}}
datasets:{datasets}
"""
        )

    def open(self, **options: Any) -> Catalog:
        """Load the catalog, as a new process would."""
        return load_catalog(
            self.folder / "catalog.yaml", cache_dir=self.folder / "cache", **options
        )

    def checkout(self) -> "Project":
        """Return what git would bring to another machine: the catalog and its lock."""
        fresh = Project(self.s3, self.folder / "fresh")
        fresh.folder.mkdir()
        for path in self.folder.glob("catalog.*"):
            shutil.copy(path, fresh.folder)
        return fresh

    def files(self, name: str) -> dict[str, bytes]:
        """Return what lies in a folder of `data`."""
        return contents(self.folder / "data" / name)


@pytest.fixture
def lake(s3: TestS3) -> Bucket:
    """Give a bucket with a history: `a` changed twice, `b` came and went, `c` came late."""
    bucket = s3.bucket(versioning=True)
    play(
        bucket,
        [
            Write("orders/a", b"1", day(1), False),
            Write("orders/b", b"22", day(2), False),
            Write("orders/a", b"333", day(3), False),
            Write("orders/b", None, day(4), False),
            Write("orders/c", b"4444", day(5), False),
            Write("orders/a", b"55555", day(5), False),
            Write("one.csv", b"one", day(1), False),
            Write("one.csv", b"two", day(9), False),
        ],
    )
    return bucket


def day(number: int) -> datetime:
    """Return a morning of February."""
    return datetime(2024, 2, number, 9, 30, tzinfo=UTC)


@pytest.fixture
def project(s3: TestS3, lake: Bucket, tmp_path: Path) -> Project:
    """Give a project with a glob and a single object of the lake."""
    project = Project(s3, tmp_path)
    project.write(f"""
  orders: {lake.uri("orders/**")}
  one: {lake.uri("one.csv")}""")
    return project


def test_a_whole_catalog_as_of_a_day(s3: TestS3, lake: Bucket, tmp_path: Path) -> None:
    """The head's instant holds for whoever says nothing; a dataset may say another, or `latest`."""
    project = Project(s3, tmp_path)
    (first, _) = reversed(project_versions(lake, "one.csv"))
    project.write(
        f"""
  orders: {lake.uri("orders/**")}
  earlier: {{source: "{lake.uri("orders/**")}", as_of: 2024-02-02}}
  newest: {{source: "{lake.uri("orders/**")}", as_of: latest}}
  one: {{source: "{lake.uri("one.csv")}", version_id: "{first}"}}""",
        head="as_of: 2024-02-04",
    )
    project.open().sync()

    assert project.files("orders") == {"a": b"333"}
    assert project.files("earlier") == {"a": b"1", "b": b"22"}
    assert project.files("newest") == {"a": b"55555", "c": b"4444"}
    assert project.files("one") == {"one.csv": b"one"}


def project_versions(bucket: Bucket, key: str) -> list[str]:
    """Return the version ids of a key, newest first."""
    answer = bucket.client.list_object_versions(Bucket=bucket.name, Prefix=key)
    return [version["VersionId"] for version in answer["Versions"]]


@pytest.mark.parametrize(
    "instant",
    ["2024-02-03", date(2024, 2, 3), datetime(2024, 2, 3, 12, tzinfo=UTC)],
    ids=["text", "date", "datetime"],
)
def test_an_instant_in_every_method_that_takes_one(
    project: Project, instant: str | date | datetime
) -> None:
    """As text, as a date, as an aware datetime."""
    catalog = project.open()
    paths = catalog.fetch_all(as_of=instant)
    states = catalog.status(as_of=instant)
    versions = catalog.versions("orders", as_of=instant)
    (moved,) = catalog.diff(instant, "2024-02-04")

    assert isinstance(paths["one"], Path)
    assert paths["one"].read_bytes() == b"one"
    assert catalog.fetch("one", as_of=instant) == paths["one"]
    assert [state.freshness.value for state in states] == ["up to date"] * 2
    assert [(v.relpath, v.size) for v in versions] == [("a", 3), ("a", 1), ("b", 2)]
    assert [(c.relpath, c.change.value) for c in moved.changes] == [("b", "removed")]


def test_a_history_is_told_newest_first(project: Project) -> None:
    """Key by key, deletions included, as far back as is asked."""
    found = project.open().versions("orders", limit=2)

    assert [
        (v.relpath, v.last_modified.day, v.size, v.is_latest, v.is_delete_marker) for v in found
    ] == [
        ("a", 5, 5, True, False),
        ("a", 3, 3, False, False),
        ("b", 4, None, True, True),
        ("b", 2, 2, False, False),
        ("c", 5, 4, True, False),
    ]
    assert len(project.open().versions("orders", limit=None, key="a")) == 3


def test_last_month_again_on_another_machine(project: Project, lake: Bucket) -> None:
    """Locked, moved on, checked out afresh: the same bytes, from the catalog and its lock alone."""
    project.open().lock()
    first = project.open().sync().lock_news
    lake.put("orders/a", b"moved on")
    lake.delete("orders/c")
    lake.put("one.csv", b"three")
    fresh = project.checkout()
    for mode in ("locked", "frozen", "obey"):
        fresh.open(lock_mode=mode).sync()

    assert first.hashed == ("orders", "one")
    assert fresh.files("orders") == {"a": b"55555", "c": b"4444"}
    assert fresh.files("one") == {"one.csv": b"two"}
    assert [c.name for c in fresh.open().outdated()] == ["orders", "one"]


def test_a_frozen_sync_needs_no_network(tmp_path: Path, s3: TestS3) -> None:
    """With the objects stored, not even a server: fresh files, no state, no source."""
    bucket = s3.bucket(versioning=True)
    bucket.put("orders/a", b"1")
    with moto_server() as url:
        project = Project(replace(s3, endpoint=url), tmp_path)
        project.write(f"""
  orders: {bucket.uri("orders/**")}""")
        project.open().lock()
        project.open().sync()
    shutil.rmtree(tmp_path / "data")
    shutil.rmtree(tmp_path / ".datacachalog")
    report = project.open(lock_mode="frozen").sync()

    assert (report.outcomes[0].linked, project.files("orders")) == (1, {"a": b"1"})


def test_a_pin_that_cannot_change_needs_no_network(tmp_path: Path, s3: TestS3) -> None:
    """Once resolved, it is answered from the state: in the catalog, and asked for ad hoc."""
    bucket = s3.bucket(versioning=True)
    play(bucket, [Write("one.csv", b"1", day(1), False), Write("one.csv", b"2", day(3), False)])
    (_, oldest) = project_versions(bucket, "one.csv")
    asked: list[dict[str, Any]] = [{}, {"as_of": "2024-02-04"}, {"version_id": oldest}]
    with moto_server() as url:
        project = Project(replace(s3, endpoint=url), tmp_path)
        project.write(f"""
  one: {{source: "{bucket.uri("one.csv")}", as_of: 2024-02-02}}""")
        first = [project.open().fetch("one", **options) for options in asked]
    recorder = EventRecorder()
    second = [project.open().fetch("one", report=recorder, **options) for options in asked]

    assert second == first
    assert [path.read_bytes() for path in second if isinstance(path, Path)] == [b"1", b"2", b"1"]
    assert recorder.of(Warned) == []


def test_before_the_beginning(project: Project) -> None:
    """The error says when the first version appeared, each dataset its own."""
    with pytest.raises(PartialFailureError) as caught:
        project.open().fetch_all(as_of="2024-01-31")

    assert {type(error) for error in caught.value.errors.values()} == {NothingThereYetError}
    assert "its first version appeared on 2024-02-01T09:30:00Z" in str(caught.value.errors["one"])


def test_a_version_that_is_gone(s3: TestS3, lake: Bucket, tmp_path: Path) -> None:
    """Pinned by its id and deleted for good: the error names it and the likely cause."""
    project = Project(s3, tmp_path)
    (_, oldest) = project_versions(lake, "one.csv")
    project.write(f"""
  one: {{source: "{lake.uri("one.csv")}", version_id: "{oldest}"}}""")
    lake.delete("one.csv", oldest)
    with pytest.raises(ObjectNotFoundError, match=f"version {oldest} of .* is gone") as caught:
        project.open().fetch("one")

    assert "a lifecycle rule" in str(caught.value.hint)


def test_a_deletion_is_no_version_to_fetch(s3: TestS3, lake: Bucket, tmp_path: Path) -> None:
    """The id of a delete marker is told from one that never was."""
    project = Project(s3, tmp_path)
    lake.delete("one.csv")
    answer = lake.client.list_object_versions(Bucket=lake.name, Prefix="one.csv")
    (marker,) = (v["VersionId"] for v in answer.get("DeleteMarkers", answer["Versions"][:0]))
    project.write(f"""
  one: {{source: "{lake.uri("one.csv")}", version_id: "{marker}"}}""")
    with pytest.raises(ObjectNotFoundError, match="is the record of its deletion"):
        project.open().fetch("one")


def test_an_archived_version_must_be_restored(s3: TestS3, tmp_path: Path) -> None:
    """As of a day, and from a lock: the error has the command that restores that version."""
    bucket = s3.bucket(versioning=True)
    version = bucket.put("one.csv", b"1", StorageClass="GLACIER")
    bucket.backdate("one.csv", day(1))
    bucket.put("one.csv", b"2")
    project = Project(s3, tmp_path)
    project.write(f"""
  one: {{source: "{bucket.uri("one.csv")}", as_of: 2024-02-02}}""")
    project.open().lock()
    for mode in ("ignore", "frozen"):
        with pytest.raises(ObjectArchivedError, match="must be restored") as caught:
            project.open(lock_mode=mode).fetch("one")
        assert f"--version-id {version}" in str(caught.value.hint)


def test_a_bucket_without_history(s3: TestS3, tmp_path: Path) -> None:
    """An instant holds if nothing changed since; a lock says `etag`, and what that costs."""
    bucket = s3.bucket()
    bucket.put("one.csv", b"1")
    bucket.backdate("one.csv", day(1))
    project = Project(s3, tmp_path)
    project.write(f"""
  one: {bucket.uri("one.csv")}""")
    path = project.open().fetch("one", as_of="2024-02-02")
    with pytest.raises(VersioningNotSupportedError, match="changed on 2024-02-01T09:30:00Z"):
        project.open().fetch("one", as_of="2024-01-31")
    project.open().lock()
    text = (tmp_path / "catalog.lock").read_text()
    bucket.put("one.csv", b"2")
    fresh = project.checkout()
    with pytest.raises(ObjectNotFoundError) as caught:
        fresh.open(lock_mode="frozen").fetch("one")

    assert isinstance(path, Path)
    assert path.read_bytes() == b"1"
    assert '"pin":"etag"' in text
    assert str(caught.value) == (
        f"what the lock names is lost: {bucket.uri('one.csv')} changed since it was resolved for"
        " the lock, which has no version of it that would bring old bytes back"
    )


def test_a_recent_instant_warns_by_the_servers_clock(project: Project, lake: Bucket) -> None:
    """Less than a day ago, uploads in parts may still appear; well after, nothing is said."""
    recorder = EventRecorder()
    soon = datetime.now(UTC) - timedelta(hours=1)
    project.open().fetch("one", as_of=soon, report=recorder)
    project.open().fetch("one", as_of="2024-02-09", report=recorder)

    (warned,) = recorder.of(Warned)
    assert "is less than a day ago: multipart uploads" in warned.message


def test_a_duration_is_counted_back_from_now(project: Project, s3: TestS3, lake: Bucket) -> None:
    """It is resolved anew each time, until a lock freezes it."""
    project.write(f"""
  one: {{source: "{lake.uri("one.csv")}", as_of: 1 hour}}""")
    project.open().sync()
    before = project.files("one")
    lake.put("one.csv", b"three")
    lake.backdate("one.csv", datetime.now(UTC) - timedelta(hours=2))
    project.open().sync()
    unlocked = project.files("one")
    project.open().lock()
    lake.put("one.csv", b"four")
    lake.backdate("one.csv", datetime.now(UTC) - timedelta(hours=2))
    project.open().sync()

    assert (before, unlocked) == ({"one.csv": b"two"}, {"one.csv": b"three"})
    assert project.files("one") == {"one.csv": b"three"}


def test_objects_in_two_buckets_have_one_lock(s3: TestS3, lake: Bucket, tmp_path: Path) -> None:
    """A dataset may have sources in several buckets; what keeps no history is held by ETags."""
    plain = s3.bucket()
    plain.put("x.csv", b"x")
    project = Project(s3, tmp_path)
    project.write(f"""
  both: {{source: ["{lake.uri("one.csv")}", "{plain.uri("*.csv")}"]}}""")
    project.open().lock()
    lake.put("one.csv", b"moved on")
    fresh = project.checkout()
    fresh.open(lock_mode="frozen").sync()

    assert fresh.files("both") == {"one.csv": b"two", "x.csv": b"x"}


def test_a_naive_time_in_the_catalog(s3: TestS3, lake: Bucket, tmp_path: Path) -> None:
    """It is refused with its place, and with the spelling that is meant."""
    project = Project(s3, tmp_path)
    project.write(f"""
  one: {{source: "{lake.uri("one.csv")}", as_of: 2024-02-02 09:30}}""")
    with pytest.raises(InvalidCatalogError) as caught:
        project.open()

    (problem,) = caught.value.problems
    assert problem.message == "'2024-02-02 09:30' has no time zone"
    assert problem.hint is not None
    assert problem.hint.startswith("write `2024-02-02 09:30Z` for UTC")


def test_a_damaged_lock_stops_before_anything_is_done(project: Project) -> None:
    """Half a merge is no lock to obey, and no reason to ignore it."""
    project.open().lock()
    path = project.folder / "catalog.lock"
    path.write_text(path.read_text().replace('{"dataset"', '<<<<<<< HEAD\n{"dataset"', 1))
    with pytest.raises(LockError, match="unresolved merge"):
        project.open().sync()

    assert not (project.folder / "data").exists()
