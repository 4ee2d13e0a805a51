"""Placing files: the three kinds of link, and the care for what is not ours."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from datacachalog.cache.files import FileStat, LinkKind
from datacachalog.cache.store import Store
from datacachalog.errors import CacheError, LocalFileConflictError
from datacachalog.model import RemoteObject
from datacachalog.sync.placement import MAKERS, Disk, Folder, SourceVanishedError
from tests.cache.test_store import put
from tests.projects import Project, contents, mode_of

MTIME = 1_700_000_000_000_000_000
COPY = (LinkKind.COPY,)
HARDLINK = (LinkKind.HARDLINK, LinkKind.COPY)
ALL = (LinkKind.REFLINK, LinkKind.HARDLINK, LinkKind.COPY)


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Give a stored object."""
    return stored(tmp_path, b"new bytes")


def stored(folder: Path, data: bytes, name: str = "object") -> str:
    """Make a file as the store has them."""
    path = folder / name
    path.write_bytes(data)
    path.chmod(0o444)
    os.utime(path, ns=(MTIME, MTIME))
    return str(path)


def folder_in(
    tmp_path: Path,
    kinds: tuple[LinkKind, ...] = HARDLINK,
    makers: Mapping[LinkKind, Callable[[str, str], None]] = MappingProxyType({}),
) -> Folder:
    """Give a dataset's folder that does not exist yet."""
    return Folder(f"{tmp_path}/data/set", kinds, 0o444, makers={**MAKERS, **makers})


def place(
    folder: Folder, source: str, relpath: str = "a/b", over: FileStat | None = None
) -> FileStat:
    """Stage and publish at once."""
    return folder.publish(folder.stage(source, relpath, over=over, mtime_ns=MTIME))


class Maker:
    """Makes links as `really` does, or fails as a file system does; `only` for one source."""

    def __init__(
        self,
        really: Callable[[str, str], object] = shutil.copyfile,
        *,
        error: int = 0,
        only: str | None = None,
    ) -> None:
        self.calls: list[str] = []
        self._really, self._error, self._only = really, error, only

    def __call__(self, source: str, target: str) -> None:
        """Make `target` from `source`."""
        self.calls.append(target)
        if self._error and self._only in (None, source):
            raise OSError(self._error, os.strerror(self._error))
        self._really(source, target)


def all_of(folder: Folder) -> dict[str, bytes]:
    """Return everything in the folder."""
    return contents(Path(folder.root))


# --- kinds of link ------------------------------------------------------------------------


def test_a_hard_link_is_the_stored_file_itself(tmp_path: Path, source: str) -> None:
    """It costs no bytes, and brings mode and time along."""
    folder = folder_in(tmp_path)
    place(folder, source)
    placed = Path(folder.path("a/b"))

    assert placed.samefile(source)
    assert mode_of(placed) == 0o444


def test_a_copy_is_a_file_of_its_own_with_mode_and_time(tmp_path: Path, source: str) -> None:
    """What is done to it does not reach the store."""
    folder = folder_in(tmp_path, COPY)
    st = place(folder, source)
    placed = Path(folder.path("a/b"))

    assert not placed.samefile(source)
    assert placed.read_bytes() == b"new bytes"
    assert mode_of(placed) == 0o444
    assert st == FileStat(9, MTIME, placed.stat().st_ino)


def test_a_reflink_is_preferred_where_the_file_system_can(tmp_path: Path, source: str) -> None:
    """It costs no bytes either, and is a file of its own, with mode and time."""
    reflink = Maker(shutil.copyfile)
    folder = folder_in(tmp_path, ALL, {LinkKind.REFLINK: reflink})
    place(folder, source)
    place(folder, source, "c")

    assert len(reflink.calls) == 2
    assert mode_of(Path(folder.path("c"))) == 0o444
    assert Path(folder.path("c")).stat().st_mtime_ns == MTIME


@pytest.mark.parametrize(
    "code",
    [errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EBADF, errno.EPERM],
    ids=errno.errorcode.get,
)
def test_where_there_are_no_reflinks_hard_links_serve(
    tmp_path: Path, source: str, code: int
) -> None:
    """The folder finds out with its first file, once."""
    reflink = Maker(error=code)
    folder = folder_in(tmp_path, ALL, {LinkKind.REFLINK: reflink})
    place(folder, source)
    place(folder, source, "c")

    assert Path(folder.path("c")).samefile(source)
    assert len(reflink.calls) == 1


@pytest.mark.parametrize(
    "code", [errno.EXDEV, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP], ids=errno.errorcode.get
)
def test_where_hard_links_are_refused_files_are_copied(
    tmp_path: Path, source: str, code: int
) -> None:
    """Another file system, another user's file, or none of that kind; one refusal is enough."""
    link = Maker(error=code)
    folder = folder_in(tmp_path, HARDLINK, {LinkKind.HARDLINK: link})
    place(folder, source)
    place(folder, source, "c")
    folder.sweep()

    assert all_of(folder) == {"a/b": b"new bytes", "c": b"new bytes"}
    assert not Path(folder.path("c")).samefile(source)
    assert len(link.calls) == 1


def test_an_object_with_all_its_links_is_copied_and_others_are_not(
    tmp_path: Path, source: str
) -> None:
    """A file system's limit on links is one object's trouble, not the folder's."""
    other = stored(tmp_path, b"other", "other")
    link = Maker(os.link, error=errno.EMLINK, only=source)
    folder = folder_in(tmp_path, HARDLINK, {LinkKind.HARDLINK: link})
    place(folder, other, "x")
    place(folder, source)
    place(folder, other, "y")

    assert Path(folder.path("a/b")).read_bytes() == b"new bytes"
    assert Path(folder.path("y")).samefile(other)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT], ids=errno.errorcode.get)
@pytest.mark.parametrize("kinds", [ALL, HARDLINK, COPY], ids=["all", "hardlink", "copy"])
def test_other_troubles_are_errors_not_reasons_to_try_another_kind(
    tmp_path: Path, source: str, kinds: tuple[LinkKind, ...], code: int
) -> None:
    """A full disk is not better at copying; and nothing stays behind."""
    folder = folder_in(tmp_path, kinds, {kinds[0]: Maker(error=code)})
    with pytest.raises(CacheError) as caught:
        place(folder, source)
    folder.sweep()

    assert str(caught.value) == (
        f"'{tmp_path}/data/set/a/b' cannot be put in place: {os.strerror(code)}"
    )
    assert not os.path.exists(folder.root)


def test_another_file_system_gets_copies(tmp_path: Path, source: str) -> None:
    """For real, where there is one to try."""
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("no second file system here")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as base:
        folder = Folder(f"{base}/set", ALL, 0o444)
        place(folder, source)
        folder.sweep()

        assert all_of(folder) == {"a/b": b"new bytes"}


# --- what is not ours ---------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [HARDLINK, COPY], ids=["hardlink", "copy"])
@pytest.mark.parametrize("linked", [False, True], ids=["first", "later"])
def test_a_file_of_the_user_s_is_never_overwritten(
    tmp_path: Path, source: str, kinds: tuple[LinkKind, ...], linked: bool
) -> None:
    """It is an error that names it, before anything is made ready."""
    folder = folder_in(tmp_path, kinds)
    if linked:
        place(folder, source, "x")
    mine = Path(folder.path("a/b"))
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine!!!!!")
    with pytest.raises(LocalFileConflictError) as caught:
        folder.stage(source, "a/b", over=None, mtime_ns=MTIME)

    assert mine.read_bytes() == b"mine!!!!!"
    assert str(caught.value) == (f"'{mine}' is not a file that `dcl` put there; it was left alone")


@pytest.mark.parametrize("kinds", [HARDLINK, COPY], ids=["hardlink", "copy"])
@pytest.mark.parametrize("linked", [False, True], ids=["first", "later"])
def test_a_file_that_appears_at_the_last_moment_is_not_overwritten(
    tmp_path: Path, source: str, kinds: tuple[LinkKind, ...], linked: bool
) -> None:
    """A new file is created exclusively."""
    folder = folder_in(tmp_path, kinds)
    if linked:
        place(folder, source, "x")
    staged = folder.stage(source, "a/b", over=None, mtime_ns=MTIME)
    mine = Path(folder.path("a/b"))
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(LocalFileConflictError):
        folder.publish(staged)
    folder.sweep()

    assert mine.read_bytes() == b"mine"
    assert not os.path.exists(f"{folder.root}/.dcl-tmp")


def test_our_old_file_that_is_edited_at_the_last_moment_is_not_overwritten(
    tmp_path: Path, source: str
) -> None:
    """It is looked at again right before it is replaced."""
    folder = folder_in(tmp_path)
    over = place(folder, stored(tmp_path, b"old", "old"))
    staged = folder.stage(source, "a/b", over=over, mtime_ns=MTIME)
    mine = Path(folder.path("a/b"))
    mine.unlink()
    mine.write_bytes(b"edited")
    with pytest.raises(LocalFileConflictError):
        folder.publish(staged)

    assert mine.read_bytes() == b"edited"


def test_our_old_file_is_replaced(tmp_path: Path, source: str) -> None:
    """In one step: a reader has the old bytes or the new."""
    folder = folder_in(tmp_path)
    old = stored(tmp_path, b"old", "old")
    over = place(folder, old)
    place(folder, source, over=over)

    assert Path(folder.path("a/b")).read_bytes() == b"new bytes"
    assert Path(old).read_bytes() == b"old"


def test_our_old_file_that_is_gone_is_put_back(tmp_path: Path, source: str) -> None:
    """Deleted by the user between plan and placing."""
    folder = folder_in(tmp_path)
    over = place(folder, stored(tmp_path, b"old", "old"))
    os.unlink(folder.path("a/b"))
    place(folder, source, over=over)

    assert all_of(folder)["a/b"] == b"new bytes"


@pytest.mark.parametrize("kinds", [HARDLINK, COPY], ids=["hardlink", "copy"])
def test_the_same_bytes_are_taken_over(
    tmp_path: Path, source: str, kinds: tuple[LinkKind, ...]
) -> None:
    """Another run was first, or the user copied them: mode and time become ours."""
    folder = folder_in(tmp_path, kinds)
    there = Path(folder.path("a/b"))
    there.parent.mkdir(parents=True)
    there.write_bytes(b"new bytes")
    st = place(folder, source)

    assert there.read_bytes() == b"new bytes"
    assert mode_of(there) == 0o444
    assert st.mtime_ns == there.stat().st_mtime_ns == MTIME


def test_a_file_that_is_there_with_bytes_and_time_is_left_as_it_is(
    tmp_path: Path, source: str
) -> None:
    """A lost state costs no copying: only the mode is set right."""
    folder = folder_in(tmp_path, COPY)
    inode = place(folder, source).inode
    Path(folder.path("a/b")).chmod(0o644)

    assert place(folder, source).inode == inode
    assert mode_of(Path(folder.path("a/b"))) == 0o444


@pytest.mark.parametrize("what", ["folder", "link"])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, source: str, what: str) -> None:
    """A folder that holds something, or a symbolic link of the user's."""
    folder = folder_in(tmp_path)
    path = Path(folder.path("a/b"))
    path.parent.mkdir(parents=True)
    if what == "folder":
        path.mkdir()
        (path / "mine").write_bytes(b"mine")
    else:
        path.symlink_to(stored(tmp_path, b"mine", "target"))
    with pytest.raises(LocalFileConflictError):
        place(folder, source)

    assert path.is_symlink() or (path / "mine").read_bytes() == b"mine"


def test_an_empty_folder_gives_way(tmp_path: Path, source: str) -> None:
    """A killed run may have left it; nobody's file is in it."""
    folder = folder_in(tmp_path)
    os.makedirs(folder.path("a/b/c/d"))
    place(folder, source)

    assert all_of(folder)["a/b"] == b"new bytes"


def test_a_file_where_a_folder_is_needed_is_named(tmp_path: Path, source: str) -> None:
    """However deep the folder would be."""
    folder = folder_in(tmp_path)
    os.makedirs(folder.root)
    Path(folder.path("a")).write_bytes(b"mine")
    staged = folder.stage(source, "a/b/c", over=None, mtime_ns=MTIME)
    with pytest.raises(LocalFileConflictError) as caught:
        folder.publish(staged)

    assert str(caught.value) == (
        f"'{folder.root}/a' is a file where the dataset needs a folder; it was left alone"
    )


# --- company ------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [HARDLINK, COPY], ids=["hardlink", "copy"])
def test_folders_that_others_remove_are_made_again(
    tmp_path: Path, source: str, kinds: tuple[LinkKind, ...]
) -> None:
    """Another run sweeps empty folders at any time."""
    folder = folder_in(tmp_path, kinds)
    place(folder, source, "a/x")
    staged = folder.stage(source, "a/b", over=None, mtime_ns=MTIME)
    os.unlink(folder.path("a/x"))
    os.rmdir(folder.path("a"))
    folder.publish(staged)
    shutil.rmtree(folder.root)
    place(folder, source, "a/b")

    assert all_of(folder)["a/b"] == b"new bytes"


@pytest.mark.parametrize("kinds", [HARDLINK, COPY], ids=["hardlink", "copy"])
def test_a_stored_object_that_vanished_is_told_apart(
    tmp_path: Path, source: str, kinds: tuple[LinkKind, ...]
) -> None:
    """The caller can fetch it again."""
    folder = folder_in(tmp_path, kinds)
    place(folder, source, "x")
    os.unlink(source)
    with pytest.raises(SourceVanishedError):
        place(folder, source)


def test_nothing_is_visible_before_publishing(tmp_path: Path, source: str) -> None:
    """Staging happens aside, and can be undone."""
    folder = folder_in(tmp_path, COPY)
    staged = folder.stage(source, "a/b", over=None, mtime_ns=MTIME)
    before = os.listdir(folder.root)
    folder.discard(staged)
    folder.sweep()

    assert before == [".dcl-tmp"]
    assert not os.path.exists(folder.root)


def test_a_sweep_leaves_other_runs_alone(tmp_path: Path, source: str) -> None:
    """What a living process has staged stays; what a dead one left goes."""
    folder = folder_in(tmp_path, COPY)
    staged = folder.stage(source, "a/b", over=None, mtime_ns=MTIME)
    assert staged.temp is not None
    dead = staged.temp.replace(f"-{os.getpid()}-", "-999999999-")
    shutil.copy(staged.temp, dead)
    folder.sweep()

    assert os.listdir(f"{folder.root}/.dcl-tmp") == [os.path.basename(staged.temp)]


def test_a_sweep_never_removes_what_a_key_put_there(tmp_path: Path, source: str) -> None:
    """A source may hold a folder of that name, with files as old as can be."""
    folder = folder_in(tmp_path)
    place(folder, source, ".dcl-tmp/x.csv")
    folder.sweep()

    assert all_of(folder) == {".dcl-tmp/x.csv": b"new bytes"}


def test_giving_up_removes_what_is_staged(tmp_path: Path, source: str) -> None:
    """After Ctrl-C, whatever the workers were doing."""
    folder = folder_in(tmp_path, COPY)
    folder.stage(source, "a/b", over=None, mtime_ns=MTIME)
    folder.stage(source, "c", over=None, mtime_ns=MTIME)
    folder.give_up()

    assert not os.path.exists(folder.root)


def test_a_user_s_empty_folder_is_not_removed(tmp_path: Path, source: str) -> None:
    """Only one that was made in vain goes."""
    folder = folder_in(tmp_path, COPY)
    os.makedirs(folder.root)
    folder.discard(folder.stage(source, "a/b", over=None, mtime_ns=MTIME))
    folder.sweep()

    assert os.listdir(folder.root) == []


# --- taking away --------------------------------------------------------------------------


def test_a_dropped_file_takes_its_empty_folders_along(tmp_path: Path, source: str) -> None:
    """Up to the dataset's own."""
    folder = folder_in(tmp_path)
    st = place(folder, source, "a/b/c/d")
    place(folder, source, "a/x")

    assert folder.drop("a/b/c/d", size=st.size, mtime_ns=st.mtime_ns)
    assert sorted(os.listdir(folder.path("a"))) == ["x"]


@pytest.mark.parametrize("what", ["edited", "gone", "a folder"])
def test_only_what_is_as_it_was_is_dropped(tmp_path: Path, source: str, what: str) -> None:
    """Anything else is the user's."""
    folder = folder_in(tmp_path)
    st = place(folder, source, "a")
    path = Path(folder.path("a"))
    path.unlink()
    if what == "edited":
        path.write_bytes(b"edited")
    elif what == "a folder":
        path.mkdir()

    assert not folder.drop("a", size=st.size, mtime_ns=st.mtime_ns)
    assert path.exists() is (what != "gone")


def test_the_blocker_is_the_nearest_thing_that_is_no_folder(tmp_path: Path) -> None:
    """Or None where folders are, or can be made."""
    folder = folder_in(tmp_path)
    os.makedirs(folder.path("d/e"))
    Path(folder.path("d/f")).touch()

    assert folder.blocker("d/f/g/h/i") == "d/f"
    assert folder.blocker("d/e/x") is None
    assert folder.blocker("new/x") is None
    assert folder.blocker("x") is None


@pytest.mark.parametrize(
    ("known", "expected"),
    [({"d/a", "d/e/b"}, True), ({"d/a"}, False), ({"d/a", "d/e/b", "x"}, True), (set(), False)],
    ids=["all", "not all", "more", "none"],
)
def test_a_folder_is_known_to_hold_only_what_is_listed(
    tmp_path: Path, known: set[str], expected: bool
) -> None:
    """At any depth; then a file can take its place once they are gone."""
    folder = folder_in(tmp_path)
    os.makedirs(folder.path("d/e"))
    Path(folder.path("d/a")).touch()
    Path(folder.path("d/e/b")).touch()

    assert folder.holds_only("d", known) is expected


def test_a_linked_folder_is_not_looked_into(tmp_path: Path) -> None:
    """It is the user's, and its files are elsewhere."""
    folder = folder_in(tmp_path)
    os.makedirs(folder.root)
    (tmp_path / "elsewhere").mkdir()
    Path(folder.path("d")).symlink_to(tmp_path / "elsewhere")

    assert not folder.holds_only("d", set())


# --- what is ours without a record ---------------------------------------------------------

KINDS = {"hardlink": (LinkKind.HARDLINK,), "copy": (LinkKind.COPY,)}


def disk_of(project: Project, kind: str, **options: bool) -> Disk:
    """Return the disk of one dataset."""
    store = Store(project.cache)
    root = str(project.base / "set")
    return Disk(root, KINDS[kind], 0o444, store=store, endpoint="memory", **options)


def placed(project: Project, kind: str, **options: bool) -> tuple[Disk, RemoteObject]:
    """Store an object and place it at `a`, without any record."""
    disk = disk_of(project, kind, **options)
    obj = project.put("orders/a", b"abc")
    path = put(disk.store, b"abc", obj.fingerprint("memory"), obj.mtime_ns)
    staged = disk.stage(str(path), "a", over=None, mtime_ns=obj.mtime_ns)
    disk.publish(staged)
    return disk, obj


def found(disk: Disk) -> FileStat:
    """Return what lies at `a`."""
    stat = disk.stat("a")
    assert stat is not None
    return stat


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_object_in_place_is_ours(project: Project, kind: str) -> None:
    """Whatever the state knows of it."""
    disk, _ = placed(project, kind)

    assert disk.is_ours("a", found(disk), None)
    assert disk.is_ours("a", found(disk), project.put("orders/a", b"newer"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_edited_file_is_not_ours(project: Project, kind: str) -> None:
    """Even if the edit went through a hard link into the store."""
    disk, obj = placed(project, kind)
    path = Path(disk.path("a"))
    path.chmod(0o644)
    path.write_bytes(b"xyz")

    assert not disk.is_ours("a", found(disk), obj)
    assert not disk.is_ours("a", found(disk), None)


def test_an_edit_through_a_hard_link_with_a_forged_time_is_not_ours(project: Project) -> None:
    """The state says what time the object has; any other means it was written to."""
    disk, obj = placed(project, "hardlink")
    path = Path(disk.path("a"))
    path.chmod(0o644)
    path.write_bytes(b"xyz")
    path.chmod(0o444)
    os.utime(path, (5, 5))

    assert not disk.is_ours("a", found(disk), obj)


def test_the_user_s_own_copy_of_a_stored_object_is_no_loss(project: Project) -> None:
    """Its bytes are in the store; without the time it is not even recognised."""
    disk, _ = placed(project, "copy")
    path = Path(disk.path("a"))
    os.utime(path, (5, 5))

    assert not disk.is_ours("a", found(disk), None)


@pytest.mark.parametrize("what", ["folder", "link"])
def test_what_is_no_file_is_never_ours(project: Project, what: str) -> None:
    """Keys become files."""
    disk, _ = placed(project, "copy")
    path = Path(disk.path("a"))
    path.rename(path.with_name("b"))
    if what == "folder":
        path.mkdir()
    else:
        path.symlink_to("b")

    assert not disk.is_ours("a", found(disk), None)


def test_what_was_pushed_is_accepted_for_as_long_as_that_takes(project: Project) -> None:
    """The very file that was pushed is in the way of its own object."""
    disk = disk_of(project, "copy")
    path = Path(disk.path("a"))
    path.parent.mkdir()
    path.write_bytes(b"pushed")
    snapshot = project.base / "snapshot"
    snapshot.write_bytes(b"pushed")
    with disk.accepting(str(snapshot)):
        during = disk.is_ours("a", found(disk), None)

    assert during
    assert not disk.is_ours("a", found(disk), None)


def test_in_a_folder_of_the_user_s_nothing_is_ours(project: Project) -> None:
    """What `dcl get` put there was the user's at once."""
    disk, _ = placed(project, "copy", owns_folder=False)

    assert not disk.is_ours("a", found(disk), None)


def test_what_another_run_stored_is_seen_after_looking_again(project: Project) -> None:
    """The store is listed once, until told otherwise."""
    disk = disk_of(project, "copy")
    path = Path(disk.path("a"))
    path.parent.mkdir()
    path.write_bytes(b"abc")
    obj = project.put("orders/a", b"abc")
    os.utime(path, ns=(0, obj.mtime_ns))
    before = disk.is_ours("a", found(disk), None)
    put(disk.store, b"abc", obj.fingerprint("memory"), obj.mtime_ns)
    cached = disk.is_ours("a", found(disk), None)
    disk.refresh()

    assert (before, cached, disk.is_ours("a", found(disk), None)) == (False, False, True)
