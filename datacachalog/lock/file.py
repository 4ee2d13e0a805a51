"""What a lock says, and how that is written: text that is sorted, stable and mergeable.

JSON lines, UTF-8, byte for byte the same for the same content:

    {"catalog_lock":"1.0"}
    {"dataset":"orders","digest":"…","pin":"version","bucket":"s3://lake","prefix":"orders/"}
    {"key":"orders/2026/a.parquet","version_id":"…","etag":"…","size":1,"modified":"…","blake3":"…"}

A head per dataset, then one line per file, by key. `pin` says what holds a file: its
version id, its ETag (the bucket keeps no history), or only its hash (a local file).
`bucket` is empty where the files lie in several; then keys are whole URIs. `path` is added
to a line where a file lands elsewhere than its key below `prefix` says. Nothing here
depends on the machine or the time of the run. Used by `lockfile` and `locking`; knows
neither disk nor storage.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from json.encoder import encode_basestring_ascii as quoted
from types import NoneType
from typing import Any

from datacachalog import relpath
from datacachalog.errors import LockError
from datacachalog.gc_pause import collection_paused
from datacachalog.model import EPOCH, RemoteObject

FORMAT = (1, 0)
"""Major and minor: a lock of a newer major is refused, of a newer minor is read."""

_HEAD = "catalog_lock"
_CONFLICT_MARKS = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")
_REMAKE = "take one side of the file, then run `dcl lock`"


class PinKind(Enum):
    """What holds a locked dataset's files to their bytes."""

    VERSION = "version"
    ETAG = "etag"
    HASH = "hash"


@dataclass(frozen=True, slots=True)
class LockedDataset:
    """One dataset of a lock.

    `digest` is `locking.digest_of` its dataset. `objects` are sorted by relpath; `hashes`
    maps relpath to blake3 (64 hex digits) where a sync has seen the bytes.
    """

    name: str
    digest: str
    held: PinKind
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

    All of it is ASCII: keys hold what they like, and no editor or merge may change them.
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
        "pin": dataset.held.value,
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
    first = next((obj.uri for obj in objects), "")
    if first.startswith("./"):
        bucket = "."
    else:
        scheme, separator, rest = first.partition("://")
        bucket = f"{scheme}{separator}{rest.partition('/')[0]}"
    return bucket if all(obj.uri.startswith(f"{bucket}/") for obj in objects) else ""


def _prefix_of(objects: Iterable[RemoteObject], skip: int) -> str:
    """Return what stands before the relpath in most keys."""
    for obj in objects:
        key = obj.uri[skip:]
        if key.endswith(obj.relpath):
            return key[: len(key) - len(obj.relpath)]
    return ""


# --- reading ------------------------------------------------------------------------


def parse(text: str, *, where: str = "catalog.lock") -> CatalogLock:
    """Return the lock that `text` holds.

    Raises `LockError` naming `where` and the line: an unresolved merge, a newer major
    format, or a line that is not what this format has.
    """
    with collection_paused():
        return _parse(text, where)


def _parse(text: str, where: str) -> CatalogLock:
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
    objects = list(
        map(
            RemoteObject,
            [base + key for key in keys],
            paths,
            _sizes([row["size"] for row in rows]),
            _times([row.get("modified") for row in rows]),
            _texts([row.get("etag") for row in rows], {str, NoneType}),
            _texts([row.get("version_id") for row in rows], {str, NoneType}),
        )
    )
    objects.sort(key=lambda o: o.relpath)
    return LockedDataset(name, digest, PinKind(head["pin"]), tuple(objects), hashes)


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
