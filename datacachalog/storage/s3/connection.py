"""How to reach one S3, and who we are to it: the user's settings, translated once.

`connect` is the one function that reads settings, environment and profile; s3fs, and
whatever else asks the same S3, is set up from what it returns.
The profile's files are read by botocore, which costs 0.2 s to import: only where a profile
is named or such a file exists.
"""

import base64
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from datacachalog.errors import AccessDeniedError, StorageError
from datacachalog.storage.s3 import errors

if TYPE_CHECKING:
    from s3fs import S3FileSystem

    from datacachalog.spec.models import StorageSettings

DEFAULT_REGION = "us-east-1"
_AMAZON = re.compile(r"(?:^|\.)amazonaws\.com(?P<china>\.cn)?$")
_HOST_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_SSE_KEY_BYTES = 32
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key pair, and the session token where it is a temporary one.

    `expires` is aware, in UTC; None where the keys stay as they are.
    """

    key: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """Everything that decides where requests go and how they are signed.

    `endpoint_url` is None for Amazon's own. `region` is None where nobody said one: it is
    then asked per bucket. `ca_bundle` is a file or folder of certificates to trust besides
    the system's. `keys` are those that settings or the environment give; without, the chain
    of s3fs's session is asked, for `profile` if one is named. `sse_customer_key` is the key
    itself, 32 bytes.
    """

    endpoint_url: str | None = None
    region: str | None = None
    addressing_style: str = "auto"
    is_requester_pays: bool = False
    ca_bundle: str | None = None
    is_verified: bool = True
    is_anonymous: bool = False
    keys: Credentials | None = field(default=None, repr=False)
    profile: str | None = None
    sse_customer_key: bytes | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Return what `Storage.endpoint` says: the normalised URL, or `aws` for Amazon's own."""
        if self.endpoint_url is None:
            return "aws-cn" if (self.region or "").startswith("cn-") else "aws"
        found = _AMAZON.search(urlsplit(self.endpoint_url).hostname or "")
        if found is None:
            return self.endpoint_url
        return "aws-cn" if found["china"] else "aws"

    @property
    def is_amazon(self) -> bool:
        """Tell whether the server is Amazon's, which enforces what it documents."""
        return self.name.startswith("aws")

    @property
    def asks_chain(self) -> bool:
        """Tell whether keys come from the chain of s3fs's session."""
        return self.keys is None and not self.is_anonymous

    @property
    def known_region(self) -> str | None:
        """Return the region to sign for; None where Amazon is to be asked for it."""
        return self.region or (None if self.is_amazon else DEFAULT_REGION)

    def is_virtual_hosted(self, bucket: str) -> bool:
        """Tell whether `bucket` goes into the host name rather than into the path."""
        if self.addressing_style == "path" or not bucket:
            return False
        if self.addressing_style == "virtual":
            return True
        # A dot would not fit the server's certificate.
        return self.endpoint_url is None and _HOST_LABEL.fullmatch(bucket) is not None


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
        is_anonymous=settings.anon,
        keys=_keys(settings, environ),
        profile=settings.profile,
        sse_customer_key=_sse_key(settings.sse_customer_key),
    )


def connection_of(filesystem: "S3FileSystem") -> Connection:
    """Return how a filesystem that the user has set up reaches its server."""
    client, config = filesystem.client_kwargs, filesystem.config_kwargs
    verify = client.get("verify")
    url = filesystem.endpoint_url or client.get("endpoint_url")
    given = filesystem.key and filesystem.secret
    return Connection(
        endpoint_url=_normalise(url) if url else None,
        region=client.get("region_name"),
        addressing_style=_section(config.get("s3")).get("addressing_style") or "auto",
        is_requester_pays=filesystem.requester_pays,
        ca_bundle=verify if isinstance(verify, str) else None,
        is_verified=verify is not False,
        is_anonymous=filesystem.anon,
        keys=Credentials(filesystem.key, filesystem.secret, filesystem.token) if given else None,
        profile=filesystem.kwargs.get("profile"),
    )


class _Profile(NamedTuple):
    """What the profile in effect says; all None where there is none."""

    region: str | None = None
    endpoint_url: str | None = None
    addressing_style: str | None = None
    ca_bundle: str | None = None


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


def _keys(settings: "StorageSettings", environ: Mapping[str, str]) -> Credentials | None:
    """Return the keys that are given as such; None where the chain is to be asked, or nobody."""
    if settings.anon:
        return None
    if settings.key and settings.secret:
        return Credentials(settings.key, settings.secret, settings.token)
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    # As everywhere at AWS: a profile that was asked for by name stands above the environment.
    if key and secret and not settings.profile:
        return Credentials(key, secret, environ.get("AWS_SESSION_TOKEN") or None)
    return None


async def chain_credentials(filesystem: "S3FileSystem", profile: str | None) -> Credentials:
    """Return what the chain of the filesystem's own session gives, refreshed if it is to end.

    The chain covers profiles, SSO, assumed roles, web identity, containers and instance
    metadata. Runs on the filesystem's event loop; raises `AccessDeniedError` where the chain
    has nothing or fails.
    """
    with errors.signing_in(profile):
        await filesystem.set_session()
        found = await filesystem.session.get_credentials()
        keys = None if found is None else await found.get_frozen_credentials()
    if keys is None:
        raise AccessDeniedError(
            "no AWS credentials were found",
            hint="run `aws configure` or `aws sso login`, set `AWS_ACCESS_KEY_ID` and "
            "`AWS_SECRET_ACCESS_KEY`, or write `anon: true` for a public bucket",
        )
    # botocore tells when keys end nowhere else; keys that do not end lack the attribute.
    expires = getattr(found, "_expiry_time", None)
    return Credentials(keys.access_key, keys.secret_key, keys.token, expires)


def _sse_key(text: str | None) -> bytes | None:
    """Return the 32 bytes that `text` spells: in base64, or as that many characters."""
    if text is None:
        return None
    spelled = text.encode()
    if len(spelled) == _SSE_KEY_BYTES:
        return spelled
    try:
        key = base64.b64decode(spelled, validate=True)
    except ValueError:
        key = b""
    if len(key) != _SSE_KEY_BYTES:
        raise StorageError(
            f"`sse_customer_key` is not a key of {_SSE_KEY_BYTES} bytes",
            hint="give it in base64, as `openssl rand -base64 32` writes one",
        )
    return key
