"""Calls of S3 by s3fs's own client: where blocking code meets its event loop.

Used by all that ask S3 something. One `Client` belongs to one process, as the loop and the
connections below it do. What a refusal means is for `faults` to say.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from datacachalog.errors import StorageError
from datacachalog.storage.s3 import credentials
from datacachalog.storage.s3 import errors as faults
from datacachalog.storage.s3.connection import DEFAULT_REGION, Connection
from datacachalog.storage.s3.credentials import Credentials
from datacachalog.storage.s3.headers import read_date

if TYPE_CHECKING:
    from s3fs import S3FileSystem

_LISTINGS = ("ListObjectsV2", "ListObjectVersions")

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What S3 answered to one call, refusals included.

    `headers` have names in lower case. `fields` is what botocore read from the answer,
    `page` a listing's document as it came. `code` and `message` are those of a refusal.
    """

    status: int
    headers: Mapping[str, str]
    fields: Mapping[str, Any] = field(default_factory=dict)
    page: bytes = b""
    code: str = ""
    message: str = ""

    def fault(self, uri: str, *, version_id: str | None = None, needs: str = "") -> StorageError:
        """Return the error that this refusal stands for."""
        return faults.fault(
            self.status,
            self.code,
            self.message,
            self.headers,
            uri,
            version_id=version_id,
            needs=needs,
        )


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

        given = {name: value for name, value in params.items() if value is not None}
        if bucket:
            given["Bucket"] = bucket
        if key:
            given["Key"] = key
        call = _Call()
        token = _call.set(call)
        try:
            with faults.network(f"s3://{bucket}/{key or params.get('Prefix', '')}"):
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
        if not self.connection.is_anonymous and self.connection.keys is None:
            await self.credentials()
        await self.filesystem.set_session()
        client = await self.filesystem.get_s3(bucket or None)
        if client is not self._prepared:
            _prepare(client)
            self._prepared = client
        return client

    async def credentials(self) -> Credentials | None:
        """Return keys that are valid now, or None for unsigned requests."""
        if self.connection.is_anonymous or self.connection.keys is not None:
            return self.connection.keys
        return await credentials.current(self.filesystem, self.connection.profile)

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
        return read_date(date) + timedelta(seconds=time.monotonic() - seen)


def _refusal(response: Mapping[str, Any]) -> Answer:
    """Return the answer behind a refusal, without what botocore makes up where no one said why."""
    head, said = response["ResponseMetadata"], response.get("Error", {})
    code = str(said.get("Code", ""))
    if code == str(head["HTTPStatusCode"]):
        return Answer(head["HTTPStatusCode"], head["HTTPHeaders"])
    message = said.get("Message") or ""
    return Answer(head["HTTPStatusCode"], head["HTTPHeaders"], code=code, message=message)


# --- event handlers ---------------------------------------------------------------------


def _prepare(client: Any) -> None:
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
    error = response[1].get("Error", {})
    named = (
        response[1].get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
    )
    if named:
        error.setdefault("Region", named)
    elif operation.name == "HeadBucket":
        request_dict["context"].setdefault("s3_redirect", {})["redirected"] = True
