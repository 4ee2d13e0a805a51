"""What was resolved and put in place, one file per dataset.

    <project>/.datacachalog/state/<dataset>.json

Written last and atomically, so a state never promises what is not there. The file is one JSON
document whose files are stored as columns: 100,000 entries are read in one go. Its modification
time is when the remote was last checked, so that a sync which finds nothing to do rewrites
nothing. It can always be deleted: the next sync makes it again.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from datacachalog.cache import files
from datacachalog.cache.files import FileStat
from datacachalog.cache.placed_files import PlacedFiles
from datacachalog.errors import CacheError
from datacachalog.model import EPOCH, MICROSECOND

FORMAT = 1


@dataclass(frozen=True, slots=True)
class State:
    """What one dataset (or one ad-hoc pin of it) looked like when it was last put in place.

    `digest` stands for everything that determines a resolution (sources, pin, storage);
    `root` is the dataset's folder, relative to the project where it is inside it.
    `checked` is when the remote was last checked (aware, UTC). `checksum` is the catalog's
    demand that the files were compared with.
    """

    dataset: str
    digest: str
    pin: str
    endpoint: str
    root: str
    checked: datetime
    files: PlacedFiles = field(repr=False)
    checksum: str = ""


class StateFolder:
    """All states of one catalog. Thread- and process-safe: every write is one rename.

    Beside a state may lie a journal: what a run is about to put in place. It is written before
    anything is, and removed once the state has it; one that is found was left by a killed run.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._is_swept = False

    def path(self, key: str) -> Path:
        """Return the file of a state; `key` is a dataset's name, with `@time` for ad-hoc pins."""
        return self.root / f"{key}.json"

    def lock_path(self, key: str) -> str:
        """Return the lock file that keeps two runs from doing one dataset's work twice."""
        return str(self.root / f"{key}.lock")

    def stat(self, key: str) -> FileStat | None:
        """Return what changes whenever a state is written; None if there is none."""
        return files.stat(str(self.path(key)))

    def read(self, key: str) -> State | None:
        """Return the state, or None if there is none.

        One that cannot be read (cut short by a full disk, another format) counts as
        none: it is made again from what the storage and the disk say.
        """
        return _read(self.path(key))

    def write(self, key: str, state: State) -> None:
        """Replace the state atomically."""
        self._write(self.path(key), state)

    def confirm(self, key: str, checked: datetime) -> None:
        """Record that the remote was checked again at `checked` and the state is right."""
        ns = _mtime_ns(checked)
        with suppress(OSError):  # in a read-only project it is only checked more often
            os.utime(self.path(key), ns=(ns, ns))

    def read_journal(self, key: str) -> State | None:
        """Return what a run was about to put in place: it was killed, or is at it still."""
        return _read(self._journal(key))

    def write_journal(self, key: str, state: State) -> None:
        """Record what is about to be put in place, before anything is."""
        self._write(self._journal(key), state)

    def clear_journal(self, key: str) -> None:
        """Remove the journal: what it says is in the state now."""
        with suppress(OSError):
            files.remove(str(self._journal(key)))

    def _journal(self, key: str) -> Path:
        return self.root / f"{key}.coming"

    def _write(self, path: Path, state: State) -> None:
        try:
            os.makedirs(self.root, exist_ok=True)
            if not self._is_swept:
                files.sweep(str(self.root))
                self._is_swept = True
            files.replace(str(path), _encode(state), mtime_ns=_mtime_ns(state.checked))
        except OSError as exc:
            raise CacheError(
                f"'{path}' cannot be written: {exc.strerror}",
                hint="make room, or make the project folder writable",
            ) from exc


def _read(path: Path) -> State | None:
    try:
        with open(path, "rb") as file:
            checked_ns = os.fstat(file.fileno()).st_mtime_ns
            return _decode(json.loads(file.read()), checked_ns)
    except (FileNotFoundError, ValueError, KeyError, TypeError, IndexError):
        return None
    except OSError as exc:
        raise CacheError(
            f"'{path}' cannot be read: {exc.strerror}",
            hint="make the project folder readable",
        ) from exc


def _mtime_ns(checked: datetime) -> int:
    return (checked - EPOCH) // MICROSECOND * 1000


def _encode(state: State) -> Iterator[bytes]:
    """Yield the document in small pieces, which take little memory.

    Columns that follow from others are null: URIs below one `base`, times that are the
    remote's, and what is unknown of every file.
    """
    placed = state.files
    is_below = placed.key == placed.relpath
    head = {
        "format": FORMAT,
        "dataset": state.dataset,
        "digest": state.digest,
        "pin": state.pin,
        "endpoint": state.endpoint,
        "root": state.root,
        "checksum": state.checksum,
        "base": placed.base if is_below else None,
    }
    has_own_mtimes = placed.mtime_ns != [us * 1000 for us in placed.modified_us]
    columns: dict[str, Sequence[object] | None] = {
        "relpath": placed.relpath,
        "uri": None if is_below else list(placed.uri),
        "size": placed.size,
        "modified_us": placed.modified_us,
        "etag": _sparse(placed.etag),
        "version_id": _sparse(placed.version_id),
        "blake3": _sparse(placed.blake3),
        "mtime_ns": placed.mtime_ns if has_own_mtimes else None,
    }
    yield _json(head)[:-1] + b',"files":'
    before = b"{"
    for name, column in columns.items():
        yield before + _json(name) + b":"
        yield from (b"null",) if column is None else _pieces(column)
        before = b","
    yield b"}}"


def _sparse(column: list[str | None]) -> list[str | None] | None:
    return None if column.count(None) == len(column) else column


_PIECE = 4096
"""Rows that are encoded at a time."""


def _pieces(column: Sequence[object]) -> Iterator[bytes]:
    before = b"["
    for start in range(0, len(column), _PIECE):
        yield before + _array(column[start : start + _PIECE])[1:-1]
        before = b","
    yield b"]" if column else b"[]"


_SPECIAL = bytes(range(32)) + b'\\"'
"""What has to be escaped in JSON."""


def _array(values: Sequence[Any]) -> bytes:
    """Return a JSON array; of texts in a quarter of the time, where none needs an escape."""
    try:
        data = '","'.join(values).encode("utf-8", "surrogatepass")
    except TypeError:  # not texts alone
        return _json(values)
    if len(data) - len(data.translate(None, _SPECIAL)) != 2 * (len(values) - 1):
        return _json(values)
    return b'["%s"]' % data


def _json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


# The one place where parsed JSON is untyped: every field is given its type here.
def _decode(document: dict[str, Any], checked_ns: int) -> State | None:
    if document["format"] != FORMAT:
        return None
    columns, base = document["files"], document["base"]
    relpath: list[str] = columns["relpath"]
    if columns["uri"] is None:
        "".join((base, *relpath))  # raises where one is no text
    unknown: list[str | None] = [None] * len(relpath)
    placed = PlacedFiles(
        base=base or "",
        relpath=relpath,
        key=columns["uri"] or relpath,
        size=columns["size"],
        modified_us=columns["modified_us"],
        etag=columns["etag"] or unknown,
        version_id=columns["version_id"] or unknown,
        blake3=columns["blake3"] or unknown,
        mtime_ns=columns["mtime_ns"] or [us * 1000 for us in columns["modified_us"]],
    )
    lengths = set(map(len, placed.columns()))
    if lengths != {len(relpath)} or relpath != sorted(relpath):
        return None
    return State(
        dataset=document["dataset"],
        digest=document["digest"],
        pin=document["pin"],
        endpoint=document["endpoint"],
        root=document["root"],
        checked=EPOCH + checked_ns // 1000 * MICROSECOND,
        checksum=document["checksum"],
        files=placed,
    )
