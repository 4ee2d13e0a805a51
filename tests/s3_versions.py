"""ListObjectVersions as Amazon answers it, for moto's server.

moto lists all versions before all delete markers, orders by time (so that writes of one
second come out backwards) and ignores `encoding-type`. This answers from moto's store in true
order: keys ascending, the latest write first, both kinds interleaved, pages that may end
within a key. Buckets whose name begins with `grouped-` keep moto's own answer.
"""

from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape


def install() -> None:
    """Let moto's server in this process answer so."""
    from moto.s3.responses import S3Response

    original = S3Response.list_object_versions
    if original.__name__ == "list_true_versions":
        return

    def list_true_versions(self: Any) -> Any:
        if self.bucket_name.startswith("grouped-"):
            return original(self)
        query = {name: values[0] for name, values in self.querystring.items()}
        body = answer(self.backend.get_bucket(self.bucket_name), query)
        return 200, {"content-type": "application/xml"}, body

    S3Response.list_object_versions = list_true_versions  # type: ignore[method-assign] # that is the point


def answer(bucket: Any, query: dict[str, str]) -> str:
    """Return one page."""
    is_quoted = query.get("encoding-type") == "url"
    entries = _after(_in_order(bucket, query.get("prefix", "")), query)
    count = int(query.get("max-keys", 1000))
    page, is_truncated = entries[:count], len(entries) > count
    shown = (lambda key: quote(key, safe="/")) if is_quoted else escape
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListVersionsResult '
        'xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{bucket.name}</Name><MaxKeys>{count}</MaxKeys>"
        f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>"
    ]
    if is_quoted:
        parts.append("<EncodingType>url</EncodingType>")
    if is_truncated:
        last = page[-1][0]
        parts.append(f"<NextKeyMarker>{shown(last.name)}</NextKeyMarker>")
        parts.append(f"<NextVersionIdMarker>{_id(last)}</NextVersionIdMarker>")
    parts.extend(_entry(entry, is_latest, shown(entry.name)) for entry, is_latest in page)
    return "".join((*parts, "</ListVersionsResult>"))


def _in_order(bucket: Any, prefix: str) -> list[tuple[Any, bool]]:
    histories = {name: entries for name, entries in bucket.keys.iterlists() if entries}
    return [
        (entry, place == 0)
        for name in sorted(histories, key=lambda text: text.encode())
        if name.startswith(prefix)
        for place, entry in enumerate(reversed(histories[name]))
    ]


def _after(entries: list[tuple[Any, bool]], query: dict[str, str]) -> list[tuple[Any, bool]]:
    key, version = query.get("key-marker"), query.get("version-id-marker")
    if not key:
        return entries
    if not version:
        return [e for e in entries if e[0].name.encode() > key.encode()]
    place = next(i for i, (e, _) in enumerate(entries) if (e.name, _id(e)) == (key, version))
    return entries[place + 1 :]


def _id(entry: Any) -> str:
    return entry.version_id or "null"


def _entry(entry: Any, is_latest: bool, name: str) -> str:
    head = (
        f"<Key>{name}</Key><VersionId>{_id(entry)}</VersionId>"
        f"<IsLatest>{str(is_latest).lower()}</IsLatest>"
        f"<LastModified>{entry.last_modified:%Y-%m-%dT%H:%M:%S}.000Z</LastModified>"
    )
    owner = "<Owner><ID>test</ID><DisplayName>test</DisplayName></Owner>"
    if not hasattr(entry, "etag"):
        return f"<DeleteMarker>{head}{owner}</DeleteMarker>"
    etag = entry.etag.replace('"', "&quot;")
    return (
        f"<Version>{head}<ETag>{etag}</ETag><Size>{entry.size}</Size>"
        f"<StorageClass>STANDARD</StorageClass>{owner}</Version>"
    )
