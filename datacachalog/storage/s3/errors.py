"""What S3 answers, and what its refusals mean in our classes: the one place of translation."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from datacachalog import relpath
from datacachalog.errors import (
    AccessDeniedError,
    DatacachalogError,
    IntegrityError,
    ObjectArchivedError,
    ObjectChangedError,
    ObjectNotFoundError,
    SourceUnreachableError,
    StorageError,
    ThrottledError,
)
from datacachalog.model import RemoteObject
from datacachalog.storage.identity import in_utc, unquoted

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError

_THROTTLED = {
    "SlowDown", "TooManyRequests", "Throttling", "ThrottlingException", "RequestLimitExceeded",
    "BandwidthLimitExceeded", "ServiceUnavailable", "SlowDownRead", "SlowDownWrite",
}  # fmt: skip
_TRANSIENT = {"RequestTimeout", "InternalError", "OperationAborted", "ConditionalRequestConflict"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"}
_WRONG_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthorizationHeaderMalformed"}
_DENIED = {"AccessDenied", "AllAccessDisabled", "RequestTimeTooSkewed"}
_NOTHING = {"NoSuchKey", "NoSuchBucket"}
_NO_VERSION = {"NoSuchVersion", "InvalidVersionId"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What S3 answered to one call, refusals included.

    `headers` have names in lower case. `fields` is what botocore read from the answer,
    `page` a listing's document as it came. `code` and `message` are those of a refusal,
    '' where there was no document.
    """

    status: int
    headers: Mapping[str, str]
    fields: Mapping[str, Any] = field(default_factory=dict)
    page: bytes = b""
    code: str = ""
    message: str = ""

    def object(self, uri: str) -> RemoteObject:
        """Return the object that this answer to a HEAD describes."""
        if "ContentLength" not in self.fields or "LastModified" not in self.fields:
            raise StorageError(f"the server does not say size and time of {uri}")
        return RemoteObject(
            uri,
            relpath.encode(uri.rpartition("/")[2] or uri),
            self.fields["ContentLength"],
            self.fields["LastModified"].astimezone(UTC),
            unquoted(self.fields.get("ETag")),
            self.fields.get("VersionId"),
        )

    def fault(self, uri: str, *, version_id: str | None = None, needs: str = "") -> StorageError:
        """Return the error that this refusal stands for.

        `version_id` is the version that was asked for, `needs` the IAM permission that the
        request takes, where it is worth naming.
        """
        status, code = self.status, self.code
        said = self.message.strip().rstrip(".")
        detail = f"{code or status}: {said}" if said else code or str(status)
        if status == 404 or code in _NOTHING | _NO_VERSION:
            return _not_found(code, uri, version_id)
        if status == 405 and version_id:
            return ObjectNotFoundError(f"version {version_id} of {uri} is a delete marker")
        if code in ("InvalidObjectState", "ObjectNotInActiveTier"):
            return _archived(uri, version_id)
        if (status in (429, 503) and (code in _THROTTLED or not code)) or code in _THROTTLED:
            return ThrottledError(
                f"the server asks to slow down ({detail}) at {uri}",
                retry_after=_retry_after(self.headers),
            )
        if status in (401, 403) or code in _EXPIRED | _WRONG_KEYS | _DENIED:
            return _denied(
                code, detail, uri, needs or ("s3:GetObjectVersion" if version_id else "")
            )
        if (status >= 500 and status != 501) or code in _TRANSIENT or status in (408, 409):
            return SourceUnreachableError(f"the server failed with {status} ({detail}) at {uri}")
        if status in (412, 416):
            return ObjectChangedError(f"{uri} changed since it was resolved")
        if status in (301, 302, 307, 308):
            return StorageError(
                f"{uri} lies in another region than the one asked ({detail})",
                hint="leave `region` out, or set that of the bucket",
            )
        return StorageError(f"the server answered {status} ({detail}) for {uri}")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that `Retry-After` asks for, given as such or as a date."""
    text = headers.get("retry-after", "")
    if text.isdecimal():
        return float(text)
    try:
        now = in_utc(headers["date"]) if "date" in headers else datetime.now(UTC)
        return max(0.0, (in_utc(text) - now).total_seconds())
    except ValueError:
        return None


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


def _archived(uri: str, version_id: str | None) -> ObjectArchivedError:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    version = f" --version-id {version_id}" if version_id else ""
    return ObjectArchivedError(
        f"{uri} lies in an archive tier and must be restored before it can be read",
        hint=f"restore it: `aws s3api restore-object --bucket {bucket} --key '{key}'{version} "
        "--restore-request Days=7`",
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


# --- where there is no answer -----------------------------------------------------------


@contextmanager
def signing_in(profile: str | None) -> Iterator[None]:
    """Translate what goes wrong while credentials are found and refreshed."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    # RuntimeError is what botocore raises where refreshed credentials have ended already.
    except (BotoCoreError, ClientError, RuntimeError) as exc:
        raise AccessDeniedError(
            f"no valid AWS credentials: {exc}",
            hint=f"run `aws sso login{f' --profile {profile}' if profile else ''}`",
        ) from exc


@contextmanager
def network(uri: str) -> Iterator[None]:
    """Translate what botocore and aiohttp raise where there is no whole answer about `uri`."""
    import aiohttp
    from botocore import exceptions as theirs
    from botocore.parsers import ResponseParserError

    try:
        yield
    except DatacachalogError:
        raise
    except (theirs.HTTPClientError, theirs.ConnectionError) as exc:
        raise _unreached(exc, uri) from exc
    except (theirs.FlexibleChecksumError, theirs.IncompleteReadError) as exc:
        raise IntegrityError(f"{uri}: {exc}") from exc
    except aiohttp.ClientPayloadError as exc:
        raise IntegrityError(f"{uri} ended early ({exc})", is_resumable=True) from exc
    except TimeoutError as exc:
        raise SourceUnreachableError(f"the server did not answer in time for {uri}") from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise _failed(exc, uri) from exc
    except UnicodeEncodeError as exc:
        raise StorageError(f"{uri!r} is no Unicode, and cannot be asked for") from exc
    except (ResponseParserError, ValueError) as exc:
        raise IntegrityError(f"the server's answer about {uri} cannot be read: {exc}") from exc
    except theirs.BotoCoreError as exc:
        raise StorageError(f"{uri} cannot be asked for: {exc}") from exc


def _unreached(exc: "BotoCoreError", uri: str) -> DatacachalogError:
    """Return what a request that got no answer means; botocore wraps what aiohttp raised."""
    import aiohttp
    from botocore import exceptions as theirs

    cause = exc.kwargs.get("error")
    if isinstance(cause, DatacachalogError):
        return cause
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        reason = getattr(cause.certificate_error, "verify_message", cause.certificate_error)
        return StorageError(
            f"the server's certificate cannot be verified ({reason}) for {uri}",
            hint="name the authority's certificate with `ca_bundle:`",
        )
    if isinstance(cause, aiohttp.ClientConnectorDNSError):
        return SourceUnreachableError(
            f"the server's name cannot be resolved for {uri}",
            hint="check the network and `endpoint_url`",
        )
    if isinstance(exc, (theirs.ConnectTimeoutError, theirs.ReadTimeoutError)):
        return SourceUnreachableError(f"the server did not answer in time for {uri}")
    return _failed(cause if isinstance(cause, Exception) else exc, uri)


def _failed(exc: Exception, uri: str) -> SourceUnreachableError:
    return SourceUnreachableError(
        f"the connection failed ({str(exc) or type(exc).__name__}) for {uri}"
    )
