"""A forked child works, with connections of its own."""

import os
import signal
from collections.abc import Callable

import pytest

from datacachalog.storage.s3 import S3Storage
from tests.conftest import TestS3

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def in_child(action: Callable[[], bool]) -> bool:
    """Tell whether `action` holds in a forked child, within twenty seconds."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        os._exit(0 if action() else 1)
    return os.waitpid(pid, 0)[1] == 0


def test_a_forked_child_lists_and_reads(s3: TestS3) -> None:
    """Parent and child use one storage, the parent before and after the fork."""
    bucket = s3.bucket()
    bucket.put("a/plain", b"hello")
    storage = S3Storage(s3.settings)

    def works() -> bool:
        (obj,) = storage.scan(bucket.uri("a/*"))
        return b"".join(storage.read(obj, 0, 5)) == b"hello"

    assert works()
    assert in_child(works)
    assert in_child(lambda: in_child(works))
    assert works()
