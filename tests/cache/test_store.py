"""The shared store: what counts as stored, how objects come and go, what runs leave."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from datacachalog.cache import files
from datacachalog.cache.store import Store, StoreStats
from datacachalog.errors import CacheError
from tests.projects import mode_of

FINGERPRINT = "ab" + "0" * 62
MTIME = 1_700_000_000_000_000_000


def put(store: Store, data: bytes, fingerprint: str = FINGERPRINT, mtime: int = MTIME) -> Path:
    """Store an object and return its path."""
    temp = store.temp()
    fd = store.create(temp)
    os.write(fd, data)
    store.finalize(fd, mtime)
    os.close(fd)
    store.adopt(temp, fingerprint)
    return Path(store.path(fingerprint))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Give an empty store."""
    return Store(tmp_path / "cache")


def test_an_object_lies_below_the_first_two_digits(store: Store) -> None:
    """As the design has it: `v1/objects/ab/cdef…`."""
    path = put(store, b"x")

    assert path.relative_to(store.root) == Path("v1", "objects", "ab", "0" * 62)


def test_an_object_is_read_only_and_carries_the_remote_s_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mode is 0444 without what the umask takes."""
    monkeypatch.setattr("datacachalog.cache.store.umask", lambda: 0o027)
    path = put(Store(tmp_path), b"x")

    assert mode_of(path) == 0o440
    assert path.stat().st_mtime_ns == MTIME


def test_nothing_lies_beside_an_object(store: Store) -> None:
    """And no temporary file stays."""
    path = put(store, b"x")

    assert os.listdir(path.parent) == [path.name]
    assert os.listdir(store.root / "v1" / "tmp") == []


def test_the_cache_is_tagged_and_explained(store: Store) -> None:
    """Backup tools skip it, and people know what they may delete."""
    store.prepare()
    tag = (store.root / "CACHEDIR.TAG").read_text()

    assert tag.startswith("Signature: 8a477f597d28d172789f06886806bc55")
    assert "safe to delete" in (store.root / "README").read_text()
    assert not list(store.root.glob("*.tmp"))


def test_a_stored_object_is_found(store: Store) -> None:
    """By size and modification time."""
    path = put(store, b"abc")
    found = store.find(FINGERPRINT, size=3, mtime_ns=MTIME)

    assert found == files.stat(str(path))


def write_to(path: Path) -> None:
    """Write as many other bytes."""
    path.chmod(0o644)
    path.write_bytes(b"xyz")


def cut(path: Path) -> None:
    """Lose bytes, but not the modification time."""
    os.truncate(path, 1)
    os.utime(path, ns=(0, MTIME))


def make_folder(path: Path) -> None:
    """Put a folder there."""
    path.unlink()
    path.mkdir()


def make_link(path: Path) -> None:
    """Put a symbolic link to the same bytes there."""
    path.rename(path.with_suffix(".x"))
    path.symlink_to(path.with_suffix(".x"))


@pytest.mark.parametrize("spoil", [Path.unlink, write_to, cut, make_folder, make_link])
def test_a_spoilt_object_is_not_found(store: Store, spoil: Callable[[Path], None]) -> None:
    """So that it is fetched again, never linked."""
    spoil(put(store, b"abc"))

    assert store.find(FINGERPRINT, size=3, mtime_ns=MTIME) is None


def test_an_object_that_is_fetched_again_replaces_a_spoilt_one(store: Store) -> None:
    """Adopting renames over whatever was there."""
    path = put(store, b"abc")
    path.chmod(0o644)
    path.write_bytes(b"spoilt")
    put(store, b"abc")

    assert path.read_bytes() == b"abc"
    assert store.find(FINGERPRINT, size=3, mtime_ns=MTIME) is not None


def test_use_is_noted_in_the_access_time(store: Store) -> None:
    """Whatever the file system's mount options are; the modification time stays."""
    path = put(store, b"abc")
    os.utime(path, ns=(0, MTIME))

    assert store.use(FINGERPRINT, size=3, mtime_ns=MTIME)
    assert path.stat().st_atime_ns > MTIME
    assert path.stat().st_mtime_ns == MTIME


def test_a_spoilt_object_is_not_made_to_look_valid_by_using_it(store: Store) -> None:
    """Its modification time is what tells."""
    path = put(store, b"abc")
    os.utime(path, ns=(0, MTIME + 5))

    assert not store.use(FINGERPRINT, size=3, mtime_ns=MTIME)
    assert path.stat().st_mtime_ns == MTIME + 5


def test_using_what_is_gone_is_harmless(store: Store) -> None:
    """Another run may have evicted it."""
    assert not store.use(FINGERPRINT, size=3, mtime_ns=MTIME)
    assert not store.discard(FINGERPRINT)


def test_a_removed_object_lives_on_in_its_links(store: Store, tmp_path: Path) -> None:
    """Clearing the cache takes nobody's data."""
    os.link(put(store, b"abc"), tmp_path / "data")
    store.clear()

    assert (tmp_path / "data").read_bytes() == b"abc"


def test_clear_counts_what_went(store: Store) -> None:
    """Objects and bytes; living runs keep their temporary files."""
    put(store, b"abc")
    put(store, b"de", "cd" + "1" * 62)
    os.close(store.create(store.temp()))

    assert store.clear() == StoreStats(2, 5, 0)
    assert store.stats() == StoreStats(0, 0, 0)
    assert len(os.listdir(store.root / "v1" / "tmp")) == 1


def test_a_new_run_sweeps_what_dead_runs_left(store: Store) -> None:
    """Temporary files of processes that no longer exist."""
    store.prepare()
    tmp = store.root / "v1" / "tmp"
    mine = Path(store.temp())
    dead = tmp / mine.name.replace(f"-{os.getpid()}-", "-999999999-")
    for path in (mine, dead):
        path.write_bytes(b"12345")
    Store(store.root).prepare()

    assert os.listdir(tmp) == [mine.name]


@pytest.mark.parametrize("part", ["", "v1", "v1/objects", "v1/tmp"])
def test_a_cache_removed_under_a_running_process_is_made_again(store: Store, part: str) -> None:
    """`rm -r` of any part of it is allowed at any time."""
    put(store, b"abc")
    shutil.rmtree(store.root / part)
    path = put(store, b"abc")

    assert path.read_bytes() == b"abc"


def test_a_cache_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    """It names the folder, the reason and the way out."""
    (tmp_path / "file").touch()
    with pytest.raises(CacheError) as caught:
        Store(tmp_path / "file" / "cache").prepare()

    assert str(caught.value) == (
        f"the cache folder '{tmp_path}/file/cache' cannot be written: Not a directory"
    )
    assert "DCL_CACHE_DIR" in str(caught.value.hint)


def test_a_cache_that_was_never_made_is_empty(tmp_path: Path) -> None:
    """Looking makes no folders."""
    store = Store(tmp_path / "cache")

    assert store.stats() == StoreStats(0, 0, 0)
    assert list(store.objects()) == []
    assert not store.root.exists()


def test_strange_files_in_the_store_are_no_objects(store: Store) -> None:
    """Neither folders nor links count, and nothing of it is followed."""
    path = put(store, b"abc")
    (path.parent / "folder").mkdir()
    (path.parent / "link").symlink_to("/etc/passwd")
    (store.root / "v1" / "objects" / "file").write_text("x")

    assert [fingerprint for fingerprint, _ in store.objects()] == [FINGERPRINT]
