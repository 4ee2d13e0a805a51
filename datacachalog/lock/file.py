"""`catalog.lock`: what it says, how that is written, and the file beside a catalog.

JSON lines, UTF-8, byte for byte the same for the same content:

    {"catalog_lock":"1.0"}
    {"dataset":"orders","digest":"…","pin":"version","bucket":"s3://lake","prefix":"orders/"}
    {"key":"orders/2026/a.parquet","version_id":"…","etag":"…","size":1,"modified":"…","blake3":"…"}

A head per dataset, then one line per file, by key: sorted, stable and mergeable. `pin` says what
pins a file: its version id, its ETag (the bucket keeps no history), or only its hash (a local
file). `bucket` is empty where the files lie in several; then keys are whole URIs. `path` is added
to a line where a file lands elsewhere than its key below `prefix` says. Nothing here depends on
the machine or the time of the run.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from types import NoneType
from typing import Any

from datacachalog import relpath
from datacachalog.cache import files
from datacachalog.cache.file_lock import FileLock
from datacachalog.cache.files import FileStat
from datacachalog.errors import CacheError, InvalidValueError, LockError
from datacachalog.gc_pause import collection_paused
from datacachalog.model import EPOCH, RemoteObject
from datacachalog.suggest import did_you_mean

FORMAT = (1, 0)
"""Major and minor: a lock of a newer major is refused, of a newer minor is read."""

_HEAD = "catalog_lock"
_CONFLICT_MARKS = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")
_REMAKE = "take one side of the file, then run `dcl lock`"
_WAIT = 30.0
"""Seconds to wait for another run that is just writing the lock."""


class PinKind(Enum):
    """What pins a locked dataset's files to their bytes."""

    VERSION = "version"
    ETAG = "etag"
    HASH = "hash"


@dataclass(frozen=True, slots=True)
class LockedDataset:
    """One dataset of a lock.

    `digest` is `rules.digest_of` its dataset. `objects` are sorted by relpath; `hashes`
    maps relpath to blake3 (64 hex digits) where a sync has seen the bytes.
    """

    name: str
    digest: str
    pin_kind: PinKind
    objects: tuple[RemoteObject, ...] = field(repr=False)
    hashes: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class CatalogLock:
    """A whole lock: datasets by name."""

    datasets: Mapping[str, LockedDataset] = field(default_factory=dict)

    def with_datasets(self, changed: Iterable[LockedDataset]) -> "CatalogLock":
        """Return a lock in which `changed` replace their namesakes."""
        return CatalogLock({**self.datasets, **{d.name: d for d in changed}})

    def only(self, names: Iterable[str]) -> "CatalogLock":
        """Return a lock without the datasets that are not named."""
        return CatalogLock({n: self.datasets[n] for n in names if n in self.datasets})


# --- writing ------------------------------------------------------------------------


def render(lock: CatalogLock) -> str:
    """Return the lock's text: the same for the same content.

    All of it is ASCII: whatever is in a key, no editor or merge may change it.
    """
    lines = [f'{{"{_HEAD}":"{FORMAT[0]}.{FORMAT[1]}"}}']
    for name in sorted(lock.datasets):
        lines.extend(_dataset_lines(lock.datasets[name]))
    return "\n".join(lines) + "\n"


def _dataset_lines(dataset: LockedDataset) -> Iterator[str]:
    bucket = _bucket_of(dataset.objects)
    skip = len(bucket) + 1 if bucket else 0
    prefix = _prefix_of(dataset.objects, skip)
    head = {
        "dataset": dataset.name,
        "digest": dataset.digest,
        "pin": dataset.pin_kind.value,
        "bucket": bucket,
        "prefix": prefix,
    }
    yield json.dumps(head, separators=(",", ":"))
    find_hash = dataset.hashes.get
    for obj in sorted(dataset.objects, key=lambda o: o.uri):
        yield _file_line(obj, obj.uri[skip:], prefix, find_hash(obj.relpath))


def _file_line(obj: RemoteObject, key: str, prefix: str, blake3: str | None) -> str:
    # By hand: several times faster than an encoder that is told the same of each line.
    path = "" if key == prefix + obj.relpath else f',"path":{quoted(obj.relpath)}'
    version = "" if obj.version_id is None else f',"version_id":{quoted(obj.version_id)}'
    etag = "" if obj.etag is None else f',"etag":{quoted(obj.etag)}'
    modified = "" if obj.modified is EPOCH else _modified(obj.modified)
    digest = "" if blake3 is None else f',"blake3":{quoted(blake3)}'
    return f'{{"key":{quoted(key)}{path}{version}{etag},"size":{obj.size}{modified}{digest}}}'


def _modified(time: datetime) -> str:
    if time == EPOCH:
        return ""
    return f',"modified":"{time.astimezone(UTC).isoformat().removesuffix("+00:00")}Z"'


def _bucket_of(objects: Sequence[RemoteObject]) -> str:
    """Return the scheme and bucket that all files share, or '' where there are several."""
    if not objects:
        return ""
    scheme, separator, rest = objects[0].uri.partition("://")
    bucket = f"{scheme}{separator}{rest.partition('/')[0]}" if separator else "."
    return bucket if all(obj.uri.startswith(f"{bucket}/") for obj in objects) else ""


def _prefix_of(objects: Iterable[RemoteObject], skip: int) -> str:
    """Return what stands before the relpath in most keys."""
    for obj in objects:
        key = obj.uri[skip:]
        if key.endswith(obj.relpath):
            return key[: len(key) - len(obj.relpath)]
    return ""


# --- reading ------------------------------------------------------------------------


@collection_paused()
def parse(text: str, *, where: str = "catalog.lock") -> CatalogLock:
    """Return the lock that is written in `text`.

    Raises `LockError` naming `where` and the line: an unresolved merge, a newer major
    format, or a line that is not what this format has.
    """
    rows = _rows(text, where)
    _check_format(rows[0] if rows else {}, where)
    datasets: dict[str, LockedDataset] = {}
    heads = [i for i, row in enumerate(rows) if "dataset" in row]
    if rows[1:] and heads[:1] != [1]:
        raise LockError(f"{where}:2: a dataset's head is missing", hint=_REMAKE)
    for start, stop in zip(heads, [*heads[1:], len(rows)], strict=True):
        try:
            dataset = _dataset(rows[start], rows[start + 1 : stop])
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            reason = f"{exc} is missing" if isinstance(exc, KeyError) else exc
            raise LockError(
                f"{where}: dataset '{rows[start]['dataset']}' (line {start + 1}) cannot be read:"
                f" {reason}",
                hint=_REMAKE,
            ) from exc
        if dataset.name in datasets:
            raise LockError(f"{where}:{start + 1}: '{dataset.name}' is locked twice", hint=_REMAKE)
        datasets[dataset.name] = dataset
    return CatalogLock(datasets)


def _rows(text: str, where: str) -> list[dict[str, Any]]:
    text = text.rstrip("\r\n")
    try:
        # One call for all lines: several times faster than one for each.
        rows: list[dict[str, Any]] = json.loads("[" + text.replace("\n", ",") + "]")
        if all(type(row) is dict for row in rows) and len(rows) in (0, text.count("\n") + 1):
            return rows
    except ValueError:
        pass
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith(_CONFLICT_MARKS):
            raise LockError(
                f"{where}:{number}: the file holds an unresolved merge",
                hint=f"`git checkout --ours {where}` (or --theirs), then `dcl lock`,"
                f" then `git add {where}`",
            )
        try:
            is_row = type(json.loads(line)) is dict
        except ValueError:
            is_row = False
        if not is_row:
            raise LockError(f"{where}:{number}: not a line of a lock", hint=_REMAKE)
    raise LockError(f"{where}: cannot be read", hint=_REMAKE)


def _check_format(head: Mapping[str, Any], where: str) -> None:
    found = head.get(_HEAD)
    major = str(found).partition(".")[0]
    if found is None or not major.isdecimal():
        raise LockError(f"{where}:1: this is no catalog lock", hint=_REMAKE)
    if int(major) > FORMAT[0]:
        raise LockError(
            f"{where}:1: the lock has format {found}, this `dcl` reads up to {FORMAT[0]}",
            hint="upgrade datacachalog",
        )


def _dataset(head: Mapping[str, Any], rows: list[dict[str, Any]]) -> LockedDataset:
    """Return the dataset of a head and its lines; raise whatever is wrong with them."""
    name, digest = _texts([head["dataset"], head["digest"]])
    bucket, prefix = _texts([head["bucket"], head["prefix"]])
    base, skip = f"{bucket}/" if bucket else "", len(prefix)
    keys = _texts([row["key"] for row in rows])
    paths = _texts([row.get("path") or row["key"][skip:] for row in rows])
    _check_paths(paths)
    hashes = {path: row["blake3"] for path, row in zip(paths, rows, strict=True) if "blake3" in row}
    bytes.fromhex("".join(_texts(hashes.values())))
    # Columns, and one call for all rows: half the time of a loop over them.
    objects = map(
        RemoteObject,
        [base + key for key in keys],
        paths,
        _sizes([row["size"] for row in rows]),
        _times([row.get("modified") for row in rows]),
        _texts([row.get("etag") for row in rows], {str, NoneType}),
        _texts([row.get("version_id") for row in rows], {str, NoneType}),
    )
    in_order = tuple(sorted(objects, key=lambda o: o.relpath))
    return LockedDataset(name, digest, _pin_kind(head["pin"]), in_order, hashes)


def _pin_kind(value: object) -> PinKind:
    for kind in PinKind:
        if kind.value == value:
            return kind
    raise ValueError(f"{value!r} is no pin")


def _texts(values: Collection[Any], kinds: AbstractSet[type] = frozenset({str})) -> Any:
    if set(map(type, values)) - kinds:
        raise ValueError(f"{next(v for v in values if type(v) not in kinds)!r} is no text")
    return values


def _sizes(values: list[Any]) -> list[int]:
    if set(map(type, values)) - {int} or min(values, default=0) < 0:
        raise ValueError("a size is no number of bytes")
    return values


def _times(texts: list[Any]) -> list[datetime]:
    read = datetime.fromisoformat
    times = [EPOCH if text is None else read(text) for text in texts]
    if None in {time.tzinfo for time in times}:
        raise ValueError("a time has no zone")
    return times


def _check_paths(paths: Sequence[str]) -> None:
    """Raise for a path that no resolution gives: a lock, too, must not lead out of a folder."""
    unsafe = relpath.find_unsafe(paths)
    if unsafe is not None:
        raise ValueError(f"{unsafe!r} is no path below a folder")
    if len(set(paths)) < len(paths):
        twice = Counter(paths).most_common(1)[0][0]
        raise ValueError(f"{twice!r} is locked twice")


# --- the file -----------------------------------------------------------------------


class LockMode(Enum):
    """What a lock means to a run.

    `OBEY`: use what fits the catalog, resolve and add the rest. `LOCKED`: all must fit.
    `FROZEN`: use it as it is, resolve nothing. `IGNORE`: as if there were none.
    """

    OBEY = "obey"
    LOCKED = "locked"
    FROZEN = "frozen"
    IGNORE = "ignore"

    @classmethod
    def of(cls, value: "LockMode | str") -> "LockMode":
        """Return the mode, or the one of that name.

        >>> LockMode.of("frozen")
        <LockMode.FROZEN: 'frozen'>
        """
        try:
            return cls(value)
        except ValueError:
            modes = [mode.value for mode in cls]
            raise InvalidValueError(
                f"{value!r} is no lock mode",
                hint=did_you_mean(str(value), modes) or f"write one of {', '.join(modes)}",
            ) from None


class LockFile:
    """The lock beside one catalog, read once per change of the file. Thread-safe.

    `mode` says what it means to runs; where it is ignored, `read` finds none. `guards` is
    the folder for the file that keeps two writers apart.
    """

    def __init__(self, path: Path, mode: LockMode = LockMode.OBEY, *, guards: Path) -> None:
        self.path = path
        self.mode = mode
        self._guard = str(guards / f"{path.name}.guard")
        self._last_read: tuple[FileStat, CatalogLock] | None = None

    @property
    def name(self) -> str:
        """Return the path as a person would type it here."""
        relative = os.path.relpath(self.path)
        return str(self.path) if relative.startswith("..") else relative

    def read(self) -> CatalogLock | None:
        """Return the lock that counts, or None if there is none.

        Raises `LockError` if one is demanded and missing, or cannot be read.
        """
        if self.mode is LockMode.IGNORE:
            return None
        return self.load() if self.mode is LockMode.OBEY else self.demand()

    def demand(self) -> CatalogLock:
        """Return the lock as it lies there, whatever the mode; raise if there is none."""
        lock = self.load()
        if lock is None:
            raise LockError(f"there is no '{self.name}'", hint="run `dcl lock`")
        return lock

    def load(self) -> CatalogLock | None:
        """Return the lock as it lies there, whatever the mode, or None if there is none."""
        stat = files.stat(str(self.path))
        if stat is None:
            return None
        if self._last_read is not None and self._last_read[0] == stat:
            return self._last_read[1]
        lock = read(self.path, where=self.name)
        if lock is not None:
            self._last_read = (stat, lock)
        return lock

    def update(self, entries: Iterable[LockedDataset]) -> bool:
        """Put entries into the lock as it is by now; return whether it changed."""
        changed = list(entries)
        return bool(changed) and self.rewrite(lambda lock: lock.with_datasets(changed))

    def rewrite(self, change: Callable[[CatalogLock], CatalogLock]) -> bool:
        """Replace the lock by what `change` makes of it; return whether it is different.

        Several runs may add to one lock: each reads it again under a file lock, then renames.
        """
        guard = FileLock(self._guard)
        guard.acquire(wait=_WAIT, sleep=time.sleep)
        try:
            files.sweep(str(self.path.parent))
            return write(self.path, change(self.load() or CatalogLock()))
        finally:
            guard.release()


def read(path: Path, *, where: str | None = None) -> CatalogLock | None:
    """Return the lock at `path`, or None if there is none; messages call it `where`."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise LockError(f"'{path}' cannot be read: {exc.strerror}") from exc
    return decode(data, where=where or str(path))


def decode(data: bytes, *, where: str) -> CatalogLock:
    """Return the lock that is written in the bytes of a file."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise LockError(f"{where}: this is no catalog lock", hint="run `dcl lock`") from exc
    return parse(text, where=where)


def write(path: Path, lock: CatalogLock) -> bool:
    """Replace the lock atomically; return False if that is what it says already."""
    data = render(lock).encode()
    try:
        with suppress(FileNotFoundError):
            if path.read_bytes() == data:
                return False
        files.replace(str(path), [data])
    except OSError as exc:
        raise CacheError(f"'{path}' cannot be written: {exc.strerror}") from exc
    return True
