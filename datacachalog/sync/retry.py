"""Retry: what is worth another attempt, after how long, and how the end of a run cuts it short.

Waits are exponential with jitter (https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/).
"""

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from datacachalog.errors import (
    ChecksumMismatchError,
    DatacachalogError,
    IntegrityError,
    OfflineError,
    SourceUnreachableError,
    ThrottledError,
)

T = TypeVar("T")

ATTEMPTS = 6
FIRST_DELAY = 0.2
LONGEST_DELAY = 10.0
LONGEST_RETRY_AFTER = 60.0
"""Seconds that a server may ask to be left alone at most."""


class Cancelled(BaseException):
    """The run was interrupted; unwinds workers without passing for an error."""


class Cancel(threading.Event):
    """The one flag that ends a run; waiting on it is how workers sleep."""

    def check(self) -> None:
        """Raise `Cancelled` if the run was ended."""
        if self.is_set():
            raise Cancelled

    def sleep(self, seconds: float) -> None:
        """Wait, or raise `Cancelled` as soon as the run ends."""
        if self.wait(seconds):
            raise Cancelled


def is_transient(error: DatacachalogError) -> bool:
    """Tell whether the same request may succeed a moment later.

    Server trouble and short bodies are; a refusal, a missing object, a changed object
    and a wrong checksum are not.
    """
    if isinstance(error, (ChecksumMismatchError, OfflineError)):
        return False
    return isinstance(error, (SourceUnreachableError, IntegrityError))


def delay_before(attempt: int, chance: float) -> float:
    """Return the wait before attempt number `attempt` (2 is the first repeat), in seconds.

    `chance` in [0, 1) spreads the waits of many workers.

    >>> [round(delay_before(n, 0.999), 1) for n in (2, 3, 4, 9)]
    [0.2, 0.4, 0.8, 10.0]
    """
    return float(min(LONGEST_DELAY, FIRST_DELAY * 2 ** (attempt - 2)) * (0.5 + chance / 2))


def retrying(
    action: Callable[[], T],
    *,
    cancel: Cancel,
    failed: Callable[[DatacachalogError, int, float], None],
) -> T:
    """Return what `action` returns, repeating it after transient errors, `ATTEMPTS` in all.

    A server that says how long it wants to be left alone (Retry-After) is. `failed(error,
    attempt, delay)` is called before each wait; the last error is raised.
    """
    attempt = 1
    while True:
        cancel.check()
        try:
            return action()
        except DatacachalogError as error:
            attempt += 1
            if attempt > ATTEMPTS or not is_transient(error):
                raise
            delay = delay_before(attempt, random.random())  # noqa: S311 - jitter, not secrecy
            if isinstance(error, ThrottledError) and error.retry_after is not None:
                delay = max(delay, min(error.retry_after, LONGEST_RETRY_AFTER))
            failed(error, attempt, delay)
            cancel.sleep(delay)
