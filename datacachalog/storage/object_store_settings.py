"""How obstore is told everything: stores built from what the complete way reaches.

obstore reads `AWS_*` and proxies from the environment over what it is not given, so each
option that decides where a request goes and who signs it is given here. Also says which
engine serves a storage, and why.
"""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from datacachalog.errors import AccessDeniedError, InvalidValueError, StorageError
from datacachalog.storage.base import Storage
from datacachalog.storage.s3.connection import Connection, Credentials

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Credential, S3Store

CHOICES = ("auto", "fsspec")
_SOON = timedelta(minutes=5)
"""obstore asks for keys that live shorter than this every few requests."""
_PAUSE = timedelta(seconds=1)
_LONGEST = timedelta(minutes=10)
"""One answer of obstore may take this long, which ends errors whose text trickles in. A body that
takes longer goes on the complete way."""
_CONNECT_TIMEOUT = timedelta(seconds=10)
_NOWHERE = "http://127.0.0.1:9"


class CompleteStorage(Storage, Protocol):
    """A storage that does all that obstore cannot, and how it reaches its server."""

    @property
    def connection(self) -> Connection:
        """Say where requests go and how they are signed."""

    def credentials(self) -> Credentials | None:
        """Return keys that are valid now; None for unsigned requests."""

    def has_key(self, bucket: str, key: str) -> bool:
        """Tell whether there is an object of exactly that key."""

    def region_of(self, bucket: str) -> str:
        """Return the region of `bucket`; may ask the server."""


# --- which engine -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Engine:
    """What fetches: `obstore`, or `fsspec` for a reason."""

    name: str
    reason: str | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})" if self.reason else self.name


OBSTORE = Engine("obstore")


def chosen_engine(configured: str, environ: Mapping[str, str] = os.environ) -> Engine:
    """Return the engine chosen by hand, `DCL_ENGINE` before the storage's `engine`.

    >>> str(chosen_engine("fsspec", {})), str(chosen_engine("fsspec", {"DCL_ENGINE": "auto"}))
    ('fsspec (chosen by `engine`)', 'obstore')
    """
    given = environ.get("DCL_ENGINE")
    if given and given not in CHOICES:
        raise InvalidValueError(
            f"DCL_ENGINE is {given!r}, which is no engine",
            hint="set it to `auto` or `fsspec`, or unset it",
        )
    if (given or configured) == "fsspec":
        return Engine("fsspec", f"chosen by {'DCL_ENGINE' if given else '`engine`'}")
    return OBSTORE


def reachable_engine(connection: Connection, environ: Mapping[str, str] = os.environ) -> Engine:
    """Return obstore, unless it cannot be told how to reach what `connection` says."""
    if connection.sse_customer_key is not None:
        # obstore would send the key on to whatever host a redirect names.
        return Engine("fsspec", "a storage with `sse_customer_key`")
    bundle = connection.ca_bundle
    if bundle is not None and connection.is_verified and not os.path.isfile(bundle):
        return Engine("fsspec", "`ca_bundle` is not one file")
    for name in ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"):
        if connection.endpoint_url is None and environ.get(name, "").lower() == "true":
            return Engine("fsspec", f"{name} is set")
    return OBSTORE


# --- stores -----------------------------------------------------------------------------


class _KeyProvider:
    """Gives obstore the complete way's keys with their true expiry.

    Keys that end within minutes are asked for once a second, not for every request.
    """

    def __init__(
        self, credentials: Callable[[], Credentials | None], now: Callable[[], datetime]
    ) -> None:
        self._credentials = credentials
        self._now = now
        self._found: Credentials | None = None
        self._good_until = datetime.min.replace(tzinfo=UTC)

    def __call__(self) -> "S3Credential":
        """Return the keys as obstore takes them."""
        now, found = self._now(), self._found
        if found is None or now >= self._good_until:
            found = self._found = self._credentials()
            if found is None:
                raise AccessDeniedError("there are no credentials to sign with")
            expires = found.expires or datetime.max.replace(tzinfo=UTC)
            self._good_until = min(expires, max(expires - _SOON, now + _PAUSE))
        return {
            "access_key_id": found.key,
            "secret_access_key": found.secret,
            "token": found.token,
            "expires_at": found.expires,
        }


class Stores:
    """One obstore store per bucket and kind, built at first use."""

    def __init__(
        self, complete: CompleteStorage, stall_seconds: float, now: Callable[[], datetime]
    ) -> None:
        self._complete = complete
        self._stall = timedelta(seconds=stall_seconds)
        self._provider = _KeyProvider(complete.credentials, now)
        self._lock = threading.Lock()
        self._stores: dict[tuple[str, bool], S3Store | None] = {}
        self._regions: dict[str, str] = {}

    def get(self, bucket: str, *, is_limited: bool) -> "S3Store | None":
        """Return the store of `bucket`; None where obstore cannot be told how to reach it.

        With `is_limited` a whole request, with its body, may take `stall_seconds`; without,
        ten minutes, and the reader of the body must see that it moves.
        """
        key = bucket, is_limited
        try:
            return self._stores[key]
        except KeyError:
            pass
        with self._lock:
            if key not in self._stores:
                try:
                    self._stores[key] = self._build(bucket, is_limited)
                except StorageError:  # of a region that nobody told today; it may be told next
                    return None
            return self._stores[key]

    def correct(self, bucket: str) -> None:
        """Build the stores of `bucket` anew where the complete way found its true region."""
        region = self._complete.region_of(bucket)
        with self._lock:
            if self._regions.get(bucket, region) != region:
                self._regions[bucket] = region
                for is_limited in (True, False):
                    self._stores.pop((bucket, is_limited), None)

    def _build(self, bucket: str, is_limited: bool) -> "S3Store | None":
        # An access point's ARN is no host's name; directory buckets list in no order.
        if not bucket or ":" in bucket or "/" in bucket or bucket.endswith("--x-s3"):
            return None
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        connection = self._complete.connection
        region = self._regions.get(bucket) or self._complete.region_of(bucket)
        self._regions[bucket] = region
        try:
            endpoint = _endpoint(connection, bucket, region)
            options = _client_options(connection, endpoint)
            limit = self._stall if is_limited else _LONGEST
            return S3Store(
                bucket,
                client_options={**options, "read_timeout": self._stall, "timeout": limit},
                retry_config={"max_retries": 0},
                credential_provider=None if connection.is_anonymous else self._provider,
                **_config(connection, bucket, region, endpoint),
            )
        except (BaseError, OSError, ValueError):
            return None


def _endpoint(connection: Connection, bucket: str, region: str) -> str:
    suffix = ".cn" if region.startswith("cn-") else ""
    base = connection.endpoint_url or f"https://s3.{region}.amazonaws.com{suffix}"
    if not connection.is_virtual_hosted(bucket):
        return base
    parts = urlsplit(base)
    return f"{parts.scheme}://{bucket}.{parts.netloc}{parts.path}"


def _config(connection: Connection, bucket: str, region: str, endpoint: str) -> dict[str, Any]:
    """Return every option of S3 that obstore would else take from the environment."""
    return {
        "endpoint": endpoint,
        "aws_endpoint_url_s3": endpoint,
        "region": region,
        "default_region": region,
        "skip_signature": connection.is_anonymous,
        "virtual_hosted_style_request": connection.is_virtual_hosted(bucket),
        "request_payer": connection.is_requester_pays,
        "s3_express": False,
        "unsigned_payload": False,
        "checksum_algorithm": "sha256",
        "conditional_put": "etag",
        "copy_if_not_exists": "multipart",
        "disable_tagging": False,
        "disable_bulk_delete": False,
        "imdsv1_fallback": False,
        "server_side_encryption": "AES256",
        "sse_bucket_key_enabled": False,
    }


def _client_options(connection: Connection, endpoint: str) -> "ClientConfig":
    is_plain = endpoint.startswith("http://")
    options: ClientConfig = {
        "allow_http": is_plain,
        # Without TLS nothing is verified, and the system's certificates need not be read.
        "allow_invalid_certificates": is_plain or not connection.is_verified,
        "connect_timeout": _CONNECT_TIMEOUT,
        "default_headers": {"accept-encoding": "identity"},
        "pool_max_idle_per_host": "256",
        **_proxy(endpoint),
    }
    if connection.ca_bundle is not None and connection.is_verified and not is_plain:
        with open(connection.ca_bundle, "rb") as file:
            options["root_certificate"] = file.read()
    return options


def _proxy(endpoint: str) -> "ClientConfig":
    """Return the proxy that botocore would take, told so that obstore looks for none itself."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return {}
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(endpoint)
    found = getproxies().get(parts.scheme)
    if not found or proxy_bypass(parts.netloc):
        return {"proxy_url": _NOWHERE, "proxy_excludes": parts.hostname or ""}
    return {"proxy_url": found if "://" in found else f"http://{found}"}
