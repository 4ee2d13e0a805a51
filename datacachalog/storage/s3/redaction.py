"""Keeps secrets out of what botocore logs.

At the level DEBUG it logs each request with its headers, a session token and an SSE-C key
among them, and each answer, also those that bring credentials.
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import LogRecord

_LOGGERS = ("botocore.endpoint", "botocore.auth", "botocore.parsers")
_SECRET = re.compile(
    r"(security-token|customer-?key|secret_?access_?key|(?:session|access|refresh|client)_?token"
    r"|client_?secret|\bauthorization)([^\w+/=]+(?:b['\"])?)([\w+/=.~%-]+)",
    re.IGNORECASE,
)


def redact_logs() -> None:
    """Let botocore's loggers leave secrets out from now on; doing it twice does no harm."""
    import logging  # slow to load; botocore has by now

    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_redact)


def _redact(record: "LogRecord") -> bool:
    record.msg, record.args = _SECRET.sub(r"\1\2***", record.getMessage()), ()
    return True
