"""The catalog as a program uses it: many datasets, many threads, and one door for errors."""

import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from datacachalog import events
from datacachalog.catalog import Catalog
from datacachalog.errors import (
    AccessDeniedError,
    CatalogError,
    DatacachalogError,
    DatasetNotFoundError,
    InvalidPinError,
    LocalFileConflictError,
    NotFetchedError,
    PartialFailureError,
    SourceUnreachableError,
    UnsupportedSchemeError,
)
from datacachalog.spec.models import CacheSettings, Dataset, StorageSettings
from datacachalog.storage.base import Storage
from datacachalog.sync.results import Freshness
from tests.projects import LAKE, EventRecorder, Project, one, orders

ROOT = Path(__file__).parents[1]


def many(count: int) -> list[Dataset]:
    """Return datasets `d0`, `d1`, ..., one folder each."""
    return [Dataset(name=f"d{n}", source=f"{LAKE}/d{n}/**") for n in range(count)]


def put_many(project: Project, count: int) -> None:
    """Give each of them two objects."""
    project.put_all({f"d{n}/{name}": f"{n}{name}".encode() for n in range(count) for name in "ab"})


# --- fetching -----------------------------------------------------------------------------------


def test_a_single_object_is_a_path(project: Project) -> None:
    """An absolute one."""
    project.put("one.csv", b"1")
    path = project.catalog(one()).fetch("one")

    assert path == project.data / "one" / "one.csv"


@pytest.mark.parametrize(
    "source",
    [f"{LAKE}/d/*", [f"{LAKE}/d/a"], [f"{LAKE}/d/a", f"{LAKE}/d/b"]],
    ids=["glob", "list of one", "list"],
)
def test_a_glob_or_a_list_is_a_list_of_paths(project: Project, source: str | list[str]) -> None:
    """Sorted, also if there is only one."""
    project.put_all({"d/a": b"1", "d/b": b"2"})
    paths = project.catalog(Dataset(name="d", source=source)).fetch("d")

    assert isinstance(paths, list)
    assert [path.name for path in paths] == ["a", "b"][: len(paths)]


def test_everything_is_fetched_by_name(project: Project) -> None:
    """In the catalog's order."""
    project.put("one.csv", b"1")
    project.put_all({"orders/a": b"1"})
    paths = project.catalog(orders(), one()).fetch_all()

    assert list(paths) == ["orders", "one"]
    assert paths == {
        "orders": [project.data / "orders" / "a"],
        "one": project.data / "one" / "one.csv",
    }


def test_a_path_is_known_without_asking(project: Project) -> None:
    """Since the last sync."""
    project.put("one.csv", b"1")
    fetched = project.catalog(one()).fetch("one")
    project.storage.calls.clear()

    assert project.catalog(one()).path("one") == fetched
    assert project.storage.calls == []


def test_there_is_no_path_before_the_first_sync(project: Project) -> None:
    """Nor after the dataset's path changed."""
    with pytest.raises(NotFetchedError) as caught:
        project.catalog(one()).path("one")
    project.put("one.csv", b"1")
    project.catalog(one()).sync()
    with pytest.raises(NotFetchedError):
        project.catalog(one(path="elsewhere")).path("one")

    assert str(caught.value) == "'one' was not fetched yet"
    assert caught.value.hint == "run `dcl sync one`"


def test_a_path_forgets_what_is_gone_on_both_sides(project: Project) -> None:
    """Deleted at the source and here: the next sync must not keep it on record."""
    project.put_all({"orders/a": b"1", "orders/b": b"2"})
    project.catalog().sync()
    project.delete("orders/b")
    (project.data / "orders" / "b").unlink()
    project.catalog().sync()

    assert project.catalog().path("orders") == [project.data / "orders" / "a"]


def test_a_single_object_that_is_excluded_has_no_path(project: Project) -> None:
    """Odd, but allowed with `allow_empty`."""
    project.put("one.csv", b"1")

    assert project.catalog(one(exclude=["*.csv"], allow_empty=True)).fetch("one") == []


def test_an_instant_lands_beside_what_is_in_place(project: Project) -> None:
    """And disturbs nothing."""
    project.put("one.csv", b"old", at=datetime(2024, 1, 1, tzinfo=UTC))
    project.put("one.csv", b"new", at=datetime(2024, 2, 1, tzinfo=UTC))
    catalog = project.catalog(one())
    now = catalog.fetch("one")
    then = catalog.fetch("one", as_of=date(2024, 1, 15))

    assert isinstance(now, Path)
    assert isinstance(then, Path)
    assert (now.read_bytes(), then.read_bytes()) == (b"new", b"old")
    assert then == project.data / "one@2024-01-15" / "one.csv"
    assert catalog.path("one") == now


def test_two_pins_in_one_call_are_refused(project: Project) -> None:
    """Before anything is asked."""
    with pytest.raises(InvalidPinError, match="exclude each other"):
        project.catalog(one()).sync("one", as_of="2024-01-01", version_id="v1")

    assert project.storage.calls == []


# --- some fail ----------------------------------------------------------------------------------


def test_one_failing_dataset_does_not_stop_the_others(project: Project) -> None:
    """They are done when the error comes; it has each one's own."""
    put_many(project, 5)
    project.storage.fail("read", AccessDeniedError("no"), match="d1/", times=9)
    project.storage.fail("scan", AccessDeniedError("never"), match="d3/", times=9)
    with pytest.raises(PartialFailureError) as caught:
        project.catalog(*many(5)).sync()

    assert {n for n in range(5) if project.files(f"d{n}")} == {0, 2, 4}
    assert {name: str(error) for name, error in caught.value.errors.items()} == {
        "d1": "no",
        "d3": "never",
    }
    assert str(caught.value) == "2 datasets failed, the others are done; 'd1': no"


def test_one_failure_of_several_datasets_is_a_partial_one(project: Project) -> None:
    """So that a caller catches the same whatever the number."""
    put_many(project, 2)
    project.storage.fail("scan", AccessDeniedError("no"), match="d1/", times=9)
    with pytest.raises(PartialFailureError) as caught:
        project.catalog(*many(2)).fetch_all()

    assert str(caught.value) == "1 dataset failed, the others are done; 'd1': no"


def test_the_only_dataset_s_failure_is_its_own(project: Project) -> None:
    """With the class that says why."""
    with pytest.raises(FileNotFoundError):
        project.catalog(*many(2)).sync("d0")


def test_errors_can_be_left_to_the_report(project: Project) -> None:
    """For whoever shows all of them."""
    put_many(project, 2)
    project.storage.fail("scan", AccessDeniedError("no"), match="d1/", times=9)
    report = project.catalog(*many(2)).sync(check=False)

    assert [o.name for o in report.outcomes] == ["d0", "d1"]
    assert list(report.errors) == ["d1"]


def test_a_storage_that_cannot_be_opened_fails_its_datasets_only(project: Project) -> None:
    """A profile that is missing is no reason to leave the rest stale."""

    def open_storage(source: str, settings: StorageSettings) -> Storage:
        if settings.profile:
            raise UnsupportedSchemeError("no profile 'missing'")
        return project.storage

    put_many(project, 2)
    datasets = [*many(1), Dataset(name="d1", source=f"{LAKE}/d1/**", storage="bad")]
    catalog = project.catalog(
        *datasets, storages={"bad": {"profile": "missing"}}, open_storage=open_storage
    )
    report = catalog.sync(check=False)

    assert list(report.errors) == ["d1"]
    assert project.files("d0") == {"a": b"0a", "b": b"0b"}


def test_a_name_given_twice_is_synced_once(project: Project) -> None:
    """Two runs on one folder would only get in each other's way."""
    put_many(project, 1)
    report = project.catalog(*many(1)).sync("d0", "d0")

    assert [o.name for o in report.outcomes] == ["d0"]
    assert project.storage.count("scan") == 1


def test_an_unknown_name_is_refused_before_anything_is_done(project: Project) -> None:
    """With the likely one."""
    put_many(project, 1)
    with pytest.raises(DatasetNotFoundError) as caught:
        project.catalog(orders(), one()).sync("one", "oders")

    assert str(caught.value) == "no dataset 'oders'"
    assert caught.value.hint == "did you mean 'orders'?"
    assert project.storage.calls == []


def test_each_dataset_ends_for_the_listener(project: Project) -> None:
    """With its counts, or its error."""
    put_many(project, 3)
    project.storage.fail("scan", AccessDeniedError("no"), match="d1/", times=9)
    recorder = EventRecorder()
    project.catalog(*many(3)).sync(check=False, report=recorder)
    ends = {e.dataset: e for e in recorder.of(events.DatasetFinished)}

    assert sorted(ends) == ["d0", "d1", "d2"]
    assert (ends["d0"].downloaded, ends["d0"].total_bytes) == (2, 4)
    assert isinstance(ends["d1"].error, AccessDeniedError)


# --- knowing ------------------------------------------------------------------------------------


def test_the_status_of_each_kind(project: Project) -> None:
    """One word each."""
    datasets = many(6)
    put_many(project, 6)
    project.catalog(*datasets[:5]).sync()
    project.put("d1/a", b"changed")
    (project.data / "d2" / "a").unlink()
    (project.data / "d3" / "a").unlink()
    (project.data / "d3" / "a").write_bytes(b"edited")
    project.storage.fail("scan", AccessDeniedError("no"), match="d4/", times=9)
    found = {s.name: s.freshness for s in project.catalog(*datasets).status()}

    assert found == {
        "d0": Freshness.UP_TO_DATE,
        "d1": Freshness.STALE,
        "d2": Freshness.INCOMPLETE,
        "d3": Freshness.EDITED,
        "d4": Freshness.ERROR,
        "d5": Freshness.MISSING,
    }


def test_status_changes_nothing(project: Project) -> None:
    """Not even the time of the last check."""
    put_many(project, 1)
    catalog = project.catalog(*many(1))
    catalog.sync()
    before = project.state_file("d0").stat().st_mtime_ns
    project.put("d0/a", b"changed")
    catalog.status()

    assert project.state_file("d0").stat().st_mtime_ns == before
    assert project.files("d0") == {"a": b"0a", "b": b"0b"}


def test_stale_is_what_a_sync_would_change(project: Project) -> None:
    """And an error is not an answer."""
    project.put("one.csv", b"1")
    catalog = project.catalog(one())
    before = catalog.is_stale("one")
    catalog.sync()
    after = catalog.is_stale("one")
    project.delete("one.csv")
    with pytest.raises(FileNotFoundError):
        catalog.is_stale("one")

    assert (before, after) == (True, False)


# --- many at once -------------------------------------------------------------------------------


def test_many_threads_fetch_the_same_dataset(project: Project) -> None:
    """One catalog for all: each gets the path, and the bytes come once or twice, not per thread."""
    project.put("one.csv", b"1" * 1000)
    catalog = project.catalog(one())
    with ThreadPoolExecutor(8) as threads:
        paths = list(threads.map(lambda _: catalog.fetch("one"), range(24)))

    assert set(paths) == {project.data / "one" / "one.csv"}
    assert project.files("one") == {"one.csv": b"1" * 1000}
    assert project.storage.count("read") == 1
    assert project.debris() == []


def test_many_threads_fetch_different_datasets(project: Project) -> None:
    """With one cache folder between them."""
    put_many(project, 12)
    catalog = project.catalog(*many(12))
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda n: catalog.fetch(f"d{n}"), range(12)))

    assert [len(paths) for paths in found if isinstance(paths, list)] == [2] * 12
    assert project.debris() == []


def test_datasets_that_share_a_folder_do_not_disturb_each_other(project: Project) -> None:
    """Single objects may land side by side; each keeps to its own."""
    project.put_all({f"x/{n}": b"%d" % n for n in range(30)})
    datasets = [Dataset(name=f"d{n}", source=f"{LAKE}/x/{n}", path="data/x") for n in range(30)]
    project.catalog(*datasets).sync()
    project.put_all({f"x/{n}": b"new %d" % n for n in range(30)})
    project.catalog(*datasets).sync()

    assert project.files("x") == {str(n): b"new %d" % n for n in range(30)}
    assert project.debris() == []


def test_an_outer_thread_pool_does_not_deadlock(project: Project) -> None:
    """Walkers and workers are two pools: one job each is enough."""
    put_many(project, 6)
    catalog = project.catalog(*many(6))
    done = threading.Event()

    def sync() -> None:
        catalog.sync(jobs=1)
        done.set()

    thread = threading.Thread(target=sync, daemon=True)
    thread.start()

    assert done.wait(20)


FORKING = """
import os, sys
from pathlib import Path
from datacachalog.catalog import Catalog
from datacachalog.spec.models import Dataset

base = Path(sys.argv[1])
catalog = Catalog([Dataset(name="a", source="in/*.csv")], root=base, cache_dir=base / "cache")
catalog.fetch("a")
(base / "in" / "new.csv").write_bytes(b"new")
pid = os.fork()
if pid == 0:
    os._exit(0 if len(catalog.fetch("a")) == 3 else 1)
status = os.waitpid(pid, 0)[1]
assert len(catalog.fetch("a")) == 3
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_catalog_works_on_in_a_forked_child(tmp_path: Path) -> None:
    """As `multiprocessing` and web servers make them; the parent works on, too."""
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / "in" / f"{name}.csv").write_text(name)
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(tmp_path)], cwd=ROOT, timeout=60, check=False
    )

    assert done.returncode == 0


# --- errors as values ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        SourceUnreachableError("no answer", hint="try later"),
        LocalFileConflictError("in the way", hint="move it"),
        DatasetNotFoundError("no dataset 'x'", hint="did you mean 'y'?"),
        PartialFailureError("two failed", {"a": AccessDeniedError("no", hint="ask")}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling(error: DatacachalogError) -> None:
    """As process pools need; message, hint and parts included."""
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is type(error)
    assert (str(copy), copy.hint) == (str(error), error.hint)
    if isinstance(copy, PartialFailureError):
        assert str(copy.errors["a"]) == "no"
        assert copy.errors["a"].hint == "ask"


def test_a_catalog_describes_itself(project: Project) -> None:
    """By its folder and size."""
    assert repr(project.catalog(*many(3))) == f"Catalog('{project.root}', 3 datasets)"


def test_the_environment_s_cache_folder_counts(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Below what a program gives, above the catalog's."""
    monkeypatch.setenv("DCL_CACHE_DIR", str(tmp_path / "env"))

    assert project.catalog(cache_dir=None).store.root == tmp_path / "env"
    assert project.catalog().store.root == project.cache
    assert os.environ["DCL_CACHE_DIR"] == str(tmp_path / "env")


def test_two_datasets_of_one_name_are_refused() -> None:
    """A catalog made of values holds each name once, as one made of a file does."""
    twins = [Dataset(name="orders", source=f"raw/{n}.csv") for n in "ab"]

    with pytest.raises(CatalogError, match="two datasets are called 'orders'"):
        Catalog(twins)


def test_the_cache_stays_as_small_as_the_catalog_says(project: Project) -> None:
    """After a download, what was used least lately goes until the limit holds; files stay."""
    project.put_all({"orders/a.csv": b"a" * 60, "orders/b.csv": b"b" * 60})

    project.catalog(cache=CacheSettings(max_size=100)).sync()

    assert sum(path.stat().st_size for path in project.stored()) == 60
    assert sorted(project.files()) == ["a.csv", "b.csv"]
    assert project.catalog().sync().outcomes[0].hits == 2
