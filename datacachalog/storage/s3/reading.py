"""Bytes of exactly one object, through obstore."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from datacachalog.errors import (
    AccessDeniedError,
    ObjectChangedError,
    ObjectNotFoundError,
    SourceUnreachableError,
)
from datacachalog.model import RemoteObject
from datacachalog.storage.s3.connection import Connection

if TYPE_CHECKING:
    from obstore.store import S3Store

CHUNK = 4 << 20


def open_store(connection: Connection, bucket: str, region: str) -> "S3Store":
    """Return obstore's client for `bucket`, built from the same connection as `wire`."""
    from obstore.store import S3Store

    config: dict[str, Any] = {
        "endpoint": connection.url(bucket if connection.is_virtual_hosted else "", region),
        "region": region,
        "virtual_hosted_style_request": connection.is_virtual_hosted,
        "request_payer": connection.is_requester_pays,
        "skip_signature": connection.credentials is None,
    }
    if connection.credentials is not None:
        credentials = connection.credentials()
        config["access_key_id"] = credentials.key
        config["secret_access_key"] = credentials.secret
        if credentials.token:
            config["session_token"] = credentials.token
    return S3Store(
        bucket,
        config=config,  # type: ignore[arg-type]
        client_options={"allow_http": True, "timeout": "1day", "read_timeout": "60s"},
        retry_config={"max_retries": 0},
    )


def read(
    store: "S3Store", key: str, obj: RemoteObject, start: int, stop: int
) -> Iterator["memoryview | bytes"]:
    """Stream bytes `start` to `stop` of `obj`."""
    import obstore
    from obstore import exceptions

    options: dict[str, Any] = {}
    if (start, stop) != (0, obj.size):
        options["range"] = (start, stop)
    if obj.version_id:
        options["version"] = obj.version_id
    if obj.etag and (not obj.version_id or obj.version_id == "null"):
        options["if_match"] = f'"{obj.etag}"'
    try:
        result = obstore.get(store, key, options=options)  # type: ignore[arg-type]
        meta = result.meta
        etag = (meta["e_tag"] or "").strip('"') or None
        if (obj.etag and etag != obj.etag) or meta["size"] != obj.size:
            raise ObjectChangedError(f"{obj.uri} changed since it was resolved")
        if result.range != (start, stop):
            raise ObjectChangedError(f"{obj.uri}: asked {start}-{stop}, got {result.range}")
        if stop - start <= CHUNK:
            yield memoryview(result.bytes())
        else:
            for chunk in result.stream(min_chunk_size=1 << 20):
                yield memoryview(chunk)
    except FileNotFoundError as exc:
        raise ObjectNotFoundError(f"{obj.uri} is gone") from exc
    except exceptions.PreconditionError as exc:
        raise ObjectChangedError(f"{obj.uri} changed since it was resolved") from exc
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as exc:
        raise AccessDeniedError(f"{obj.uri} is not permitted") from exc
    except exceptions.BaseError as exc:
        raise SourceUnreachableError(f"{obj.uri}: {str(exc).splitlines()[0]}") from exc
