"""Who we are to S3: fixed keys, or botocore's chain with all its refreshing.

The chain covers profiles, SSO, assumed roles, web identity, containers and instance
metadata. It is asked at the first request, not before: some of its links use the network.
"""

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from datacachalog.errors import AccessDeniedError
from datacachalog.storage.s3.signing import Credentials

if TYPE_CHECKING:
    import botocore.session


class CredentialSource(Protocol):
    """Gives the keys to sign with; called before each request."""

    @property
    def is_fixed(self) -> bool:
        """Tell whether the keys never change, so that they can be handed on."""
        ...

    def __call__(self) -> Credentials:
        """Return keys that are valid for minutes to come."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Keys that stay as they are."""

    keys: Credentials
    is_fixed: bool = field(default=True, init=False)

    def __call__(self) -> Credentials:
        """Return the keys."""
        return self.keys


class FromChain:
    """Whatever botocore's chain finds, refreshed by it when it expires. Thread-safe."""

    is_fixed = False

    def __init__(
        self, session: "botocore.session.Session | None", profile: str | None = None
    ) -> None:
        self._session = session
        self._profile = profile
        self._lock = threading.Lock()
        self._found: Any = None

    def __call__(self) -> Credentials:
        """Return the chain's keys; raise `AccessDeniedError` where it has none."""
        from botocore.exceptions import BotoCoreError

        try:
            if self._found is None:
                self._found = self._find()
            keys = self._found.get_frozen_credentials()
        except BotoCoreError as exc:
            raise AccessDeniedError(
                f"no valid AWS credentials: {exc}", hint=self._login_hint()
            ) from exc
        return Credentials(keys.access_key, keys.secret_key, keys.token)

    def _find(self) -> Any:
        import botocore.session

        with self._lock:
            if self._found is not None:
                return self._found
            session = self._session or botocore.session.Session(profile=self._profile)
            found = session.get_credentials()
        if found is None:
            raise AccessDeniedError(
                "no AWS credentials were found",
                hint="run `aws configure` or `aws sso login`, set `AWS_ACCESS_KEY_ID` and "
                "`AWS_SECRET_ACCESS_KEY`, or write `anon: true` for a public bucket",
            )
        return found

    def _login_hint(self) -> str:
        return f"run `aws sso login{f' --profile {self._profile}' if self._profile else ''}`"
