"""Any filesystem of fsspec's: gaps, failures, forks, and whose instance it is."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from datacachalog.errors import (
    AccessDeniedError,
    IntegrityError,
    ObjectChangedError,
    ObjectNotFoundError,
    SourceUnreachableError,
    StorageError,
)
from datacachalog.model import RemoteObject
from datacachalog.storage import FilesystemStorage, Precondition
from tests.processes import in_child


def folder(root: Path) -> DirFileSystem:
    """Return a filesystem that begins at `root`."""
    return DirFileSystem(str(root), fs=LocalFileSystem(), skip_instance_cache=True)


def one(storage: FilesystemStorage, uri: str) -> RemoteObject:
    """Return the object at `uri`."""
    (obj,) = storage.scan(uri)
    return obj


class Answering(MemoryFileSystem):  # type: ignore[misc] # fsspec has no types
    """A filesystem whose `cat_file` is a function of the test's."""

    protocol = "answering"

    def __init__(self, answer: Callable[[int, int], bytes], **options: Any) -> None:
        super().__init__(global_store=False, **options)
        self.answer = answer
        self.pipe_file("lake/a", b"0123456789")

    def cat_file(self, path: str, start: int, end: int, **_: Any) -> bytes:
        """Return what the test says."""
        return self.answer(start, end)


def answering(answer: Callable[[int, int], bytes]) -> FilesystemStorage:
    """Return a storage over one."""
    return FilesystemStorage(Answering(answer, skip_instance_cache=True))


def unreachable(start: int, end: int) -> bytes:
    """Fail as a network does."""
    raise TimeoutError(f"{end - start} bytes did not come")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(lambda start, end: b"", ObjectChangedError, id="short"),
        pytest.param(lambda start, end: b"0123456789X", IntegrityError, id="long"),
        pytest.param(unreachable, SourceUnreachableError, id="silent"),
    ],
)
def test_bodies_that_are_not_what_was_asked_for(
    answer: Callable[[int, int], bytes], error: type[StorageError]
) -> None:
    """Bytes too few, too many, or none in time are errors."""
    storage = answering(answer)
    obj = one(storage, "answering://lake/a")

    with pytest.raises(error):
        list(storage.read(obj, 0, obj.size))


def test_pieces_smaller_than_asked_for_are_put_together() -> None:
    """A filesystem may give less at a time."""
    storage = answering(lambda start, end: b"0123456789"[start : min(end, start + 3)])
    obj = one(storage, "answering://lake/a")

    assert list(storage.read(obj, 1, 9)) == [b"123", b"456", b"78"]


class Closed(LocalFileSystem):  # type: ignore[misc] # fsspec has no types
    """A disk of which a folder may not be listed."""

    def ls(self, path: str, detail: bool = False, **options: Any) -> Any:
        """List, but not `closed`."""
        if path.endswith("/closed"):
            raise PermissionError(path)
        return super().ls(path, detail=detail, **options)


def test_a_listing_with_a_gap_is_an_error(tmp_path: Path) -> None:
    """Of a folder that it cannot list fsspec says nothing; its files would count as deleted."""
    (tmp_path / "closed").mkdir()
    (tmp_path / "a").write_bytes(b"x")
    storage = FilesystemStorage(Closed(skip_instance_cache=True))

    with pytest.raises(AccessDeniedError):
        list(storage.scan(f"file://{tmp_path}/**"))


def test_an_upload_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    """Not the beginning of the new file."""
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "new").write_bytes(b"new bytes")
    storage = FilesystemStorage(folder(tmp_path))

    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage.upload(
            tmp_path / "new", "dir://a", precondition=Precondition.ANYTHING, advance=stop
        )
    assert (tmp_path / "a").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["a", "new"]


def test_an_upload_says_what_could_not_be_proven(tmp_path: Path) -> None:
    """No write through fsspec is conditional."""
    (tmp_path / "new").write_bytes(b"x")
    storage = FilesystemStorage(folder(tmp_path))
    done = storage.upload(
        tmp_path / "new", "dir://a", precondition=Precondition.ABSENT, advance=lambda _: None
    )

    assert "no conditional writes" in (done.unproven or "")


def test_a_filesystem_that_cannot_write(tmp_path: Path) -> None:
    """It is said in our words."""

    class ReadOnly(MemoryFileSystem):  # type: ignore[misc] # fsspec has no types
        protocol = "readonly"

        def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
            raise NotImplementedError

    (tmp_path / "new").write_bytes(b"x")
    storage = FilesystemStorage(ReadOnly(global_store=False, skip_instance_cache=True))

    with pytest.raises(StorageError, match="cannot do that"):
        storage.upload(
            tmp_path / "new",
            "readonly://b/a",
            precondition=Precondition.ANYTHING,
            advance=lambda _: None,
        )


def test_a_folder_is_no_object(tmp_path: Path) -> None:
    """The hint names what is in it."""
    (tmp_path / "sub").mkdir()

    with pytest.raises(ObjectNotFoundError, match="folder") as caught:
        one(FilesystemStorage(folder(tmp_path)), "dir://sub")
    assert "dir://sub/**" in (caught.value.hint or "")


def test_a_scheme_need_not_be_the_filesystems(tmp_path: Path) -> None:
    """What a source calls a bucket is then the first folder."""
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "a").write_bytes(b"x")
    storage = FilesystemStorage(folder(tmp_path))

    assert [obj.uri for obj in storage.scan("s3://lake/*")] == ["s3://lake/a"]
    assert list(storage.read(one(storage, "s3://lake/a"), 0, 1)) == [b"x"]


# --- whose it is --------------------------------------------------------------------------------


def test_an_instance_is_used_as_it_is(tmp_path: Path) -> None:
    """Its owner configured it."""
    mine = folder(tmp_path)

    assert FilesystemStorage(mine).filesystem is mine


def test_our_own_is_nobody_elses() -> None:
    """What a program gets from fsspec by the same name has its own settings and cache."""
    storage = FilesystemStorage("memory")

    assert storage.filesystem is storage.filesystem
    assert storage.filesystem is not fsspec.filesystem("memory")
    assert storage.filesystem is not fsspec.filesystem("memory", use_listings_cache=False)


def test_a_child_may_use_what_its_parent_used(tmp_path: Path) -> None:
    """An asynchronous filesystem refuses another process: a child makes its own."""
    (tmp_path / "a").write_bytes(b"x")
    mine = AsyncFileSystemWrapper(LocalFileSystem(), skip_instance_cache=True)
    storage = FilesystemStorage(mine)
    obj = one(storage, f"async://{tmp_path}/a")

    def check() -> None:
        assert storage.filesystem is not mine
        assert b"".join(storage.read(obj, 0, 1)) == b"x"

    assert in_child(check) == 0
    assert storage.filesystem is mine


# --- what it is called --------------------------------------------------------------------------


class Reaching(AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
    """A filesystem of some server."""

    protocol = "reaching"

    def __init__(self, host: str, password: str = "", port: int = 22, **options: Any) -> None:
        super().__init__(**options)


def reached(*args: Any, **options: Any) -> str:
    """Return the endpoint of a storage over a filesystem with such options."""
    return FilesystemStorage(Reaching(*args, **options)).endpoint


def test_places_are_told_apart(tmp_path: Path) -> None:
    """Equal URIs of two servers, or two folders, are two objects in the cache."""
    assert reached("one") != reached("two")
    assert reached("one") != reached("one", port=23)
    assert reached("one") == reached(host="one")
    assert (
        FilesystemStorage(folder(tmp_path)).endpoint == FilesystemStorage(folder(tmp_path)).endpoint
    )
    assert (
        FilesystemStorage(folder(tmp_path / "a")).endpoint
        != FilesystemStorage(folder(tmp_path / "b")).endpoint
    )


def test_links_lead_to_files(tmp_path: Path) -> None:
    """A link is what it leads to; one that leads nowhere, or is no file, is nothing."""
    (tmp_path / "real").write_bytes(b"bytes")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "broken").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    found = {obj.uri: obj.size for obj in FilesystemStorage(folder(tmp_path)).scan("dir://**")}

    assert found == {"dir://real": 5, "dir://link": 5}


@pytest.mark.parametrize("name", ["password", "token", "api_key", "credentials", "username"])
def test_secrets_take_no_part_in_a_name(name: str) -> None:
    """A new password is no new server, and the name gives nothing away."""
    assert reached("one", **{name: "1"}) == reached("one", **{name: "2"})


def test_a_secret_that_is_given_by_position() -> None:
    """It is one all the same."""
    assert reached("one", "1") == reached("one", "2")


def test_a_given_name_counts(tmp_path: Path) -> None:
    """Who names a storage says which are the same."""
    assert FilesystemStorage(folder(tmp_path), name="archive").endpoint == "archive"
