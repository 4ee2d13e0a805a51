"""Locks between runs: exclusive where they work, and in nobody's way where they do not."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from datacachalog.cache.file_lock import POLL, FileLock
from datacachalog.sync.retry import Cancel, Cancelled


def never(seconds: float) -> None:
    """Refuse to sleep."""
    raise AssertionError("nobody should wait here")


def test_a_taken_lock_is_not_given_twice(tmp_path: Path) -> None:
    """A second lock on the same file, even in the same thread, is refused without waiting."""
    first, second = FileLock(f"{tmp_path}/lock"), FileLock(f"{tmp_path}/lock")
    first.acquire(sleep=never)

    assert not second.acquire(sleep=never)


def test_a_released_lock_is_free(tmp_path: Path) -> None:
    """After a release the next one gets it; releasing again is harmless."""
    first, second = FileLock(f"{tmp_path}/lock"), FileLock(f"{tmp_path}/lock")
    first.acquire(sleep=never)
    first.release()
    first.release()

    assert second.acquire(sleep=never)


def test_waiting_ends_when_the_holder_releases(tmp_path: Path) -> None:
    """A waiter looks again after each nap and goes on as soon as the lock is free."""
    first, second = FileLock(f"{tmp_path}/lock"), FileLock(f"{tmp_path}/lock")
    first.acquire(sleep=never)
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            first.release()

    assert second.acquire(wait=60, sleep=nap)
    assert naps == [POLL] * 3


def test_waiting_ends_after_the_given_time(tmp_path: Path) -> None:
    """A holder that stays costs the waiter the time it agreed to, no more."""
    first, second = FileLock(f"{tmp_path}/lock"), FileLock(f"{tmp_path}/lock")
    first.acquire(sleep=never)
    naps: list[float] = []

    assert not second.acquire(wait=1, sleep=naps.append)
    assert sum(naps) == pytest.approx(1)


def test_an_interrupted_wait_leaves_no_descriptor(tmp_path: Path) -> None:
    """A run that is cancelled while it waits closes what it opened."""
    first, second = FileLock(f"{tmp_path}/lock"), FileLock(f"{tmp_path}/lock")
    first.acquire(sleep=never)
    cancel = Cancel()
    cancel.set()
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with pytest.raises(Cancelled):
        second.acquire(wait=60, sleep=cancel.sleep)

    assert before == (len(os.listdir("/proc/self/fd")) if before else 0)


def test_the_folder_of_a_lock_is_made(tmp_path: Path) -> None:
    """The first run of a project has no folder for locks yet."""
    assert FileLock(f"{tmp_path}/new/folder/lock").acquire(sleep=never)
    assert (tmp_path / "new" / "folder" / "lock").exists()


def test_a_lock_file_is_never_removed(tmp_path: Path) -> None:
    """Whoever waits for the old file would get another one than the next comer."""
    lock = FileLock(f"{tmp_path}/lock")
    lock.acquire(sleep=never)
    lock.release()

    assert (tmp_path / "lock").exists()


def test_where_no_lock_file_can_be_made_everyone_goes_on(tmp_path: Path) -> None:
    """A read-only project is no reason not to work: renames keep both runs right."""
    (tmp_path / "file").touch()

    assert FileLock(f"{tmp_path}/file/lock").acquire(sleep=never)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_locks_do_not_work_everyone_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Some file systems refuse `flock`; that is no error and no wait."""

    def refuse(fd: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock = FileLock(f"{tmp_path}/lock")

    assert lock.acquire(sleep=never)
    lock.release()


def test_a_lock_taken_over_a_fork_is_released_by_the_parent(tmp_path: Path) -> None:
    """A child that lives on shares the descriptor, but must not keep the lock."""
    first, second = FileLock(f"{tmp_path}/lock"), FileLock(f"{tmp_path}/lock")
    first.acquire(sleep=never)
    shared = os.dup(first._fd)  # what a forked child has
    first.release()

    assert second.acquire(sleep=never)
    os.close(shared)
