"""An S3 of the demo's own: moto's server in this process, on a free port of loopback."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from datacachalog.errors import MissingExtraError

_ACCOUNT = "123456789012"  # moto's own
# What would lead the server, or commands that inherit it, to other places.
_FOREIGN = ("AWS_", "DCL_", "LAKE_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_NO_FILES = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


class DemoBucket:
    """A bucket that keeps versions, and what other people do to it while the demo runs."""

    def __init__(self, endpoint: str, name: str) -> None:
        from botocore.session import Session

        self.endpoint = endpoint
        self.name = name
        self._s3: Any = Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=endpoint,
            aws_access_key_id="demo",
            aws_secret_access_key="demo",  # noqa: S106  # the server believes any
        )
        self._s3.create_bucket(Bucket=name)
        versioning = {"Status": "Enabled"}
        self._s3.put_bucket_versioning(Bucket=name, VersioningConfiguration=versioning)

    def put(self, key: str, text: str, *, at: datetime | None = None) -> None:
        """Write an object; with `at`, as if that had been then."""
        self._s3.put_object(Bucket=self.name, Key=key, Body=text.encode())
        self._backdate(key, at)

    def delete(self, key: str, *, at: datetime | None = None) -> None:
        """Delete an object; with `at`, as if that had been then."""
        self._s3.delete_object(Bucket=self.name, Key=key)
        self._backdate(key, at)

    def _backdate(self, key: str, at: datetime | None) -> None:
        # The server runs in this process, and S3 has no way to ask for this.
        from moto.s3.models import s3_backends

        if at is not None:
            keys = s3_backends[_ACCOUNT]["aws"].buckets[self.name].keys
            keys.getlist(key)[-1].last_modified = at.replace(tzinfo=None)


@contextmanager
def serve_bucket(name: str) -> Iterator[DemoBucket]:
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
            yield DemoBucket(f"http://{host}:{port}", name)
        finally:
            server.stop()


@contextmanager
def _own_environment() -> Iterator[None]:
    # botocore, and the server through it, would fail over a profile that does not exist, say.
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
