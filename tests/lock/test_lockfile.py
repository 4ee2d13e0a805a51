"""The lock file on disk: when it counts, and how it is replaced."""

import os
import threading
from pathlib import Path

import pytest

from datacachalog.cache import files
from datacachalog.errors import CacheError, InvalidValueError, LockError
from datacachalog.lock.file import CatalogLock, LockedDataset, PinKind
from datacachalog.lock.lockfile import LockFile, LockMode


def a_file(folder: Path, mode: LockMode = LockMode.OBEY) -> LockFile:
    """Return the lock file of a project in `folder`."""
    return LockFile(folder / "catalog.lock", mode, guards=folder / "state")


def an_entry(name: str) -> LockedDataset:
    """Return an entry without files."""
    return LockedDataset(name, "d", PinKind.VERSION, ())


def test_an_unchanged_lock_is_not_rewritten(tmp_path: Path) -> None:
    """Writing the same content leaves the file's inode and time alone."""
    file = a_file(tmp_path)
    file.update([an_entry("one")])
    before = file.path.stat()

    is_changed = file.update([an_entry("one")])

    after = file.path.stat()
    assert not is_changed
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    """Runs that add to one lock at once each read it as it is by then."""
    names = [f"n{number}" for number in range(8)]
    threads = [
        threading.Thread(target=lambda name=name: a_file(tmp_path).update([an_entry(name)]))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lock = a_file(tmp_path).demand()
    assert sorted(lock.datasets) == names
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalog.lock", "state"]


def test_a_change_by_others_is_seen(tmp_path: Path) -> None:
    """The file is read once, and again when it is another one."""
    ours, theirs = a_file(tmp_path), a_file(tmp_path)
    ours.update([an_entry("one")])
    first = theirs.load()
    ours.update([an_entry("two")])

    assert theirs.load() is not first
    assert theirs.load() is theirs.load()


@pytest.mark.parametrize("mode", [LockMode.LOCKED, LockMode.FROZEN], ids=lambda m: m.value)
def test_a_demanded_lock_must_be_there(tmp_path: Path, mode: LockMode) -> None:
    """`--locked` and `--frozen` without a lock are errors, not a fresh resolution."""
    with pytest.raises(LockError, match=r"there is no '.*catalog\.lock'") as caught:
        a_file(tmp_path, mode).read()

    assert caught.value.hint == "run `dcl lock`"


def test_no_lock_is_none_to_obey(tmp_path: Path) -> None:
    """Without a lock, runs go by the catalog alone."""
    assert a_file(tmp_path).read() is None


def test_an_ignored_lock_is_not_even_read(tmp_path: Path) -> None:
    """`--no-lock` works also where the lock is damaged."""
    (tmp_path / "catalog.lock").write_text("damage")

    assert a_file(tmp_path, LockMode.IGNORE).read() is None


def test_messages_name_the_file_as_seen_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hint that holds the path can be typed in the folder where the command ran."""
    file = a_file(tmp_path)
    file.path.write_bytes(b"\xff")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LockError, match=r"^catalog\.lock: this is no catalog lock$"):
        file.load()
    monkeypatch.chdir(tmp_path / "sub")

    with pytest.raises(LockError, match=f"^{file.path}: this is no catalog lock$"):
        file.load()


def test_a_lock_that_cannot_be_written_stays(tmp_path: Path) -> None:
    """A folder in its place is an error of ours, and no temporary file is left."""
    file = a_file(tmp_path)
    file.path.mkdir()

    with pytest.raises((CacheError, LockError), match=r"catalog\.lock"):
        file.update([an_entry("one")])

    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalog.lock", "state"]


def test_what_a_killed_run_left_is_swept(tmp_path: Path) -> None:
    """A half-written lock of a process that is gone does not stay beside the catalog."""
    ours = files.temp_name()
    dead = ours.replace(f"-{os.getpid()}-", "-999999999-")
    for name in (f".{ours}", f".{dead}", ".env.tmp"):
        (tmp_path / name).write_text("{")
    a_file(tmp_path).update([an_entry("one")])

    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted(
        [f".{ours}", ".env.tmp", "catalog.lock"]
    )


def test_a_mode_that_is_none_is_refused_with_the_nearest() -> None:
    """A misspelt mode is told, with the one that was meant."""
    with pytest.raises(InvalidValueError, match="'frozn' is no lock mode") as caught:
        LockMode.of("frozn")

    assert caught.value.hint == "did you mean 'frozen'?"


def test_a_lock_is_a_value() -> None:
    """Datasets are replaced and left out by name, in a new lock."""
    lock = CatalogLock().with_datasets([an_entry("one"), an_entry("two")])

    assert list(lock.only(["two", "three"]).datasets) == ["two"]
    assert list(lock.datasets) == ["one", "two"]
