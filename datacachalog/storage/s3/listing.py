"""Listings of a bucket, page by page, as a stream in document order.

ListObjectsV2 tells what is there now, ListObjectVersions all of history. Pages are read from
the documents as they come: botocore takes ten times as long, and sorts versions and delete
markers apart. A page that is not whole, or does not fit the others, is an `IntegrityError`,
which is asked again: a key that is not seen would be dropped here as gone.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from operator import methodcaller
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_to_bytes

from datacachalog.errors import IntegrityError, StorageError
from datacachalog.storage.s3.client import Answer, Client
from datacachalog.storage.s3.headers import unquoted

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_STAND_IN = 0xF0000  # of a plane for private use
_CONTROLS = {_STAND_IN + code: code for code in range(32)}


class ListedVersion(NamedTuple):
    """One listed object or version; a delete marker has neither size nor ETag.

    A tuple, since there are many: it is made three times as fast as a frozen dataclass.
    """

    key: str
    modified: datetime
    etag: str | None
    size: int | None
    version_id: str | None


class Columns(NamedTuple):
    """The objects of one page, field by field, in document order."""

    key: Sequence[str]
    modified: Sequence[datetime]
    etag: Sequence[str | None]
    size: Sequence[int]

    def only(self, rows: Sequence[int]) -> "Columns":
        """Return these of the entries."""
        return Columns(
            [self.key[i] for i in rows],
            [self.modified[i] for i in rows],
            [self.etag[i] for i in rows],
            [self.size[i] for i in rows],
        )


def list_objects(
    client: Client, bucket: str, prefix: str, *, is_flat: bool = False, page_size: int | None = None
) -> Iterator[Columns]:
    """Stream the objects under `prefix` as they are now, page by page, each key once.

    `is_flat` leaves out what has a `/` after `prefix`, without listing it.
    """
    query = {"Prefix": prefix, "Delimiter": "/" if is_flat else None, "MaxKeys": page_size}
    seen: set[str] = set()
    places: set[tuple[str, ...]] = set()
    while True:
        page = _ask(client, "list_objects_v2", bucket, query)
        found = page.objects(prefix)
        yield _without_repeated(found, seen)
        if not page.is_truncated:
            return
        if token := page.text("NextContinuationToken"):
            place = {"ContinuationToken": token}
        elif found.key and found.key[-1] == max(found.key):
            place = {"StartAfter": found.key[-1]}
        else:
            raise _stuck(bucket)
        query = {**query, "ContinuationToken": None, "StartAfter": None, **place}
        _note_place(places, bucket, *place.values())


def _without_repeated(page: Columns, seen: set[str]) -> Columns:
    """Return the page without keys that were `seen`, which it then adds to."""
    count = len(seen)
    earlier = seen.intersection(page.key)
    seen.update(page.key)
    if len(seen) == count + len(page.key):
        return page
    rows = {key: row for row, key in enumerate(page.key) if key not in earlier}
    return page.only(list(rows.values()))


def list_versions(
    client: Client, bucket: str, prefix: str, *, page_size: int | None = None
) -> Iterator[ListedVersion]:
    """Stream all versions and delete markers under `prefix`: keys ascending, newest first."""
    query = {"Prefix": prefix, "MaxKeys": page_size}
    places: set[tuple[str, ...]] = set()
    while True:
        page = _ask(client, "list_object_versions", bucket, query)
        entries = page.versions(prefix)
        if not client.connection.is_amazon and _is_grouped(entries):
            entries = _interleaved(entries, page.latest())
        yield from entries
        if not page.is_truncated:
            return
        key, version = page.name("NextKeyMarker"), page.text("NextVersionIdMarker")
        if not key and entries:
            key, version = entries[-1].key, entries[-1].version_id or ""
        if not key:
            raise _stuck(bucket)
        query = {**query, "KeyMarker": key, "VersionIdMarker": version or None}
        _note_place(places, bucket, key, version)


def keeps_history(client: Client, bucket: str) -> bool | None:
    """Tell whether `bucket` has, or once had, versioning; None where the server does not say."""
    answer = client.ask("get_bucket_versioning", bucket)
    if answer.status == 200:
        return "Status" in answer.fields
    if answer.status in (403, 404, 405, 501):
        return None
    raise answer.fault(f"s3://{bucket}")


def exists_below(client: Client, bucket: str, prefix: str) -> bool:
    """Tell whether anything lies under `prefix`; False where that cannot be known."""
    try:
        return any(page.key for page in list_objects(client, bucket, prefix, page_size=1))
    except StorageError:
        return False


def _is_grouped(entries: list[ListedVersion]) -> bool:
    """Tell whether all delete markers come after all versions, and there are both."""
    are_markers = [entry.size is None for entry in entries]
    return any(are_markers) and not all(are_markers) and are_markers == sorted(are_markers)


def _interleaved(
    entries: list[ListedVersion], latest: set[tuple[str, str | None]]
) -> list[ListedVersion]:
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


# --- pages ------------------------------------------------------------------------------


def _ask(client: Client, operation: str, bucket: str, query: dict[str, Any]) -> "_Page":
    """Ask for one page."""
    uri = f"s3://{bucket}/{query['Prefix']}"
    is_history = operation == "list_object_versions"
    answer = client.ask(operation, bucket, EncodingType="url", **query)
    if answer.status != 200:
        raise answer.fault(uri, needs="s3:ListBucketVersions" if is_history else "s3:ListBucket")
    return _page(answer, "ListVersionsResult" if is_history else "ListBucketResult", uri)


def _page(answer: Answer, root: str, uri: str) -> "_Page":
    """Return the page that a document holds; raise if it holds none, or not all of it."""
    from xml.etree import ElementTree as ET  # takes 5 ms

    has_stand_ins = False
    try:
        # Of entities, expat limits what they may grow to, and reads none from elsewhere.
        try:
            element = ET.fromstring(answer.page)  # noqa: S314 - so this is safe
        except ET.ParseError:
            # Not every server encodes the control characters of keys, which XML forbids.
            document, count = _CONTROL.subn(_stand_in, answer.page)
            has_stand_ins = count > 0
            element = ET.fromstring(document)  # noqa: S314 - as above
    except ET.ParseError as exc:
        if answer.page and _is_web_page(answer.page):
            raise _no_listing(uri) from exc
        raise IntegrityError(f"the server's listing of {uri} cannot be read: {exc}") from exc
    kind = element.tag.rpartition("}")[2]
    if kind == "Error":
        code, message = (element.findtext(f"{{*}}{name}", "") for name in ("Code", "Message"))
        raise replace(answer, status=500, code=code, message=message).fault(uri)
    if kind != root:
        raise _no_listing(uri)
    return _Page(element, uri, has_stand_ins=has_stand_ins)


def _stand_in(control: "re.Match[bytes]") -> bytes:
    return chr(_STAND_IN + control[0][0]).encode()


def _is_web_page(page: bytes) -> bool:
    start = page.lstrip()[:1000].lower()
    return not start.startswith(b"<") or b"<html" in start


def _no_listing(uri: str) -> StorageError:
    return StorageError(
        f"the server's answer is no S3 listing of {uri}",
        hint="check `endpoint_url`: it should be the S3 API, not a web console",
    )


def _note_place(places: set[tuple[str, ...]], bucket: str, *place: str) -> None:
    """Note from where a listing goes on; raise if it did so before, and would without end."""
    if place in places:
        raise _stuck(bucket)
    places.add(place)


def _stuck(bucket: str) -> IntegrityError:
    return IntegrityError(f"the listing of s3://{bucket} says it goes on, but not where")


class _Page:
    """One page of a listing."""

    def __init__(self, root: "Element", uri: str, *, has_stand_ins: bool) -> None:
        self._root = root
        self._has_stand_ins = has_stand_ins
        self._uri = uri
        self._space = root.tag[: root.tag.rfind("}") + 1]
        self._is_quoted = self.text("EncodingType") == "url"

    @property
    def is_truncated(self) -> bool:
        """Tell whether another page follows."""
        return self.text("IsTruncated") == "true"

    def text(self, tag: str) -> str:
        """Return the text of the page's own `tag`, or ''."""
        return self._root.findtext(f"{self._space}{tag}", "").strip()

    def name(self, tag: str) -> str:
        """Return the text of `tag`, which holds a key, decoded."""
        return self._decoded(self._root.findtext(f"{self._space}{tag}", ""))

    def objects(self, prefix: str) -> Columns:
        """Return the page's objects."""
        entries = self._entries("Contents")
        try:
            return Columns(
                self._keys(entries, prefix),
                self._times(entries),
                self._etags(entries),
                list(map(_size, self._column(entries, "Size"))),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise self._unreadable(exc) from exc

    def versions(self, prefix: str) -> list[ListedVersion]:
        """Return the page's versions and delete markers."""
        entries = self._entries("Version", "DeleteMarker")
        marker = f"{self._space}DeleteMarker"
        size, version_id = f"{self._space}Size", f"{self._space}VersionId"
        try:
            return list(
                map(
                    ListedVersion,
                    self._keys(entries, prefix),
                    self._times(entries),
                    self._etags(entries),
                    [None if each[""] == marker else _size(each[size]) for each in entries],
                    [each.get(version_id) or None for each in entries],
                )
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise self._unreadable(exc) from exc

    def latest(self) -> set[tuple[str, str | None]]:
        """Return key and version id of the entries that are flagged as the newest."""
        key, version_id, flag = (f"{self._space}{n}" for n in ("Key", "VersionId", "IsLatest"))
        return {
            (self._decoded(each[key] or ""), each.get(version_id) or None)
            for each in self._entries("Version", "DeleteMarker")
            if each.get(flag) == "true"
        }

    def _entries(self, *kinds: str) -> list[dict[str, str | None]]:
        """Return the text of each tag of each entry of these kinds; that of '' is the kind."""
        tags = {f"{self._space}{kind}" for kind in kinds}
        return [
            {"": entry.tag, **{child.tag: child.text for child in entry}}
            for entry in self._root
            if entry.tag in tags
        ]

    def _column(self, entries: list[dict[str, str | None]], tag: str) -> list[str | None]:
        name = f"{self._space}{tag}"
        return [entry[name] for entry in entries]

    def _keys(self, entries: list[dict[str, str | None]], prefix: str) -> list[str]:
        keys = [self._decoded(key or "") for key in self._column(entries, "Key")]
        if not all(keys) or not all(map(methodcaller("startswith", prefix), keys)):
            raise ValueError(f"a key does not begin with {prefix!r}")
        return keys

    def _times(self, entries: list[dict[str, str | None]]) -> list[datetime]:
        times = list(map(datetime.fromisoformat, self._column(entries, "LastModified")))  # type: ignore[arg-type] # None raises TypeError, and is told
        if any(time.tzinfo is None for time in times):
            raise ValueError("a time has no zone")
        return times

    def _etags(self, entries: list[dict[str, str | None]]) -> list[str | None]:
        name = f"{self._space}ETag"
        return [unquoted(entry.get(name)) for entry in entries]

    def _decoded(self, key: str) -> str:
        if self._has_stand_ins:
            key = key.translate(_CONTROLS)
        if self._is_quoted and ("%" in key or "+" in key):
            return unquote_to_bytes(key.replace("+", " ")).decode("utf-8", "surrogateescape")
        return key

    def _unreadable(self, exc: Exception) -> IntegrityError:
        said: object = exc
        if isinstance(exc, KeyError):
            said = f"an entry has no {exc.args[0].rpartition('}')[2]}"
        return IntegrityError(f"the server's listing of {self._uri} cannot be read: {said}")


def _size(text: str | None) -> int:
    size = int(text or "")
    if size < 0:
        raise ValueError(f"a size is {size}")
    return size
