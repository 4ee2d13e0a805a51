"""How to reach one S3: the user's settings, translated once, for both clients.

`connection` is the one function that reads settings, environment and profile; the signed
requests of `wire` and the stores of `reading` are both built from its result.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from datacachalog.storage.s3.signing import Credentials


class S3Settings(Protocol):
    """What of `spec.StorageSettings` matters here; names and meanings are s3fs's."""

    @property
    def profile(self) -> str | None: ...
    @property
    def anon(self) -> bool: ...
    @property
    def endpoint_url(self) -> str | None: ...
    @property
    def key(self) -> str | None: ...
    @property
    def secret(self) -> str | None: ...
    @property
    def token(self) -> str | None: ...
    @property
    def region(self) -> str | None: ...
    @property
    def requester_pays(self) -> bool: ...
    @property
    def addressing_style(self) -> str | None: ...
    @property
    def ca_bundle(self) -> str | None: ...
    @property
    def verify(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Connection:
    """Everything that decides where requests go and how they are signed.

    `endpoint_url` is None for Amazon's own. `region` is None where nobody said one: it is
    asked per bucket. `credentials` is called before each request and refreshes what expires;
    None means unsigned.
    """

    endpoint_url: str | None
    region: str | None
    is_virtual_hosted: bool
    is_requester_pays: bool
    ca_bundle: str | None
    is_verified: bool
    credentials: Callable[[], Credentials] | None = field(repr=False)

    @property
    def name(self) -> str:
        """Return what `Storage.endpoint` says: the normalised URL, or `aws`."""
        return self.endpoint_url or "aws"

    def url(self, bucket: str, region: str) -> str:
        """Return the URL of `bucket`, without a trailing slash; of the service for ''."""
        base = self.endpoint_url or f"https://s3.{region}.amazonaws.com"
        if not bucket:
            return base
        if self.is_virtual_hosted and "." not in bucket:
            parts = urlsplit(base)
            return f"{parts.scheme}://{bucket}.{parts.netloc}{parts.path}"
        return f"{base}/{bucket}"


def connection(settings: S3Settings, environ: Mapping[str, str] = os.environ) -> Connection:
    """Return the connection that `settings`, `environ` and the profile add up to."""
    endpoint = (
        settings.endpoint_url
        or environ.get("AWS_ENDPOINT_URL_S3")
        or environ.get("AWS_ENDPOINT_URL")
    )
    region = (
        settings.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None
    )
    credentials = None
    if not settings.anon:
        key = settings.key or environ["AWS_ACCESS_KEY_ID"]
        secret = settings.secret or environ["AWS_SECRET_ACCESS_KEY"]
        fixed = Credentials(key, secret, settings.token or environ.get("AWS_SESSION_TOKEN"))
        credentials = lambda: fixed  # noqa: E731
    return Connection(
        endpoint_url=endpoint.rstrip("/") if endpoint else None,
        region=region,
        is_virtual_hosted=settings.addressing_style == "virtual" or not endpoint,
        is_requester_pays=settings.requester_pays,
        ca_bundle=settings.ca_bundle,
        is_verified=settings.verify,
        credentials=credentials,
    )
