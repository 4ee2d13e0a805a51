"""What S3 means by its refusals, in our classes: the one place of translation."""

import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape

from datacachalog.errors import (
    AccessDeniedError,
    DatacachalogError,
    ObjectArchivedError,
    ObjectChangedError,
    ObjectNotFoundError,
    SourceUnreachableError,
    StorageError,
    ThrottledError,
)

_CODE = re.compile(r"<Code>([^<]*)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
_THROTTLED = {
    "SlowDown", "TooManyRequests", "Throttling", "ThrottlingException", "RequestLimitExceeded",
    "BandwidthLimitExceeded", "ServiceUnavailable", "SlowDownRead", "SlowDownWrite",
}  # fmt: skip
_TRANSIENT = {"RequestTimeout", "InternalError", "OperationAborted", "ConditionalRequestConflict"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"}
_WRONG_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthorizationHeaderMalformed"}
_NO_VERSION = {"NoSuchVersion", "InvalidVersionId"}


def error_code(body: bytes) -> str:
    """Return the `Code` of an error document, or '' where there is none."""
    found = _CODE.search(body.decode("utf-8", "replace"))
    return found[1] if found else ""


def fault(
    status: int, body: bytes, uri: str, *, version_id: str | None = None, needs: str = ""
) -> StorageError:
    """Return the error that a status other than success stands for.

    `version_id` is the version that was asked for, `needs` the IAM permission that the
    request takes, where it is worth naming.
    """
    text = body.decode("utf-8", "replace")
    code = error_code(body)
    found = _MESSAGE.search(text)
    said = unescape(found[1]).strip().rstrip(".") if found else ""
    detail = f"{code or status}: {said}" if said else code or str(status)
    if status == 404 or code in _NO_VERSION:
        return _not_found(code, uri, version_id)
    if status == 405 and version_id:
        return ObjectNotFoundError(f"version {version_id} of {uri} is a delete marker")
    if code in ("InvalidObjectState", "ObjectNotInActiveTier"):
        return ObjectArchivedError(
            f"{uri} lies in an archive tier and must be restored before it can be read",
            hint=_restore_hint(uri, version_id),
        )
    if (status in (429, 503) and (code in _THROTTLED or not code)) or code in _THROTTLED:
        return ThrottledError(f"the server asks to slow down ({detail}) at {uri}")
    if (status >= 500 and status != 501) or code in _TRANSIENT or status in (408, 409):
        return SourceUnreachableError(f"the server failed with {status} ({detail}) at {uri}")
    if status in (401, 403) or code in _EXPIRED | _WRONG_KEYS:
        return _denied(code, detail, uri, needs or ("s3:GetObjectVersion" if version_id else ""))
    if status in (412, 416):
        return ObjectChangedError(f"{uri} changed since it was resolved")
    if status in (301, 307, 308):
        return StorageError(
            f"{uri} lies in another region than the one asked ({detail})",
            hint="leave `region` out, or set that of the bucket",
        )
    return StorageError(f"the server answered {status} ({detail}) for {uri}")


def _not_found(code: str, uri: str, version_id: str | None) -> ObjectNotFoundError:
    if code == "NoSuchBucket":
        bucket = uri.removeprefix("s3://").partition("/")[0]
        return ObjectNotFoundError(
            f"there is no bucket {bucket!r} at this endpoint", hint="check the bucket's name"
        )
    if version_id:
        return ObjectNotFoundError(
            f"version {version_id} of {uri} is gone",
            hint="a lifecycle rule of the bucket has probably deleted it; "
            "`dcl versions` shows what is left",
        )
    return ObjectNotFoundError(f"there is no object at {uri}")


def _restore_hint(uri: str, version_id: str | None) -> str:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    version = f" --version-id {version_id}" if version_id else ""
    return (
        f"restore it: `aws s3api restore-object --bucket {bucket} --key '{key}'{version} "
        "--restore-request Days=7`"
    )


def _denied(code: str, detail: str, uri: str, needs: str) -> AccessDeniedError:
    if code in _EXPIRED:
        return AccessDeniedError(
            f"the credentials for {uri} have expired ({code})",
            hint="run `aws sso login`, or renew the session token",
        )
    if code in _WRONG_KEYS:
        return AccessDeniedError(
            f"the server does not accept the credentials for {uri} ({detail})",
            hint="check access key, secret and region; `dcl doctor` shows which are used",
        )
    if code == "RequestTimeTooSkewed":
        return AccessDeniedError(
            f"the clock of this machine is too far from the server's ({code})",
            hint="set the clock, for example with `timedatectl set-ntp true`",
        )
    if needs:
        return AccessDeniedError(
            f"{uri}: not permitted ({detail}); this needs the permission `{needs}`",
            hint=f"ask for `{needs}` on the bucket",
        )
    return AccessDeniedError(
        f"{uri} is missing or not permitted ({detail})",
        hint="check the key; without `s3:ListBucket` the server does not say which it is",
    )


@contextmanager
def network(uri: str) -> Iterator[None]:
    """Translate what sockets, TLS and HTTP raise while talking about `uri`."""
    from http.client import HTTPException

    try:
        yield
    except DatacachalogError:
        raise
    except ssl.SSLCertVerificationError as exc:
        raise StorageError(
            f"the server's certificate cannot be verified ({exc.verify_message}) for {uri}",
            hint="name the authority's certificate with `ca_bundle:`",
        ) from exc
    except socket.gaierror as exc:
        raise SourceUnreachableError(
            f"the server's name cannot be resolved for {uri}",
            hint="check the network and `endpoint_url`",
        ) from exc
    except TimeoutError as exc:
        raise SourceUnreachableError(f"the server did not answer in time for {uri}") from exc
    except (OSError, HTTPException) as exc:
        reason = str(exc) or type(exc).__name__
        raise SourceUnreachableError(f"the connection failed ({reason}) for {uri}") from exc
