"""What a run with plain keys loads: neither botocore nor s3fs."""

import subprocess
import sys

from tests.conftest import TestS3

SCRIPT = """
import sys
from datacachalog.spec import StorageSettings
from datacachalog.storage import open_storage
storage = open_storage("s3://b/k", StorageSettings(endpoint_url={endpoint!r}))
found = list(storage.scan({uri!r}))
b"".join(storage.read(found[0], 0, found[0].size))
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""


def test_heavy_libraries_stay_out(s3: TestS3) -> None:
    """Keys from the environment need no botocore; listing and reading need nothing else."""
    bucket = s3.bucket()
    bucket.put("a", b"x")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(endpoint=s3.endpoint, uri=bucket.uri("*"))],
        env={"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "HOME": "/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())

    assert "datacachalog" in loaded
    assert not loaded & {"botocore", "boto3", "s3fs", "fsspec", "aiobotocore"}
