"""What was resolved and put in place, one file per dataset.

    <project>/.datacachalog/state/<dataset>.json

Written last and atomically, so a state never promises what is not there. The file is
one JSON document whose files are stored as columns: 100,000 entries are read in one go,
without an object per file. Its modification time is when the remote was last asked, so
that a sync which finds nothing to do rewrites nothing. It can always be deleted: the next
sync makes it again.
"""

import json
import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from operator import attrgetter, eq
from pathlib import Path
from typing import Any, TypeVar, overload

from datacachalog.cache import files
from datacachalog.cache.files import FileStat
from datacachalog.errors import CacheError
from datacachalog.model import EPOCH, MICROSECOND, RemoteObject

FORMAT = 1

_VERSION = attrgetter("version_id")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """One file that was put in place: which object, its blake3, and its mtime on disk."""

    object: RemoteObject
    blake3: str | None
    mtime_ns: int


class Below(Sequence[str]):
    """A column of URIs that are `base` and the relpath, made where one is asked for.

    Nearly always they are; as texts of their own, they would be a fifth of a state's memory.
    """

    def __init__(self, base: str, relpath: Sequence[str]) -> None:
        self.base = base
        self._relpath = relpath

    def of(self, relpath: Sequence[str]) -> "Below":
        """Return the same of other relpaths."""
        return Below(self.base, relpath)

    def __len__(self) -> int:
        return len(self._relpath)

    def __iter__(self) -> Iterator[str]:
        return map(self.base.__add__, self._relpath)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        found = self._relpath[index]
        return self.base + found if isinstance(found, str) else list(map(self.base.__add__, found))


class PlacedFiles:
    """The files of a state as parallel columns, sorted by relpath.

    Columns are plain lists so that comparing 100,000 rows costs no object per row;
    `find` and iteration make `PlacedFile` values where a caller wants one.
    """

    def __init__(
        self,
        *,
        relpath: list[str],
        uri: Sequence[str],
        size: list[int],
        modified_us: list[int],
        etag: list[str | None],
        version_id: list[str | None],
        blake3: list[str | None],
        mtime_ns: list[int],
    ) -> None:
        self.relpath = relpath
        self.uri = uri
        self.size = size
        self.modified_us = modified_us
        self.etag = etag
        self.version_id = version_id
        self.blake3 = blake3
        self.mtime_ns = mtime_ns

    @classmethod
    def of(cls, placed: Iterable[PlacedFile]) -> "PlacedFiles":
        """Make columns of values; they are sorted by relpath on the way."""
        rows = sorted(placed, key=lambda p: p.object.relpath)
        relpath = [p.object.relpath for p in rows]
        return cls(
            relpath=relpath,
            uri=_below([p.object.uri for p in rows], relpath),
            size=[p.object.size for p in rows],
            modified_us=[p.object.mtime_ns // 1000 for p in rows],
            etag=[p.object.etag for p in rows],
            version_id=[p.object.version_id for p in rows],
            blake3=[p.blake3 for p in rows],
            mtime_ns=[p.mtime_ns for p in rows],
        )

    def __len__(self) -> int:
        return len(self.relpath)

    def __iter__(self) -> Iterator[PlacedFile]:
        return (self.row(i) for i in range(len(self)))

    def objects(self) -> list[RemoteObject]:
        """Return the objects of all rows."""
        modified = [EPOCH + us * MICROSECOND for us in self.modified_us]
        columns = (self.uri, self.relpath, self.size, modified, self.etag, self.version_id)
        return list(map(RemoteObject, *columns))

    @cached_property
    def index(self) -> dict[str, int]:
        """Map each relpath to its row."""
        return {relpath: i for i, relpath in enumerate(self.relpath)}

    def with_changes(
        self, rows: Sequence[int], objects: Sequence[RemoteObject], placed: Iterable[PlacedFile]
    ) -> "PlacedFiles":
        """Return these of the rows, which stay, and what was `placed` anew, as sorted columns.

        `objects` are what the rows were found to be, one by one: a version id that a row lacks
        is learnt from them. No value is made of a row that stays as it was.
        """
        learnt = {}
        if any(map(_VERSION, objects)):
            learnt = {
                i: PlacedFile(obj, self.blake3[i], self.mtime_ns[i])
                for i, obj in zip(rows, objects, strict=True)
                if obj.version_id is not None and self.version_id[i] is None
            }
        kept = sorted(i for i in rows if i not in learnt) if learnt else sorted(rows)
        fresh = PlacedFiles.of([*learnt.values(), *placed])
        places = [bisect_left(self.relpath, path) for path in fresh.relpath]
        pieces = list(_woven(runs(kept), places, len(self)))

        def merged(old: Sequence[T], new: Sequence[T]) -> list[T]:
            both, made = [*old, *new], list[T]()
            for piece in pieces:
                made += both[piece]
            return made

        relpath = merged(self.relpath, fresh.relpath)
        if isinstance(self.uri, Below) and all(map(eq, fresh.uri, self.uri.of(fresh.relpath))):
            uri: Sequence[str] = self.uri.of(relpath)
        else:
            uri = _below(merged(self.uri, fresh.uri), relpath)
        return PlacedFiles(
            relpath=relpath,
            uri=uri,
            size=merged(self.size, fresh.size),
            modified_us=merged(self.modified_us, fresh.modified_us),
            etag=merged(self.etag, fresh.etag),
            version_id=merged(self.version_id, fresh.version_id),
            blake3=merged(self.blake3, fresh.blake3),
            mtime_ns=merged(self.mtime_ns, fresh.mtime_ns),
        )

    def find(self, relpath: str) -> PlacedFile | None:
        """Return the file at `relpath`, or None if none was placed there."""
        i = self.index.get(relpath)
        return None if i is None else self.row(i)

    def row(self, i: int) -> PlacedFile:
        """Return row `i` as a value."""
        obj = RemoteObject(
            uri=self.uri[i],
            relpath=self.relpath[i],
            size=self.size[i],
            modified=EPOCH + self.modified_us[i] * MICROSECOND,
            etag=self.etag[i],
            version_id=self.version_id[i],
        )
        return PlacedFile(obj, self.blake3[i], self.mtime_ns[i])


def _below(uri: Sequence[str], relpath: Sequence[str]) -> Sequence[str]:
    """Return the URIs as what they are below, where that is one base for all."""
    base = uri[0][: len(uri[0]) - len(relpath[0])] if uri else ""
    below = Below(base, relpath)
    return below if all(map(eq, uri, below)) else uri


def gaps(rows: Sequence[int], size: int) -> Iterator[int]:
    """Yield what ascending `rows` lack of all rows below `size`."""
    start = 0
    for run in runs(rows):
        yield from range(start, run.start)
        start = run.stop
    yield from range(start, size)


def runs(rows: Sequence[int]) -> Iterator[slice]:
    """Yield the slices that rows in ascending order make up: few, where little changed."""
    start = 0
    while start < len(rows):
        shift = rows[start] - start
        end = bisect_right(range(len(rows)), shift, lo=start, key=lambda i: rows[i] - i)
        yield slice(start + shift, end + shift)
        start = end


def _woven(runs: Iterable[slice], places: Sequence[int], size: int) -> Iterator[slice]:
    """Yield the runs in order, each row from `size` on before what is at its place."""
    new = 0
    for run in runs:
        start = run.start
        while new < len(places) and places[new] < run.stop:
            if places[new] > start:
                yield slice(start, places[new])
                start = places[new]
            yield slice(size + new, size + new + 1)
            new += 1
        yield slice(start, run.stop)
    yield slice(size + new, size + len(places))


NOTHING = PlacedFiles.of(())


@dataclass(frozen=True, slots=True)
class State:
    """What one dataset (or one ad-hoc pin of it) looked like when it was last put in place.

    `digest` stands for everything that determines a resolution (sources, pin, storage);
    `root` is the dataset's folder, relative to the project where it is inside it.
    `checked` is when the remote was last asked (aware, UTC). `checksum` is the catalog's
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
    """All states of one catalog. Thread- and process-safe: every write is one rename."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._is_swept = False

    def path(self, key: str) -> Path:
        """Return the file of a state; `key` is a dataset's name, with `@time` for ad-hoc pins."""
        return self.root / f"{key}.json"

    def lock_path(self, key: str) -> str:
        """Return the lock file that keeps two runs from doing one dataset's work twice."""
        return str(self.root / f"{key}.lock")

    def read(self, key: str) -> State | None:
        """Return the state, or None if there is none.

        One that cannot be read (cut short by a full disk, another format) counts as
        none: it is made again from what the storage and the disk say.
        """
        return _read(self.path(key))

    def mark(self, key: str) -> FileStat | None:
        """Return what changes whenever a state is written; None if there is none."""
        return files.look(str(self.path(key)))

    def read_announced(self, key: str) -> State | None:
        """Return what a run announced and did not settle: it was killed, or is at it still."""
        return _read(self._announcement(key))

    def write(self, key: str, state: State) -> None:
        """Replace the state atomically."""
        self._write(self.path(key), state)

    def announce(self, key: str, coming: State) -> None:
        """Note what is about to be put in place, before anything is."""
        self._write(self._announcement(key), coming)

    def settle(self, key: str) -> None:
        """Forget what was announced: it is in the state now."""
        with suppress(OSError):
            files.remove(str(self._announcement(key)))

    def confirm(self, key: str, checked: datetime) -> None:
        """Note that the remote was asked again at `checked` and the state still holds."""
        with suppress(OSError):  # in a read-only project it is only asked more often
            _stamp(self.path(key), checked)

    def forget(self, key: str) -> bool:
        """Remove the state; return whether there was one."""
        self.settle(key)
        return files.remove(str(self.path(key)))

    def _announcement(self, key: str) -> Path:
        return self.root / f"{key}.coming"

    def _write(self, path: Path, state: State) -> None:
        temp = path.with_name(f".{files.temp_name()}")
        try:
            os.makedirs(self.root, exist_ok=True)
            self._sweep()
            with open(temp, "wb") as file:
                file.writelines(_encode(state))
            _stamp(temp, state.checked)
            os.replace(temp, path)
        except OSError as exc:
            with suppress(OSError):
                files.remove(str(temp))
            raise CacheError(
                f"'{path}' cannot be written: {exc.strerror}",
                hint="make room, or make the project folder writable",
            ) from exc

    def _sweep(self) -> None:
        """Remove what killed runs left half-written; once is enough."""
        if self._is_swept:
            return
        self._is_swept = True
        now = time.time()
        with os.scandir(self.root) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    continue
                with suppress(FileNotFoundError):  # another thread's, in place by now
                    age = now - entry.stat(follow_symlinks=False).st_ctime
                    if files.is_abandoned(entry.name, age):
                        files.remove(entry.path)


def _read(path: Path) -> State | None:
    try:
        with open(path, "rb") as file:
            checked = os.fstat(file.fileno()).st_mtime_ns
            return _decode(json.loads(file.read()), checked)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    except OSError as exc:
        raise CacheError(
            f"'{path}' cannot be read: {exc.strerror}",
            hint="make the project folder readable",
        ) from exc


def _encode(state: State) -> Iterator[bytes]:
    """Yield the document in small pieces: memory that is used again costs the least."""
    f = state.files
    head = {
        "format": FORMAT,
        "dataset": state.dataset,
        "digest": state.digest,
        "pin": state.pin,
        "endpoint": state.endpoint,
        "root": state.root,
        "checksum": state.checksum,
        "base": f.uri.base if isinstance(f.uri, Below) else None,
    }
    columns: dict[str, Sequence[object] | None] = {
        "relpath": f.relpath,
        "uri": None if isinstance(f.uri, Below) else f.uri,
        "size": f.size,
        "modified_us": f.modified_us,
        "etag": _sparse(f.etag),
        "version_id": _sparse(f.version_id),
        "blake3": _sparse(f.blake3),
        "mtime_ns": _sparse_mtimes(f),
    }
    yield _json(head)[:-1] + b',"files":'
    before = b"{"
    for name, column in columns.items():
        yield before + _json(name) + b":"
        yield from (b"null",) if column is None else _pieces(column)
        before = b","
    yield b"}}"


_PIECE = 4096
"""Rows that are encoded at a time."""


def _pieces(column: Sequence[object]) -> Iterator[bytes]:
    before = b"["
    for start in range(0, len(column), _PIECE):
        yield before + _array(column[start : start + _PIECE])[1:-1]
        before = b","
    yield b"]" if column else b"[]"


_ESCAPED = bytes(range(32)) + b"\\"
"""What has to be escaped in JSON, but for quotes."""


def _array(values: Sequence[Any]) -> bytes:
    """Return a JSON array; of texts in a quarter of the time, where none needs an escape."""
    try:
        data = '","'.join(values).encode("utf-8", "surrogatepass")
    except TypeError:  # not texts alone
        return _json(values)
    has_escapes = len(data.translate(None, _ESCAPED)) < len(data)
    if has_escapes or data.count(b'"') != 2 * (len(values) - 1):
        return _json(values)
    return b'["%s"]' % data


def _json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


# The one place where parsed JSON is untyped: every field is given its type here.
def _decode(doc: dict[str, Any], checked_ns: int) -> State | None:
    if doc["format"] != FORMAT:
        return None
    columns, base = doc["files"], doc["base"]
    relpath: list[str] = columns["relpath"]
    n = len(relpath)
    uri = columns["uri"]
    if uri is None:
        "".join((base, *relpath))  # raises where one is no text
        uri = Below(base, relpath)
    modified_us: list[int] = columns["modified_us"]
    placed = PlacedFiles(
        relpath=relpath,
        uri=uri,
        size=columns["size"],
        modified_us=modified_us,
        etag=columns["etag"] or [None] * n,
        version_id=columns["version_id"] or [None] * n,
        blake3=columns["blake3"] or [None] * n,
        mtime_ns=columns["mtime_ns"] or [us * 1000 for us in modified_us],
    )
    lengths = {len(column) for column in vars(placed).values()}
    if lengths - {n} or relpath != sorted(relpath):
        return None
    return State(
        dataset=doc["dataset"],
        digest=doc["digest"],
        pin=doc["pin"],
        endpoint=doc["endpoint"],
        root=doc["root"],
        checked=EPOCH + checked_ns // 1000 * MICROSECOND,
        checksum=doc["checksum"],
        files=placed,
    )


def _stamp(path: Path, checked: datetime) -> None:
    ns = (checked - EPOCH) // MICROSECOND * 1000
    os.utime(path, ns=(ns, ns))


def _sparse(column: list[str | None]) -> list[str | None] | None:
    return None if column.count(None) == len(column) else column


def _sparse_mtimes(f: PlacedFiles) -> list[int] | None:
    return None if f.mtime_ns == [us * 1000 for us in f.modified_us] else f.mtime_ns
