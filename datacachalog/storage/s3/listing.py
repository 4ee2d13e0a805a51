"""Listings of a bucket, page by page, as a stream in document order.

ListObjectsV2 tells what is there now, ListObjectVersions all of history. Pages are read from
the documents as they come: botocore takes ten times as long, and sorts versions and delete
markers apart. A page that is not whole, or does not fit the others, is an `IntegrityError`,
which is asked again: a key that is not seen would be dropped here as gone.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from operator import methodcaller
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

from datacachalog import globs, relpath
from datacachalog.errors import IntegrityError, StorageError
from datacachalog.model import RemoteObject
from datacachalog.storage.identity import unquoted
from datacachalog.storage.s3.client import Client
from datacachalog.storage.s3.errors import Answer

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_STAND_IN = 0xF0000  # of a plane for private use
_CONTROLS = {_STAND_IN + code: code for code in range(32)}

Query = Mapping[str, Any]
Entries = TypeVar("Entries")
_Entry = dict[str, str | None]


class Columns(NamedTuple):
    """The objects of one page, field by field, in document order."""

    key: Sequence[str]
    size: Sequence[int]
    modified: Sequence[datetime]
    etag: Sequence[str | None]

    def only(self, rows: Sequence[int]) -> "Columns":
        """Return these of the entries."""
        return Columns(*([column[i] for i in rows] for column in self))  # type: ignore[arg-type] # each keeps its type

    def matching(self, bucket: str, glob: globs.Glob) -> list[RemoteObject]:
        """Return the objects that the glob matches, without folder markers."""
        page = self
        has_markers = 0 in page.size and any(key.endswith("/") for key in page.key)
        if has_markers or not all(map(glob.matches, page.key)):
            rows = enumerate(zip(page.key, page.size, strict=True))
            page = page.only(
                [
                    row
                    for row, (key, size) in rows
                    if glob.matches(key) and (size or not key.endswith("/"))
                ]
            )
        below = len(glob.fixed_prefix)
        uris = map(f"s3://{bucket}/".__add__, page.key)
        relpaths = relpath.encode_all([key[below:] for key in page.key])
        return list(map(RemoteObject, uris, relpaths, page.size, page.modified, page.etag))


class ListedVersion(NamedTuple):
    """One version in a history; a delete marker has neither size nor ETag.

    A tuple, since there are many: it is made three times as fast as a frozen dataclass.
    """

    key: str
    modified: datetime
    etag: str | None
    size: int | None
    version_id: str | None


def list_objects(
    client: Client, bucket: str, prefix: str, *, is_flat: bool = False, page_size: int | None = None
) -> Iterator[Columns]:
    """Stream the objects under `prefix` as they are now, page by page, each key once.

    `is_flat` leaves out what has a `/` after `prefix`, without listing it.
    """
    query = {"Prefix": prefix, "Delimiter": "/" if is_flat else None, "MaxKeys": page_size}
    seen: set[str] = set()
    for found in _pages(client, "list_objects_v2", bucket, query, Page.objects, _behind_objects):
        count = len(seen)
        earlier = seen.intersection(found.key)
        seen.update(found.key)
        if len(seen) < count + len(found.key):
            rows = {key: row for row, key in enumerate(found.key) if key not in earlier}
            found = found.only(list(rows.values()))
        yield found


def _behind_objects(page: "Page", found: Columns) -> Query | None:
    if token := page.text("NextContinuationToken"):
        return {"ContinuationToken": token}
    if found.key and found.key[-1] == max(found.key):
        return {"StartAfter": found.key[-1]}
    return None


def list_versions(
    client: Client, bucket: str, prefix: str, *, page_size: int | None = None
) -> Iterator[ListedVersion]:
    """Stream all versions and delete markers under `prefix`: keys ascending, newest first."""
    query = {"Prefix": prefix, "MaxKeys": page_size}

    def read(page: Page) -> list[ListedVersion]:
        versions = page.versions()
        is_in_order = client.connection.is_amazon or not _is_grouped(versions)
        return versions if is_in_order else _interleaved(versions, page.latest())

    for found in _pages(client, "list_object_versions", bucket, query, read, _behind_versions):
        yield from found


def _behind_versions(page: "Page", found: list[ListedVersion]) -> Query | None:
    key, version = page.name("NextKeyMarker"), page.text("NextVersionIdMarker")
    if not key and found:
        key, version = found[-1].key, found[-1].version_id or ""
    return {"KeyMarker": key, "VersionIdMarker": version or None} if key else None


def _is_grouped(versions: list[ListedVersion]) -> bool:
    """Tell whether all delete markers come after all versions, and there are both."""
    are_markers = [version.size is None for version in versions]
    return any(are_markers) and not all(are_markers) and are_markers == sorted(are_markers)


def _interleaved(
    versions: list[ListedVersion], latest: set[tuple[str, str | None]]
) -> list[ListedVersion]:
    """Return a page's versions in the order that S3 would list them in.

    Servers that answer through botocore's shapes (moto, LocalStack) put all versions before
    all delete markers. Times must then do, and the flag of the newest.
    """
    return sorted(
        versions,
        key=lambda version: (
            version.key.encode("utf-8", "surrogateescape"),
            (version.key, version.version_id) not in latest,
            -version.modified.timestamp(),
        ),
    )


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


# --- pages ------------------------------------------------------------------------------


def _pages(
    client: Client,
    operation: str,
    bucket: str,
    query: Query,
    read: "Callable[[Page], Entries]",
    behind: "Callable[[Page, Entries], Query | None]",
) -> Iterator[Entries]:
    """Stream what `read` takes from each page; `behind` says where to go on, if anything does."""
    uri = f"s3://{bucket}/{query['Prefix']}"
    is_history = operation == "list_object_versions"
    place: Query = {}
    places = set()
    while True:
        answer = client.ask(operation, bucket, EncodingType="url", **query, **place)
        if answer.status != 200:
            needs = "s3:ListBucketVersions" if is_history else "s3:ListBucket"
            raise answer.fault(uri, needs=needs)
        root, has_stand_ins = _parse(answer, is_history, uri)
        page = Page(root, uri, str(query["Prefix"]), has_stand_ins=has_stand_ins)
        found = read(page)
        yield found
        if page.text("IsTruncated") != "true":
            return
        place = behind(page, found) or {}
        if not place or tuple(place.values()) in places:  # it would go on without end
            raise IntegrityError(f"the listing of s3://{bucket} says it goes on, but not where")
        places.add(tuple(place.values()))


def _parse(answer: Answer, is_history: bool, uri: str) -> "tuple[Element, bool]":
    """Return a page's document, and whether it has stand-ins; raise if it is none, or not all."""
    from xml.etree import ElementTree as ET  # takes 5 ms

    count = 0
    try:
        # Of entities, expat limits what they may grow to, and reads none from elsewhere.
        try:
            root = ET.fromstring(answer.page)  # noqa: S314 - so this is safe
        except ET.ParseError:
            # Not every server encodes the control characters of keys, which XML forbids.
            document, count = _CONTROL.subn(_stand_in, answer.page)
            root = ET.fromstring(document)  # noqa: S314 - as above
    except ET.ParseError as exc:
        start = answer.page.lstrip()[:1000].lower()
        if answer.page and (not start.startswith(b"<") or b"<html" in start):
            raise _no_listing(uri) from exc
        raise IntegrityError(f"the server's listing of {uri} cannot be read: {exc}") from exc
    kind = root.tag.rpartition("}")[2]
    if kind == "Error":
        code, message = (root.findtext(f"{{*}}{name}", "") for name in ("Code", "Message"))
        raise replace(answer, status=500, code=code, message=message).fault(uri)
    if kind != ("ListVersionsResult" if is_history else "ListBucketResult"):
        raise _no_listing(uri)
    return root, count > 0


def _stand_in(control: "re.Match[bytes]") -> bytes:
    return chr(_STAND_IN + control[0][0]).encode()


def _no_listing(uri: str) -> StorageError:
    return StorageError(
        f"the server's answer is no S3 listing of {uri}",
        hint="check `endpoint_url`: it should be the S3 API, not a web console",
    )


class Page:
    """One page of a listing."""

    def __init__(self, root: "Element", uri: str, prefix: str, *, has_stand_ins: bool) -> None:
        self._root = root
        self._uri = uri
        self._prefix = prefix
        self._has_stand_ins = has_stand_ins
        self._space = root.tag[: root.tag.rfind("}") + 1]
        self._is_quoted = self.text("EncodingType") == "url"

    def text(self, tag: str) -> str:
        """Return the text of the page's own `tag`, or ''."""
        return self._root.findtext(f"{self._space}{tag}", "").strip()

    def name(self, tag: str) -> str:
        """Return the text of `tag`, which holds a key, decoded."""
        return self._decoded(self._root.findtext(f"{self._space}{tag}", ""))

    def objects(self) -> Columns:
        """Return the page's objects."""
        with self._reading():
            entries = self._entries("Contents")
            sizes = list(map(_size, self._column(entries, "Size")))
            return Columns(self._keys(entries), sizes, self._times(entries), self._etags(entries))

    def versions(self) -> list[ListedVersion]:
        """Return the page's versions and delete markers."""
        marker, version_id = f"{self._space}DeleteMarker", f"{self._space}VersionId"
        with self._reading():
            entries = self._entries("Version", "DeleteMarker")
            objects = [entry for entry in entries if entry[""] != marker]
            sizes = iter(map(_size, self._column(objects, "Size")))
            return list(
                map(
                    ListedVersion,
                    self._keys(entries),
                    self._times(entries),
                    self._etags(entries),
                    [None if entry[""] == marker else next(sizes) for entry in entries],
                    [entry.get(version_id) or None for entry in entries],
                )
            )

    def latest(self) -> set[tuple[str, str | None]]:
        """Return key and version id of the entries that are flagged as the newest."""
        key, version_id, flag = (f"{self._space}{n}" for n in ("Key", "VersionId", "IsLatest"))
        return {
            (self._decoded(entry[key] or ""), entry.get(version_id) or None)
            for entry in self._entries("Version", "DeleteMarker")
            if entry.get(flag) == "true"
        }

    def _entries(self, *kinds: str) -> list[_Entry]:
        """Return the text of each tag of each entry of these kinds; that of '' is the kind."""
        tags = {f"{self._space}{kind}" for kind in kinds}
        return [
            {"": entry.tag, **{child.tag: child.text for child in entry}}
            for entry in self._root
            if entry.tag in tags
        ]

    def _column(self, entries: list[_Entry], tag: str) -> list[str | None]:
        name = f"{self._space}{tag}"
        return [entry[name] for entry in entries]

    def _keys(self, entries: list[_Entry]) -> list[str]:
        keys = [self._decoded(key or "") for key in self._column(entries, "Key")]
        if not all(keys) or not all(map(methodcaller("startswith", self._prefix), keys)):
            raise ValueError(f"a key does not begin with {self._prefix!r}")
        return keys

    def _times(self, entries: list[_Entry]) -> list[datetime]:
        times = list(map(datetime.fromisoformat, self._column(entries, "LastModified")))  # type: ignore[arg-type] # None raises TypeError, and is told
        if any(time.tzinfo is None for time in times):
            raise ValueError("a time has no zone")
        return times

    def _etags(self, entries: list[_Entry]) -> list[str | None]:
        name = f"{self._space}ETag"
        return [unquoted(entry.get(name)) for entry in entries]

    def _decoded(self, key: str) -> str:
        if self._has_stand_ins:
            key = key.translate(_CONTROLS)
        if self._is_quoted and ("%" in key or "+" in key):
            return unquote_to_bytes(key.replace("+", " ")).decode("utf-8", "surrogateescape")
        return key

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, ValueError) as exc:
            said: object = exc
            if isinstance(exc, KeyError):
                said = f"an entry has no {exc.args[0].rpartition('}')[2]}"
            raise IntegrityError(
                f"the server's listing of {self._uri} cannot be read: {said}"
            ) from exc


def _size(text: str | None) -> int:
    size = int(text or "")
    if size < 0:
        raise ValueError(f"a size is {size}")
    return size
