"""How to reach one S3: the user's settings, translated once.

`connect` is the one function that reads settings, environment and profile; `wire` builds its
signed requests from what it returns.
The profile's files are read by botocore, which costs 0.2 s to import: only where a profile
is named or such a file exists.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from datacachalog.errors import StorageError
from datacachalog.storage.s3.credentials import CredentialSource, Fixed, FromChain
from datacachalog.storage.s3.signing import Credentials

if TYPE_CHECKING:
    import botocore.session

    from datacachalog.spec import StorageSettings

DEFAULT_REGION = "us-east-1"
_AMAZON = re.compile(r"(?:^|\.)amazonaws\.com(?P<china>\.cn)?$")
_HOST_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class Connection:
    """Everything that decides where requests go and how they are signed.

    `endpoint_url` is None for Amazon's own. `region` is None where nobody said one: it is
    then asked per bucket. `credentials` is None for unsigned requests. `ca_bundle` is a file
    or folder of certificates to trust besides the system's.
    """

    endpoint_url: str | None
    region: str | None
    addressing_style: str
    is_requester_pays: bool
    ca_bundle: str | None
    is_verified: bool
    credentials: CredentialSource | None = field(repr=False)

    @property
    def name(self) -> str:
        """Return what `Storage.endpoint` says: the normalised URL, or `aws` for Amazon's own."""
        return _name(self.endpoint_url, self.region or "")

    def portable(self) -> "Connection":
        """Return the same with keys that are good for minutes: for another process."""
        if self.credentials is None or self.credentials.is_fixed:
            return self
        return replace(self, credentials=Fixed(self.credentials()))

    @property
    def is_amazon(self) -> bool:
        """Tell whether the server is Amazon's, which enforces what it documents."""
        return self.name.startswith("aws")

    def is_virtual_hosted(self, bucket: str) -> bool:
        """Tell whether `bucket` goes into the host name rather than into the path."""
        if self.addressing_style == "path" or not bucket:
            return False
        if self.addressing_style == "virtual":
            return True
        # A dot would not fit the server's certificate.
        return self.endpoint_url is None and _HOST_LABEL.fullmatch(bucket) is not None

    def url(self, bucket: str, region: str) -> str:
        """Return the URL of `bucket` without a trailing slash; that of the service for ''."""
        base = self.endpoint_url or _amazon_url(region)
        if not bucket:
            return base
        if self.is_virtual_hosted(bucket):
            parts = urlsplit(base)
            return f"{parts.scheme}://{bucket}.{parts.netloc}{parts.path}"
        return f"{base}/{bucket}"


@lru_cache
def _name(endpoint_url: str | None, region: str) -> str:
    if endpoint_url is None:
        return "aws-cn" if region.startswith("cn-") else "aws"
    found = _AMAZON.search(urlsplit(endpoint_url).hostname or "")
    if found is not None:
        return "aws-cn" if found["china"] else "aws"
    return endpoint_url


def _amazon_url(region: str) -> str:
    return f"https://s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def connect(settings: "StorageSettings", environ: Mapping[str, str] = os.environ) -> Connection:
    """Return the connection that `settings`, `environ` and the profile add up to.

    A setting stands above the environment, and that above the profile. Asks no network.
    """
    profile = _read_profile(settings.profile, environ)
    style = settings.addressing_style
    return Connection(
        endpoint_url=_endpoint(settings, environ, profile),
        region=settings.region
        or environ.get("AWS_REGION")
        or environ.get("AWS_DEFAULT_REGION")
        or profile.region,
        addressing_style=profile.addressing_style or "auto" if style == "auto" else style,
        is_requester_pays=settings.requester_pays,
        ca_bundle=settings.ca_bundle
        or environ.get("AWS_CA_BUNDLE")
        or profile.ca_bundle
        or environ.get("REQUESTS_CA_BUNDLE")
        or None,
        is_verified=settings.verify,
        credentials=_credentials(settings, environ, profile),
    )


class _Profile(NamedTuple):
    """What the profile in effect says; all None where there is none."""

    region: str | None = None
    endpoint_url: str | None = None
    addressing_style: str | None = None
    ca_bundle: str | None = None
    session: "botocore.session.Session | None" = None


def _read_profile(name: str | None, environ: Mapping[str, str]) -> _Profile:
    is_named = name or environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE")
    files = (
        environ.get("AWS_CONFIG_FILE") or "~/.aws/config",
        environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials",
    )
    if not is_named and not any(os.path.isfile(os.path.expanduser(file)) for file in files):
        return _Profile()
    import botocore.session
    from botocore.exceptions import BotoCoreError

    session = botocore.session.Session(profile=name)
    try:
        scoped = session.get_scoped_config()
        return _Profile(
            region=scoped.get("region"),
            endpoint_url=_profile_endpoint(scoped, session.full_config),
            addressing_style=_section(scoped.get("s3")).get("addressing_style"),
            ca_bundle=scoped.get("ca_bundle"),
            session=session,
        )
    except BotoCoreError as exc:
        raise StorageError(
            f"the AWS profile cannot be used: {exc}",
            hint="`aws configure list-profiles` shows which profiles there are",
        ) from exc


def _profile_endpoint(scoped: Mapping[str, Any], full: Mapping[str, Any]) -> str | None:
    """Return the endpoint of the profile: that of its `services` section, else its own.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    if str(scoped.get("ignore_configured_endpoint_urls", "")).lower() == "true":
        return None
    services = _section(full.get("services")).get(str(scoped.get("services", "")))
    specific = _section(_section(services).get("s3")).get("endpoint_url")
    return specific or scoped.get("endpoint_url")


def _section(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _endpoint(
    settings: "StorageSettings", environ: Mapping[str, str], profile: _Profile
) -> str | None:
    found = settings.endpoint_url
    if not found and environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() != "true":
        found = (
            environ.get("AWS_ENDPOINT_URL_S3")
            or environ.get("AWS_ENDPOINT_URL")
            or profile.endpoint_url
        )
    return _normalise(found) if found else None


def _normalise(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        is_known = parts.scheme in _DEFAULT_PORTS and bool(parts.hostname)
    except ValueError:
        is_known = False
    if not is_known:
        raise StorageError(
            f"the S3 endpoint {url!r} is no web address",
            hint="write it as `https://s3.example.com` or `http://localhost:9000`",
        )
    host = parts.netloc.rpartition("@")[2].lower().removesuffix(_DEFAULT_PORTS[parts.scheme])
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


def _credentials(
    settings: "StorageSettings", environ: Mapping[str, str], profile: _Profile
) -> CredentialSource | None:
    if settings.anon:
        return None
    if settings.key and settings.secret:
        return Fixed(Credentials(settings.key, settings.secret, settings.token))
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    # As everywhere at AWS: a profile that was asked for by name stands above the environment.
    if key and secret and not settings.profile:
        return Fixed(Credentials(key, secret, environ.get("AWS_SESSION_TOKEN") or None))
    return FromChain(profile.session, settings.profile)
