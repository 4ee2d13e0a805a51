"""Who we are to S3: keys, and when they end."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from datacachalog.errors import AccessDeniedError
from datacachalog.storage.s3 import errors as faults

if TYPE_CHECKING:
    from s3fs import S3FileSystem


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key pair, and the session token where it is a temporary one.

    `expires` is aware, in UTC; None where the keys stay as they are.
    """

    key: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires: datetime | None = None


async def current(filesystem: "S3FileSystem", profile: str | None) -> Credentials:
    """Return what the chain of the filesystem's own session gives, refreshed if it is to end.

    The chain covers profiles, SSO, assumed roles, web identity, containers and instance
    metadata. Runs on the filesystem's event loop; raises `AccessDeniedError` where the chain
    has nothing or fails.
    """
    with faults.signing_in(profile):
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
