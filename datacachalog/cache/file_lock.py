"""Locks between runs: they save double work, and are never needed for correctness.

On some file systems `flock` does nothing, or is refused: then every run believes to be
alone, and renames keep all of them right. A lock file is never removed: another run could be
waiting for the removed one.
"""

import fcntl
import os
from collections.abc import Callable

POLL = 0.05
"""Seconds between two attempts at a lock that another run has."""


class FileLock:
    """An exclusive lock on the file `path`, between processes and between threads alike."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1

    def acquire(self, *, wait: float = 0.0, sleep: Callable[[float], None]) -> bool:
        """Return False only if another run still has the lock after `wait` seconds.

        True means: go on, with the lock, or without it where locks do not work. `sleep`
        waits between two attempts and may raise.
        """
        self._fd = self._open()
        if self._fd < 0:
            return True
        waited = 0.0
        try:
            while not self._try():
                if waited >= wait:
                    self.release()
                    return False
                sleep(POLL)
                waited += POLL
        except BaseException:
            self.release()
            raise
        return True

    def release(self) -> None:
        """Release the lock, if it is ours."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            # Closing is not enough: a child forked meanwhile shares the descriptor.
            fcntl.flock(fd, fcntl.LOCK_UN)
        except OSError:
            pass
        finally:
            os.close(fd)

    def _open(self) -> int:
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            return -1

    def _try(self) -> bool:
        """Take the lock if it is free; a file system that refuses locks gives it to everyone."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True
