"""Local disks as a storage: paths and `file://`.

fsspec's local filesystem reads; the rest is ours, as it rounds times, describes links instead
of what they lead to, and has no safe way to replace a file. The identity of a file is its
inode, its modification time in nanoseconds and its size; the ETag spells them.
"""

import os
import re
import stat as modes
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from datacachalog import globs, relpath
from datacachalog.errors import (
    IntegrityError,
    ObjectNotFoundError,
    UnsupportedSchemeError,
    VersioningNotSupportedError,
)
from datacachalog.model import EPOCH, RemoteObject
from datacachalog.storage.base import (
    Advance,
    Precondition,
    Uploaded,
    check_precondition,
    push_conflict,
)
from datacachalog.storage.filesystem import PIECE, FilesystemStorage, translated

if TYPE_CHECKING:
    from fsspec.implementations.local import LocalFileSystem

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class LocalStorage(FilesystemStorage):
    """Files on this machine, as objects. Symbolic links are followed, but never in circles."""

    def __init__(self, filesystem: "LocalFileSystem | None" = None) -> None:
        super().__init__("file" if filesystem is None else filesystem, name="file")

    def upload(
        self, path: Path, uri: str, *, precondition: RemoteObject | Precondition, advance: Advance
    ) -> Uploaded:
        """Put a copy of the file at `path` into place, provided `uri` is what `precondition` says.

        The comparison and the rename are two system calls: a writer that falls between
        them is not seen. A new file never replaces one that appeared meanwhile.
        """
        target = os.path.realpath(globs.unescape(_path(self._pattern(uri))))
        name = f"file://{target}"
        if isinstance(precondition, RemoteObject):
            precondition = precondition._replace(uri=name)  # it may have been named by a link
        with translated(name):
            check_precondition(name, precondition, _find(target))
            temp = _copy(path, os.path.dirname(target), advance)
            try:
                check_precondition(name, precondition, _find(target))
                _rename(temp, target, is_new=precondition is Precondition.ABSENT)
            except FileExistsError:
                raise push_conflict(name, precondition, _find(target)) from None
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temp)
            return Uploaded(self._found(name))

    def _pattern(self, uri: str) -> str:
        path = _path(uri)
        if _SCHEME.match(path):
            raise UnsupportedSchemeError(
                f"{uri!r} is no local file", hint="write `file:///path`, or a path"
            )
        return f"file://{path if os.path.isabs(path) else f'{globs.escape(os.getcwd())}/{path}'}"

    def _found(self, uri: str) -> RemoteObject:
        return _found(_path(uri))

    def _listed(self, glob: globs.Glob) -> Iterator[RemoteObject]:
        segments = glob.pattern.split("/")[glob.fixed_prefix.count("/") :]
        folder = _path(glob.fixed_prefix)
        for path, stat in _walk(folder, segments):
            if glob.matches(f"file://{path}"):
                yield _described(path, path[len(folder) :], stat)

    def _no_history(self, uri: str) -> VersioningNotSupportedError:
        return VersioningNotSupportedError(f"{uri} is a local file: a disk keeps no history")


def _path(uri: str) -> str:
    return uri.removeprefix("file://")


def _found(path: str) -> RemoteObject:
    with translated(f"file://{path}"):
        stat = os.stat(path)
    if modes.S_ISDIR(stat.st_mode):
        raise ObjectNotFoundError(
            f"{path!r} is a folder, not a file", hint=f"write `{globs.escape(path)}/**`"
        )
    if not modes.S_ISREG(stat.st_mode):
        raise ObjectNotFoundError(f"{path!r} is not a regular file")
    return _described(path, os.path.basename(path), stat)


def _find(path: str) -> RemoteObject | None:
    return _found(path) if os.path.lexists(path) else None


def _described(path: str, below: str, stat: os.stat_result) -> RemoteObject:
    return RemoteObject(
        f"file://{path}",
        relpath.encode(below),
        stat.st_size,
        EPOCH + timedelta(microseconds=stat.st_mtime_ns // 1000),
        _etag(stat),
    )


def _etag(stat: os.stat_result) -> str:
    return f"{stat.st_ino:x}-{stat.st_mtime_ns:x}-{stat.st_size:x}"


# --- what a pattern finds ---------------------------------------------------------------


def _walk(
    folder: str, segments: list[str], above: tuple[tuple[int, int], ...] = ()
) -> Iterator[tuple[str, os.stat_result]]:
    """Yield each file below `folder` that may match `segments`, descending only where one can.

    From a `**` on everything below is yielded; the caller matches the whole path. `above`
    are the folders on the way, so that a link back to one of them ends there.
    """
    with translated(f"file://{folder}"):
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            here = os.stat(folder)
        except (FileNotFoundError, NotADirectoryError):
            return
    identity = here.st_dev, here.st_ino
    if identity in above:
        return
    first, rest = segments[0] or "**", segments[1:]
    is_deep = first == "**"
    matches = globs.Glob(first).matches
    for entry in entries:
        if not is_deep and not matches(entry.name):
            continue
        with translated(f"file://{entry.path}"):
            try:
                if entry.is_dir():
                    if is_deep or rest:
                        below = segments if is_deep else rest
                        yield from _walk(f"{entry.path}/", below, (*above, identity))
                elif (is_deep or not rest) and entry.is_file():
                    yield entry.path, entry.stat()
            except FileNotFoundError:
                continue  # gone since it was listed


# --- writing ----------------------------------------------------------------------------


def _copy(path: Path, folder: str, advance: Advance) -> str:
    """Return a new file in `folder` with the bytes of `path`, written through to the disk."""
    os.makedirs(folder, exist_ok=True)
    temp = os.path.join(folder, f".{os.urandom(16).hex()}.dcl-tmp")
    # 0666 less the umask, as any program that writes a file here would leave it.
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with open(path, "rb", buffering=0) as source, open(fd, "wb", buffering=0) as out:
            before = os.fstat(source.fileno())
            while block := source.read(PIECE):
                out.write(block)
                advance(len(block))
            os.fsync(out.fileno())
            if _etag(os.fstat(source.fileno())) != _etag(before):
                raise IntegrityError(f"{str(path)!r} changed while it was uploaded")
    except BaseException:
        os.unlink(temp)
        raise
    return temp


def _rename(temp: str, target: str, *, is_new: bool) -> None:
    """Give `temp` the name `target`; raise `FileExistsError` where it should be new and is not."""
    if is_new:
        try:
            os.link(temp, target)
            return
        except OSError:  # it exists, or this is a file system without hard links
            if os.path.lexists(target):
                raise FileExistsError(target) from None
    os.replace(temp, target)
