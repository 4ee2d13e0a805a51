"""Lanes under test: orders that keep what comes, and the server, site and clock around them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle

from datacachalog.storage.lane import Lane, UnexpectedAnswerError
from datacachalog.storage.protocol import Channel, Request, Site
from datacachalog.storage.s3.sockets import TcpSite
from tests.storage.answering import AnsweringServer


class Item:
    """An order that keeps what comes, and how it ended."""

    def __init__(self, site: Site | None, path: str, length: int) -> None:
        self.length = length
        self.path = path
        self.data = bytearray()
        self.ends: list[BaseException | None] = []
        self.asked = 0
        self._site = site

    def request(self) -> Request:
        """Return the request; raise if there is no site."""
        self.asked += 1
        if self._site is None:
            raise UnexpectedAnswerError("no way")
        head = f"GET {self.path} HTTP/1.1\r\nhost: here\r\n\r\n".encode()
        return Request(self._site, head, self.judge)

    def judge(self, status: int, headers: Mapping[str, str]) -> None:
        """Take any head."""

    def take(self, data: memoryview) -> None:
        """Keep the next bytes."""
        self.data += data

    def complete(self) -> None:
        """Note the end."""
        self.ends.append(None)

    def fail(self, error: BaseException) -> None:
        """Note the end."""
        self.ends.append(error)

    @property
    def error(self) -> BaseException | None:
        """Return how it ended, None for well; it must have ended once."""
        (end,) = self.ends
        return end


def site_of(server: AnsweringServer) -> TcpSite:
    """Return where connections to the server lead."""
    return TcpSite("127.0.0.1", server.port, None)


@dataclass
class Sipping:
    """A site whose connections bring at most `sizes` bytes at a time, in turn."""

    site: Site
    sizes: Sequence[int]

    def connect(self) -> Channel:
        """Begin a connection."""
        channel = self.site.connect()
        receive, sizes = channel.receive, cycle(self.sizes)
        channel.receive = lambda buffer: receive(buffer[: next(sizes)])  # type: ignore[method-assign]
        return channel

    def avoid(self, channel: Channel) -> bool:
        """Do as the site does."""
        return self.site.avoid(channel)


@dataclass
class Line:
    """A feed of items, and what it was asked: `may_wait` each time."""

    waiting: list[Item]
    asked: list[bool] = field(default_factory=list)

    def __call__(self, *, may_wait: bool) -> Item | None:
        """Give the next item."""
        self.asked.append(may_wait)
        return self.waiting.pop(0) if self.waiting else None


def keep_on() -> None:
    """End nothing."""


def carry(
    items: Sequence[Item],
    *,
    most: int = 64,
    first: int = 16,
    check: Callable[[], None] = keep_on,
    allowed: Callable[[], int] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Lane:
    """Carry items in a lane that is over now."""
    line = Line(list(items))
    lane = Lane(line, most=most, first=first, allowed=allowed, check=check, clock=clock)
    lane.run()
    return lane


class Hasty:
    """A clock that goes on by half a minute with each look of the lane's."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def tick(self) -> None:
        """Go on."""
        self.now += 30
