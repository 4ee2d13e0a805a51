"""The line for one dataset, from what is remote to exact files and back to idle."""

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from datacachalog import events
from datacachalog.cache import files
from datacachalog.errors import (
    CacheError,
    ChecksumMismatchError,
    IntegrityError,
    LocalFileConflictError,
    ObjectChangedError,
    ObjectNotFoundError,
    OfflineError,
    SourceUnreachableError,
)
from datacachalog.spec.models import CacheSettings
from tests.memory_storage import MemoryStorage
from tests.projects import (
    LAKE,
    EventRecorder,
    Project,
    contents,
    current_umask,
    mode_of,
    one,
    orders,
    verbs,
)

DOWN = SourceUnreachableError("the server is down")


def touched(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return what changes if anything is written: inode, mtime and ctime of every file."""
    stats = {str(p): p.lstat() for p in folder.rglob("*")}
    return {path: (st.st_ino, st.st_mtime_ns, st.st_ctime_ns) for path, st in stats.items()}


# --- the plain story ------------------------------------------------------------------------


def test_a_first_sync_brings_everything(project: Project) -> None:
    """Bytes, times and modes are those that were promised."""
    obj = project.put("orders/y=1/a.csv", b"one")
    project.put("orders/b.csv", b"")
    (outcome,) = project.catalog().sync().outcomes
    placed = project.data / "orders" / "y=1" / "a.csv"

    assert project.files() == {"y=1/a.csv": b"one", "b.csv": b""}
    assert (outcome.downloaded, outcome.downloaded_bytes) == (2, 3)
    assert placed.stat().st_mtime_ns == obj.mtime_ns
    assert mode_of(placed) == 0o444 & ~current_umask()
    assert project.debris() == []


def test_a_second_sync_asks_once_and_touches_nothing(project: Project) -> None:
    """One listing; no read, no write: not even the state's inode changes."""
    project.put_all({f"orders/{n}": b"x" for n in range(50)})
    project.catalog().sync()
    project.storage.calls.clear()
    data, cache = touched(project.data), touched(project.cache)
    state = project.state_file().stat()
    (outcome,) = project.catalog().sync().outcomes

    assert verbs(project.storage) == ["scan"]
    assert (outcome.hits, outcome.downloaded, outcome.linked) == (50, 0, 0)
    assert (touched(project.data), touched(project.cache)) == (data, cache)
    assert project.state_file().stat().st_ino == state.st_ino


def test_a_sync_with_nothing_to_do_sweeps_what_a_killed_run_left(project: Project) -> None:
    """Also if the source went back to what is in place."""
    project.put("orders/a", b"1")
    project.catalog().sync()
    dead = files.temp_name().replace(f"-{os.getpid()}-", "-999999999-")
    staging = project.data / "orders" / ".dcl-tmp"
    staging.mkdir()
    (staging / dead).touch()
    (project.cache / "v1" / "tmp" / dead).touch()
    project.catalog().sync()

    assert project.debris() == []


def test_a_cold_sync_asks_once_and_reads_each_object_once(project: Project) -> None:
    """No HEAD per file; an empty one is proven like any other."""
    project.put_all({"orders/a": b"1", "orders/b": b"2", "orders/empty": b""})
    project.catalog().sync()

    assert sorted(verbs(project.storage)) == ["read", "read", "read", "scan"]


def test_what_changed_is_fetched_and_what_vanished_is_dropped(project: Project) -> None:
    """Also a change that keeps the size; empty folders go."""
    project.put_all({"orders/a": b"1", "orders/b": b"2", "orders/c/d/e": b"3"})
    project.catalog().sync()
    project.put("orders/a", b"9")
    project.delete("orders/c/d/e")
    (outcome,) = project.catalog().sync().outcomes

    assert project.files() == {"a": b"9", "b": b"2"}
    assert (outcome.downloaded, outcome.hits, outcome.dropped) == (1, 1, 1)


def test_a_file_becomes_a_folder_and_a_file_again(project: Project) -> None:
    """`a`, then `a/b`, then `a`."""
    seen = []
    for keys in (["a"], ["a/b"], ["a"]):
        for key in ("a", "a/b"):
            project.delete(f"orders/{key}")
        project.put_all({f"orders/{key}": key.encode() for key in keys})
        project.catalog().sync()
        seen.append(project.files())

    assert seen == [{"a": b"a"}, {"a/b": b"a/b"}, {"a": b"a"}]


def test_a_project_shares_the_cache_with_another(project: Project, tmp_path: Path) -> None:
    """What one fetched, the other links."""
    project.put("orders/a", b"1")
    project.catalog().sync()
    other = Project(tmp_path / "other", project.storage)
    other.base.mkdir()
    (outcome,) = other.catalog(cache_dir=project.cache).sync().outcomes

    assert (outcome.downloaded, outcome.linked) == (0, 1)
    assert project.storage.count("read") == 1
    assert other.files() == {"a": b"1"}


def test_a_dry_run_changes_nothing(project: Project) -> None:
    """It says what would be done."""
    project.put("orders/a", b"123")
    (outcome,) = project.catalog().sync(dry_run=True).outcomes

    assert outcome.plan is not None
    assert outcome.plan.download_bytes == 3
    assert not project.data.exists()
    assert not project.cache.exists()
    assert not project.state_file().exists()


def test_an_empty_dataset_may_be_allowed(project: Project) -> None:
    """Then its files go with the source's."""
    project.put("orders/a", b"1")
    project.catalog().sync()
    project.delete("orders/a")
    with pytest.raises(ObjectNotFoundError):
        project.catalog().sync()
    before = project.files()
    project.catalog(orders(allow_empty=True)).sync()

    assert before == {"a": b"1"}
    assert project.files() == {}


# --- all or nothing ---------------------------------------------------------------------------


def test_one_failing_object_leaves_the_folder_as_it_was(project: Project) -> None:
    """Old data stays until all of the new is verified; what did arrive is not fetched again."""
    project.put_all({"orders/a": b"1", "orders/b": b"2", "orders/c": b"3"})
    project.catalog().sync()
    before = touched(project.data)
    project.put_all({"orders/a": b"11", "orders/b": b"22"})
    project.delete("orders/c")
    project.storage.fail("read", ObjectNotFoundError("no"), match="orders/b", times=99)
    with pytest.raises(ObjectChangedError):
        project.catalog().sync(jobs=1)

    assert touched(project.data) == before
    assert project.debris() == []


@pytest.mark.parametrize("link", ["hardlink", "copy"])
def test_a_conflict_is_found_before_anything_changes(project: Project, link: str) -> None:
    """Even one that only comparing bytes can find."""
    now = project.put("orders/a", b"1")
    project.put("orders/z", b"zz")
    mine = project.data / "orders" / "z"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"me")
    os.utime(mine, ns=(now.mtime_ns + 10**9, now.mtime_ns + 10**9))
    catalog = project.catalog(cache=CacheSettings.model_validate({"link": link}))
    with pytest.raises(LocalFileConflictError):
        catalog.sync()

    assert project.files() == {"z": b"me"}
    assert project.debris() == []


@pytest.mark.parametrize("size", [2, 3], ids=["same size", "other size"])
def test_a_file_of_the_user_s_own_is_left_alone_and_named(project: Project, size: int) -> None:
    """Whatever its size: the message says which file, and what to do."""
    project.put("orders/a", b"11")
    mine = project.data / "orders" / "a"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"m" * size)
    with pytest.raises(LocalFileConflictError) as caught:
        project.catalog().sync()

    assert project.files() == {"a": b"m" * size}
    assert f"'{mine}'" in str(caught.value)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("move it away")


def test_a_user_s_other_files_in_the_folder_stay(project: Project) -> None:
    """Also when everything of ours around them goes."""
    project.put_all({"orders/deep/a": b"1", "orders/b": b"2"})
    project.catalog().sync()
    (project.data / "orders" / "deep" / "mine").write_bytes(b"mine")
    project.delete("orders/deep/a")
    project.catalog().sync()

    assert project.files() == {"deep/mine": b"mine", "b": b"2"}


def edit_in_place(path: Path) -> None:
    """Write through the file, as `>>` does."""
    path.chmod(0o644)
    with path.open("ab") as file:
        file.write(b" edited")


def edit_by_renaming(path: Path) -> None:
    """Replace the file, as editors do."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data + b" edited")


def edit_and_keep_size(path: Path) -> None:
    """Write other bytes of the same number, as root: the mode stays."""
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(b"e" * len(data))
    path.chmod(0o444)


@pytest.mark.parametrize("link", ["hardlink", "copy"])
@pytest.mark.parametrize("edit", [edit_in_place, edit_by_renaming, edit_and_keep_size])
@pytest.mark.parametrize("moved", [True, False], ids=["source changed", "source unchanged"])
def test_an_edited_file_is_never_overwritten(
    project: Project, link: str, edit: Callable[[Path], None], moved: bool
) -> None:
    """Also an edit through a hard link, which changes the stored object alike."""
    project.put("orders/a", b"1")
    cache = CacheSettings.model_validate({"link": link})
    project.catalog(cache=cache).sync()
    edit(project.data / "orders" / "a")
    edited = project.files()
    if moved:
        project.put("orders/a", b"2")
    with pytest.raises(LocalFileConflictError) as caught:
        project.catalog(cache=cache).sync()

    assert project.files() == edited
    assert str(caught.value) == (
        f"'{project.data}/orders/a' was edited since it was put there; nothing was changed"
    )


def test_an_object_spoilt_through_a_link_is_not_given_to_others(project: Project) -> None:
    """Another dataset of the same object fetches it afresh."""
    project.put("orders/a", b"1")
    link = CacheSettings(link="hardlink")
    project.catalog(cache=link).sync()
    edit_in_place(project.data / "orders" / "a")
    other = orders(name="other")
    (outcome,) = project.catalog(other, cache=link).sync().outcomes

    assert outcome.downloaded == 1
    assert project.files("other") == {"a": b"1"}


def test_an_edited_file_that_vanished_at_the_source_is_kept_and_told(project: Project) -> None:
    """It is the user's from then on, and nobody asks again."""
    project.put_all({"orders/a": b"1", "orders/b": b"2"})
    project.catalog().sync()
    edit_by_renaming(project.data / "orders" / "a")
    project.delete("orders/a")
    recorder = EventRecorder()
    (outcome,) = project.catalog().sync(report=recorder).outcomes
    (again,) = project.catalog().sync().outcomes

    assert project.files() == {"a": b"1 edited", "b": b"2"}
    assert outcome.warnings == ("'a' is gone at the source, but edited here; it stays",)
    assert [e.message for e in recorder.of(events.Warned)] == [
        "'a' is gone at the source, but edited here; it stays and is yours from now on"
    ]
    assert again.plan is not None
    assert again.plan.is_noop


# --- the path changes -----------------------------------------------------------------------


@pytest.mark.parametrize("link", ["hardlink", "copy"])
def test_files_move_with_the_dataset_s_path(project: Project, link: str) -> None:
    """Without the network; the old folder goes, if nothing else is in it."""
    project.put_all({"orders/a": b"1", "orders/deep/b": b"2"})
    cache = CacheSettings.model_validate({"link": link})
    project.catalog(cache=cache).sync()
    (outcome,) = project.catalog(orders(path="elsewhere/x"), cache=cache).sync().outcomes

    assert contents(project.root / "elsewhere") == {"x/a": b"1", "x/deep/b": b"2"}
    assert not (project.data / "orders").exists()
    assert (outcome.linked, outcome.downloaded) == (2, 0)


def test_an_edited_file_stays_at_the_old_path_and_is_told(project: Project) -> None:
    """With what else the user has there."""
    project.put_all({"orders/a": b"1", "orders/b": b"2"})
    project.catalog().sync()
    edit_by_renaming(project.data / "orders" / "a")
    recorder = EventRecorder()
    project.catalog(orders(path="elsewhere")).sync(report=recorder)

    assert project.files() == {"a": b"1 edited"}
    assert [e.message for e in recorder.of(events.Warned)] == [
        f"'{project.data}/orders/a' was edited here; it stays and is yours from now on"
    ]


def test_a_path_that_overlaps_the_old_one_keeps_what_is_there(project: Project) -> None:
    """The same absolute path may belong to the dataset before and after."""
    project.put_all({"orders/x/a": b"1", "orders/y": b"2"})
    project.catalog().sync()
    narrower = orders(source=f"{LAKE}/orders/x/**", path="data/orders/x")
    project.catalog(narrower).sync()

    assert project.files() == {"x/a": b"1"}
    assert project.catalog(narrower).status()[0].plan.is_noop  # type: ignore[union-attr]


# --- what gets lost -------------------------------------------------------------------------


def spoil_cut(path: Path) -> None:
    """Cut the state short, as a full disk does."""
    os.truncate(path, 20)


def spoil_format(path: Path) -> None:
    """Let the state be of another version of ours."""
    path.write_text(path.read_text().replace('"format":1', '"format":99'))


@pytest.mark.parametrize("spoil", [spoil_cut, spoil_format, Path.unlink])
@pytest.mark.parametrize("link", ["hardlink", "copy"])
def test_a_lost_state_is_made_again(
    project: Project, spoil: Callable[[Path], None], link: str
) -> None:
    """Nothing is fetched, nothing is in conflict, and files that changed meanwhile are replaced."""
    project.put_all({"orders/a": b"1", "orders/b": b"2"})
    cache = CacheSettings.model_validate({"link": link})
    project.catalog(cache=cache).sync()
    project.put("orders/b", b"3")
    spoil(project.state_file())
    (outcome,) = project.catalog(cache=cache).sync().outcomes

    assert project.files() == {"a": b"1", "b": b"3"}
    assert outcome.downloaded == 1
    assert project.catalog(cache=cache).sync().outcomes[0].hits == 2


def test_a_project_s_bookkeeping_may_be_deleted(project: Project) -> None:
    """`rm -r .datacachalog` costs one comparison."""
    project.put_all({"orders/a": b"1", "orders/b": b"2"})
    project.catalog().sync()
    before = touched(project.data)
    shutil.rmtree(project.root / ".datacachalog")
    (outcome,) = project.catalog().sync().outcomes

    assert outcome.downloaded == 0
    assert {k: v[:2] for k, v in touched(project.data).items()} == {
        k: v[:2] for k, v in before.items()
    }


def test_files_copied_by_hand_are_taken_over(project: Project) -> None:
    """With another time, in a project without state and cache: the same bytes are no conflict."""
    project.put("orders/a", b"1")
    there = project.data / "orders" / "a"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"1")
    project.catalog().sync()

    assert project.files() == {"a": b"1"}
    assert mode_of(there) & 0o222 == 0
    assert project.debris() == []


def test_deleted_data_comes_back_from_the_cache(project: Project) -> None:
    """Without a read, all of it or one file."""
    project.put_all({"orders/a": b"1", "orders/deep/b": b"2"})
    project.catalog().sync()
    shutil.rmtree(project.data)
    project.storage.calls.clear()
    (outcome,) = project.catalog().sync().outcomes

    assert outcome.linked == 2
    assert verbs(project.storage) == ["scan"]
    assert project.files() == {"a": b"1", "deep/b": b"2"}


def test_a_deleted_cache_costs_nothing_while_the_data_is_there(project: Project) -> None:
    """Hits need no store."""
    project.put("orders/a", b"1")
    project.catalog().sync()
    shutil.rmtree(project.cache)
    (outcome,) = project.catalog().sync().outcomes

    assert outcome.hits == 1
    assert project.storage.count("read") == 1


def test_a_cache_deleted_while_a_program_runs_is_made_again(project: Project) -> None:
    """The same catalog goes on."""
    project.put("orders/a", b"1")
    catalog = project.catalog()
    catalog.sync()
    shutil.rmtree(project.cache)
    project.put("orders/a", b"2")
    catalog.sync()

    assert project.files() == {"a": b"2"}


def test_an_object_evicted_between_fetching_and_placing_is_fetched_again(
    project: Project,
) -> None:
    """Another project's `dcl cache prune` may come at any time."""
    project.put("orders/a", b"1")
    catalog = project.catalog()

    def evict(event: events.Event) -> None:
        if isinstance(event, events.TransferFinished) and project.storage.count("read") == 1:
            catalog.store.clear()

    catalog.sync(report=evict)

    assert project.files() == {"a": b"1"}
    assert project.storage.count("read") == 2


# --- the source moves -------------------------------------------------------------------------


@pytest.fixture
def unversioned(project: Project) -> Project:
    """Give the project a bucket without history: what is overwritten is gone."""
    project.storage = MemoryStorage(keeps_history=False)
    return project


def test_an_object_that_changes_meanwhile_is_resolved_again(unversioned: Project) -> None:
    """The new bytes come, never a mixture; the user hears of it."""
    project = unversioned
    project.put("orders/a", b"old")
    project.storage.meanwhile("read", lambda: project.put("orders/a", b"new"))
    recorder = EventRecorder()
    project.catalog().sync(report=recorder)

    assert project.files() == {"a": b"new"}
    assert [e.message for e in recorder.of(events.Warned)] == [
        f"{LAKE}/orders/a changed since it was resolved; resolving again (1)"
    ]


@pytest.mark.parametrize(("changes", "fits"), [(3, True), (4, False)])
def test_a_source_that_keeps_changing_is_given_up_after_three_more_tries(
    unversioned: Project, changes: int, fits: bool
) -> None:
    """With an error that says so, and old data in place."""
    project = unversioned
    project.put("orders/a", b"0")
    project.catalog().sync()
    project.put("orders/a", b"1")
    new = iter([b"2", b"3", b"4", b"5"])
    project.storage.meanwhile("read", lambda: project.put("orders/a", next(new)), times=changes)
    error = None
    try:
        project.catalog().sync()
    except ObjectChangedError as exc:
        error = exc

    assert project.files() == {"a": b"4" if fits else b"0"}
    assert (error is None) is fits
    if error is not None:
        assert str(error) == (
            "'orders' keeps changing while it is fetched:"
            f" {LAKE}/orders/a changed since it was resolved"
        )
        assert error.hint == "run the command again when nobody writes to the source"


def test_an_object_deleted_meanwhile_is_not_missed(unversioned: Project) -> None:
    """The listing is asked again, and says that it is gone."""
    project = unversioned
    project.put_all({"orders/a": b"1", "orders/b": b"2"})
    project.storage.meanwhile("read", lambda: project.delete("orders/a"), match="orders/a")
    project.catalog().sync()

    assert project.files() == {"b": b"2"}


def test_a_single_object_deleted_meanwhile_is_an_error(unversioned: Project) -> None:
    """There is nothing to put in its place."""
    project = unversioned
    project.put("one.csv", b"1")
    project.storage.meanwhile("read", lambda: project.delete("one.csv"))
    with pytest.raises(ObjectNotFoundError):
        project.catalog(one()).sync()

    assert not project.data.exists()


def test_what_max_age_trusted_is_asked_again_once_it_proves_wrong(unversioned: Project) -> None:
    """Else the same stale answer would be tried four times."""
    project = unversioned
    project.put("orders/a", b"1")
    dataset = orders(max_age="1 hour")
    project.catalog(dataset).sync()
    shutil.rmtree(project.data)
    shutil.rmtree(project.cache)
    project.put("orders/a", b"2")
    project.catalog(dataset).sync()

    assert project.files() == {"a": b"2"}


# --- bytes --------------------------------------------------------------------------------------


def test_a_body_that_ends_early_by_its_own_account_is_asked_for_as_a_whole(
    project: Project,
) -> None:
    """Its beginning may be of other bytes: a page of an error, or the same bytes compressed."""
    project.put("orders/a", b"0123456789")
    project.storage.shorten("read", to=4)
    recorder = EventRecorder()
    project.catalog().sync(report=recorder)

    assert project.files() == {"a": b"0123456789"}
    assert [(c.start, c.stop) for c in project.storage.calls if c.verb == "read"] == [
        (0, 10),
        (0, 10),
    ]
    assert [str(e.error) for e in recorder.of(events.Retrying)] == [
        f"'{LAKE}/orders/a' ended after 4 of 10 bytes"
    ]


def test_a_body_that_stays_short_is_an_error(project: Project) -> None:
    """Never a short file."""
    project.put("orders/a", b"0123456789")
    project.storage.shorten("read", to=0, times=99)
    with pytest.raises(IntegrityError, match="ended after 0 of 10 bytes"):
        project.catalog().sync()

    assert not project.data.exists() or project.files() == {}
    assert project.stored() == []
    assert project.debris() == []


def test_a_connection_lost_within_a_body_is_taken_up_again(project: Project) -> None:
    """The hash is that of the whole."""
    project.put("orders/a", b"0123456789")
    project.storage.chunk = 3
    project.storage.fail("read", SourceUnreachableError("reset"), after=6, times=1)
    project.catalog().sync()
    (verdict,) = project.catalog().verify()

    assert project.files() == {"a": b"0123456789"}
    assert verdict.bad == ()


class TooMuch(MemoryStorage):
    """Ignores the range of a request, as some servers do on a retry: gives all, from the start."""

    def __init__(self, times: int) -> None:
        super().__init__(chunk=4)
        self.times = times

    def read(self, obj, start, stop):  # type: ignore[no-untyped-def] # as its base
        if start and self.times:
            self.times -= 1
            start, stop = 0, obj.size
        yield from super().read(obj, start, stop)


def test_a_body_that_is_too_long_is_thrown_away(project: Project) -> None:
    """All of its range: what came of it before the end cannot be trusted."""
    project.storage = TooMuch(times=1)
    project.put("orders/a", b"0123456789")
    project.storage.fail("read", SourceUnreachableError("reset"), after=4)
    recorder = EventRecorder()
    project.catalog().sync(report=recorder)
    (verdict,) = project.catalog().verify()

    assert project.files() == {"a": b"0123456789"}
    assert verdict.bad == ()
    assert sum(e.count for e in recorder.of(events.Transferred)) == 10


# --- checksums ----------------------------------------------------------------------------------

SUMS = {
    "md5": "900150983cd24fb0d6963f7d28e17f72",
    "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    "blake3": "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
}
"""Of `abc`, from RFC 1321, FIPS 180-4 and the reference implementation of BLAKE3."""


@pytest.mark.parametrize("algorithm", SUMS)
def test_the_right_checksum_passes(project: Project, algorithm: str) -> None:
    """Each against a published value."""
    project.put("one.csv", b"abc")
    project.catalog(one(checksum=f"{algorithm}:{SUMS[algorithm]}")).sync()

    assert project.files("one") == {"one.csv": b"abc"}


@pytest.mark.parametrize("algorithm", SUMS)
def test_a_wrong_checksum_is_an_error_and_not_tried_again(project: Project, algorithm: str) -> None:
    """Old data stays; the message has both sums."""
    project.put("one.csv", b"abc")
    project.catalog(one()).sync()
    project.put("one.csv", b"abd")
    project.storage.calls.clear()
    wanted = f"{algorithm}:{SUMS[algorithm]}"
    with pytest.raises(ChecksumMismatchError) as caught:
        project.catalog(one(checksum=wanted)).sync()

    assert project.files("one") == {"one.csv": b"abc"}
    assert project.storage.count("read") == 1
    assert str(caught.value).startswith(f"'{LAKE}/one.csv' has {algorithm}:")
    assert str(caught.value).endswith(f", but the catalog demands {wanted}")
    assert project.debris() == []


def test_checksums_by_path_hold_for_their_files_only(project: Project) -> None:
    """A glob names them one by one."""
    project.put_all({"orders/a": b"abc", "orders/b": b"anything"})
    good = orders(checksum={"a": f"md5:{SUMS['md5']}"})
    project.catalog(good).sync()
    bad = orders(checksum={"b": f"md5:{SUMS['md5']}"})
    with pytest.raises(ChecksumMismatchError, match="orders/b"):
        project.catalog(bad).sync()

    assert project.files() == {"a": b"abc", "b": b"anything"}


@pytest.mark.parametrize("deleted", [False, True], ids=["in place", "only in the cache"])
def test_a_checksum_added_later_is_enforced(project: Project, deleted: bool) -> None:
    """On files that are in place already, and on objects that are stored."""
    project.put("one.csv", b"abd")
    project.catalog(one()).sync()
    if deleted:
        shutil.rmtree(project.data)
    with pytest.raises(ChecksumMismatchError):
        project.catalog(one(checksum=f"sha256:{SUMS['sha256']}")).sync()


# --- without the network ----------------------------------------------------------------------


def test_offline_uses_what_is_in_place(project: Project) -> None:
    """And asks nothing at all."""
    project.put("orders/a", b"1")
    project.catalog().sync()
    project.storage.calls.clear()
    shutil.rmtree(project.data)
    project.catalog().sync(offline=True)

    assert project.files() == {"a": b"1"}
    assert project.storage.calls == []


def test_offline_says_what_it_lacks(project: Project) -> None:
    """What was never fetched, and what is no longer stored."""
    project.put("orders/a", b"1")
    with pytest.raises(OfflineError, match="'orders' was never fetched"):
        project.catalog().sync(offline=True)
    project.catalog().sync()
    shutil.rmtree(project.data)
    shutil.rmtree(project.cache)
    with pytest.raises(OfflineError, match="1 files of 'orders' are not in the cache"):
        project.catalog().sync(offline=True)

    assert project.storage.count("read") == 1


def test_offline_reads_nothing_even_if_the_store_is_wrong(project: Project) -> None:
    """A stored object that fails its checksum would have to be fetched."""
    project.put("one.csv", b"abd")
    project.catalog(one()).sync()
    shutil.rmtree(project.data)
    with pytest.raises(OfflineError):
        project.catalog(one(checksum=f"md5:{SUMS['md5']}")).sync(offline=True)

    assert project.storage.count("read") == 1


def test_a_source_that_cannot_be_reached_falls_back_with_a_warning(project: Project) -> None:
    """To what is in place, and to what is in the cache."""
    project.put("orders/a", b"1")
    project.catalog().sync()
    shutil.rmtree(project.data)
    project.storage.fail("scan", DOWN, times=99)
    (outcome,) = project.catalog().sync().outcomes

    assert project.files() == {"a": b"1"}
    assert outcome.warnings == (
        "the source cannot be reached, using what is in place: the server is down",
    )


@pytest.mark.parametrize(
    "options",
    [
        {"on_stale": "error"},
        {"as_of": "2024-01-02"},
        {"source": f"{LAKE}/orders/*"},
        {"exclude": ["b"]},
    ],
    ids=["on_stale", "pin", "source", "exclude"],
)
def test_a_fallback_never_stands_for_something_else(
    project: Project, options: dict[str, object]
) -> None:
    """`on_stale: error` forbids it, and what is in place answers only for what it was asked."""
    project.put("orders/a", b"1")
    project.catalog().sync()
    project.storage.fail("scan", DOWN, times=99)
    project.storage.fail("versions", DOWN, times=99)
    with pytest.raises(SourceUnreachableError):
        project.catalog(orders(**options)).sync()


def test_a_refused_source_is_no_reason_to_fall_back(project: Project) -> None:
    """Credentials that expired must not pass for success."""
    project.put("orders/a", b"1")
    project.catalog().sync()
    project.storage.fail("scan", ObjectNotFoundError("the bucket is gone"))
    with pytest.raises(ObjectNotFoundError):
        project.catalog().sync()


def test_max_age_trusts_the_last_check(project: Project) -> None:
    """For that long; `refresh` asks all the same."""
    project.put("orders/a", b"1")
    dataset = orders(max_age="10 minutes")
    project.catalog(dataset).sync()
    project.put("orders/a", b"2")
    project.storage.calls.clear()
    project.catalog(dataset).sync()
    trusted = (project.files(), list(project.storage.calls))
    project.catalog(dataset).sync(refresh=True)

    assert trusted == ({"a": b"1"}, [])
    assert project.files() == {"a": b"2"}


def test_max_age_runs_from_the_last_check_not_the_last_change(project: Project) -> None:
    """A sync that found nothing new counts."""
    project.put("orders/a", b"1")
    dataset = orders(max_age="10 minutes")
    project.catalog(dataset).sync()
    state = project.state_file()
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    os.utime(state, (long_ago.timestamp(), long_ago.timestamp()))
    project.storage.calls.clear()
    project.catalog(dataset).sync()
    project.catalog(dataset).sync()

    assert verbs(project.storage) == ["scan"]


# --- invalidation ---------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"max_age": "1 hour"}], ids=["plain", "max_age"])
def test_what_was_invalidated_is_fetched_again(
    project: Project, options: dict[str, object]
) -> None:
    """Files in place stay until then."""
    project.put_all({"orders/a": b"1", "orders/b": b"2"})
    catalog = project.catalog(orders(**options))
    catalog.sync()
    count = catalog.invalidate("orders")
    in_between = project.files()
    (outcome,) = catalog.sync().outcomes

    assert (count, outcome.downloaded) == (2, 2)
    assert in_between == project.files() == {"a": b"1", "b": b"2"}
    assert catalog.sync().outcomes[0].hits == 2


def test_a_pinned_version_can_be_invalidated(project: Project) -> None:
    """Although its answer is known without asking."""
    version = project.put("one.csv", b"1").version_id
    project.put("one.csv", b"2")
    catalog = project.catalog(one(version_id=version))
    catalog.sync()
    catalog.invalidate("one")
    (outcome,) = catalog.sync().outcomes

    assert outcome.downloaded == 1
    assert project.files("one") == {"one.csv": b"1"}


def test_a_pattern_invalidates_what_it_matches(project: Project) -> None:
    """The rest stays linked."""
    project.put_all({"orders/a.csv": b"1", "orders/b.txt": b"2", "orders/c/d.csv": b"3"})
    catalog = project.catalog()
    catalog.sync()

    assert catalog.invalidate_glob("orders", "*.csv") == 2
    assert catalog.invalidate_glob("orders", "nothing") == 0
    assert catalog.sync().outcomes[0].downloaded == 2


def test_invalidating_what_was_never_fetched_is_nothing(project: Project) -> None:
    """And no error."""
    assert project.catalog().invalidate("orders") == 0


def test_an_invalidated_single_object_can_still_be_pushed(project: Project) -> None:
    """What was last fetched is still known."""
    project.put("one.csv", b"1")
    catalog = project.catalog(one(push=True))
    catalog.sync()
    catalog.invalidate("one")
    new = project.root / "new.csv"
    new.write_bytes(b"2")
    catalog.push("one", new)

    assert project.files("one") == {"one.csv": b"2"}


# --- troubles of the disk -----------------------------------------------------------------------


def test_a_cache_that_cannot_be_written_is_a_clear_error(project: Project) -> None:
    """It names the folder and a way out."""
    project.put("orders/a", b"1")
    project.cache.touch()
    with pytest.raises(CacheError) as caught:
        project.catalog().sync()

    assert str(caught.value).startswith(f"the cache folder '{project.cache}' cannot be written")
    assert project.storage.count("read") == 0


def test_a_data_folder_that_cannot_be_made_is_a_clear_error(project: Project) -> None:
    """`data` is a file of the user's."""
    project.put("orders/a", b"1")
    catalog = project.catalog()
    project.data.write_bytes(b"mine")
    with pytest.raises(LocalFileConflictError) as caught:
        catalog.sync()

    assert str(caught.value) == (
        f"'{project.data}' is a file where the dataset needs a folder; it was left alone"
    )
    assert project.data.read_bytes() == b"mine"
