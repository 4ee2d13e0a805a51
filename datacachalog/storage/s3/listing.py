"""Listings of a bucket, page by page, as a stream in document order.

ListObjectsV2 tells what is there now, ListObjectVersions all of history. Pages are read
with regular expressions that are learned from each page's first entry, and stay columns as
long as possible: what can be done for a whole page at once costs little per key. An XML
parser would be neither faster nor enough: not every server encodes the control characters
that XML forbids.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from html import unescape
from operator import itemgetter
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from datacachalog.errors import StorageError
from datacachalog.storage.s3.wire import Wire, unquoted

_FIELDS = ("Key", "LastModified", "ETag", "Size", "VersionId")
_FIELD = re.compile(rf"<({'|'.join(_FIELDS)})>([^<]*)</")
_TAG = re.compile(r"<([^<>]*)>([^<]*)")


class Entry(NamedTuple):
    """One listed object or version; a delete marker has neither size nor ETag.

    A tuple, since there are many: it is made three times as fast as a frozen dataclass.
    """

    key: str
    modified: datetime
    etag: str | None
    size: int | None
    version_id: str | None


class Columns(NamedTuple):
    """The entries of one page, field by field, in document order."""

    key: Sequence[str] = ()
    modified: Sequence[datetime] = ()
    etag: Sequence[str | None] = ()
    size: Sequence[int | None] = ()
    version_id: Sequence[str | None] = ()

    def entries(self) -> list[Entry]:
        """Return the same entry by entry."""
        return list(map(Entry, *self))

    def only(self, rows: Sequence[int]) -> "Columns":
        """Return these of the entries."""
        return Columns(
            [self.key[i] for i in rows],
            [self.modified[i] for i in rows],
            [self.etag[i] for i in rows],
            [self.size[i] for i in rows],
            [self.version_id[i] for i in rows],
        )


def list_objects(
    wire: Wire, bucket: str, prefix: str, *, is_flat: bool = False, page_size: int | None = None
) -> Iterator[Columns]:
    """Stream the objects under `prefix` as they are now, page by page.

    `is_flat` leaves out what has a `/` after `prefix`, without listing it.
    """
    query = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
    if is_flat:
        query["delimiter"] = "/"
    for page in _pages(wire, bucket, query, "ListBucketResult", page_size):
        found = page.columns("Contents")
        yield found
        if not page.is_truncated:
            return
        token = page.value("NextContinuationToken")
        if token and token != query.get("continuation-token"):
            query["continuation-token"] = token
        elif found.key and not token:
            query["start-after"] = found.key[-1]
        else:
            raise _stuck(bucket)


def list_versions(
    wire: Wire, bucket: str, prefix: str, *, page_size: int | None = None
) -> Iterator[Entry]:
    """Stream all versions and delete markers under `prefix`: keys ascending, newest first."""
    query = {"versions": "", "prefix": prefix, "encoding-type": "url"}
    for page in _pages(wire, bucket, query, "ListVersionsResult", page_size):
        entries = page.columns("Version", "DeleteMarker").entries()
        if not wire.connection.is_amazon and _is_grouped(entries):
            entries = _interleaved(entries, page.latest())
        yield from entries
        if not page.is_truncated:
            return
        key, version = page.name("NextKeyMarker"), page.value("NextVersionIdMarker")
        if not key and entries:
            key, version = entries[-1].key, entries[-1].version_id or ""
        if not key or (key, version) == (query.get("key-marker"), query.get("version-id-marker")):
            raise _stuck(bucket)
        query["key-marker"] = key
        query.pop("version-id-marker", None)
        if version:
            query["version-id-marker"] = version


def _is_grouped(entries: list[Entry]) -> bool:
    """Tell whether all delete markers come after all versions, and there are both."""
    are_markers = [entry.size is None for entry in entries]
    return any(are_markers) and not all(are_markers) and are_markers == sorted(are_markers)


def _interleaved(entries: list[Entry], latest: set[tuple[str, str]]) -> list[Entry]:
    """Return a page's entries in the order that S3 would list them in.

    Servers that answer through botocore's shapes (moto, LocalStack) put all versions before
    all delete markers. Times must then do, and the flag of the newest.
    """
    return sorted(
        entries,
        key=lambda entry: (
            entry.key.encode("utf-8", "surrogateescape"),
            (entry.key, entry.version_id) not in latest,
            -entry.modified.timestamp(),
        ),
    )


def keeps_history(wire: Wire, bucket: str) -> bool | None:
    """Tell whether `bucket` has, or once had, versioning; None where the server does not say."""
    answer = wire.ask("GET", bucket, query={"versioning": ""})
    if answer.status == 200:
        return b"<Status>" in answer.body
    if answer.status in (403, 404, 405, 501):
        return None
    raise answer.fault(f"s3://{bucket}")


def exists_below(wire: Wire, bucket: str, prefix: str) -> bool:
    """Tell whether anything lies under `prefix`; False where that cannot be known."""
    try:
        return any(page.key for page in list_objects(wire, bucket, prefix, page_size=1))
    except StorageError:
        return False


def _pages(
    wire: Wire, bucket: str, query: dict[str, str], root: str, page_size: int | None
) -> "Iterator[_Page]":
    """Ask for one page after another with what `query` then holds."""
    uri = f"s3://{bucket}/{query['prefix']}"
    needs = "s3:ListBucketVersions" if "versions" in query else "s3:ListBucket"
    if page_size is not None:
        query["max-keys"] = str(page_size)
    while True:
        answer = wire.ask("GET", bucket, query=query)
        if answer.status != 200:
            raise answer.fault(uri, needs=needs)
        text = answer.body.decode("utf-8", "surrogateescape")
        if f"<{root}" not in text:
            raise StorageError(
                f"the server's answer is no S3 listing of {uri}",
                hint="check `endpoint_url`: it should be the S3 API, not a web console",
            )
        yield _Page(text)


def _stuck(bucket: str) -> StorageError:
    return StorageError(f"the listing of s3://{bucket} says it goes on, but not where")


class _Page:
    """The text of one answered page."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._is_quoted = "<EncodingType>url<" in text

    @property
    def is_truncated(self) -> bool:
        """Tell whether another page follows."""
        return "<IsTruncated>true<" in self._text

    def value(self, tag: str) -> str:
        """Return the text of the page's own `tag`, or ''."""
        start = self._text.find(f"<{tag}>")
        if start < 0:
            return ""
        start += len(tag) + 2
        return unescape(self._text[start : self._text.index("<", start)])

    def name(self, tag: str) -> str:
        """Return the text of `tag`, which holds a key, decoded."""
        return self._decoded(self.value(tag))

    def columns(self, *kinds: str) -> Columns:
        """Return the page's entries of `kinds`."""
        try:
            columns = _columns(self._text, kinds)
            if columns is None:
                return Columns()
            keys, modified, etags, sizes, version_ids = columns
            return Columns(
                self._names(keys),
                list(map(datetime.fromisoformat, modified)),
                _etags(etags),
                [int(size) if size else None for size in sizes],
                [version_id or None for version_id in version_ids],
            )
        except ValueError as exc:
            raise StorageError(f"the server's listing cannot be read: {exc}") from exc

    def latest(self) -> set[tuple[str, str]]:
        """Return key and version id of the entries that are flagged as the newest."""
        return {
            (self._decoded(unescape(fields.get("Key", ""))), fields.get("VersionId", ""))
            for _, body in _each("Version", "DeleteMarker").findall(self._text)
            if "<IsLatest>true<" in body
            for fields in (dict(_FIELD.findall(body)),)
        }

    def _names(self, keys: Sequence[str]) -> Sequence[str]:
        """Return keys decoded; nearly always one look tells that all are as they are spelled."""
        text = "\n".join(keys)
        if "&" not in text and not (self._is_quoted and ("%" in text or "+" in text)):
            return keys
        return [self._decoded(unescape(key) if "&" in key else key) for key in keys]

    def _decoded(self, key: str) -> str:
        if self._is_quoted and ("%" in key or "+" in key):
            return unquote_to_bytes(key.replace("+", " ")).decode("utf-8", "surrogateescape")
        return key


def _etags(spelled: Sequence[str]) -> Sequence[str | None]:
    """Return ETags without quotes; those of a whole page at once, where all have them."""
    text = "\n".join(spelled)
    for quote, char in (("&quot;", "&"), ('"', '"')):
        if text.startswith(quote) and text.endswith(quote):
            found = text[len(quote) : -len(quote)].split(f"{quote}\n{quote}")
            # Each begins and ends with a quote, and there is none besides.
            if (
                len(found) == len(spelled)
                and text.count(char) == 2 * len(spelled)
                and (char == '"' or '"' not in text)
                and "" not in found
            ):
                return found
    return [unquoted(etag.replace("&quot;", '"')) for etag in spelled]


def _columns(text: str, kinds: tuple[str, ...]) -> list[Sequence[str]] | None:
    """Return key, time, ETag, size and version id of all entries, as spelled; '' for none.

    One pass with a pattern made from the first entry of each kind: tag by tag, or, where
    entries differ in tags that do not matter, field by field. Where that does not find
    every entry either, each entry is read by itself. None where there are no entries.
    """
    count = sum(text.count(f"<{kind}>") for kind in kinds)
    if not count:
        return None
    layouts = [layout for kind in kinds if (layout := _layout(text, kind))]
    if all("Key" in layout.names and len(layout.names) > 1 for layout in layouts):
        for spelling in ("exact", "loose"):
            pattern = "|".join(getattr(layout, spelling) for layout in layouts)
            found = re.compile(pattern, re.DOTALL).findall(text)
            if len(found) == count:
                return _reordered(found, [layout.names for layout in layouts])
    fields = (dict(_FIELD.findall(body)) for _, body in _each(*kinds).findall(text))
    rows = [[each.get(name, "") for name in _FIELDS] for each in fields]
    if len(rows) != count:
        raise ValueError("an entry has no end")
    return list(zip(*rows, strict=True))


def _each(*kinds: str) -> "re.Pattern[str]":
    return re.compile(rf"<({'|'.join(kinds)})>(.*?)</\1>", re.DOTALL)


class _Layout(NamedTuple):
    """What entries of one kind look like: the order of their fields, and patterns for them."""

    names: list[str]
    exact: str
    loose: str


def _layout(text: str, kind: str) -> _Layout | None:
    """Return what the first entry of `kind` looks like."""
    start = text.find(f"<{kind}>")
    if start < 0:
        return None
    end = text.find(f"</{kind}>", start)
    tags = _TAG.findall(text, start, end)
    names = [tag for tag, _ in tags if tag in _FIELDS]
    # An entry that lacks a field takes it from the next one; the count then tells.
    fields = "".join(f".*?<{name}>([^<]*)</{name}>" for name in names)
    return _Layout(
        names,
        exact="".join(map(_exact, tags)) + f"</{kind}>",
        loose=f"<{kind}>{fields}.*?</{kind}>",
    )


def _exact(tag_and_text: tuple[str, str]) -> str:
    """Return a pattern of this very tag, with any text after it where one may differ."""
    tag, text = tag_and_text
    if tag in _FIELDS:
        return f"<{tag}>([^<]*)"
    is_end = tag.startswith("/") or tag.endswith("/")
    return re.escape(f"<{tag}>") + (re.escape(text) if is_end else "[^<]*")


def _reordered(found: Sequence[Sequence[str]], layouts: list[list[str]]) -> list[Sequence[str]]:
    """Return the groups of all matches as columns in the order of `_FIELDS`."""
    if len(layouts) == 1:
        nothing = ("",) * len(found)
        places = [layouts[0].index(n) if n in layouts[0] else None for n in _FIELDS]
        return [nothing if at is None else [row[at] for row in found] for at in places]
    getters = []
    start = 0
    for names in layouts:
        # The last place of the widened row below is always empty.
        places = [start + names.index(name) if name in names else -1 for name in _FIELDS]
        getters.append((start + names.index("Key"), itemgetter(*places)))
        start += len(names)
    (first, get_first), (_, get_second) = getters
    rows = ((get_first if row[first] else get_second)((*row, "")) for row in found)
    return list(zip(*rows, strict=True))
