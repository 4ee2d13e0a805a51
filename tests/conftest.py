"""What all tests share: a clean environment, and an S3 of our own on loopback.

`s3` is moto's server, one per test process. It is real HTTP, so that every client takes
its real path; nothing leaves the machine.
"""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from datacachalog.spec.models import StorageSettings
from tests import s3_versions
from tests.projects import Project

# Several test processes share few cores: a slow example says nothing.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")

# A suite that runs in the background was told to ignore Ctrl-C, and programs under test
# would inherit that; a handler of our own becomes the default for them.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_FOREIGN = ("AWS_", "DCL_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA")


@pytest.fixture(autouse=True)
def clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Give each test a home of its own and nothing of the user's settings."""
    for name in os.environ:
        if name.upper().startswith(_FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@dataclass(frozen=True)
class Bucket:
    """One bucket of the test server, and what a test does to it behind our back."""

    name: str
    client: Any
    endpoint: str

    def uri(self, key: str = "") -> str:
        """Return the URI of `key`, as stored: it is not escaped."""
        return f"s3://{self.name}/{key}"

    def put(self, key: str, data: bytes = b"", **options: Any) -> str | None:
        """Write an object and return its version id, where the bucket keeps versions."""
        answer = self.client.put_object(Bucket=self.name, Key=key, Body=data, **options)
        version: str | None = answer.get("VersionId")
        return version

    def delete(self, key: str, version_id: str | None = None) -> None:
        """Delete an object, or one version of it for good."""
        options = {"VersionId": version_id} if version_id else {}
        self.client.delete_object(Bucket=self.name, Key=key, **options)

    def read(self, key: str) -> bytes:
        """Return the object's bytes."""
        body: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return body

    def version(self, status: str) -> None:
        """Turn versioning on (`Enabled`) or aside (`Suspended`)."""
        self.client.put_bucket_versioning(
            Bucket=self.name, VersioningConfiguration={"Status": status}
        )

    @property
    def backend(self) -> Any:
        """Return moto's own S3, which answers without HTTP."""
        from moto.s3.models import s3_backends

        return s3_backends["123456789012"]["aws"]

    @property
    def stored(self) -> Any:
        """Return what moto has: lists of versions by key, oldest first."""
        return self.backend.buckets[self.name].keys

    def backdate(self, key: str, at: datetime, version_id: str | None = None) -> None:
        """Let the server believe that the newest version of `key` (or the given) is of `at`."""
        entries = self.stored.getlist(key)
        for entry in entries if version_id else entries[-1:]:
            if version_id in (None, entry.version_id):
                entry.last_modified = at.replace(tzinfo=None)

    def make_null(self, key: str) -> None:
        """Let the newest version of `key` be `null`, as if written while suspended."""
        # moto forgets all history on such a write.
        *older, newest = self.stored.getlist(key)
        newest._version_id = "null"
        self.stored.setlist(key, [*(v for v in older if v.version_id != "null"), newest])

    def uploads(self) -> list[str]:
        """Return the ids of uploads in parts that were neither completed nor aborted."""
        found = self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])
        return [upload["UploadId"] for upload in found]


@dataclass(frozen=True)
class TestS3:
    """The test server: its endpoint, and new buckets on demand."""

    __test__ = False
    endpoint: str
    client: Any
    settings: StorageSettings
    _numbers: Any = field(default_factory=count)

    def bucket(self, *, versioning: bool = False, prefix: str = "bucket") -> Bucket:
        """Return a new, empty bucket; `prefix` begins its name (see `s3_versions`)."""
        bucket = Bucket(f"{prefix}-{next(self._numbers)}", self.client, self.endpoint)
        self.client.create_bucket(Bucket=bucket.name)
        if versioning:
            bucket.version("Enabled")
        return bucket


@contextmanager
def moto_server() -> Iterator[str]:
    """Run moto's server on a free port of loopback and give its URL; all show the same buckets."""
    from moto.server import ThreadedMotoServer

    s3_versions.install()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def s3() -> Iterator[TestS3]:
    """Give the S3 of the tests; its buckets last as long as the process."""
    import boto3
    from botocore.config import Config

    with moto_server() as url:
        client = boto3.client(
            "s3",
            endpoint_url=url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
            config=Config(parameter_validation=False),
        )
        yield TestS3(url, client, StorageSettings(endpoint_url=url, key="test", secret="test"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Give a project over a storage in memory, in which retries do not wait."""
    monkeypatch.setattr("datacachalog.sync.retry.LONGEST_DELAY", 0.0)
    return Project(tmp_path)
