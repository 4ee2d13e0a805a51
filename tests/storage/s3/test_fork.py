"""A forked child works, with connections of its own."""

import pytest

from datacachalog.storage.s3 import S3Storage
from tests.conftest import TestS3
from tests.processes import in_child

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_a_forked_child_lists_and_reads(s3: TestS3) -> None:
    """Parent and child use one storage, the parent before and after the fork."""
    bucket = s3.bucket()
    bucket.put("a/plain", b"hello")
    storage = S3Storage(s3.settings)

    def check() -> None:
        (obj,) = storage.scan(bucket.uri("a/*"))
        assert b"".join(storage.read(obj, 0, 5)) == b"hello"

    def check_in_child() -> None:
        assert in_child(check) == 0

    check()
    check_in_child()
    assert in_child(check_in_child) == 0
    check()
