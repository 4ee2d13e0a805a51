"""An S3 of the demo's own: moto's server in this process, on a free port of loopback."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

from datacachalog.errors import MissingExtraError

# The server wants a signature and believes any.
_HEADERS = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=demo/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0",
    "Content-Type": "application/octet-stream",
}
_VERSIONING = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
_ACCOUNT = "123456789012"  # moto's own
# What would lead the server, or commands that inherit it, to other places.
_FOREIGN = ("AWS_", "DCL_", "LAKE_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_NO_FILES = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}

_open = build_opener(ProxyHandler({})).open


@dataclass(frozen=True, slots=True)
class Lake:
    """One bucket, and what other people do to it while the demo runs."""

    endpoint: str
    bucket: str

    def put(self, key: str, text: str, *, at: datetime | None = None) -> None:
        """Write an object; with `at`, as if that had been then."""
        self._request("PUT", quote(key), text.encode())
        if at is not None:
            self._backdate(key, at)

    def delete(self, key: str, *, at: datetime | None = None) -> None:
        """Delete an object; with `at`, as if that had been then."""
        self._request("DELETE", quote(key))
        if at is not None:
            self._backdate(key, at)

    def create(self) -> None:
        """Create the bucket, with versioning."""
        self._request("PUT", "")
        self._request("PUT", "?versioning", _VERSIONING)

    def _backdate(self, key: str, at: datetime) -> None:
        # The server runs in this process, and S3 has no way to ask for this.
        from moto.s3.models import s3_backends

        keys = s3_backends[_ACCOUNT]["aws"].buckets[self.bucket].keys
        keys.getlist(key)[-1].last_modified = at.replace(tzinfo=None)

    def _request(self, method: str, path: str, body: bytes = b"") -> None:
        url = f"{self.endpoint}/{self.bucket}/{path}"
        request = Request(url, data=body, method=method, headers=_HEADERS)  # noqa: S310  # our own
        with _open(request) as response:
            response.read()


@contextmanager
def open_lake(bucket: str) -> Iterator[Lake]:
    """Provide an empty bucket on a server that ends with the context.

    Until then, the process's environment holds nothing of the user's that concerns S3.
    Raises `MissingExtraError` where the server is not installed.
    """
    try:
        from moto.server import ThreadedMotoServer
    except ImportError as exc:
        raise MissingExtraError(
            f"`dcl demo` needs moto's server, which is not installed ({exc})",
            hint="run `pip install 'datacachalog[demo]'`",
        ) from exc
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with _own_environment():
        server.start()
        try:
            host, port = server.get_host_and_port()
            lake = Lake(f"http://{host}:{port}", bucket)
            lake.create()
            yield lake
        finally:
            server.stop()


@contextmanager
def _own_environment() -> Iterator[None]:
    # The server asks botocore, which fails over a profile that does not exist, say.
    before = dict(os.environ)
    for name in before:
        if name.upper().startswith(_FOREIGN):
            del os.environ[name]
    os.environ.update(_NO_FILES)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
