"""What a glob matches, by obstore's listings; a doubt where they do not prove it.

obstore strips a `/` that begins or ends a key, sends each prefix as a folder, and takes
for a listing's end whatever does not say that it goes on. So keys must rise strictly, the
last keys must come once more from a second request, and at a bucket's root it is asked
whether keys begin with a `/`.
"""

import queue
import re
import threading
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from operator import lt
from typing import TYPE_CHECKING, Any, TypeVar, cast

from datacachalog import globs, relpath
from datacachalog.model import RemoteObject

if TYPE_CHECKING:
    from arro3.core import Array, RecordBatch

PAGE = 1000
_ODD = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]|\A/|/\Z|\A\Z|//|(?:\A|/)\.\.?(?:/|\Z)")
_HIGHEST = "\U0010fffd"  # the last character that is one
_MOST_BELOW = 4 * PAGE
"""How many keys in folders below may be passed over for a pattern that has none."""

T = TypeVar("T")

Pages = Callable[[str, str | None], Iterator["RecordBatch"]]
"""Starts a listing of a folder (without its slash) behind a key, in batches of `PAGE`."""


class DoubtError(Exception):
    """Obstore cannot tell, or what it tells is not proven: the complete way must be asked."""


def is_plain(key: str) -> bool:
    r"""Tell whether obstore can express `key` exactly.

    >>> [key for key in ("a b/%20?#.", "a//b", "/a", "a/", "a/../b", "a\n") if is_plain(key)]
    ['a b/%20?#.']
    """
    # Nearly always nothing is unusual, and a few looks tell in a third of the time.
    if (
        key.isprintable()
        and key[:1] not in ("", "/", ".")
        and key[-1] != "/"
        and "//" not in key
        and "/." not in key
    ):
        return True
    return _ODD.search(key) is None


def list_glob(
    pages: Pages,
    exists: Callable[[str], bool],
    bucket: str,
    glob: globs.Glob,
    known: Container[str],
) -> list[RemoteObject]:
    """Return what `glob` matches in `bucket`; raise `DoubtError` where that is not proven.

    `exists` tells whether an object has a key: an empty entry may be a folder marker, unless
    its URI is `known`.
    """
    listing = _Listing(pages, glob)
    found: list[RemoteObject] = []
    empty: list[RemoteObject] = []
    for batch, keys in listing.walk():
        page = _matching(batch, keys, bucket, glob)
        found += page
        empty += [obj for obj in page if not obj.size and obj.uri not in known]
    if len(empty) > listing.pages_read:
        raise DoubtError("there are many empty entries")
    below = len(bucket) + 6
    markers = {obj.uri for obj in empty if not exists(obj.uri[below:])}
    return [obj for obj in found if obj.uri not in markers] if markers else found


def _matching(
    batch: "RecordBatch", keys: list[str], bucket: str, glob: globs.Glob
) -> list[RemoteObject]:
    from arro3.core import DataType

    columns: list[list[Any]] = [
        keys,
        _column(batch["size"]),
        # Text of ISO 8601 is read in half the time that arro3 takes to make datetimes.
        _column(batch["last_modified"].cast(DataType.utf8())),
        _column(batch["e_tag"]),
    ]
    if not all(map(glob.matches, keys)):
        rows = [i for i, key in enumerate(keys) if glob.matches(key)]
        columns = [[column[i] for i in rows] for column in columns]
    keys, sizes, times, etags = columns
    below = len(glob.fixed_prefix)
    uris = map(f"s3://{bucket}/".__add__, keys)
    relpaths = relpath.encode_all([key[below:] for key in keys])
    # As `unquoted` does: a call for each would take longer than all else here but times.
    etags = [(etag.strip('"') or None) if etag else None for etag in etags]
    modified = map(datetime.fromisoformat, times)
    return list(map(RemoteObject, uris, relpaths, sizes, modified, etags))


@dataclass(slots=True)
class _Listing:
    """One pass over the keys that may match, in order."""

    pages: Pages
    glob: globs.Glob
    pages_read: int = 0
    _last: str = ""
    _recent: list[str] = field(default_factory=list)
    _passed_over: int = 0

    def walk(self) -> Iterator[tuple["RecordBatch", list[str]]]:
        """Give batch after batch, and its keys; raise `DoubtError` at what is not proven."""
        folder, prefix = self.glob.fixed_prefix, self.glob.listing_prefix
        if folder and not is_plain(folder[:-1]):
            raise DoubtError(f"{folder!r} cannot be listed")
        start = None if prefix == folder else _just_before(prefix)
        if not folder and prefix and (start is None or start[0] <= "/"):
            raise DoubtError("keys may begin with a slash")
        while True:
            self._recent = []
            behind = None
            pages = self.pages(folder[:-1], start)
            if prefix == folder and not self.glob.is_flat:  # else it may end before its last page
                pages = _one_ahead(pages)
            for batch in pages:
                keys = _keys(batch)
                self._check(keys, start)
                yield batch, keys
                if prefix != folder and keys[-1] > prefix and not keys[-1].startswith(prefix):
                    return
                behind = self._behind_folder(keys)
                if behind is not None:
                    break
            if behind is None:
                return self._confirm(start)
            start = behind

    def _check(self, keys: list[str], start: str | None) -> None:
        """Check that keys rise, behind what came before, and lie in the folder."""
        folder = self.glob.fixed_prefix
        self.pages_read += 1
        if self.pages_read == 1 and not self.glob.listing_prefix:
            self._check_root(keys)
        if keys[0] <= max(self._last, start or "") or not all(map(lt, keys, keys[1:])):
            raise DoubtError("keys do not rise")
        # The folder's own marker is `folder/`, which nothing else can be.
        inside = keys[1:] if keys[0] == folder[:-1] else keys
        if not all(key.startswith(folder) for key in (*inside[:1], *inside[-1:])):
            raise DoubtError(f"keys lie outside {folder!r}")
        self._last = keys[-1]
        self._recent = [*self._recent, *keys[-4:]][-4:]

    def _behind_folder(self, keys: list[str]) -> str | None:
        """Return where to go on where the last of `keys` lies in a folder that cannot match."""
        folder = self.glob.fixed_prefix
        cut = keys[-1].find("/", len(folder))
        if not self.glob.is_flat or cut < 0 or len(keys) < PAGE:
            return None
        self._passed_over += sum("/" in key[len(folder) :] for key in keys)
        if self._passed_over > _MOST_BELOW:
            raise DoubtError("there is more in folders below than beside them")
        return f"{keys[-1][:cut]}/{_HIGHEST}"

    def _check_root(self, keys: list[str]) -> None:
        """Check that no key begins with a `/`: it would be listed without.

        Such keys sort right before `0`, so they would lie before the first key behind that.
        """
        first = self._first_behind("0")
        if first not in keys:
            raise DoubtError("keys may begin with a slash")
        before = keys[: keys.index(first)]
        if before and (before[-1] >= "/" or self._first_behind(before[-1]) != first):
            raise DoubtError("keys may begin with a slash")

    def _first_behind(self, key: str) -> str | None:
        batch = next(self.pages("", key), None)
        return None if batch is None else _keys(batch)[0]

    def _confirm(self, start: str | None) -> None:
        """Ask for the last keys once more: they, and nothing behind them, must come.

        What is no listing, or ends too early, looks to obstore like a listing that ended.
        """
        if not self._recent:
            raise DoubtError("nothing is listed")
        behind = self._recent[-2] if len(self._recent) > 1 else start
        batch = next(self.pages(self.glob.fixed_prefix[:-1], behind), None)
        keys = [] if batch is None else _keys(batch)
        if not keys or keys != self._recent[-len(keys) :]:
            raise DoubtError("the listing did not end where it ended before")


def _one_ahead(items: Iterator[T]) -> Iterator[T]:
    """Give the items, each fetched by another thread while the one before it is used."""
    fetched: queue.SimpleQueue[tuple[list[T], BaseException | None]] = queue.SimpleQueue()
    room = threading.Semaphore(1)
    is_over = threading.Event()

    def fetch() -> None:
        try:
            for item in items:
                room.acquire()
                if is_over.is_set():
                    return
                fetched.put(([item], None))
        except BaseException as exc:  # noqa: BLE001 - raised where it is waited for
            fetched.put(([], exc))
        else:
            fetched.put(([], None))

    threading.Thread(target=fetch, daemon=True, name="dcl-listing").start()
    try:
        while True:
            found, error = fetched.get()
            if error is not None:
                raise error
            if not found:
                return
            room.release()
            yield found[0]
    finally:
        is_over.set()
        room.release()


def _keys(batch: "RecordBatch") -> list[str]:
    return _column(batch["path"])


def _column(array: "Array") -> list[Any]:
    return cast("list[Any]", array.to_pylist())  # its annotation says something of numpy


def _just_before(prefix: str) -> str | None:
    """Return a key that sorts before all that begin with `prefix`, and after nearly all others."""
    code = ord(prefix[-1]) - 1
    if 0xD800 <= code <= 0xDFFF:
        code = 0xD7FF
    found = f"{prefix[:-1]}{chr(max(code, 0))}~"
    return found if is_plain(found) else None
