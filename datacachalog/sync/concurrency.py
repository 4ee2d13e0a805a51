"""How much is under way at once: the number of requests, and the bytes that memory holds of them.

By Little's law few requests suffice next to a server and hundreds are needed far from it; no
setting could fit both, so the number is found out. Used by `download_queue` and `download`.
"""

import threading
import time
from collections.abc import Callable

FIRST = 4
"""Requests under way to begin with: enough for a server nearby, and for two processors."""

_CLEARLY = 1.2
_TRIALS = 2
_SHORTEST_WINDOW = 0.05
_LONGEST_WINDOW = 0.5
_UNIT = 1 << 20


class Concurrency:
    """The limit on requests under way; thread-safe.

    It is doubled for as long as that brings clearly more, and taken back where it does not, until
    two trials have failed. Once the server throttles, it is halved each time and opened again
    slowly: additive increase, multiplicative decrease, as TCP does (RFC 5681). What a request
    brings is counted as one, and one more for each MiB, so that ranges and small objects have
    one measure.
    """

    def __init__(
        self, most: int, *, first: int = FIRST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._most = most
        self._limit = float(min(first, most))
        self._proven = self._limit
        self._best = 0.0
        self._failures = 0
        self._is_settling = False
        self._refusals = 0
        self._is_throttled = False
        self._begun = clock()
        self._brought = 0.0
        self._answers = 0
        self._mutex = threading.Lock()

    @property
    def limit(self) -> int:
        """Return how many requests may be under way now."""
        return int(self._limit)

    @property
    def refusals(self) -> int:
        """Return how often the limit was lowered: a request notes it when it begins."""
        return self._refusals

    def restart(self) -> None:
        """Begin to measure now: nothing was under way before."""
        with self._mutex:
            self._start_window(self._clock())

    def note(self, answers: int, count: int) -> None:
        """Note that `answers` requests ended, and that `count` bytes came."""
        with self._mutex:
            self._answers += answers
            self._brought += answers + count / _UNIT
            if self._is_throttled:
                self._reopen(answers)
            else:
                self._judge(self._clock())

    def lower(self, refusals: int) -> None:
        """Halve the limit, as the server asks for less.

        `refusals` is what the property was when the refused request began: requests that were under
        way together and are refused together count once.
        """
        with self._mutex:
            if refusals == self._refusals:
                self._refusals += 1
                self._is_throttled = True
                self._limit = self._proven = max(1.0, self._limit / 2)

    def _reopen(self, answers: int) -> None:
        """Allow one request more for each round of answers."""
        self._limit = min(float(self._most), self._limit + answers / self._limit)

    def _judge(self, now: float) -> None:
        """Compare the window that has passed, if it tells enough, with the best before it."""
        seconds = now - self._begun
        if self._is_settling:
            # What began under another limit says nothing about this one.
            if self._answers >= self.limit or seconds >= _LONGEST_WINDOW:
                self._start_window(now)
            return
        is_full = self._answers >= self.limit and seconds >= _SHORTEST_WINDOW
        if not is_full and seconds < _LONGEST_WINDOW:
            return
        rate = self._brought / max(1e-6, seconds)
        best, self._best = self._best, max(self._best, rate)
        if self._limit > self._proven and rate <= best * _CLEARLY:
            self._failures += 1
            self._try(self._proven, now)
            return
        self._proven = self._limit
        if self._failures < _TRIALS:
            self._try(min(float(self._most), self._limit * 2), now)
        else:
            self._start_window(now)

    def _try(self, limit: float, now: float) -> None:
        """Go on with another limit, and measure once it has taken effect."""
        is_new = limit != self._limit
        self._limit = limit
        self._start_window(now)
        self._is_settling = is_new

    def _start_window(self, now: float) -> None:
        self._begun, self._brought, self._answers = now, 0.0, 0
        self._is_settling = False


class ByteBudget:
    """Bounds the bytes that are under way and in memory, so that no setting can exhaust it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._condition = threading.Condition()

    def take(self, count: int) -> bool:
        """Take `count` bytes if there is room; what is larger than all of it passes alone."""
        with self._condition:
            if not self._has_room(count):
                return False
            self._used += count
            return True

    def wait(self, count: int, seconds: float) -> None:
        """Wait until there may be room for `count` bytes, at most so many seconds."""
        with self._condition:
            if not self._has_room(count):
                self._condition.wait(seconds)

    def give_back(self, count: int) -> None:
        """Return `count` bytes."""
        with self._condition:
            self._used -= count
            if self._used <= self._size * 3 // 4:  # not for every little that comes free
                self._condition.notify_all()

    def _has_room(self, count: int) -> bool:
        return not self._used or self._used + count <= self._size
