"""Local files: exact identity, links, and folders that are not entered in vain."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from datacachalog.errors import AccessDeniedError, ObjectChangedError, ObjectNotFoundError
from datacachalog.storage import Precondition
from datacachalog.storage.local import LocalStorage


def paths(pattern: str) -> list[str]:
    """Return the relpaths that `pattern` gives."""
    return sorted(obj.relpath for obj in LocalStorage().scan(pattern))


@pytest.mark.parametrize("spelling", [str, lambda path: f"file://{path}"], ids=["path", "uri"])
def test_paths_and_uris(tmp_path: Path, spelling: Callable[[Path], str]) -> None:
    """A path and its `file://` URI name the same object."""
    (tmp_path / "a").write_bytes(b"x")
    (obj,) = LocalStorage().scan(spelling(tmp_path / "a"))

    assert obj.uri == f"file://{tmp_path}/a"


def test_identity_is_exact_to_the_nanosecond(tmp_path: Path) -> None:
    """Two states one nanosecond apart, of one size and inode, are two objects."""
    path = tmp_path / "a"
    path.write_bytes(b"x")
    os.utime(path, ns=(0, 1_700_000_000_123_456_788))
    (before,) = LocalStorage().scan(str(path))
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    (after,) = LocalStorage().scan(str(path))

    assert not before.is_same_as(after)
    assert after.mtime_ns == 1_700_000_000_123_456_000


def test_a_change_while_reading_is_noticed(tmp_path: Path) -> None:
    """A file written in place between two blocks is not handed over as one."""
    path = tmp_path / "a"
    path.write_bytes(bytes(9 << 20))
    (obj,) = LocalStorage().scan(str(path))
    blocks = LocalStorage().read(obj, 0, obj.size)
    next(blocks)
    with open(path, "r+b") as file:
        file.write(b"changed")
    os.utime(path, ns=(0, 0))

    with pytest.raises(ObjectChangedError):
        list(blocks)


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    """What a link leads to is found under the link's name."""
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "real" / "sub" / "a").write_bytes(b"x")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "real")
    (tmp_path / "in" / "file").symlink_to(tmp_path / "real" / "sub" / "a")
    (tmp_path / "in" / "broken").symlink_to(tmp_path / "nowhere")

    assert paths(f"{tmp_path}/in/**") == ["file", "folder/sub/a"]


def test_circles_end(tmp_path: Path) -> None:
    """A link to a folder above is entered never twice."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"x")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a")

    assert paths(f"{tmp_path}/**") == ["a/x"]


def test_folders_that_cannot_match_are_not_entered(tmp_path: Path) -> None:
    """A pattern of fixed depth does not even look into what it excludes."""
    (tmp_path / "y=1").mkdir()
    (tmp_path / "y=1" / "a.csv").write_bytes(b"x")
    (tmp_path / "y=1" / "deep").mkdir(mode=0o000)
    (tmp_path / "other").mkdir(mode=0o000)

    assert paths(f"{tmp_path}/y=*/*.csv") == ["y=1/a.csv"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_unreadable_folders_are_errors(tmp_path: Path) -> None:
    """What may not be read is not taken for absent."""
    (tmp_path / "closed").mkdir(mode=0o000)

    with pytest.raises(AccessDeniedError, match="closed"):
        paths(f"{tmp_path}/**")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """A literal path to a folder says how to name what is in it."""
    with pytest.raises(ObjectNotFoundError, match="folder") as caught:
        paths(str(tmp_path))

    assert f"{tmp_path}/**" in (caught.value.hint or "")


def test_special_files_are_left_out(tmp_path: Path) -> None:
    """Pipes hold no data to keep; opening one would wait for ever."""
    os.mkfifo(tmp_path / "pipe")

    assert paths(f"{tmp_path}/*") == []
    with pytest.raises(ObjectNotFoundError):
        paths(f"{tmp_path}/pipe")


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    """Any bytes the disk allows can be listed and read."""
    name = os.fsdecode(b"a\xff\n")
    (tmp_path / name).write_bytes(b"x")
    (obj,) = LocalStorage().scan(f"{tmp_path}/*")

    assert b"".join(LocalStorage().read(obj, 0, 1)) == b"x"
    assert obj.relpath.isprintable()


def test_an_upload_leaves_one_file_with_the_usual_permissions(tmp_path: Path) -> None:
    """No temporary file stays, and the mode is that of any new file."""
    (tmp_path / "new").write_bytes(b"x")
    (tmp_path / "usual").touch()
    target = tmp_path / "to" / "file"
    LocalStorage().upload(
        tmp_path / "new",
        f"file://{target}",
        precondition=Precondition.ABSENT,
        advance=lambda _: None,
    )

    assert os.listdir(target.parent) == ["file"]
    assert target.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_linked_target_is_written_through(tmp_path: Path) -> None:
    """Where the name is a link, the file it leads to is replaced, not the link."""
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (known,) = LocalStorage().scan(f"{tmp_path}/link")
    LocalStorage().upload(
        tmp_path / "new", f"file://{tmp_path}/link", precondition=known, advance=lambda _: None
    )

    assert (tmp_path / "real").read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()
