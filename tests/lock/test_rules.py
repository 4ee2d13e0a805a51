"""A lock from end to end: what gets into it, when it counts, and what it holds to its bytes."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from datacachalog.catalog import Catalog
from datacachalog.errors import (
    AccessDeniedError,
    ChecksumMismatchError,
    DatacachalogError,
    InvalidPinError,
    LockError,
    ObjectChangedError,
    ObjectNotFoundError,
    OfflineError,
    PartialFailureError,
    SourceUnreachableError,
)
from datacachalog.events import Warned
from datacachalog.lock import file as locktext
from datacachalog.lock import rules as locking
from datacachalog.lock.compare import Change
from datacachalog.lock.file import CatalogLock, LockedDataset, PinKind
from datacachalog.lock.lockfile import read
from datacachalog.lock.rules import LockNews
from datacachalog.model import EPOCH, AsOf, Latest, Pin, RemoteObject
from datacachalog.spec.models import Dataset
from datacachalog.sync.results import Freshness
from tests.memory_storage import MemoryStorage
from tests.projects import LAKE, EventRecorder, Project, one, orders, verbs

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ROOT = Path("/work/project")
DOWN = SourceUnreachableError("the server is down")


def an_object(path: str = "a.csv", *, version: str | None = "v1", size: int = 3) -> RemoteObject:
    """Return an object of the orders."""
    return RemoteObject(f"s3://lake/orders/{path}", path, size, AT, "e1", version)


def an_entry(*objects: RemoteObject, **hashes: str) -> LockedDataset:
    """Return the entry of the orders."""
    return LockedDataset("orders", "d", PinKind.VERSION, objects, hashes)


def lock_of(project: Project) -> CatalogLock:
    """Return the lock as it lies in the project."""
    lock = read(project.root / "catalog.lock")
    assert lock is not None
    return lock


def locked(project: Project, *datasets: Dataset, **options: Any) -> Catalog:
    """Return a new catalog after its lock was written."""
    project.catalog(*datasets).lock()
    return project.catalog(*datasets, **options)


# --- what an entry says -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("versions", "held"),
    [
        pytest.param(["v1", "v2"], PinKind.VERSION, id="all have versions"),
        pytest.param(["v1", None], PinKind.ETAG, id="one has none"),
        pytest.param(["v1", "null"], PinKind.ETAG, id="null is mutable"),
        pytest.param([], PinKind.VERSION, id="nothing to hold"),
    ],
)
def test_an_entry_says_what_holds_the_files(versions: list[str | None], held: PinKind) -> None:
    """Only if every file has a version id does the lock promise that old bytes come back."""
    objects = [an_object(f"{n}.csv", version=v) for n, v in enumerate(versions)]

    assert locking.held_by(objects, "aws") is held


def test_a_digest_ignores_what_does_not_decide_the_files() -> None:
    """A description may change without a new lock; a pattern, a pin or an order may not."""
    sources = ["s3://lake/a/**", "s3://lake/b/*"]
    digest = locking.digest_of(Dataset(name="x", source=sources), Latest(), ROOT)
    described = Dataset(
        name="x", source=sources, description="new", owner="me", path="in/x", tags=["t"]
    )
    others: list[tuple[Dataset, Pin]] = [
        (Dataset(name="x", source=sources, exclude=["*.tmp"]), Latest()),
        (Dataset(name="x", source=sources, storage="lake"), Latest()),
        (Dataset(name="x", source=sources[:1]), Latest()),
        # The first source that matches an object names its path.
        (Dataset(name="x", source=sources[::-1]), Latest()),
        (Dataset(name="x", source=sources), AsOf(AT)),
    ]

    assert locking.digest_of(described, Latest(), ROOT) == digest
    assert digest not in {locking.digest_of(dataset, pin, ROOT) for dataset, pin in others}


@pytest.mark.parametrize("source", ["raw/*.csv", "../shared/x.csv", "s3://lake/x", "/mnt/x.csv"])
def test_a_digest_is_the_same_in_every_checkout(source: str) -> None:
    """Wherever the project lies, an entry fits its dataset; brackets in its path are no pattern."""
    roots = [Path("/home/ann/work/project"), Path("/srv/[ci]/project")]
    digests = {
        locking.digest_of(
            Dataset(name="x", source=source).with_resolved_paths(root), Latest(), root
        )
        for root in roots
    }

    assert len(digests) == 1


def test_local_files_lose_what_holds_only_here(tmp_path: Path) -> None:
    """No absolute path, inode or time of this machine gets into a lock."""
    obj = RemoteObject(f"file://{tmp_path}/raw/iris.csv", "iris.csv", 9, AT, "1-2-3")
    dataset = Dataset(name="iris", source="raw/iris.csv").with_resolved_paths(tmp_path)

    entry = locking.locked_dataset(dataset, Latest(), [obj], "file", tmp_path)

    assert entry.held is PinKind.HASH
    assert entry.objects == (RemoteObject("./raw/iris.csv", "iris.csv", 9, EPOCH),)
    assert str(tmp_path) not in locktext.render(CatalogLock({"iris": entry}))


def test_files_with_the_same_hash_do_not_differ() -> None:
    """The same bytes may have been written twice; without hashes, the version decides."""
    old, new = an_object(version="v1"), an_object(version="v2")
    hashes = {"a.csv": "ab" * 32}

    assert locking.difference(an_entry(old), an_entry(new)).count(Change.CHANGED) == 1
    assert locking.difference(an_entry(old, **hashes), an_entry(new, **hashes)).changes == ()


def test_news_are_sorted_by_what_they_are() -> None:
    """Entries that are new, that replace another, and that only know more."""
    before = CatalogLock({name: an_entry(an_object()) for name in ("same", "other", "moved")})
    entries = [
        LockedDataset("new", "d", PinKind.VERSION, ()),
        LockedDataset("other", "another", PinKind.VERSION, (an_object(),)),
        LockedDataset("moved", "d", PinKind.VERSION, ()),
        LockedDataset("same", "d", PinKind.VERSION, (an_object(),), {"a.csv": "ab" * 32}),
    ]

    assert LockNews.of(before, entries) == LockNews(("new",), ("other", "moved"), ("same",))


# --- writing it ---------------------------------------------------------------------------------


def test_a_lock_holds_versions_of_globs_and_of_single_objects(project: Project) -> None:
    """For latest, too, the id of every version is learnt; nothing is downloaded."""
    project.put_all({"orders/a": b"1", "orders/b/c": b"22", "one.csv": b"333"})
    report = project.catalog(orders(), one()).lock()
    datasets = lock_of(project).datasets

    assert report.added == ("orders", "one")
    assert [obj.version_id for obj in datasets["orders"].objects] == ["v000001", "v000002"]
    assert datasets["one"].objects[0].version_id == "v000003"
    assert {entry.held for entry in datasets.values()} == {PinKind.VERSION}
    assert project.storage.count("read") == 0


def test_a_lock_without_history_holds_etags(tmp_path: Path) -> None:
    """And says so."""
    project = Project(tmp_path, MemoryStorage(keeps_history=False))
    project.put_all({"orders/a": b"1"})
    project.catalog().lock()

    assert lock_of(project).datasets["orders"].held is PinKind.ETAG


def test_locking_again_keeps_what_is_locked(project: Project) -> None:
    """What is missing or changed in the catalog is resolved; the rest stays, and asks nobody."""
    project.put_all({"orders/a": b"1", "one.csv": b"1"})
    project.catalog(orders()).lock()
    project.put("orders/a", b"2")
    project.storage.calls.clear()
    report = project.catalog(orders(), one()).lock()

    assert (report.added, report.kept, report.moved) == (("one",), ("orders",), ())
    assert [call.uri for call in project.storage.calls] == [f"{LAKE}/one.csv"]
    assert lock_of(project).datasets["orders"].objects[0].version_id == "v000001"


@pytest.mark.parametrize(
    ("upgrade", "moved"),
    [(False, []), (["orders"], ["orders"]), (["one"], ["one"]), (True, ["orders", "one"])],
    ids=["none", "orders", "one", "all"],
)
def test_upgrading_moves_what_is_named(
    project: Project, upgrade: bool | list[str], moved: list[str]
) -> None:
    """All, or some; what moved is compared with what was."""
    project.put_all({"orders/a": b"1", "one.csv": b"1"})
    project.catalog(orders(), one()).lock()
    project.put_all({"orders/a": b"22", "orders/b": b"3", "one.csv": b"22"})
    report = project.catalog(orders(), one()).lock(upgrade=upgrade)

    assert [comparison.name for comparison in report.moved] == moved
    assert report.is_changed == bool(moved)
    assert sorted((*report.kept, *moved)) == ["one", "orders"]


def test_an_upgrade_keeps_the_hashes_of_what_stayed(project: Project) -> None:
    """A file that did not move needs no second look at its bytes."""
    project.put_all({"orders/a": b"1", "orders/b": b"2"})
    locked(project, orders()).sync()
    project.put("orders/b", b"3")
    project.catalog().lock(upgrade=True)

    assert list(lock_of(project).datasets["orders"].hashes) == ["a"]


def test_what_left_the_catalog_leaves_the_lock(project: Project) -> None:
    """With the next `lock`."""
    project.put_all({"orders/a": b"1", "one.csv": b"1"})
    project.catalog(orders(), one()).lock()
    report = project.catalog(one()).lock()

    assert report.removed == ("orders",)
    assert list(lock_of(project).datasets) == ["one"]


def test_what_cannot_be_resolved_does_not_stop_the_others(project: Project) -> None:
    """An entry that was there stays; the error is that dataset's own."""
    project.put_all({"orders/a": b"1", "one.csv": b"1"})
    project.catalog(orders(), one()).lock()
    project.put("orders/a", b"2")
    project.storage.fail("scan", ObjectNotFoundError("gone"), match="one.csv")
    report = project.catalog(orders(), one()).lock(upgrade=True)

    assert [comparison.name for comparison in report.moved] == ["orders"]
    assert [(name, str(error)) for name, error in report.errors.items()] == [("one", "gone")]
    assert sorted(lock_of(project).datasets) == ["one", "orders"]


@pytest.mark.parametrize(
    "pin", [{"as_of": "2024-01-01T00:00:01Z"}, {"as_of": "3 s"}], ids=["instant", "duration"]
)
def test_a_lock_freezes_a_pin(project: Project, pin: dict[str, str]) -> None:
    """What was found under a pin is locked; a duration stands still from then on."""
    project.put("orders/a", b"1")
    project.put("orders/a", b"22")
    project.storage.clock = datetime(2024, 1, 1, 0, 0, 4, tzinfo=UTC)
    catalog = locked(project, orders(**pin))
    project.storage.clock = datetime(2024, 1, 9, tzinfo=UTC)
    project.storage.calls.clear()
    catalog.sync()

    assert project.files() == {"a": b"1"}
    assert verbs(project.storage) == ["read"]


def test_the_order_of_what_happens_does_not_show(project: Project) -> None:
    """One `lock` and many give the same bytes."""
    project.put_all({"orders/a": b"1", "one.csv": b"1"})
    project.catalog(orders(), one()).lock()
    at_once = (project.root / "catalog.lock").read_bytes()
    (project.root / "catalog.lock").unlink()
    project.catalog(one(), orders()).lock("one")
    project.catalog(one(), orders()).lock("orders")

    assert (project.root / "catalog.lock").read_bytes() == at_once


# --- obeying it ---------------------------------------------------------------------------------


def test_a_locked_dataset_stands_still(project: Project) -> None:
    """The source moves on; what is locked is fetched by its version, on any machine."""
    project.put_all({"orders/a": b"1", "orders/b": b"2"})
    catalog = locked(project)
    project.put_all({"orders/a": b"new", "orders/c": b"3"})
    project.delete("orders/b")
    catalog.sync()
    shutil.rmtree(project.data)
    shutil.rmtree(project.root / ".datacachalog")
    shutil.rmtree(project.cache)
    project.catalog(lock_mode="frozen").sync()

    assert project.files() == {"a": b"1", "b": b"2"}


@pytest.mark.parametrize("mode", ["obey", "locked", "frozen"])
def test_nothing_is_asked_where_all_is_stored(project: Project, mode: str) -> None:
    """Neither a listing nor a read, with the files in place or only in the cache."""
    project.put_all({"orders/a": b"1", "one.csv": b"1"})
    locked(project, orders(), one()).sync()
    project.put("orders/a", b"2")
    project.storage.calls.clear()
    catalog = project.catalog(orders(), one(), lock_mode=mode)
    catalog.sync()
    catalog.status()
    shutil.rmtree(project.data)
    catalog.sync()
    catalog.fetch_all()

    assert project.storage.calls == []
    assert project.files() == {"a": b"1"}


@pytest.mark.parametrize("mode", ["obey", "locked", "frozen"])
def test_a_lock_needs_no_source_that_answers(project: Project, mode: str) -> None:
    """What is stored comes into place while the server is down, and without a warning."""
    project.put_all({"orders/a": b"1"})
    locked(project).sync()
    shutil.rmtree(project.data)
    for verb in ("scan", "versions", "version", "read", "now"):
        project.storage.fail(verb, DOWN, times=99)
    recorder = EventRecorder()
    project.catalog(orders(on_stale="error"), lock_mode=mode).sync(report=recorder)

    assert (project.files(), recorder.of(Warned)) == ({"a": b"1"}, [])


def test_what_the_lock_lacks_is_added(project: Project) -> None:
    """As is what changed in the catalog; the report says so."""
    project.put_all({"orders/a": b"1", "orders/b": b"2", "one.csv": b"1"})
    project.catalog(orders()).lock()
    report = project.catalog(orders(exclude=["b"]), one()).sync()
    again = project.catalog(orders(exclude=["b"]), one()).sync()

    assert report.lock_news == LockNews(added=("one",), changed=("orders",))
    assert again.lock_news == LockNews()
    entry = lock_of(project).datasets["orders"]
    assert [(obj.relpath, obj.version_id) for obj in entry.objects] == [("a", "v000001")]
    assert len(entry.hashes) == 1


def test_fetching_adds_to_the_lock_too(project: Project) -> None:
    """One dataset, or all."""
    project.put_all({"orders/a": b"1", "one.csv": b"1"})
    project.catalog().lock()
    project.catalog(orders(), one()).fetch("one")
    project.catalog(orders(), one()).fetch_all()

    assert all(entry.hashes for entry in lock_of(project).datasets.values())


@pytest.mark.parametrize("verb", ["offline", "unreachable"])
def test_what_is_only_remembered_does_not_get_into_the_lock(project: Project, verb: str) -> None:
    """A state may be old and knows no versions: the next sync with the source adds it."""
    project.put_all({"orders/a": b"1", "one.csv": b"1"})
    project.catalog(orders(), one()).sync()
    project.catalog(orders(), one()).lock("one")
    if verb == "unreachable":
        project.storage.fail("versions", DOWN, times=99)
    report = project.catalog(orders(), one()).sync(offline=verb == "offline")

    assert (project.files(), report.lock_news.added) == ({"a": b"1"}, ())
    assert list(lock_of(project).datasets) == ["one"]


def test_no_lock_is_made_unasked(project: Project) -> None:
    """A project without one goes by its catalog."""
    project.put("orders/a", b"1")
    project.catalog().sync()

    assert not (project.root / "catalog.lock").exists()


def test_a_dry_run_leaves_the_lock_alone(project: Project) -> None:
    """It says what a sync would do, and does nothing."""
    project.put_all({"orders/a": b"1", "one.csv": b"1"})
    project.catalog().lock()
    before = (project.root / "catalog.lock").read_bytes()
    project.catalog(orders(), one()).sync(dry_run=True)

    assert (project.root / "catalog.lock").read_bytes() == before


def test_ignoring_a_lock_asks_the_source(project: Project) -> None:
    """`--no-lock` is as if there were none."""
    project.put("orders/a", b"1")
    locked(project).sync()
    project.put("orders/a", b"2")
    project.catalog(lock_mode="ignore").sync()

    assert project.files() == {"a": b"2"}


def test_a_lock_is_no_check_of_the_source(project: Project) -> None:
    """Having obeyed a lock does not count as a fresh look under `max_age`."""
    dataset = orders(max_age="1 hour")
    project.put("orders/a", b"1")
    locked(project, dataset).sync()
    project.put("orders/a", b"2")
    project.catalog(dataset, lock_mode="ignore").sync()

    assert project.files() == {"a": b"2"}


def test_a_frozen_lock_does_not_pass_for_the_catalog(project: Project) -> None:
    """What a lock of an older catalog brought is not what the catalog means, also offline."""
    project.put_all({"orders/a": b"1", "orders/b": b"2"})
    locked(project)
    dataset = orders(exclude=["b"])
    project.catalog(dataset, lock_mode="frozen").sync()
    frozen = project.files()
    with pytest.raises(OfflineError):
        project.catalog(dataset, lock_mode="ignore").sync(offline=True)
    project.catalog(dataset, lock_mode="ignore").sync()

    assert (frozen, project.files()) == ({"a": b"1", "b": b"2"}, {"a": b"1"})


def test_a_state_beside_is_not_of_the_lock(project: Project) -> None:
    """An ad-hoc instant asks for another state than the locked one, and does not disturb it."""
    project.put("orders/a", b"1", at=datetime(2024, 1, 1, tzinfo=UTC))
    project.put("orders/a", b"2", at=datetime(2024, 2, 1, tzinfo=UTC))
    catalog = locked(project)
    catalog.sync()
    before = (project.root / "catalog.lock").read_bytes()
    catalog.sync(as_of="2024-01-15")

    assert project.files("orders@2024-01-15") == {"a": b"1"}
    assert project.files() == {"a": b"2"}
    assert (project.root / "catalog.lock").read_bytes() == before


def test_status_says_what_is_locked(project: Project) -> None:
    """And compares with the lock, not with the source."""
    project.put_all({"orders/a": b"1", "one.csv": b"1"})
    project.catalog(orders(), one()).sync()
    project.catalog(orders(), one()).lock("orders")
    project.put_all({"orders/a": b"2", "one.csv": b"2"})
    first, second = project.catalog(orders(), one()).status()

    assert (first.is_locked, first.freshness) == (True, Freshness.UP_TO_DATE)
    assert (second.is_locked, second.freshness) == (False, Freshness.STALE)
    assert not project.catalog(orders(), one()).is_stale("orders")


def test_a_lock_is_named_after_its_catalog(project: Project) -> None:
    """Two catalogs in a folder have two locks; nothing else of theirs lies beside them."""
    project.put("orders/a", b"1")
    for name in ("core", "catalog"):
        catalog = project.catalog(name=name, file=project.root / f"{name}.yaml")
        catalog.lock()

    assert sorted(path.name for path in project.root.iterdir() if path.is_file()) == [
        "catalog.lock",
        "core.lock",
    ]


# --- demanding it -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        pytest.param([orders(), one()], "'one' is in the catalog, but not in the lock", id="new"),
        pytest.param(
            [orders(exclude=["b"])],
            "'orders' changed in the catalog since it was locked",
            id="changed",
        ),
        pytest.param(
            [one()],
            "'one' is in the catalog, but not in the lock (and 1 more)",
            id="new and removed",
        ),
    ],
)
def test_locked_refuses_a_lock_that_does_not_fit(
    project: Project, datasets: list[Dataset], message: str
) -> None:
    """The whole of it, before anything is done, whichever dataset was asked for."""
    project.put_all({"orders/a": b"1", "one.csv": b"1"})
    project.catalog(orders()).lock()
    catalog = project.catalog(*datasets, lock_mode="locked")
    project.storage.calls.clear()

    for call in (catalog.sync, catalog.status, catalog.fetch_all):
        with pytest.raises(LockError) as caught:
            call(datasets[0].name)
        assert str(caught.value) == f"the lock does not fit the catalog: {message}"
    assert project.storage.calls == []


def test_locked_is_content_with_a_lock_without_hashes(project: Project) -> None:
    """What only a sync can know is no disagreement; the lock stays as it is."""
    project.put("orders/a", b"1")
    catalog = locked(project, lock_mode="locked")
    before = (project.root / "catalog.lock").read_bytes()
    catalog.sync()

    assert project.files() == {"a": b"1"}
    assert (project.root / "catalog.lock").read_bytes() == before


def test_frozen_takes_the_lock_as_it_is(project: Project) -> None:
    """Also where the catalog changed since; the lock does not."""
    project.put_all({"orders/a": b"1", "orders/b": b"2"})
    locked(project)
    before = (project.root / "catalog.lock").read_bytes()
    project.storage.calls.clear()
    project.catalog(orders(exclude=["b"]), lock_mode="frozen").sync()

    assert project.files() == {"a": b"1", "b": b"2"}
    assert verbs(project.storage) == ["read", "read"]
    assert (project.root / "catalog.lock").read_bytes() == before


def test_frozen_refuses_what_the_lock_does_not_have(project: Project) -> None:
    """By name, and only if it is asked for."""
    project.put_all({"orders/a": b"1", "one.csv": b"1"})
    project.catalog(orders()).lock()
    catalog = project.catalog(orders(), one(), lock_mode="frozen")
    catalog.sync("orders")
    with pytest.raises(LockError, match="'one' is not in the lock") as caught:
        catalog.sync()

    assert caught.value.hint == "run `dcl lock one`"


def test_frozen_refuses_another_state(project: Project) -> None:
    """An instant is not what the lock has."""
    project.put("one.csv", b"1")
    catalog = locked(project, one(), lock_mode="frozen")
    with pytest.raises(InvalidPinError, match="`--frozen` takes what the lock has"):
        catalog.fetch("one", as_of="2024-01-01")


@pytest.mark.parametrize("mode", ["locked", "frozen"])
def test_a_demanded_lock_must_be_there(project: Project, mode: str) -> None:
    """Nothing is resolved instead."""
    project.put("orders/a", b"1")
    with pytest.raises(LockError, match="there is no"):
        project.catalog(lock_mode=mode).sync()

    assert project.storage.calls == []


def test_disagreements_are_told_one_by_one(project: Project) -> None:
    """All of them, or those of some datasets, without a question to anyone."""
    project.put_all({"orders/a": b"1", "one.csv": b"1"})
    third = Dataset(name="third", source=f"{LAKE}/one.csv")
    project.catalog(orders(), third).lock()
    project.storage.calls.clear()
    catalog = project.catalog(orders(exclude=["b"]), one())

    assert catalog.check_lock() == [
        "'orders' changed in the catalog since it was locked",
        "'one' is in the catalog, but not in the lock",
        "'third' is in the lock, but not in the catalog",
    ]
    assert catalog.check_lock("one") == ["'one' is in the catalog, but not in the lock"]
    assert project.storage.calls == []


# --- hashes -------------------------------------------------------------------------------------


def test_the_first_sync_fills_in_hashes(project: Project) -> None:
    """Once; the next has nothing to add."""
    project.put_all({"orders/a": b"1"})
    catalog = locked(project)
    first, second = catalog.sync(), catalog.sync()

    assert (first.lock_news.hashed, second.lock_news.hashed) == (("orders",), ())
    assert len(lock_of(project).datasets["orders"].hashes["a"]) == 64


def rehashed(project: Project, digest: str) -> None:
    """Let the lock demand another hash."""
    path = project.root / "catalog.lock"
    entry = lock_of(project).datasets["orders"]
    path.write_text(path.read_text().replace(entry.hashes["a"], digest))


@pytest.mark.parametrize("mode", ["obey", "locked", "frozen"])
@pytest.mark.parametrize("where", ["in place", "in the cache", "at the source"])
def test_hashes_are_enforced(project: Project, where: str, mode: str) -> None:
    """Wherever the bytes come from, other ones than the lock's are refused."""
    project.put("orders/a", b"1")
    locked(project).sync()
    rehashed(project, "ab" * 32)
    if where != "in place":
        shutil.rmtree(project.data)
        shutil.rmtree(project.root / ".datacachalog")
    if where == "at the source":
        shutil.rmtree(project.cache)
    with pytest.raises(ChecksumMismatchError, match="but the lock demands blake3:abab") as caught:
        project.catalog(lock_mode=mode).fetch("orders")

    assert str(caught.value.hint).endswith("take them with `dcl lock --upgrade`")


def test_the_catalogs_checksum_is_the_catalogs(project: Project) -> None:
    """A lock does not stand above `checksum:`, and its remedy is another one."""
    project.put("one.csv", b"1")
    catalog = locked(project, one(checksum=f"md5:{'0' * 32}"))
    with pytest.raises(ChecksumMismatchError, match="but the catalog demands md5:0000") as caught:
        catalog.fetch("one")

    assert str(caught.value.hint).endswith("or correct the checksum in the catalog")


# --- what is lost -------------------------------------------------------------------------------


def test_a_version_that_expired_is_lost(project: Project) -> None:
    """The error says what, why, and what is left to do."""
    obj = project.put("one.csv", b"1")
    catalog = locked(project, one())
    project.put("one.csv", b"2")
    project.storage.expire(obj.uri, obj.version_id)
    with pytest.raises(ObjectNotFoundError) as caught:
        catalog.fetch("one")

    assert str(caught.value) == (
        f"what the lock names is lost: {LAKE}/one.csv is gone; it was deleted for good, by a"
        " lifecycle rule or a person"
    )
    assert caught.value.hint == (
        "get the files from a machine that has them, or take what is there now:"
        " `dcl lock --upgrade one`"
    )


@pytest.mark.parametrize("is_deleted", [False, True], ids=["overwritten", "deleted"])
def test_what_only_an_etag_held_is_lost_with_it(tmp_path: Path, is_deleted: bool) -> None:
    """Without a history, the old bytes are in caches only: one that has them still serves them."""
    project = Project(tmp_path, MemoryStorage(keeps_history=False))
    project.put("one.csv", b"1")
    locked(project, one()).sync()
    project.delete("one.csv") if is_deleted else project.put("one.csv", b"2")
    shutil.rmtree(project.data)
    project.catalog(one()).sync()
    from_the_cache = project.files("one")
    shutil.rmtree(project.data)
    shutil.rmtree(project.cache)
    with pytest.raises(ObjectNotFoundError) as caught:
        project.catalog(one()).fetch("one")

    assert from_the_cache == {"one.csv": b"1"}
    what = (
        "is gone; it was deleted for good, by a lifecycle rule or a person"
        if is_deleted
        else "changed since it was resolved for the lock, which has no version of it that would"
        " bring old bytes back"
    )
    assert str(caught.value) == f"what the lock names is lost: {LAKE}/one.csv {what}"


def test_what_is_lost_leaves_what_is_in_place(project: Project) -> None:
    """A dataset that cannot be had as locked stays as it was, and the others are done."""
    project.put_all({"orders/a": b"1", "one.csv": b"1"})
    project.catalog(orders(), one()).sync()
    newer = project.put("one.csv", b"2")
    catalog = locked(project, orders(), one())
    project.storage.expire(newer.uri, newer.version_id)
    with pytest.raises(PartialFailureError, match="'one': what the lock names is lost"):
        catalog.sync()

    assert project.files("one") == {"one.csv": b"1"}
    assert project.files() == {"a": b"1"}


# --- local files --------------------------------------------------------------------------------


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Give a project folder with a local source of two files."""
    root = tmp_path / "project"
    (root / "raw").mkdir(parents=True)
    (root / "raw" / "a.txt").write_text("aa")
    (root / "raw" / "b.txt").write_text("bbb")
    return root


def local(root: Path, **options: Any) -> Catalog:
    """Return a catalog of the local source."""
    dataset = Dataset(name="raw", source="raw/*.txt")
    return Catalog([dataset], root=root, cache_dir=root.parent / "cache", **options)


def test_local_files_are_held_by_their_hash(raw: Path) -> None:
    """At once: nothing else holds them. A copy of the project elsewhere is the same."""
    local(raw).lock()
    copy = raw.parent / "elsewhere" / "copy"
    shutil.copytree(raw, copy)
    report = local(copy, lock_mode="locked").sync()

    entry = read(raw / "catalog.lock")
    assert entry is not None
    assert sorted(entry.datasets["raw"].hashes) == ["a.txt", "b.txt"]
    assert report.outcomes[0].downloaded == 2
    assert local(copy).outdated() == []


@pytest.mark.parametrize("mode", ["obey", "frozen"])
def test_a_local_source_that_moved_on_leaves_what_is_in_place(raw: Path, mode: str) -> None:
    """What was placed with the locked bytes stays right, from the cache too."""
    local(raw).lock()
    local(raw).sync()
    (raw / "raw" / "a.txt").write_text("xx")
    (raw / "raw" / "b.txt").unlink()
    first = local(raw, lock_mode=mode).sync().outcomes[0]
    (raw / "data" / "raw" / "a.txt").unlink()
    second = local(raw, lock_mode=mode).sync().outcomes[0]

    assert (first.hits, second.hits, second.linked) == (2, 1, 1)
    assert (raw / "data" / "raw" / "a.txt").read_text() == "aa"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        pytest.param("aaa", ObjectChangedError, "with 2 bytes, but it has 3 bytes now", id="size"),
        pytest.param(None, ObjectChangedError, "with 2 bytes, but it is gone", id="gone"),
        pytest.param("xx", ChecksumMismatchError, "but the lock demands blake3:", id="bytes"),
    ],
)
def test_a_local_source_that_changed_is_told(
    raw: Path, change: str | None, error: type[DatacachalogError], message: str
) -> None:
    """On a machine that has nothing in place, the locked bytes cannot be had."""
    local(raw).lock()
    (raw / "raw" / "a.txt").unlink()
    if change is not None:
        (raw / "raw" / "a.txt").write_text(change)
    with pytest.raises(error, match=message):
        local(raw).fetch("raw")


def test_a_touched_local_source_is_the_same(raw: Path) -> None:
    """Times and inodes do not count: a fresh checkout has others."""
    local(raw).lock()
    local(raw).sync()
    shutil.rmtree(raw / "data")
    shutil.rmtree(raw.parent / "cache")
    for path in (raw / "raw").iterdir():
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)

    assert local(raw).sync().outcomes[0].downloaded == 2


# --- pushing ------------------------------------------------------------------------------------


def test_a_push_moves_the_lock_along(project: Project) -> None:
    """What was pushed is what is locked: the next sync moves nothing, here or elsewhere."""
    project.put_all({"one.csv": b"1", "orders/a": b"1"})
    catalog = locked(project, one(push=True), orders())
    catalog.sync()
    new = project.base / "new.csv"
    new.write_bytes(b"22")
    report = catalog.push("one", new)
    entry = lock_of(project).datasets["one"]
    shutil.rmtree(project.cache)
    shutil.rmtree(project.data)
    project.catalog(one(push=True), orders(), lock_mode="frozen").sync()

    assert report.is_locked
    assert (entry.objects[0].version_id, list(entry.hashes)) == ("v000003", ["one.csv"])
    assert project.files("one") == {"one.csv": b"22"}


def test_a_push_makes_no_lock(project: Project) -> None:
    """Nor does it add to one that does not have the dataset."""
    project.put_all({"one.csv": b"1", "orders/a": b"1"})
    project.catalog(one(push=True), orders()).lock("orders")
    catalog = project.catalog(one(push=True), orders(), lock_mode="ignore")
    catalog.sync()
    new = project.base / "new.csv"
    new.write_bytes(b"22")

    assert not catalog.push("one", new).is_locked
    assert list(lock_of(project).datasets) == ["orders"]


# --- comparing ----------------------------------------------------------------------------------


def changes(found: list[Any]) -> dict[str, dict[str, str]]:
    """Return what differs: kinds of change by path, by dataset."""
    return {c.name: {change.relpath: change.change.value for change in c.changes} for c in found}


def test_outdated_says_what_an_upgrade_would_move(project: Project) -> None:
    """By each dataset's own pin; what would stay is left out."""
    project.put_all({"orders/a": b"1", "orders/b": b"1", "one.csv": b"1"})
    datasets = orders(), one(), orders(name="pinned", as_of="2024-01-01T00:00:03Z")
    catalog = locked(project, *datasets)
    nothing = catalog.outdated()
    project.put_all({"orders/a": b"22", "orders/c": b"333"})
    project.delete("orders/b")
    found = catalog.outdated()

    assert nothing == []
    assert changes(found) == {"orders": {"a": "changed", "b": "removed", "c": "added"}}
    assert (found[0].growth, found[0].download_bytes) == (3, 5)
    assert changes(list(catalog.lock(upgrade=True).moved)) == changes(found)


def test_a_source_that_is_away_does_not_hide_the_others(project: Project) -> None:
    """Its error is its own."""
    project.put_all({"orders/a": b"1", "one.csv": b"1"})
    catalog = locked(project, orders(), one())
    project.put("orders/a", b"2")
    project.storage.fail("scan", AccessDeniedError("not permitted"), times=2)
    outdated, diff = catalog.outdated(), catalog.diff()

    for found in (outdated, diff):
        assert {c.name: str(c.error) if c.error else c.count(Change.CHANGED) for c in found} == {
            "orders": 1,
            "one": "not permitted",
        }


SIDES = {
    "lock": {"a": b"1", "b": b"1"},
    "placed": {"a": b"1", "b": b"1", "c": b"333"},
    "latest": {"c": b"4444"},
    "2024-01-02": {"a": b"1", "b": b"1"},
}


@pytest.mark.parametrize("before", SIDES)
@pytest.mark.parametrize("after", SIDES)
def test_any_two_sides_are_compared(project: Project, before: str, after: str) -> None:
    """The lock, what is placed, what is latest, and instants."""
    at = datetime(2024, 1, 1, tzinfo=UTC)
    project.put("orders/a", b"1", at=at)
    project.put("orders/b", b"1", at=at)
    project.catalog().lock()
    project.put("orders/c", b"333", at=datetime(2024, 2, 1, tzinfo=UTC))
    project.catalog(lock_mode="ignore").sync()
    project.put("orders/c", b"4444")
    project.delete("orders/a")
    project.delete("orders/b")
    found = project.catalog().diff(before, after)

    old, new = SIDES[before], SIDES[after]
    expected = {
        **dict.fromkeys(new.keys() - old.keys(), "added"),
        **dict.fromkeys(old.keys() - new.keys(), "removed"),
        **{path: "changed" for path in old.keys() & new.keys() if old[path] != new[path]},
    }
    assert changes(found) == ({"orders": expected} if expected else {})


def test_two_locks_are_compared_without_asking(project: Project) -> None:
    """As files or as values, with what one of them lacks, and with what left the catalog."""
    project.put_all({"orders/a": b"1", "one.csv": b"1"})
    project.catalog(orders()).lock()
    old = (project.root / "catalog.lock").rename(project.base / "old.lock")
    project.put("orders/a", b"2")
    project.catalog(orders(), one()).lock()
    project.storage.calls.clear()
    catalog = project.catalog(one())

    by_path = catalog.diff(str(old), "lock")
    by_value = catalog.diff(read(old), lock_of(project))
    assert changes(by_path) == {"one": {"one.csv": "added"}, "orders": {"a": "changed"}}
    assert by_value == by_path
    assert changes(catalog.diff(str(old), "lock", "one")) == {"one": {"one.csv": "added"}}
    assert project.storage.calls == []


def test_sides_are_left_out(project: Project) -> None:
    """Then it is from the lock, or from what is placed, to what is latest."""
    project.put("orders/a", b"1")
    project.catalog().sync()
    project.put("orders/a", b"22")
    from_placed = project.catalog().diff()
    project.catalog().lock()
    from_lock = project.catalog().diff()

    assert (changes(from_placed), from_lock) == ({"orders": {"a": "changed"}}, [])


def test_a_dataset_that_was_not_there_yet_is_empty(project: Project) -> None:
    """On one side it was added; on both, there is no difference. A wrong key is an error."""
    project.put("orders/a", b"1", at=datetime(2024, 3, 1, tzinfo=UTC))
    catalog = project.catalog()

    assert changes(catalog.diff("2024-01-01", "2024-04-01")) == {"orders": {"a": "added"}}
    assert catalog.diff("2024-01-01", "2024-02-01") == []
    (found,) = project.catalog(one()).diff("2024-01-01", "2024-02-01")
    assert isinstance(found.error, ObjectNotFoundError)


def test_dates_and_datetimes_are_sides(project: Project) -> None:
    """As text is."""
    project.put("orders/a", b"1", at=datetime(2024, 1, 1, tzinfo=UTC))
    project.put("orders/a", b"22", at=datetime(2024, 2, 1, tzinfo=UTC))
    first, second = datetime(2024, 1, 5, tzinfo=UTC), datetime(2024, 2, 5, tzinfo=UTC)
    catalog = project.catalog()

    assert catalog.diff(first, second) == catalog.diff(first.date(), "2024-02-05")
    assert changes(catalog.diff(first, second)) == {"orders": {"a": "changed"}}


@pytest.mark.parametrize(
    ("side", "error", "message", "hint"),
    [
        ("lok", InvalidPinError, "'lok' is no side of a comparison", "did you mean 'lock'?"),
        (
            "yesterday",
            InvalidPinError,
            "'yesterday' is no side of a comparison",
            "write `lock`, `latest`, `placed`, a time, or the path of a lock file",
        ),
        ("no.lock", LockError, "there is no lock 'no.lock'", "check the path"),
        (
            "2024-01-01T10:00",
            InvalidPinError,
            "'2024-01-01T10:00' has no time zone",
            "write `2024-01-01T10:00Z` for UTC, or an offset such as `2024-01-01T10:00+02:00`",
        ),
    ],
)
def test_what_is_no_side_is_refused(
    project: Project, side: str, error: type[DatacachalogError], message: str, hint: str
) -> None:
    """Before anything is asked, and once."""
    with pytest.raises(error) as caught:
        project.catalog(orders(), one()).diff(side, "latest")

    assert (str(caught.value), caught.value.hint) == (message, hint)
    assert project.storage.calls == []


# --- no two pins share bytes --------------------------------------------------------------------


def test_an_instant_never_lands_in_another_datasets_folder(project: Project) -> None:
    """However that folder is called."""
    project.put_all({"orders/a": b"1", "one.csv": b"1"})
    taken = one(path="data/Orders@2024-01-05/in")
    catalog = project.catalog(orders(), taken)
    catalog.sync()
    with pytest.raises(InvalidPinError) as caught:
        catalog.fetch("orders", as_of="2024-01-05")

    assert str(caught.value) == (
        "this state would land in 'data/orders@2024-01-05', which belongs to the dataset 'one'"
    )
    catalog.fetch("orders", as_of="2024-01-06")


def test_all_pins_of_a_dataset_lie_side_by_side(project: Project) -> None:
    """Each has its own bytes, from one cache, and none disturbs another."""
    versions = [
        project.put("one.csv", f"{number}".encode(), at=datetime(2024, number, 1, tzinfo=UTC))
        for number in (1, 2, 3)
    ]
    datasets = one(), *(one(name=f"in-{m}", as_of=f"2024-0{m}-15") for m in (1, 2))
    catalog = project.catalog(*datasets)
    catalog.sync()
    paths = {
        **catalog.fetch_all(),
        "day": catalog.fetch("one", as_of="2024-01-01"),
        "month": catalog.fetch("one", as_of="2024-02"),
        "id": catalog.fetch("one", version_id=versions[0].version_id),
        "latest": catalog.fetch("in-1", as_of="latest"),
    }
    found = {name: path.read_text() for name, path in paths.items() if isinstance(path, Path)}

    assert found == {
        "one": "3", "in-1": "1", "in-2": "2", "day": "1", "month": "2", "id": "1", "latest": "3",
    }  # fmt: skip
    assert len(set(paths.values())) == len(paths)
    assert len(project.stored()) == 3


def test_a_version_is_of_one_object(project: Project) -> None:
    """Asked of a glob, it is refused before anything is done."""
    with pytest.raises(InvalidPinError, match="'orders' is not a single object"):
        project.catalog().fetch("orders", version_id="v1")

    assert project.storage.calls == []


def test_failures_of_many_are_collected(project: Project) -> None:
    """An instant that is too early for some leaves the others done."""
    project.put("one.csv", b"1", at=datetime(2024, 1, 1, tzinfo=UTC))
    project.put("orders/a", b"1", at=datetime(2024, 3, 1, tzinfo=UTC))
    project.put("late/a", b"1", at=datetime(2024, 3, 1, tzinfo=UTC))
    late = Dataset(name="late", source=f"{LAKE}/late/*")
    with pytest.raises(PartialFailureError) as caught:
        project.catalog(orders(), one(), late).fetch_all(as_of="2024-02-01")

    assert list(caught.value.errors) == ["orders", "late"]
    assert project.files("one@2024-02-01") == {"one.csv": b"1"}
