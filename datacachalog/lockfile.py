"""`catalog.lock`: exactly which objects each dataset is, as text that merges.

JSON lines, UTF-8, sorted, byte for byte the same for the same content:

    {"catalog_lock":"1.0"}
    {"dataset":"orders","digest":"…","pin":"version","bucket":"s3://lake","prefix":"orders/"}
    {"key":"orders/2026/a.parquet","version_id":"…","etag":"…","size":1,"modified":"…","blake3":"…"}

A head per dataset, then one line per file, by key. `pin` says what holds a file: its
version id, its ETag (the bucket keeps no history), or only its hash (a local file).
`path` is added to a line where a file lands elsewhere than its key below `prefix` says.
Nothing here depends on the machine or the time of the run. Used by `catalog` and `line`;
knows values and text, no storage.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

from blake3 import blake3
from filelock import FileLock

from datacachalog.cache import files
from datacachalog.cache.files import FileStat
from datacachalog.errors import CacheError, LockError
from datacachalog.garbage import collection_paused
from datacachalog.model import EPOCH, Ago, AsOf, Latest, Pin, RemoteObject, VersionId
from datacachalog.spec import Dataset

FORMAT = (1, 0)

_HEAD = "catalog_lock"
_CONFLICT_MARKS = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")


class Held(Enum):
    """What holds a locked dataset's files to their bytes."""

    VERSION = "version"
    ETAG = "etag"
    HASH = "hash"


class LockMode(Enum):
    """What a lock means to a run.

    `OBEY`: use what fits the catalog, resolve and add the rest. `LOCKED`: all must fit.
    `FROZEN`: use it as it is, ask nothing. `IGNORE`: as if there were none.
    """

    OBEY = "obey"
    LOCKED = "locked"
    FROZEN = "frozen"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class LockedDataset:
    """One dataset of a lock.

    `digest` is `digest_of` its dataset. `objects` are sorted by relpath; `hashes` maps
    relpath to blake3 (64 hex digits) where a sync has seen the bytes.
    """

    name: str
    digest: str
    held: Held
    objects: tuple[RemoteObject, ...] = field(repr=False)
    hashes: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Lock:
    """A whole lock: datasets by name."""

    datasets: Mapping[str, LockedDataset] = field(default_factory=dict)

    def with_datasets(self, changed: Iterable[LockedDataset]) -> "Lock":
        """Return a lock in which `changed` replace their namesakes."""
        return Lock({**self.datasets, **{d.name: d for d in changed}})

    def only(self, names: Iterable[str]) -> "Lock":
        """Return a lock without the datasets that are not named."""
        return Lock({n: self.datasets[n] for n in names if n in self.datasets})


def held_by(objects: Iterable[RemoteObject], endpoint: str) -> Held:
    """Return what holds these objects: version ids if all have one, else ETags, else hashes."""
    if endpoint == "file":
        return Held.HASH
    ids = {obj.version_id for obj in objects}
    return Held.ETAG if ids & {None, "null"} else Held.VERSION


def locked_dataset(
    dataset: Dataset, pin: Pin, objects: Iterable[RemoteObject], endpoint: str, root: Path
) -> LockedDataset:
    """Return the lock's entry for what a dataset resolved to, without hashes yet.

    Local files lose what holds on this machine only: inode, time and absolute path.
    """
    objects = tuple(objects)
    held = held_by(objects, endpoint)
    if held is Held.HASH:
        objects = tuple(_portable(obj, root) for obj in objects)
    return LockedDataset(dataset.name, digest_of(dataset, pin), held, objects)


def _portable(obj: RemoteObject, root: Path) -> RemoteObject:
    path = os.path.relpath(obj.uri.removeprefix("file://"), root).replace(os.sep, "/")
    return replace(obj, uri=f"./{path}", etag=None, version_id=None, modified=EPOCH)


def digest_of(dataset: Dataset, pin: Pin) -> str:
    """Return a hash of what determines which objects a dataset is, on any machine.

    Sources, excludes, the pin and the storage's name count; descriptions, owners, readers,
    paths and endpoints (which differ between machines) do not.
    """
    parts = [list(dataset.sources), sorted(dataset.exclude), _pin_text(pin), dataset.storage]
    return blake3(json.dumps(parts).encode()).hexdigest()[:32]


def _pin_text(pin: Pin) -> str:
    match pin:
        case AsOf(at):
            return f"as of {at.astimezone(UTC).isoformat()}"
        case Ago(delta):
            return f"ago {delta.total_seconds()}"
        case VersionId(version_id):
            return f"version {version_id}"
        case Latest():
            return "latest"


# --- text ---------------------------------------------------------------------------


def render(lock: Lock) -> str:
    """Return the lock's text: the same bytes for the same content."""
    lines = [_line({_HEAD: f"{FORMAT[0]}.{FORMAT[1]}"})]
    for name in sorted(lock.datasets):
        lines.extend(_dataset_lines(lock.datasets[name]))
    return "\n".join(lines) + "\n"


def _dataset_lines(dataset: LockedDataset) -> Iterator[str]:
    bucket = _bucket_of(dataset)
    skip = len(bucket) + 1
    prefix = _prefix_of(dataset, skip)
    yield _line(
        {
            "dataset": dataset.name,
            "digest": dataset.digest,
            "pin": dataset.held.value,
            "bucket": bucket,
            "prefix": prefix,
        }
    )
    for obj in sorted(dataset.objects, key=lambda o: o.uri):
        yield _line(_row(obj, dataset.hashes.get(obj.relpath), skip, prefix))


def _row(obj: RemoteObject, blake3: str | None, skip: int, prefix: str) -> dict[str, object]:
    key = obj.uri[skip:]
    row: dict[str, object] = {"key": key}
    if key != prefix + obj.relpath:
        row["path"] = obj.relpath
    if obj.version_id is not None:
        row["version_id"] = obj.version_id
    if obj.etag is not None:
        row["etag"] = obj.etag
    row["size"] = obj.size
    if obj.modified != EPOCH:
        row["modified"] = obj.modified.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if blake3 is not None:
        row["blake3"] = blake3
    return row


def _line(row: Mapping[str, object]) -> str:
    # ASCII: keys hold what they like, and an editor or a merge must not change it.
    return json.dumps(row, ensure_ascii=True, separators=(",", ":"))


def _bucket_of(dataset: LockedDataset) -> str:
    """Return scheme and bucket, common to all files of a dataset (one dataset, one storage)."""
    buckets = {_bucket(obj.uri) for obj in dataset.objects}
    return buckets.pop() if len(buckets) == 1 else ""


def _bucket(uri: str) -> str:
    if uri.startswith("./"):
        return "."
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def _prefix_of(dataset: LockedDataset, skip: int) -> str:
    for obj in dataset.objects:
        key = obj.uri[skip:]
        if key.endswith(obj.relpath):
            return key[: len(key) - len(obj.relpath)]
    return ""


def parse(text: str, *, where: str = "catalog.lock") -> Lock:
    """Return the lock that `text` holds.

    Raises `LockError` naming `where` and the line: an unresolved merge, a newer major
    format, or a line that is not what this format has.
    """
    with collection_paused():
        return _parse(text.splitlines(), where)


def _parse(lines: list[str], where: str) -> Lock:
    rows = _rows(lines, where)
    _check_format(rows[0] if rows else {}, where)
    datasets: dict[str, LockedDataset] = {}
    heads = [i for i, row in enumerate(rows) if "dataset" in row]
    if rows[1:] and heads[:1] != [1]:
        raise LockError(f"{where}:2: a dataset's head is missing", hint=_REMAKE)
    for start, stop in zip(heads, [*heads[1:], len(rows)], strict=True):
        try:
            dataset = _dataset(rows[start], rows[start + 1 : stop])
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise LockError(
                f"{where}: dataset '{rows[start]['dataset']}' (line {start + 1}) cannot be read:"
                f" {exc}",
                hint=_REMAKE,
            ) from exc
        if dataset.name in datasets:
            raise LockError(f"{where}:{start + 1}: '{dataset.name}' is locked twice", hint=_REMAKE)
        datasets[dataset.name] = dataset
    return Lock(datasets)


_REMAKE = "take one side of the file, then run `dcl lock`"


def _rows(lines: list[str], where: str) -> list[dict[str, Any]]:
    try:
        # One call for all lines: several times faster than one for each.
        rows: list[dict[str, Any]] = json.loads(f"[{','.join(lines)}]")
        if all(type(row) is dict for row in rows) and len(rows) == len(lines):
            return rows
    except ValueError:
        pass
    for number, line in enumerate(lines, 1):
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
    if found is None or not major.isdigit():
        raise LockError(f"{where}:1: this is no catalog lock", hint=_REMAKE)
    if int(major) > FORMAT[0]:
        raise LockError(
            f"{where}:1: the lock has format {found}, this `dcl` reads up to {FORMAT[0]}",
            hint="upgrade datacachalog",
        )


def _dataset(head: Mapping[str, Any], rows: list[dict[str, Any]]) -> LockedDataset:
    base, skip = f"{head['bucket']}/", len(head["prefix"])
    parse_time = datetime.fromisoformat
    objects = [
        RemoteObject(
            base + row["key"],
            row.get("path") or row["key"][skip:],
            row["size"],
            parse_time(row["modified"]) if "modified" in row else EPOCH,
            row.get("etag"),
            row.get("version_id"),
        )
        for row in rows
    ]
    hashes = {
        obj.relpath: row["blake3"]
        for obj, row in zip(objects, rows, strict=True)
        if "blake3" in row
    }
    objects.sort(key=lambda o: o.relpath)
    held = Held(head["pin"])
    return LockedDataset(head["dataset"], head["digest"], held, tuple(objects), hashes)


# --- files --------------------------------------------------------------------------


class LockFile:
    """The lock beside one catalog, read once per change of the file. Thread-safe.

    `mode` says what it means to runs; where it is ignored, `read` finds none.
    """

    def __init__(self, path: Path, mode: LockMode = LockMode.OBEY) -> None:
        self.path = path
        self.mode = mode
        self._seen: tuple[FileStat, Lock] | None = None

    def read(self) -> Lock | None:
        """Return the lock that counts, or None if there is none.

        Raises `LockError` if one is demanded and missing, or cannot be read.
        """
        if self.mode is LockMode.IGNORE:
            return None
        lock = self.load()
        if lock is None and self.mode is not LockMode.OBEY:
            raise LockError(f"there is no '{self.path.name}'", hint="run `dcl lock`")
        return lock

    def load(self) -> Lock | None:
        """Return the lock as it lies there, whatever the mode."""
        stat = files.look(str(self.path))
        if stat is None:
            return None
        if self._seen is not None and self._seen[0] == stat:
            return self._seen[1]
        lock = read(self.path)
        if lock is not None:
            self._seen = (stat, lock)
        return lock

    def update(self, entries: Iterable[LockedDataset | None]) -> bool:
        """Put entries into the lock as it is by now; return whether it changed.

        Several runs may add to one lock: each reads again under a lock file, then renames.
        """
        changed = [entry for entry in entries if entry is not None]
        return bool(changed) and self.rewrite(lambda lock: lock.with_datasets(changed))

    def rewrite(self, change: Callable[[Lock], Lock]) -> bool:
        """Replace the lock by what `change` makes of it; return whether it is different."""
        guard = self.path.parent / ".datacachalog" / f"{self.path.name}.guard"
        guard.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(guard), thread_local=False):
            return write(self.path, change(self.load() or Lock()))


def read(path: Path) -> Lock | None:
    """Return the lock at `path`, or None if there is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise LockError(f"'{path}' cannot be read: {exc}") from exc
    return parse(text, where=path.name)


def write(path: Path, lock: Lock) -> bool:
    """Replace the lock atomically; return False if it held exactly this already."""
    text = render(lock).encode()
    try:
        if path.read_bytes() == text:
            return False
    except FileNotFoundError:
        pass
    temp = path.with_name(f".{files.temp_name()}")
    try:
        temp.write_bytes(text)
        os.replace(temp, path)
    except OSError as exc:
        files.remove(str(temp))
        raise CacheError(f"'{path}' cannot be written: {exc.strerror}") from exc
    return True
