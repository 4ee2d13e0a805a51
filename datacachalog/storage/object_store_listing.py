"""What a glob matches, by obstore's listings; a doubt where they do not prove it.

obstore strips a `/` that begins or ends a key, sends each prefix as a folder, and takes
for a listing's end whatever does not say that it goes on. So keys must rise strictly, the
last keys must come once more from a second request, and at a bucket's root it is asked
whether keys begin with a `/`.
"""

import re
import threading
from collections.abc import Callable, Container, Iterable, Iterator
from datetime import datetime
from operator import lt
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar, cast

from datacachalog import globs
from datacachalog.model import RemoteObject
from datacachalog.storage.s3.listing import Columns

if TYPE_CHECKING:
    from arro3.core import Array, RecordBatch
    from obstore.store import S3Store

PAGE = 1000
_ODD = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]|\A/|/\Z|\A\Z|//|(?:\A|/)\.\.?(?:/|\Z)")
_HIGHEST = "\U0010fffd"  # the last character that is one
_MOST_BELOW = 4 * PAGE
"""How many keys in folders below may be passed over for a pattern that has none."""

T = TypeVar("T")


class DoubtError(Exception):
    """Obstore cannot tell, or what it tells is not proven: the complete way must be asked."""


def is_plain(key: str) -> bool:
    r"""Tell whether obstore can express `key` exactly.

    >>> [key for key in ("a b/%20?#.", "a//b", "/a", "a/", "a/../b", "a\n") if is_plain(key)]
    ['a b/%20?#.']
    """
    return _ODD.search(key) is None


def list_glob(
    store: "S3Store", bucket: str, glob: globs.Glob, known: Container[str]
) -> list[RemoteObject]:
    """Return what `glob` matches in `bucket`; raise `DoubtError` where that is not proven.

    An empty entry may be a folder marker, unless its URI is `known`: a HEAD tells.
    """
    import obstore

    def is_marker(obj: RemoteObject) -> bool:
        try:
            call(lambda: obstore.head(store, obj.uri[len(bucket) + 6 :]))
        except FileNotFoundError:
            return True
        return False

    listing = _Listing(store, glob)
    found: list[RemoteObject] = []
    for batch, keys in listing.batches():
        found += _columns(batch, keys).matching(bucket, glob)
    empty = [obj for obj in found if not obj.size and obj.uri not in known]
    if len(empty) > listing.count:
        raise DoubtError("there are many empty entries")
    markers = {obj.uri for obj in empty if is_marker(obj)}
    return [obj for obj in found if obj.uri not in markers] if markers else found


def _columns(batch: "RecordBatch", keys: list[str]) -> Columns:
    from arro3.core import DataType

    # Text of ISO 8601 is read in half the time that arro3 takes to make datetimes.
    times = _column(batch["last_modified"].cast(DataType.utf8()))
    # As `unquoted` does: a call for each would take longer than all else here but times.
    etags = [(etag.strip('"') or None) if etag else None for etag in _column(batch["e_tag"])]
    return Columns(keys, _column(batch["size"]), list(map(datetime.fromisoformat, times)), etags)


class _Listing:
    """One pass over the keys that may match, in order."""

    def __init__(self, store: "S3Store", glob: globs.Glob) -> None:
        self.count = 0  # batches so far
        self._store = store
        self._glob = glob
        self._folder = glob.fixed_prefix
        self._prefix = glob.listing_prefix
        self._recent: list[str] = []
        self._passed_over = 0

    def batches(self) -> Iterator[tuple["RecordBatch", list[str]]]:
        """Give batch after batch, and its keys; raise `DoubtError` at what is not proven."""
        folder, prefix = self._folder, self._prefix
        if folder and not is_plain(folder[:-1]):
            raise DoubtError(f"{folder!r} cannot be listed")
        start = None if prefix == folder else _just_before(prefix)
        if not folder and prefix and (start is None or start[0] <= "/"):
            raise DoubtError("keys may begin with a slash")
        last = ""
        while True:
            self._recent = []
            behind = None
            pages = self._pages(start)
            if prefix == folder and not self._glob.is_flat:  # else it may end before its last page
                pages = _one_ahead(pages)
            for batch in pages:
                keys = _column(batch["path"])
                self._check(keys, max(last, start or ""))
                last = keys[-1]
                yield batch, keys
                if prefix != folder and last > prefix and not last.startswith(prefix):
                    return
                behind = self._behind_folder(keys)
                if behind is not None:
                    break
            if behind is None:
                return self._confirm(start)
            start = behind

    def _pages(self, behind: str | None) -> Iterator["RecordBatch"]:
        """List the folder behind a key, in batches of `PAGE`."""
        import obstore

        folder = self._folder[:-1] or None
        return call_each(
            lambda: obstore.list(
                self._store, folder, offset=behind, chunk_size=PAGE, return_arrow=True
            )
        )

    def _check(self, keys: list[str], behind: str) -> None:
        """Check that keys rise, behind what came before, and lie in the folder."""
        folder = self._folder
        self.count += 1
        if self.count == 1 and not self._prefix:
            self._check_root(keys)
        if keys[0] <= behind or not all(map(lt, keys, keys[1:])):
            raise DoubtError("keys do not rise")
        # The folder's own marker is `folder/`, which nothing else can be.
        inside = keys[1:] if keys[0] == folder[:-1] else keys
        if not all(key.startswith(folder) for key in (*inside[:1], *inside[-1:])):
            raise DoubtError(f"keys lie outside {folder!r}")
        self._recent = [*self._recent, *keys[-4:]][-4:]

    def _behind_folder(self, keys: list[str]) -> str | None:
        """Return where to go on where the last of `keys` lies in a folder that cannot match."""
        below = len(self._folder)
        cut = keys[-1].find("/", below)
        if not self._glob.is_flat or cut < 0 or len(keys) < PAGE:
            return None
        self._passed_over += sum("/" in key[below:] for key in keys)
        if self._passed_over > _MOST_BELOW:
            raise DoubtError("there is more in folders below than beside them")
        return f"{keys[-1][:cut]}/{_HIGHEST}"

    def _check_root(self, keys: list[str]) -> None:
        """Check that no key begins with a `/`: it would be listed without.

        Such keys sort right before `0`, so they would lie before the first key behind that.
        """
        first = self._next_page("0")[:1]
        before = keys[: keys.index(first[0])] if first and first[0] in keys else None
        if before is None or (
            before and (before[-1] >= "/" or self._next_page(before[-1])[:1] != first)
        ):
            raise DoubtError("keys may begin with a slash")

    def _next_page(self, behind: str | None) -> list[str]:
        batch = next(self._pages(behind), None)
        return [] if batch is None else _column(batch["path"])

    def _confirm(self, start: str | None) -> None:
        """Ask for the last keys once more: they, and nothing behind them, must come.

        What is no listing, or ends too early, looks to obstore like a listing that ended.
        """
        if not self._recent:
            raise DoubtError("nothing is listed")
        keys = self._next_page(self._recent[-2] if len(self._recent) > 1 else start)
        if not keys or keys != self._recent[-len(keys) :]:
            raise DoubtError("the listing did not end where it ended before")


def _column(array: "Array") -> list[Any]:
    return cast("list[Any]", array.to_pylist())  # its annotation says something of numpy


def _just_before(prefix: str) -> str | None:
    """Return a key that sorts before all that begin with `prefix`, and after nearly all others."""
    code = ord(prefix[-1]) - 1
    if 0xD800 <= code <= 0xDFFF:
        code = 0xD7FF
    found = f"{prefix[:-1]}{chr(max(code, 0))}~"
    return found if is_plain(found) else None


# --- calls of obstore, which hold up Ctrl-C in the main thread ----------------------------


def call(action: Callable[[], T]) -> T:
    """Return what `action` returns; in the main thread, have another thread do it."""
    is_main = threading.current_thread() is threading.main_thread()
    return _start(action)() if is_main else action()


def call_each(begin: Callable[[], Iterable[T]]) -> Iterator[T]:
    """Give each item of what `begin` starts, each by a `call`."""
    items = call(lambda: iter(begin()))
    while (item := call(lambda: next(items, None))) is not None:
        yield item


def _one_ahead(items: Iterator[T]) -> Iterator[T]:
    """Give the items, each fetched by another thread while the one before it is used."""
    upcoming = _start(lambda: next(items, None))
    while (item := upcoming()) is not None:
        upcoming = _start(lambda: next(items, None))
        yield item


def _start(action: Callable[[], T]) -> Callable[[], T]:
    """Run `action` in a thread; return what waits for it and gives its result, or raises.

    Waiting hears Ctrl-C, and the exit does not wait. `concurrent.futures` takes 14 ms to load.
    """
    done: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            done.put((action(), None))
        except BaseException as exc:  # noqa: BLE001 - raised where it is waited for
            done.put((None, exc))

    def result() -> T:
        value, error = done.get()
        if error is not None:
            raise error
        return cast(T, value)

    threading.Thread(target=run, daemon=True).start()
    return result
