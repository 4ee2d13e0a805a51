"""Calls of S3 by s3fs's own client: where blocking code meets its event loop.

Used by all that ask S3 something. One `Client` belongs to one process, as the loop and the
connections below it do. Here s3fs is set up, too, with its HTTP session and its event handlers.
What a refusal means is for `errors` to say.
"""

import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from datacachalog.errors import IntegrityError, StorageError
from datacachalog.model import RemoteObject
from datacachalog.storage.base import STALL_SECONDS, StallGuard
from datacachalog.storage.identity import in_utc
from datacachalog.storage.s3 import errors
from datacachalog.storage.s3.connection import DEFAULT_REGION, Connection, chain_credentials
from datacachalog.storage.s3.errors import Answer

if TYPE_CHECKING:
    from logging import LogRecord

    from aiohttp import ClientResponse
    from s3fs import S3FileSystem

_LISTINGS = ("ListObjectsV2", "ListObjectVersions")
_CONNECT_SECONDS = 10
_MOST_CONNECTIONS = 256
_LONGEST_DOCUMENT = 64 << 20
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_LOGGERS = ("botocore.endpoint", "botocore.auth", "botocore.parsers")
_SECRET = re.compile(
    r"(security-token|customer-?key|secret_?access_?key|(?:session|access|refresh|client)_?token"
    r"|client_?secret|\bauthorization)([^\w+/=]+(?:b['\"])?)([\w+/=.~%-]+)",
    re.IGNORECASE,
)

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class _Call:
    """What the event handlers note of the call that is under way."""

    region: str = ""
    page: bytes = b""


_call: ContextVar[_Call | None] = ContextVar("_call", default=None)
"""None in calls that are not ours: users get the same client with `Catalog.filesystem`."""


class Client:
    """Asks one S3, by way of one s3fs instance. Thread-safe; for one process."""

    def __init__(
        self, connection: Connection, filesystem: "S3FileSystem", stall_seconds: float
    ) -> None:
        self.connection = connection
        self.filesystem = filesystem
        self.stall_seconds = stall_seconds
        self._regions: dict[str, str] = {}
        self._date: tuple[str, float] | None = None
        self._prepared: Any = None

    def run(self, function: Callable[P, Awaitable[T]], *args: P.args, **options: P.kwargs) -> T:
        """Return what a coroutine returns on the filesystem's event loop.

        Not to be called from that loop's own thread.
        """
        from fsspec.asyn import sync

        found: T = sync(self.filesystem.loop, function, *args, **options)
        return found

    def ask(self, operation: str, bucket: str, key: str = "", **params: Any) -> Answer:
        """Return the answer to one call of S3; see `asked`."""
        return self.run(self.asked, operation, bucket, key, **params)

    async def asked(self, operation: str, bucket: str, key: str = "", **params: Any) -> Answer:
        """Return the answer to one call of S3, in botocore's names for both.

        `bucket` and `key` are given where the call takes them. A refusal is an answer, too;
        raises `SourceUnreachableError` where there is none.
        """
        from botocore.exceptions import ClientError

        given = {"Bucket": bucket or None, "Key": key or None, **params}
        given = {name: value for name, value in given.items() if value is not None}
        call = _Call()
        token = _call.set(call)
        try:
            with errors.network(f"s3://{bucket}/{key or params.get('Prefix', '')}"):
                method = getattr(await self._client(bucket), operation)
                # As s3fs would call it, but for its retries: adds requester pays and SSE-C.
                options = self.filesystem._get_s3_method_kwargs(method, **given)  # noqa: SLF001
                fields = await method(**options)
        except ClientError as exc:
            answer = _refusal(exc.response)
        else:
            head = fields["ResponseMetadata"]
            answer = Answer(head["HTTPStatusCode"], head["HTTPHeaders"], fields, call.page)
            if bucket and call.region:
                self._regions[bucket] = call.region
        finally:
            _call.reset(token)
        if "date" in answer.headers:
            self._date = answer.headers["date"], time.monotonic()
        return answer

    async def _client(self, bucket: str) -> Any:
        """Return botocore's client, with our event handlers, and credentials that are valid."""
        if self.connection.asks_chain:
            await chain_credentials(self.filesystem, self.connection.profile)
        await self.filesystem.set_session()
        client = await self.filesystem.get_s3(bucket or None)
        if client is not self._prepared:
            _register_handlers(client)
            self._prepared = client
        return client

    def find(self, bucket: str, key: str) -> RemoteObject | None:
        """Return the object at `key` as it is now, or None for none in an existing bucket."""
        answer = self.ask("head_object", bucket, key)
        if answer.status == 200:
            return answer.object(f"s3://{bucket}/{key}")
        if answer.status == 404 and self.ask("head_bucket", bucket).status != 404:
            return None
        raise self.reason(answer, bucket, key)

    def reason(
        self, answer: Answer, bucket: str, key: str, version_id: str | None = None
    ) -> StorageError:
        """Return why a HEAD was refused: it has no body to say so, but a GET of one byte has."""
        reason = self.ask("get_object", bucket, key, VersionId=version_id, Range="bytes=0-0")
        if "Body" in reason.fields:
            self.close(reason)
            reason = answer
        return reason.fault(f"s3://{bucket}/{key}", version_id=version_id)

    def close(self, answer: Answer) -> None:
        """Give up a body that is not read to its end, and its connection with it."""
        with suppress(RuntimeError):  # at the interpreter's end, the loop is closed
            self.filesystem.loop.call_soon_threadsafe(answer.fields["Body"].close)

    def region_of(self, bucket: str) -> str:
        """Return the region that `bucket` is asked at: proven, configured, or asked for now."""
        known = self._regions.get(bucket) or self.connection.known_region
        if known:
            return known
        # Told for every bucket at every region, whatever one may do with it.
        told = self.ask("head_bucket", bucket).headers.get("x-amz-bucket-region")
        return self._regions.setdefault(bucket, told or DEFAULT_REGION)

    def now(self) -> datetime:
        """Return the server's clock (aware, UTC), asking only if it never answered before."""
        if self._date is None:
            self.ask("list_buckets", "")
        if self._date is None:
            raise StorageError(
                f"the server at {self.connection.name} does not say what time it is",
                hint="give an absolute time in place of a duration",
            )
        date, seen = self._date
        return in_utc(date) + timedelta(seconds=time.monotonic() - seen)


def _refusal(response: Mapping[str, Any]) -> Answer:
    """Return the answer behind a refusal, without what botocore makes up where no one said why."""
    head, said = response["ResponseMetadata"], response.get("Error", {})
    status, headers, code = head["HTTPStatusCode"], head["HTTPHeaders"], str(said.get("Code", ""))
    if code == str(status):
        return Answer(status, headers)
    return Answer(status, headers, code=code, message=said.get("Message") or "")


# --- event handlers ---------------------------------------------------------------------


def _register_handlers(client: Any) -> None:
    """Let botocore's client call our handlers; doing it twice does no harm."""
    from botocore import handlers

    events = client.meta.events
    # botocore reads each document to see whether it is an error; ours reads it, too, and comes
    # before that. Where a botocore has it no more, nothing is to be done.
    look_for_error = getattr(handlers, "_handle_200_error", None)
    events.unregister("before-parse.s3.*", look_for_error)
    events.register_first("before-parse.s3.*", _take_page, unique_id="datacachalog-page")
    if look_for_error is not None:
        events.register_first("before-parse.s3.*", look_for_error)
    events.register("before-sign.s3", _note_region, unique_id="datacachalog-region")
    events.register_last("before-call.s3", _send_at_once, unique_id="datacachalog-expect")
    events.register_first("needs-retry.s3", _judge_redirect, unique_id="datacachalog-redirect")


def _take_page(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """Keep a listing's document, which botocore takes ten times as long to read as we do."""
    call = _call.get()
    is_page = operation_model.name in _LISTINGS and response_dict["status_code"] == 200
    if call is not None and is_page:
        call.page, response_dict["body"] = response_dict["body"], b""


def _note_region(request: Any, region_name: str | None, **_: Any) -> None:
    """Note which region a request is signed for: if it is answered, that is the bucket's."""
    call = _call.get()
    if call is not None:
        call.region = request.context.get("signing", {}).get("region") or region_name or ""


def _send_at_once(params: dict[str, Any], **_: Any) -> None:
    """Send a body without waiting to be told: not every server says `100 Continue`."""
    if _call.get() is not None:
        params["headers"].pop("Expect", None)


def _judge_redirect(response: Any, request_dict: dict[str, Any], operation: Any, **_: Any) -> None:
    """Let botocore's redirector find a region that only a header names, and end.

    Where nothing names the region it asks for the bucket; it would ask for ever where that
    is redirected, too.
    """
    if response is None:
        return
    headers = response[1].get("ResponseMetadata", {}).get("HTTPHeaders", {})
    if named := headers.get("x-amz-bucket-region"):
        response[1].get("Error", {}).setdefault("Region", named)
    elif operation.name == "HeadBucket":
        request_dict["context"].setdefault("s3_redirect", {})["redirected"] = True


# --- s3fs, set up -----------------------------------------------------------------------


def make_filesystem(connection: Connection, stall_seconds: float = STALL_SECONDS) -> "S3FileSystem":
    """Return a new s3fs instance for this process, which reaches what `connection` says.

    Users get it, too: to read a few columns of a large file in place, or to look around.
    """
    import logging  # slow to load; botocore does as well

    import s3fs

    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_redact)
    options = s3fs_options(connection, stall_seconds)
    made = s3fs.S3FileSystem(**options, skip_instance_cache=True)
    made.retries = 1
    return made


def s3fs_options(connection: Connection, stall_seconds: float = STALL_SECONDS) -> dict[str, Any]:
    """Return what s3fs needs to reach what `connection` says.

    All is given, also what is None: s3fs would take it from `FSSPEC_S3_*` otherwise.
    """
    client: dict[str, Any] = {"verify": connection.is_verified and (connection.ca_bundle or True)}
    if connection.region is not None:
        client["region_name"] = connection.region
    encryption: dict[str, Any] = {}
    if connection.sse_customer_key is not None:
        encryption["SSECustomerAlgorithm"] = "AES256"
        encryption["SSECustomerKey"] = connection.sse_customer_key
    keys = connection.keys
    return {
        "anon": connection.is_anonymous,
        "key": keys and keys.key,
        "secret": keys and keys.secret,
        "token": keys and keys.token,
        "profile": connection.profile,
        "endpoint_url": connection.endpoint_url,
        "requester_pays": connection.is_requester_pays,
        # s3fs would go on showing a listing after the bucket changed.
        "use_listings_cache": False,
        "client_kwargs": client,
        "config_kwargs": _config(connection, stall_seconds),
        "s3_additional_kwargs": encryption,
    }


def _config(connection: Connection, stall_seconds: float) -> dict[str, Any]:
    config: dict[str, Any] = {
        "connect_timeout": _CONNECT_SECONDS,
        "read_timeout": stall_seconds,
        "max_pool_connections": _MOST_CONNECTIONS,
        # Trying again is the caller's, who knows whether the run was interrupted.
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "http_session_cls": open_session,
        "s3": {
            "addressing_style": connection.addressing_style,
            # Over plain HTTP each body would be hashed before it is sent.
            "payload_signing_enabled": False,
        },
    }
    if not connection.is_amazon:
        # Look-alikes break on the checksums that boto adds by default.
        config["request_checksum_calculation"] = "when_required"
        config["response_checksum_validation"] = "when_required"
    return config


def _redact(record: "LogRecord") -> bool:
    """Leave secrets out of what botocore logs.

    At the level DEBUG it logs each request with its headers, a session token and an SSE-C key
    among them, and each answer, also those that bring credentials.
    """
    record.msg, record.args = _SECRET.sub(r"\1\2***", record.getMessage()), ()
    return True


# --- the HTTP session under s3fs --------------------------------------------------------


def open_session(**options: Any) -> Any:
    """Return the session of one client: it trusts our certificates and follows no redirect.

    A function that makes it, as aiobotocore is slow to import, and the filesystem that names
    it can be pickled.
    """
    return _session_class()(**options)


@cache
def _session_class() -> Any:
    from aiobotocore.httpsession import AIOHTTPSession

    class Session(AIOHTTPSession):  # type: ignore[misc] # aiobotocore is not typed
        """Takes a path as `verify` for certificates to trust besides the system's."""

        def __init__(self, verify: bool | str = True, **options: Any) -> None:
            self._bundle = verify if isinstance(verify, str) else None
            super().__init__(verify=bool(verify), **options)

        def _get_ssl_context(self) -> Any:
            context = super()._get_ssl_context()
            context.load_default_certs()
            if self._bundle:
                context.load_verify_locations(cadata=_read_bundle(self._bundle))
            return context

        async def _get_session(self, proxy_url: str | None) -> Any:
            session = await super()._get_session(proxy_url)
            seconds = self._timeout.sock_read or STALL_SECONDS
            return SimpleNamespace(request=partial(_request, session.request, seconds))

    return Session


async def _request(send: Any, seconds: float, *args: Any, **options: Any) -> "ClientResponse":
    # aiohttp would take a session token and an SSE-C key along to whatever host is named.
    # Where a bucket lies in another region, botocore asks again by itself.
    response: ClientResponse = await send(*args, allow_redirects=False, **options)
    response.read = partial(_read, response, seconds)  # type: ignore[method-assign] # see there
    return response


async def _read(response: "ClientResponse", seconds: float) -> bytes:
    """Return the body of a response that is no object: a page, an error.

    aiohttp would wait for ever for one that trickles, and take one without end.
    """
    place = str(response.url.with_query(None))
    guard = StallGuard(place, seconds=seconds)
    body = bytearray()
    while piece := await guarded(guard, response.content.readany()):
        body += piece
        if len(body) > _LONGEST_DOCUMENT:
            response.close()
            raise IntegrityError(f"the server's answer has no end at {place}")
    return bytes(body)


async def guarded(guard: StallGuard, piece: Awaitable[bytes]) -> bytes:
    """Wait for the next piece of a body for as long as `guard` allows, and tell it."""
    import asyncio  # slow to load

    try:
        async with asyncio.timeout(guard.remaining):
            found = await piece
    except TimeoutError:
        raise guard.error() from None
    guard.note(len(found))
    return found


def _read_bundle(path: str) -> str:
    """Return the certificates in PEM that a file, or the files of a folder, hold."""
    hint = "name a PEM file with `ca_bundle:` or `AWS_CA_BUNDLE`"
    try:
        is_folder = os.path.isdir(path)
        names = [entry.path for entry in os.scandir(path)] if is_folder else [path]
        texts = [Path(name).read_text("ascii", "replace") for name in sorted(names)]
    except OSError as exc:
        raise StorageError(
            f"the CA bundle {path!r} cannot be read: {exc.strerror}", hint=hint
        ) from exc
    found = _CERTIFICATE.findall("\n".join(texts))
    if not found:
        raise StorageError(f"the CA bundle {path!r} holds no certificate in PEM format", hint=hint)
    return "\n".join(found)
