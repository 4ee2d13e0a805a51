"""AWS Signature Version 4 for S3: what makes a request ours.

Used by `wire`. Knows nothing of connections. Written out because importing botocore costs
0.2 s, which a run with keys in the environment need not pay, and because its clients cannot
stream a listing. The rules: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key pair, and the session token where it is a temporary one."""

    key: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires: datetime | None = None


def quote_path(path: str) -> str:
    """Return `path` percent-encoded as S3 signs it: bytes of UTF-8, `/` kept, dots untouched.

    >>> quote_path("/a//../b c+é")
    '/a//../b%20c%2B%C3%A9'
    """
    return quote(path.encode("utf-8", "surrogateescape"), safe="/-_.~")


def quote_query(query: Iterable[tuple[str, str]]) -> str:
    """Return a query string in canonical form: sorted, every reserved byte encoded.

    >>> quote_query([("prefix", "a/b"), ("versions", "")])
    'prefix=a%2Fb&versions='
    """
    pairs = sorted((_quote(name), _quote(value)) for name, value in query)
    return "&".join(f"{name}={value}" for name, value in pairs)


def _quote(text: str) -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe="-_.~")


def sign(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    *,
    payload: str,
    credentials: Credentials,
    region: str,
    stamp: str,
) -> dict[str, str]:
    """Return `headers` plus those that sign the request, names in lower case.

    `path` and `query` are as sent (already encoded, the query canonical). `headers` must hold
    `host`. `payload` is the body's SHA-256 in hex, or `UNSIGNED_PAYLOAD`. `stamp` is the time
    in UTC, as `20260131T235959Z`.
    """
    day = stamp[:8]
    signed = {name.lower(): _trimmed(value) for name, value in headers.items()}
    signed["x-amz-date"] = stamp
    signed["x-amz-content-sha256"] = payload
    if credentials.token:
        signed["x-amz-security-token"] = credentials.token
    names = sorted(signed)
    listed = ";".join(names)
    lines = "".join([f"{name}:{signed[name]}\n" for name in names])
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{listed}\n{payload}"
    scope = f"{day}/{region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    key = _signing_key(credentials.secret, day, region)
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.key}/{scope}, "
        f"SignedHeaders={listed}, Signature={signature}"
    )
    return signed


def _trimmed(value: str) -> str:
    """Return a header's value with single spaces; nearly always it has none."""
    return value if value.isprintable() and " " not in value else " ".join(value.split())


@lru_cache(maxsize=64)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
