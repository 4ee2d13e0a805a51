"""Bytes of exactly one object: through obstore, or the wire where obstore cannot.

obstore is the data plane: its threads move bytes without holding Python's lock. Three things
it cannot do: express some keys; work in a child forked from a process that had used it (its
runtime's threads are gone there, and a call waits for ever); and trust a self-signed
certificate that is its own authority, as lab servers have. Those reads go over the wire,
with the same checks.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from datacachalog.errors import IntegrityError, ObjectChangedError
from datacachalog.model import RemoteObject
from datacachalog.storage.protocol import Request
from datacachalog.storage.s3 import faults
from datacachalog.storage.s3.connection import Connection
from datacachalog.storage.s3.credentials import CredentialSource
from datacachalog.storage.s3.sockets import (
    CONNECT_SECONDS,
    READ_SECONDS,
    proxy_for,
    read_bundle,
)
from datacachalog.storage.s3.wire import Wire, quoted, unquoted

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ClientConfig, S3Credential, S3Store

CHUNK = 4 << 20
_MIN_CHUNK = 1 << 20

_INEXPRESSIBLE = re.compile("\\A/|//|/\\Z|(?:\\A|/)\\.\\.?(?:/|\\Z)|[\x00-\x1f\x7f\ud800-\udfff]")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")

_lost_its_runtime = False


def _note_fork() -> None:
    global _lost_its_runtime  # a fact about the process
    _lost_its_runtime = "obstore" in sys.modules


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def suits_obstore(key: str) -> bool:
    """Tell whether obstore can be asked for `key`, in this process."""
    return not _lost_its_runtime and _INEXPRESSIBLE.search(key) is None


def open_store(connection: Connection, bucket: str, region: str) -> "S3Store":
    """Return obstore's client for `bucket`, from the same connection as the wire's."""
    from obstore.store import S3Store

    is_virtual = connection.is_virtual_hosted(bucket)
    endpoint = connection.url(bucket if is_virtual else "", region)
    config: dict[str, Any] = {
        "endpoint": endpoint,
        # Named too, or the environment's would stand above ours.
        "aws_endpoint_url_s3": endpoint,
        "region": region,
        "virtual_hosted_style_request": is_virtual,
        "request_payer": connection.is_requester_pays,
        "skip_signature": connection.credentials is None,
    }
    source = connection.credentials
    return S3Store(
        bucket,
        config=config,  # type: ignore[arg-type] # built key by key
        client_options=_client_options(connection, endpoint),
        retry_config={"max_retries": 0},
        # Fixed keys too: next to plain ones obstore would take the environment's token.
        credential_provider=_Provider(source) if source is not None else None,
    )


def _client_options(connection: Connection, endpoint: str) -> "ClientConfig":
    parts = urlsplit(endpoint)
    options: ClientConfig = {
        "allow_http": parts.scheme == "http",
        "allow_invalid_certificates": not connection.is_verified,
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=READ_SECONDS),
        # The limit on a whole request: a large object may take its time.
        "timeout": timedelta(days=1),
    }
    if connection.ca_bundle and connection.is_verified:
        options["root_certificate"] = read_bundle(connection.ca_bundle).encode()
    if proxy := proxy_for(parts.scheme, parts.hostname or ""):
        options["proxy_url"] = proxy
    return options


class _Provider:
    """Hands obstore the keys; those that may expire, anew every few minutes."""

    def __init__(self, source: CredentialSource) -> None:
        self._source = source

    def __call__(self) -> "S3Credential":
        keys = self._source()
        return {
            "access_key_id": keys.key,
            "secret_access_key": keys.secret,
            "token": keys.token,
            # botocore renews what has less than ten minutes left; obstore then asks again.
            "expires_at": None
            if self._source.is_fixed
            else datetime.now(UTC) + timedelta(minutes=10),
        }


class CertificateRefusedError(Exception):
    """obstore does not trust the server; the wire may."""


def read_by_obstore(
    store: "S3Store", key: str, obj: RemoteObject, start: int, stop: int
) -> Iterator["memoryview | bytes"]:
    """Stream bytes `start` to `stop` of exactly `obj`.

    Raises `CertificateRefusedError` before the first bytes.
    """
    import obstore
    from obstore.exceptions import BaseError

    options: GetOptions = {}
    if (start, stop) != (0, obj.size):
        options["range"] = (start, stop)
    if obj.version_id:
        options["version"] = obj.version_id
    if obj.etag:
        options["if_match"] = quoted(obj.etag)
    try:
        result = obstore.get(store, key, options=options)
        meta = result.meta
        _check_identity(obj, meta["e_tag"], meta["version"], meta["size"], meta["last_modified"])
        if result.range != (start, stop):
            raise _wrong_range(obj, start, stop)
        if stop - start <= CHUNK:
            yield memoryview(result.bytes())
            return
        for chunk in result.stream(min_chunk_size=_MIN_CHUNK):
            yield memoryview(chunk)
    except (BaseError, FileNotFoundError) as exc:
        if "InvalidCertificate" in str(exc):
            raise CertificateRefusedError from exc
        raise faults.from_obstore(exc, obj.uri, obj.version_id) from exc


def read_by_wire(
    wire: Wire, bucket: str, key: str, obj: RemoteObject, start: int, stop: int
) -> Iterator["memoryview | bytes"]:
    """Stream the same over a signed request: any key, also after a fork."""
    query, headers = _conditions(obj, start, stop)
    with wire.open("GET", bucket, key, query=query, headers=headers) as stream:
        if stream.status not in (200, 206):
            raise stream.drain().fault(obj.uri, version_id=obj.version_id)
        _check_head(obj, start, stop, stream.status, stream.headers)
        left = stop - start
        while left:
            piece = stream.read(min(left, _MIN_CHUNK))
            if not piece:
                raise IntegrityError(f"{obj.uri} ended {left} bytes early")
            left -= len(piece)
            yield piece
        if stream.read(1):
            raise IntegrityError(f"{obj.uri} is longer than the {obj.size} bytes announced")


def request(
    wire: Wire, bucket: str, key: str, obj: RemoteObject, start: int, stop: int
) -> Request | None:
    """Return the GET of the same for a lane; None where that is not possible."""
    site = wire.site(bucket)
    if site is None:
        return None
    query, headers = _conditions(obj, start, stop)
    head = wire.head(bucket, key, query=query, headers=headers)
    return Request(site, head, partial(_check_head, obj, start, stop))


def _conditions(obj: RemoteObject, start: int, stop: int) -> tuple[dict[str, str], dict[str, str]]:
    """Return the query and the headers that bind a GET to exactly these bytes of `obj`."""
    headers = {}
    if (start, stop) != (0, obj.size):
        headers["range"] = f"bytes={start}-{stop - 1}"
    if obj.etag:
        headers["if-match"] = quoted(obj.etag)
    return {"versionId": obj.version_id} if obj.version_id else {}, headers


def _check_head(
    obj: RemoteObject, start: int, stop: int, status: int, headers: Mapping[str, str]
) -> None:
    size: int | None = None
    if status == 206:
        found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        if found is None or (int(found[1]), int(found[2]) + 1) != (start, stop):
            raise _wrong_range(obj, start, stop)
        size = int(found[3])
    elif (start, stop) != (0, obj.size):
        raise _wrong_range(obj, start, stop)
    elif "content-length" in headers:
        size = int(headers["content-length"])
    _check_identity(obj, headers.get("etag"), headers.get("x-amz-version-id"), size, None)


def _check_identity(
    obj: RemoteObject,
    etag: str | None,
    version_id: str | None,
    size: int | None,
    modified: datetime | None,
) -> None:
    """Raise unless a response's description is that of `obj`.

    Not every server honours the conditions that were sent; what it says of itself decides.
    """
    is_other = (
        (size is not None and size != obj.size)
        or (obj.etag is not None and unquoted(etag) != obj.etag)
        or (obj.version_id is not None and version_id not in (None, obj.version_id))
    )
    if obj.etag is None and obj.version_id is None and modified is not None:
        is_other |= modified.replace(microsecond=0) != obj.modified.replace(microsecond=0)
    if is_other:
        raise ObjectChangedError(f"{obj.uri} changed since it was resolved")


def _wrong_range(obj: RemoteObject, start: int, stop: int) -> IntegrityError:
    return IntegrityError(f"the server did not answer bytes {start} to {stop} of {obj.uri}")
