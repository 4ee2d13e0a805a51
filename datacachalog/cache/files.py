"""Files on this machine: what is there, temporary files, and the three kinds of link.

Used by the store, by states, and by the placement of data. Knows paths, bytes and modes; knows
nothing of datasets, states or storages.
"""

import errno
import fcntl
import itertools
import os
import re
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from enum import Enum
from stat import S_ISREG
from typing import NamedTuple

_FICLONE = 0x40049409
"""The Linux ioctl that shares extents between files; see ioctl_ficlone(2)."""

_CHUNK = 1 << 20

NOT_SUPPORTED = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOTSUP}
)
"""What a file system says of a call it does not know."""

NO_REFLINK = NOT_SUPPORTED | {
    errno.EXDEV,
    errno.EPERM,
    errno.EACCES,
    errno.EBADF,  # ioctl_ficlone(2): "does not support reflink"
}
"""What a file system says where two files cannot share extents."""


class FileStat(NamedTuple):
    """What tells an untouched file from a changed one: size in bytes, mtime, inode."""

    size: int
    mtime_ns: int
    inode: int


class LinkKind(Enum):
    """How a stored object becomes a file in `data/`."""

    REFLINK = "reflink"
    HARDLINK = "hardlink"
    COPY = "copy"


def stat(path: str) -> FileStat | None:
    """Return the stat of what is at `path`, or None if nothing is.

    Anything but a regular file (a folder, a symbolic link) has size -1, so that it
    never equals a file of ours.
    """
    try:
        st = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return FileStat(st.st_size if S_ISREG(st.st_mode) else -1, st.st_mtime_ns, st.st_ino)


def touched(
    root: str, relpaths: Sequence[str], sizes: Sequence[int], mtimes_ns: Sequence[int]
) -> set[int]:
    """Return the positions of those of many files below `root` that are not as they were.

    That is, which are no regular file of that size and modification time, or of which that
    cannot be told. One `lstat` each and little else: what a sync with nothing to do mostly does.
    """
    found = set()
    lstat = os.lstat
    for i, (relpath, size, mtime_ns) in enumerate(zip(relpaths, sizes, mtimes_ns, strict=True)):
        try:
            st = lstat(f"{root}/{relpath}")
        except OSError:
            found.add(i)
        else:
            if st.st_mtime_ns != mtime_ns or st.st_size != size or not S_ISREG(st.st_mode):
                found.add(i)
    return found


# --- temporary files ----------------------------------------------------------------

_HOST = os.uname().nodename.split(".")[0].replace("-", "_") or "host"
_TEMP_NAME = re.compile(r"\.?([^-]+)-(\d{1,9})-\d+-[0-9a-f]{8}\.tmp")
_counter = itertools.count()


def temp_name() -> str:
    """Return a file name that no other process on any host uses; says who made it."""
    return f"{_HOST}-{os.getpid()}-{next(_counter)}-{os.urandom(4).hex()}.tmp"


def is_abandoned(name: str, age_seconds: float) -> bool:
    """Tell whether the temporary file `name` was left by a run that no longer exists.

    A dead process of this host is proof, a living one proof of the contrary; for other
    hosts only a day's silence counts. `age_seconds` is by change time: the modification
    time may be the remote's already. A wrong guess costs the owner a retry, never bytes.
    What does not look like `temp_name` is not ours to judge.
    """
    match = _TEMP_NAME.fullmatch(name)
    if match is None:
        return False
    host, pid = match.groups()
    if host != _HOST:
        return age_seconds > 24 * 3600
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def sweep(folder: str) -> int:
    """Remove the temporary files in `folder` that dead runs left; return their bytes."""
    freed = 0
    now = time.time()
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMP_NAME.fullmatch(entry.name) is None:
                continue
            with suppress(OSError):  # another run's, in place or removed by now
                st = entry.stat(follow_symlinks=False)
                if is_abandoned(entry.name, now - st.st_ctime) and remove(entry.path):
                    freed += st.st_size
    return freed


def replace(path: str, data: Iterable[bytes], *, mtime_ns: int | None = None) -> None:
    """Write a file whole or not at all; raises plain OSError."""
    temp = os.path.join(os.path.dirname(path), f".{temp_name()}")
    try:
        with open(temp, "wb") as file:
            file.writelines(data)
        if mtime_ns is not None:
            os.utime(temp, ns=(mtime_ns, mtime_ns))
        os.replace(temp, path)
    except BaseException:
        with suppress(OSError):
            remove(temp)
        raise


def remove(path: str) -> bool:
    """Remove the file at `path`; return whether there was one."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


# --- links, copies, bytes -----------------------------------------------------------


def reflink(source: str, target: str) -> None:
    """Create `target` sharing `source`'s extents; OSError where the file system cannot."""
    with open(source, "rb") as src:
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.ioctl(fd, _FICLONE, src.fileno())
        except OSError:
            os.unlink(target)
            raise
        finally:
            os.close(fd)


def hardlink(source: str, target: str) -> None:
    """Create `target` as another name of `source`; OSError where that cannot be."""
    os.link(source, target)


def reflink_or_copy(source: str, target: str) -> None:
    """Create `target` with the bytes of `source`, sharing extents where that is possible."""
    try:
        reflink(source, target)
    except OSError as exc:
        if exc.errno not in NO_REFLINK:
            raise
        shutil.copyfile(source, target)


def write_all(fd: int, data: "bytes | memoryview") -> None:
    """Write all of `data` at the descriptor's offset; a short write is continued."""
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(fd, view) :]


def pwrite_all(fd: int, data: "bytes | memoryview", offset: int) -> None:
    """Write all of `data` at `offset`, leaving the descriptor's own offset alone."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


def same_time(found_ns: int, wanted_ns: int) -> bool:
    """Tell whether a file's modification time is the wanted one, as its file system keeps it."""
    # File systems keep 1 ns, 100 ns, 1 s or 2 s: equal at the file system's own step counts,
    # and that step shows as trailing zeros.
    return found_ns == wanted_ns or any(
        found_ns % step == 0 and 0 <= wanted_ns - found_ns < step
        for step in (100, 1_000, 1_000_000, 1_000_000_000, 2_000_000_000)
    )


def are_one_file(one: str, other: str) -> bool:
    """Tell whether both paths are links to one file."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def have_same_bytes(one: str, other: str) -> bool:
    """Tell whether two files have the same bytes; a file that cannot be read is no match."""
    try:
        with open(one, "rb", buffering=0) as a, open(other, "rb", buffering=0) as b:
            if os.path.sameopenfile(a.fileno(), b.fileno()):
                return True
            while True:
                left, right = a.read(_CHUNK), b.read(_CHUNK)
                if left != right:
                    return False
                if not left:
                    return True
    except OSError:
        return False
