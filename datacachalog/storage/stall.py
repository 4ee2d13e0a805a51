"""When a connection is given up: it moves next to nothing, silent or trickling.

Used by storages while they read a body. A time-out for silence alone does not do: a server
that sends a byte a second is never silent.
"""

import time
from collections.abc import Callable

from datacachalog.errors import SourceUnreachableError

SECONDS = 60.0
LEAST_BYTES = 1000
"""A body that moves fewer bytes than this in `SECONDS` is given up."""


class StallGuard:
    """Watches one body: told of every piece, it raises once too little has come for too long."""

    __slots__ = ("_clock", "_count", "_seconds", "_since", "_uri")

    def __init__(
        self, uri: str, *, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._uri = uri
        self._seconds = seconds
        self._clock = clock
        self._since = clock()
        self._count = 0

    @property
    def remaining(self) -> float:
        """Return for how many seconds more the next piece may be waited for."""
        return max(0.0, self._since + self._seconds - self._clock())

    def note(self, count: int) -> None:
        """Note that `count` bytes came; raise `SourceUnreachableError` if that is too slow."""
        self._count += count
        now = self._clock()
        if self._count >= LEAST_BYTES:
            self._since, self._count = now, 0
        elif now - self._since >= self._seconds:
            raise self.error()

    def error(self) -> SourceUnreachableError:
        """Return the error for a body that is given up."""
        return SourceUnreachableError(
            f"the server sent {self._count} bytes in {self._seconds:.0f} s of {self._uri}"
        )
