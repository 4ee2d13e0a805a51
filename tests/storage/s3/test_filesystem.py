"""s3fs from the same settings as the storage."""

import pytest

from datacachalog.spec.models import StorageSettings
from datacachalog.storage import S3Storage
from datacachalog.storage.s3.client import s3fs_options
from datacachalog.storage.s3.connection import connect
from tests.conftest import TestS3


def test_s3fs_reads_what_the_storage_reads(s3: TestS3) -> None:
    """Both reach the same bucket with one set of settings."""
    bucket = s3.bucket()
    bucket.put("a/b.csv", b"1,2")

    found = S3Storage(s3.settings).filesystem

    assert found.cat_file(f"{bucket.name}/a/b.csv") == b"1,2"


@pytest.mark.parametrize(
    ("settings", "path", "expected"),
    [
        pytest.param(StorageSettings(anon=True), ("anon",), True, id="anonymous"),
        pytest.param(
            StorageSettings(region="eu-central-1"),
            ("client_kwargs", "region_name"),
            "eu-central-1",
            id="region",
        ),
        pytest.param(
            StorageSettings(addressing_style="path"),
            ("config_kwargs", "s3", "addressing_style"),
            "path",
            id="addressing style",
        ),
        pytest.param(
            StorageSettings(verify=False), ("client_kwargs", "verify"), False, id="unverified"
        ),
        pytest.param(
            StorageSettings(ca_bundle="/lab.pem"),
            ("client_kwargs", "verify"),
            "/lab.pem",
            id="certificates",
        ),
        pytest.param(
            StorageSettings(requester_pays=True), ("requester_pays",), True, id="requester pays"
        ),
        pytest.param(
            StorageSettings(endpoint_url="http://localhost:9000"),
            ("config_kwargs", "request_checksum_calculation"),
            "when_required",
            id="no checksums for look-alikes",
        ),
    ],
)
def test_settings_are_translated(
    settings: StorageSettings, path: tuple[str, ...], expected: object
) -> None:
    """Each setting arrives where s3fs takes it."""
    found: object = s3fs_options(connect(settings, {}))
    for key in path:
        assert isinstance(found, dict)
        found = found[key]

    assert found == expected
