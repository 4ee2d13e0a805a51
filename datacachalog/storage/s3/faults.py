"""What S3 means by its refusals, in our classes: the one place of translation."""

import re

from datacachalog.errors import (
    AccessDeniedError,
    ObjectChangedError,
    ObjectNotFoundError,
    SourceUnreachableError,
    StorageError,
    ThrottledError,
)
from datacachalog.storage.s3.wire import Answer

_CODE = re.compile(r"<Code>([^<]*)<")


def fault(answer: Answer, uri: str) -> StorageError:
    """Return the error that an answer other than success stands for."""
    found = _CODE.search(answer.body.decode("utf-8", "replace"))
    code = found[1] if found else ""
    if answer.status == 404:
        return ObjectNotFoundError(f"no object at {uri}")
    if answer.status in (401, 403):
        return AccessDeniedError(f"{uri} is missing or not permitted ({code or answer.status})")
    if answer.status in (412, 416):
        return ObjectChangedError(f"{uri} changed since it was resolved")
    if answer.status == 429 or code == "SlowDown":
        return ThrottledError(f"the server asks to slow down for {uri}")
    if answer.status >= 500:
        return SourceUnreachableError(f"the server failed with {answer.status} {code} for {uri}")
    return StorageError(f"the server answered {answer.status} {code} for {uri}")
