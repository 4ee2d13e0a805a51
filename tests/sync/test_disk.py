"""What is ours without a record: links to stored objects and copies of them, not edits."""

import os
from pathlib import Path

import pytest

from datacachalog.cache.files import FileStat, LinkKind
from datacachalog.cache.store import Store
from datacachalog.model import RemoteObject
from datacachalog.sync.disk import Disk
from datacachalog.sync.placement import Folder
from tests.cache.test_store import put
from tests.projects import Project

KINDS = {"hardlink": (LinkKind.HARDLINK,), "copy": (LinkKind.COPY,)}


def disk_of(project: Project, kind: str, **options: bool) -> Disk:
    """Return the disk of one dataset."""
    folder = Folder(str(project.base / "set"), KINDS[kind], 0o444)
    return Disk(folder, Store(project.cache), "memory", **options)


def placed(project: Project, kind: str, **options: bool) -> tuple[Disk, RemoteObject]:
    """Store an object and place it at `a`, without any record."""
    disk = disk_of(project, kind, **options)
    obj = project.put("orders/a", b"abc")
    path = put(disk.store, b"abc", obj.fingerprint("memory"), obj.mtime_ns)
    staged = disk.folder.stage(str(path), "a", over=None, mtime_ns=obj.mtime_ns)
    disk.folder.publish(staged)
    return disk, obj


def found(disk: Disk) -> FileStat:
    """Return what lies at `a`."""
    stat = disk.look("a")
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
    path = Path(disk.folder.path("a"))
    path.chmod(0o644)
    path.write_bytes(b"xyz")

    assert not disk.is_ours("a", found(disk), obj)
    assert not disk.is_ours("a", found(disk), None)


def test_an_edit_through_a_hard_link_with_a_forged_time_is_not_ours(project: Project) -> None:
    """The state says what time the object has; any other means it was written to."""
    disk, obj = placed(project, "hardlink")
    path = Path(disk.folder.path("a"))
    path.chmod(0o644)
    path.write_bytes(b"xyz")
    path.chmod(0o444)
    os.utime(path, (5, 5))

    assert not disk.is_ours("a", found(disk), obj)


def test_the_user_s_own_copy_of_a_stored_object_is_no_loss(project: Project) -> None:
    """Its bytes are in the store; without the time it is not even recognised."""
    disk, _ = placed(project, "copy")
    path = Path(disk.folder.path("a"))
    os.utime(path, (5, 5))

    assert not disk.is_ours("a", found(disk), None)


@pytest.mark.parametrize("what", ["folder", "link"])
def test_what_is_no_file_is_never_ours(project: Project, what: str) -> None:
    """Keys become files."""
    disk, _ = placed(project, "copy")
    path = Path(disk.folder.path("a"))
    path.rename(path.with_name("b"))
    if what == "folder":
        path.mkdir()
    else:
        path.symlink_to("b")

    assert not disk.is_ours("a", found(disk), None)


def test_what_was_pushed_is_accepted_for_as_long_as_that_takes(project: Project) -> None:
    """The very file that was pushed is in the way of its own object."""
    disk = disk_of(project, "copy")
    path = Path(disk.folder.path("a"))
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
    path = Path(disk.folder.path("a"))
    path.parent.mkdir()
    path.write_bytes(b"abc")
    obj = project.put("orders/a", b"abc")
    os.utime(path, ns=(0, obj.mtime_ns))
    before = disk.is_ours("a", found(disk), None)
    put(disk.store, b"abc", obj.fingerprint("memory"), obj.mtime_ns)
    cached = disk.is_ours("a", found(disk), None)
    disk.look_again()

    assert (before, cached, disk.is_ours("a", found(disk), None)) == (False, False, True)
