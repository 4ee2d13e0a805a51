"""Signatures: ours are botocore's, for any key, query and headers."""

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from datacachalog.storage.s3.signing import Credentials, quote_path, quote_query, sign

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
HEADER = st.text('abc/="* ~%é', max_size=10).map(str.strip)


def signed_by_botocore(
    method: str, url: str, headers: dict[str, str], token: str | None, stamp: datetime
) -> str:
    """Return botocore's Authorization header for the same request."""
    request = AWSRequest(method=method, url=url, headers=headers)
    request.context["timestamp"] = stamp.strftime("%Y%m%dT%H%M%SZ")
    request.context["payload_signing_enabled"] = False
    auth: Any = S3SigV4Auth(BotocoreCredentials("AKID", "secret", token), "s3", "eu-central-1")
    if token:
        request.headers["X-Amz-Security-Token"] = token
    request.headers["X-Amz-Date"] = request.context["timestamp"]
    request.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"
    text = auth.string_to_sign(request, auth.canonical_request(request))
    signature = auth.signature(text, request)
    names = auth.signed_headers(auth.headers_to_sign(request))
    return (
        f"AWS4-HMAC-SHA256 Credential=AKID/{stamp:%Y%m%d}/eu-central-1/s3/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )


@given(
    key=TEXT,
    query=st.dictionaries(TEXT.filter(bool), TEXT, max_size=3),
    if_match=HEADER,
    token=st.one_of(st.none(), st.just("session")),
)
def test_signatures_are_botocores(
    key: str, query: dict[str, str], if_match: str, token: str | None
) -> None:
    """For any key, query and header the Authorization header is the same."""
    stamp = datetime(2024, 2, 29, 1, 2, 3, tzinfo=UTC)
    path, text = quote_path(f"/bucket/{key}"), quote_query(query.items())
    headers = {"host": "s3.example.com", "if-match": if_match, "range": "bytes=0-9"}

    ours = sign(
        "GET",
        path,
        text,
        headers,
        payload="UNSIGNED-PAYLOAD",
        credentials=Credentials("AKID", "secret", token),
        region="eu-central-1",
        stamp=f"{stamp:%Y%m%dT%H%M%SZ}",
    )
    url = f"https://s3.example.com{path}{'?' + text if text else ''}"

    assert ours["authorization"] == signed_by_botocore("GET", url, headers, token, stamp)


def test_secrets_are_not_shown() -> None:
    """The representation of credentials holds neither secret nor token."""
    shown = repr(Credentials("AKID", "hush", "hush-hush"))

    assert "hush" not in shown


@pytest.mark.parametrize("key", ["a//b", "../a", "a/./b", "/a"])
def test_paths_are_not_normalised(key: str) -> None:
    """What looks like a relative path stays as it is spelled."""
    assert quote_path(f"/bucket/{key}") == f"/bucket/{key}"
