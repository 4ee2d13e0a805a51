"""What was read once, kept until anything that it was read from changes.

    <cache>/v1/catalogs/<hash of the catalog's path and of what is kept of it>

A snapshot holds a small value that follows from files and variables alone: what `dcl list`
shows of a catalog, or the catalog itself as `kept` writes it. It counts as long as every byte
of those files, every variable that was asked for, and this program are what they were;
otherwise it is as if there were none. It saves work and is never needed: it can be deleted at
any time, and where it cannot be written, that is all. Used by the command line; knows nothing
of catalogs.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from datacachalog import __version__

_FORMAT = b"datacachalog snapshot 1\n"
_MOST_KEPT = 50
"""Snapshots in one cache: whoever made the oldest reads its files again."""

_MOST_READ = 1 << 23
"""Bytes of a file that are looked at: more than a catalog may have."""


class Reading:
    """Notes what a value is made from: give `read` and `environ` to whatever makes it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        # Before any of the program is loaded: what changes meanwhile is seen the next time.
        self.program = _program()
        self.environ = _Noted(environ)
        self.files: dict[str, str] = {}

    @property
    def has_variables(self) -> bool:
        """Tell whether any variable was asked for."""
        return self.environ.names != _ALWAYS

    def read(self, path: Path) -> bytes:
        """Return what the file holds, after noting exactly that."""
        data = _bytes(path)
        self.files[str(path)] = sha256(data).hexdigest()
        return data


_ALWAYS = {"HOME"}
"""Variables that count unasked: what `~` means is asked of the system, not of us."""


class _Noted(Mapping[str, str]):
    """An environment that notes in `names` what it was asked for."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.names = {*_ALWAYS}

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return self._environ[name]

    def __iter__(self) -> Iterator[str]:
        self.names.update(self._environ)
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)


def place(cache: Path, subject: Path, kind: str = "") -> Path:
    """Return where the snapshot of `subject` lies in a cache folder, one for each `kind`."""
    return _folder(cache) / sha256(os.fsencode(f"{subject}\0{kind}")).hexdigest()[:32]


def _folder(cache: Path) -> Path:
    return cache / "v1" / "catalogs"


def clear(cache: Path) -> None:
    """Remove all snapshots from a cache folder; what cannot be removed stays."""
    with suppress(OSError), os.scandir(_folder(cache)) as entries:
        for entry in entries:
            os.unlink(entry.path)


def recall(at: Path, environ: Mapping[str, str]) -> Any | None:
    """Return the value that was kept, or None if there is none that still holds.

    Only what we wrote ourselves counts: others may write into a shared cache.
    """
    try:
        seal, text = _own_bytes(at).split(b"\n", 1)
        if seal != _seal(text):
            return None
        kept = json.loads(text)
        files = {path: sha256(_bytes(path)).hexdigest() for path in kept["files"]}
        stamp = _stamp(_program(), files, kept["variables"], environ)
    except (OSError, ValueError):
        return None
    return kept["value"] if stamp == kept["stamp"] else None


def keep(at: Path, reading: Reading, value: object) -> None:
    """Keep `value`, which is made of what JSON has, as long as what `reading` noted holds."""
    names = sorted(reading.environ.names)
    kept = {
        "files": list(reading.files),
        "variables": names,
        "stamp": _stamp(reading.program, reading.files, names, reading.environ),
        "value": value,
    }
    text = json.dumps(kept).encode()
    with suppress(OSError):
        os.makedirs(at.parent, exist_ok=True)
        _write(at, _seal(text) + b"\n" + text)
        _remove_oldest(at.parent)


def _seal(text: bytes) -> bytes:
    """Return what proves that `text` is whole and of this format."""
    return sha256(_FORMAT + text).hexdigest().encode()


def _stamp(
    program: object, files: Mapping[str, str], names: Iterable[str], environ: Mapping[str, str]
) -> str:
    """Return one hash of all that a value depends on; a variable's value cannot be read off it."""
    variables = [(name, environ.get(name)) for name in names]
    return sha256(json.dumps([program, files, variables]).encode()).hexdigest()


def _program() -> list[object]:
    """Return what tells this program from any other, also from one between two releases."""
    modules = sorted(_modules(os.path.dirname(__file__)))
    return [__version__, sys.version, modules]


def _modules(folder: str) -> Iterator[tuple[str, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                st = entry.stat()
                yield entry.path, st.st_size, st.st_mtime_ns
            elif entry.name != "__pycache__" and entry.is_dir():
                yield from _modules(entry.path)


def _own_bytes(path: Path) -> bytes:
    """Return what a file of ours holds; nothing for one that is somebody else's."""
    with open(path, "rb") as file:
        is_ours = os.fstat(file.fileno()).st_uid == os.geteuid()
        return file.read() if is_ours else b""


def _bytes(path: str | Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MOST_READ)


def _write(at: Path, data: bytes) -> None:
    """Put `data` at a path in one step, for the owner's eyes only; plain OSError."""
    temp = f"{at}.{os.urandom(8).hex()}"
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
        os.replace(temp, at)
    except OSError:
        os.unlink(temp)
        raise


def _remove_oldest(folder: Path) -> None:
    with os.scandir(folder) as entries:
        by_age = sorted((entry.stat().st_mtime_ns, entry.path) for entry in entries)
    for _, path in by_age[:-_MOST_KEPT]:
        os.unlink(path)
