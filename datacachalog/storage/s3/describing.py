"""One object as the server describes it: a HEAD, and what its refusal means."""

from dataclasses import replace
from email.utils import parsedate_to_datetime

from datacachalog import globs, relpath
from datacachalog.errors import ObjectNotFoundError, StorageError
from datacachalog.model import RemoteObject
from datacachalog.storage.s3 import listing
from datacachalog.storage.s3.wire import Answer, Wire, unquoted


def describe(wire: Wire, bucket: str, key: str) -> RemoteObject:
    """Return the object at `key` as it is now; raise the reason where there is none to see."""
    uri = f"s3://{bucket}/{key}"
    answer = wire.ask("HEAD", bucket, key)
    if answer.status == 200:
        return described(answer, uri)
    if answer.status == 404 and listing.exists_below(wire, bucket, f"{key}/"):
        raise ObjectNotFoundError(
            f"{uri} is a folder, not an object", hint=f"write `{globs.escape(uri)}/**`"
        )
    raise _reason(wire, answer, bucket, key)


def describe_version(wire: Wire, bucket: str, key: str, version_id: str) -> RemoteObject:
    """Return one version of the object at `key`; raise the reason where there is none to see."""
    uri = f"s3://{bucket}/{key}"
    query = {"versionId": version_id}
    answer = wire.ask("HEAD", bucket, key, query=query)
    if answer.status == 200:
        found = described(answer, uri)
        if found.version_id in (version_id, None):
            return replace(found, version_id=version_id)
        raise StorageError(f"asked for version {version_id} of {uri}, got {found.version_id}")
    if answer.status == 405:
        raise ObjectNotFoundError(
            f"version {version_id} of {uri} is the record of its deletion, not an object",
            hint="take the version before it",
        )
    reason = wire.ask("GET", bucket, key, query=query, headers={"range": "bytes=0-0"})
    refusal = reason if reason.status >= 400 else answer
    raise refusal.fault(uri, version_id=version_id)


def find(wire: Wire, bucket: str, key: str) -> RemoteObject | None:
    """Return the object at `key` as it is now, or None for none in an existing bucket."""
    answer = wire.ask("HEAD", bucket, key)
    if answer.status == 200:
        return described(answer, f"s3://{bucket}/{key}")
    if answer.status == 404 and wire.ask("HEAD", bucket).status != 404:
        return None
    raise _reason(wire, answer, bucket, key)


def _reason(wire: Wire, answer: Answer, bucket: str, key: str) -> StorageError:
    """Return why a HEAD was refused: it has no body to say so, but a GET of one byte has."""
    reason = wire.ask("GET", bucket, key, headers={"range": "bytes=0-0"})
    return (reason if reason.status >= 400 else answer).fault(f"s3://{bucket}/{key}")


def described(answer: Answer, uri: str) -> RemoteObject:
    """Return the object that the headers of a HEAD describe."""
    headers = answer.headers
    try:
        size = int(headers["content-length"])
        modified = parsedate_to_datetime(headers["last-modified"])
    except (KeyError, ValueError) as exc:
        raise StorageError(f"the server does not say size and time of {uri}") from exc
    return RemoteObject(
        uri,
        relpath.encode(uri.rpartition("/")[2] or uri),
        size,
        modified,
        unquoted(headers.get("etag")),
        headers.get("x-amz-version-id"),
    )
