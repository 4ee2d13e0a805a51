"""What a bucket lists, rendered once and kept in a file: pages are slices of it.

An index is two files: the XML of all entries one after another, and where each begins. A
page of a listing is then a few slices of mapped memory, so that a listing costs the
server next to nothing. Keys are plain (`[a-z0-9/._-]`): nothing needs escaping, and
`encoding-type=url` changes nothing.
"""

import mmap
import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

_KEY = b"<Key>"
_KEY_END = b"</Key>"
_VERSION = b"<VersionId>"


@dataclass(frozen=True, slots=True)
class Listed:
    """One object or version as the listing shows it; `size` is None for a delete marker.

    `modified` is in whole seconds since the epoch.
    """

    key: str
    modified: int
    size: int | None
    version_id: str = ""
    is_latest: bool = True

    @property
    def etag(self) -> str:
        """Return the ETag that nginx gives to a file of this time and size."""
        return f"{self.modified:x}-{self.size or 0:x}"

    def render(self) -> bytes:
        """Return the entry as ListObjects or, with a version id, ListObjectVersions has it."""
        time = f"{datetime.fromtimestamp(self.modified, UTC):%Y-%m-%dT%H:%M:%S}.000Z"
        version = ""
        if self.version_id:
            flag = "true" if self.is_latest else "false"
            version = f"<VersionId>{self.version_id}</VersionId><IsLatest>{flag}</IsLatest>"
        kind = "Version" if self.version_id else "Contents"
        content = (
            f"<ETag>&quot;{self.etag}&quot;</ETag><Size>{self.size}</Size>"
            "<StorageClass>STANDARD</StorageClass>"
        )
        if self.size is None:
            kind, content = "DeleteMarker", ""
        text = (
            f"<{kind}><Key>{self.key}</Key>{version}<LastModified>{time}</LastModified>"
            f"{content}</{kind}>"
        )
        return text.encode()


@dataclass(frozen=True, slots=True)
class Page:
    """One page: slices of the index in order, the folders below, and where the next begins."""

    pieces: tuple[memoryview, ...]
    folders: tuple[str, ...]
    next_key: str
    next_version: str

    @property
    def is_truncated(self) -> bool:
        """Tell whether another page follows."""
        return bool(self.next_key)


class Index:
    """The entries of one bucket, sorted by key, read from a mapped file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._starts = array("Q")
        with open(f"{path}.starts", "rb") as starts:
            self._starts.frombytes(starts.read())
        with open(path, "r+b") as file:
            is_empty = os.fstat(file.fileno()).st_size == 0
            self._map = mmap.mmap(-1, 1) if is_empty else mmap.mmap(file.fileno(), 0)
        self._view = memoryview(self._map)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._view.release()
        self._map.close()

    def key(self, i: int) -> str:
        """Return the key of entry `i`."""
        return self._text(i, _KEY)

    def version(self, i: int) -> str:
        """Return the version id of entry `i`, or ''."""
        found = self._map.find(_VERSION, self._starts[i], self._starts[i + 1])
        return self._text(i, _VERSION) if found >= 0 else ""

    def _text(self, i: int, tag: bytes) -> str:
        start = self._map.find(tag, self._starts[i]) + len(tag)
        return self._map[start : self._map.find(b"<", start)].decode()

    def first(self, key: str) -> int:
        """Return the position of the first entry whose key is `key` or comes after it."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self.key(middle) < key:
                low = middle + 1
            else:
                high = middle
        return low

    def replace(self, entry: Listed) -> None:
        """Change the entry of that key in place, for every process that reads the index.

        It must not become longer or shorter.
        """
        i = self.first(entry.key)
        start, end = self._starts[i], self._starts[i + 1]
        text = entry.render()
        assert self.key(i) == entry.key
        assert len(text) == end - start
        self._map[start:end] = text

    def page(self, prefix: str, delimiter: str, after: str, after_version: str, limit: int) -> Page:
        """Return at most `limit` entries and folders below `prefix`, the next after `after`."""
        stop = self.first(_behind(prefix)) if prefix else len(self)
        i = self._position(prefix, delimiter, after, after_version)
        runs: list[tuple[int, int]] = []
        folders: list[str] = []
        last = ("", "")
        count = 0
        if not delimiter:
            end = min(i + limit, stop)
            runs.append((i, end))
            last = (self.key(end - 1), self.version(end - 1)) if end > i else last
            i = end
        while delimiter and i < stop and count < limit:
            key = self.key(i)
            cut = key.find(delimiter, len(prefix))
            count += 1
            if cut >= 0:
                folders.append(key[: cut + 1])
                last = (key[: cut + 1], "")
                i = self.first(_behind(key[: cut + 1]))
                continue
            last = (key, self.version(i))
            runs = (
                [*runs[:-1], (runs[-1][0], i + 1)]
                if runs and runs[-1][1] == i
                else [
                    *runs,
                    (i, i + 1),
                ]
            )
            i += 1
        return Page(
            tuple(self._view[self._starts[a] : self._starts[b]] for a, b in runs),
            tuple(folders),
            *(last if i < stop else ("", "")),
        )

    def _position(self, prefix: str, delimiter: str, after: str, after_version: str) -> int:
        if not after:
            return self.first(prefix)
        if delimiter and after.endswith(delimiter):
            return self.first(_behind(after))
        i = self.first(after)
        if not after_version:
            return self.first(f"{after}\0")
        while i < len(self) and self.key(i) == after and self.version(i) != after_version:
            i += 1
        return i + 1


def _behind(prefix: str) -> str:
    """Return the least text that sorts behind everything that begins with `prefix`."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def write_index(path: str, entries: Iterable[Listed]) -> None:
    """Write the index of `entries`, which come sorted, versions newest first."""
    starts = array("Q", [0])
    with open(path, "wb", buffering=1 << 20) as file:
        for text in _rendered(entries):
            file.write(text)
            starts.append(starts[-1] + len(text))
    with open(f"{path}.starts", "wb") as file:
        file.write(starts.tobytes())


def _rendered(entries: Iterable[Listed]) -> Iterator[bytes]:
    return (entry.render() for entry in entries)
