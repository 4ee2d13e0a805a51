"""The HTTP session under s3fs: one that trusts our certificates and follows no redirect.

`Session` is made when it is first asked for, since it inherits from aiobotocore's, which is
slow to import; as a module's attribute it can still be pickled with the filesystem that
names it.
"""

import os
import re
from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from datacachalog.errors import IntegrityError, StorageError
from datacachalog.storage import stall

if TYPE_CHECKING:
    from aiohttp import ClientResponse

_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_LONGEST_DOCUMENT = 64 << 20


def __getattr__(name: str) -> Any:
    if name != "Session":
        raise AttributeError(name)
    found = globals()["Session"] = _make_session_class()
    return found


def _make_session_class() -> type:
    from aiobotocore.httpsession import AIOHTTPSession

    class Session(AIOHTTPSession):  # type: ignore[misc] # aiobotocore is not typed
        """Sends the requests of one client.

        `verify` as a path names certificates to trust besides the system's.
        """

        def __init__(self, verify: bool | str = True, **options: Any) -> None:
            self._bundle = verify if isinstance(verify, str) else None
            super().__init__(verify=bool(verify), **options)

        def _get_ssl_context(self) -> Any:
            context = super()._get_ssl_context()
            context.load_default_certs()
            if self._bundle:
                context.load_verify_locations(cadata=read_bundle(self._bundle))
            return context

        async def _get_session(self, proxy_url: str | None) -> Any:
            session = await super()._get_session(proxy_url)
            seconds = self._timeout.sock_read or stall.SECONDS
            return SimpleNamespace(request=partial(_request, session.request, seconds))

    Session.__qualname__ = "Session"
    return Session


async def _request(send: Any, seconds: float, *args: Any, **options: Any) -> "ClientResponse":
    # aiohttp would take a session token and an SSE-C key along to whatever host is named.
    # Where a bucket lies in another region, botocore asks again by itself.
    response: ClientResponse = await send(*args, allow_redirects=False, **options)
    response.read = partial(_read, response, seconds)  # type: ignore[method-assign] # see there
    return response


async def _read(response: "ClientResponse", seconds: float) -> bytes:
    """Return the body of a response that is no object: a page, an error.

    aiohttp would wait for ever for one that trickles, and take one without end.
    """
    place = str(response.url.with_query(None))
    guard = stall.StallGuard(place, seconds=seconds)
    pieces = []
    size = 0
    while piece := await guarded(guard, response.content.readany()):
        pieces.append(piece)
        size += len(piece)
        if size > _LONGEST_DOCUMENT:
            response.close()
            raise IntegrityError(f"the server's answer has no end at {place}")
    return b"".join(pieces)


async def guarded(guard: stall.StallGuard, piece: Awaitable[bytes]) -> bytes:
    """Wait for the next piece of a body for as long as `guard` allows, and tell it."""
    import asyncio  # slow to load

    try:
        async with asyncio.timeout(guard.remaining):
            found = await piece
    except TimeoutError:
        raise guard.error() from None
    guard.note(len(found))
    return found


def read_bundle(path: str) -> str:
    """Return the certificates in PEM that a file, or the files of a folder, hold."""
    try:
        is_folder = os.path.isdir(path)
        names = [entry.path for entry in os.scandir(path)] if is_folder else [path]
        texts = [Path(name).read_text("ascii", "replace") for name in sorted(names)]
    except OSError as exc:
        raise StorageError(
            f"the CA bundle {path!r} cannot be read: {exc.strerror}",
            hint="name a PEM file with `ca_bundle:` or `AWS_CA_BUNDLE`",
        ) from exc
    found = _CERTIFICATE.findall("\n".join(texts))
    if not found:
        raise StorageError(
            f"the CA bundle {path!r} holds no certificate in PEM format",
            hint="name a PEM file with `ca_bundle:` or `AWS_CA_BUNDLE`",
        )
    return "\n".join(found)
