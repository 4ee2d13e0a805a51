"""What is loaded before anything is asked: neither botocore nor s3fs."""

import subprocess
import sys

SCRIPT = """
import sys
from datacachalog.spec.models import StorageSettings
from datacachalog.storage import S3Storage
storage = S3Storage(StorageSettings(endpoint_url="http://127.0.0.1:1"))
assert storage.endpoint == "http://127.0.0.1:1"
assert storage.credentials().key == "x"
assert storage.region_of("b") == "us-east-1"
assert S3Storage(StorageSettings(region="eu-north-1")).region_of("b") == "eu-north-1"
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_heavy_libraries_stay_out() -> None:
    """With keys from the environment, all that is known of a storage needs nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "HOME": "/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())

    assert "datacachalog" in loaded
    assert not loaded & {"botocore", "boto3", "s3fs", "fsspec", "aiobotocore", "asyncio"}
