"""Many GETs in one thread: how the bulk of the bytes comes.

A lane keeps many connections, sends one request after another on each, and hands what
comes to whoever ordered it. A thread per request cannot compete: for small objects Python's
lock would pass from thread to thread several times per object. It repeats nothing and
explains nothing: an answer that is not exactly the expected one ends the order with
`fail`, and the caller then asks by `Storage.read`, which does both. Used by `haul`.
"""

import selectors
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from datacachalog.storage.protocol import Channel, Request, Site

BUFFER = 1 << 20
"""Bytes taken at a time: few enough to be hashed and written from the processor's cache."""

FIRST = 16
"""Requests under way to begin with: enough for a server nearby."""

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
"""How long a server may be silent; so for requests that block, too."""

_TICK = 0.25
_LONGEST_HEAD = 32 << 10

_GOOD = frozenset({"HTTP/1.1 200", "HTTP/1.1 206"})
_SLOW_DOWN = frozenset({"429", "500", "503"})


class Order(Protocol):
    """What is to be fetched by one GET, and where it goes; called in the lane's thread."""

    length: int
    """Bytes that the answer's body must have."""

    def request(self) -> Request:
        """Return the request, signed now; asked again if it has to be sent again."""
        ...

    def take(self, data: memoryview) -> None:
        """Take the next bytes, which are only lent."""
        ...

    def complete(self) -> None:
        """Note that all bytes were taken."""
        ...

    def fail(self, error: BaseException) -> None:
        """Note that the order ends without its bytes; also after `complete` raised."""
        ...


class Feed(Protocol):
    """Gives orders, to one lane or to several."""

    def __call__(self, *, may_wait: bool) -> Order | None:
        """Return the next order, or None: if `may_wait`, that means there will be no more."""
        ...


class UnexpectedAnswerError(Exception):
    """An answer that a lane does not understand, or does not want."""


class Width:
    """How many requests are under way: doubled for as long as that brings clearly more.

    By Little's law few suffice next to the server and hundreds are needed far from it; no
    setting could fit both. What a request brings is counted as one, and one more for each
    `BUFFER` of its bytes, so that ranges and small objects have one measure. It is measured
    over as many answers as are under way, or over half a second of longer ones.
    """

    _CLEARLY = 1.2
    _PATIENCE = 3
    _SECONDS = 0.5

    def __init__(self, most: int, first: int, begun: float) -> None:
        self.now = min(first, most)
        self._most = most
        self._best = 0.0
        self._in_vain = 0
        self._begun = begun
        self._brought = 0.0
        self._answers = 0

    def note(self, count: int, now: float, *, is_end: bool) -> None:
        """Note that `count` bytes of an answer came; widen if the last step up has paid."""
        self._brought += is_end + count / BUFFER
        self._answers += is_end
        seconds = now - self._begun
        if self._answers < self.now and seconds < self._SECONDS:
            return
        rate = self._brought / max(1e-6, seconds)
        self._begun, self._brought, self._answers = now, 0.0, 0
        if rate > self._best * self._CLEARLY and self._in_vain < self._PATIENCE:
            self._best = rate
            self._in_vain = 0
            self.now = min(self._most, self.now * 2)
        else:
            self._in_vain += 1

    def narrow(self) -> None:
        """Halve it for good: the server asks to slow down, or takes no more connections."""
        self._most = self.now = max(1, self.now // 2)


class _Connection:
    """A connection, and what it is at: `left` is None until the answer's head was read."""

    __slots__ = (
        "channel", "head", "is_answered", "is_last", "is_open", "left", "order", "request", "since",
        "site", "step", "turn", "was_used",
    )  # fmt: skip

    def __init__(self, site: Site, step: "Callable[[_Connection], None]") -> None:
        self.site = site
        self.channel: Channel = site.connect()
        self.step = step
        self.is_open = self.was_used = self.is_answered = self.is_last = False
        self.order: Order | None = None
        self.request: Request | None = None
        self.head = b""
        self.left: int | None = None
        self.since = 0.0
        self.turn = 0


class Lane:
    """Carries out orders until there are no more, in the thread that calls `run`.

    `first` at a time to begin with, and at most `most`, or what `allowed` says at the moment,
    where that is less. `check` is called often, and raises to end all.
    """

    def __init__(
        self,
        feed: Feed,
        *,
        most: int,
        check: Callable[[], None],
        first: int = FIRST,
        allowed: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._feed = feed
        self._check = check
        self._clock = clock
        self._width = Width(most, first, clock())
        self._allowed = allowed
        self._turn = 0
        self._selector = selectors.DefaultSelector()
        self._bytes = bytearray(BUFFER)
        self._buffer = memoryview(self._bytes)
        self._busy: set[_Connection] = set()
        self._idle: list[_Connection] = []
        self._again: list[Order] = []
        self._now = self._swept = clock()

    def run(self) -> None:
        """Carry out all orders. Raises what `check` raises; what was under way then failed."""
        try:
            while self._fill():
                ready = self._selector.select(_TICK)
                self._now = self._clock()
                for key, _ in ready:
                    self._go_on(key.data)
                self._check()
                self._sweep()
        except BaseException as exc:
            for order in [*(c.order for c in self._busy), *self._again]:
                if order is not None:
                    with suppress(Exception):  # the others' owners must know, too
                        order.fail(exc)
            raise
        finally:
            for connection in (*self._busy, *self._idle):
                connection.channel.close()
            self._selector.close()

    # --- orders find connections ------------------------------------------------------

    def _fill(self) -> bool:
        """Start orders up to the width; return whether anything is under way."""
        while self._has_room():
            self._check()
            order = self._next()
            if order is None:
                break
            self._start(order, None)
        return bool(self._busy)

    def _has_room(self) -> bool:
        under_way = len(self._busy)
        return under_way < self._width.now and (
            self._allowed is None or under_way < self._allowed()
        )

    def _next(self) -> Order | None:
        return self._again.pop() if self._again else self._feed(may_wait=not self._busy)

    def _start(self, order: Order, free: _Connection | None) -> None:
        """Start an order on the connection that is free, if it leads to the right site."""
        try:
            request = order.request()
        except BaseException as exc:
            order.fail(exc)  # its owner knows what to do
            if not isinstance(exc, Exception):
                raise
            found = None
        else:
            found = self._free_or_new(order, request.site, free)
        if free is not None and found is not free:
            self._rest(free)
        if found is None:
            return
        found.order, found.request, found.left = order, request, None
        found.is_answered = False
        found.turn = self._turn
        found.since = self._now = self._clock()
        self._busy.add(found)
        if found.is_open:
            found.step = self._send
            self._go_on(found)

    def _free_or_new(
        self, order: Order, site: Site, free: _Connection | None
    ) -> _Connection | None:
        """Return a connection to `site`; None if none can be made, and the order is seen to."""
        if free is not None and free.site is site:
            return free
        try:
            return self._find_idle(site) or self._connect(site)
        except Exception as exc:  # noqa: BLE001 - the order's owner knows what to do
            if isinstance(exc, OSError) and self._has_open(site):
                self._width.narrow()  # too many open files, most likely
                self._again.append(order)
            else:
                order.fail(exc)
            return None

    def _has_open(self, site: Site) -> bool:
        return any(c.is_open and c.site is site for c in self._busy)

    def _find_idle(self, site: Site) -> _Connection | None:
        for i, connection in enumerate(self._idle):
            if connection.site is site:
                return self._idle.pop(i)
        return None

    def _connect(self, site: Site) -> _Connection:
        connection = _Connection(site, self._open)
        try:
            self._selector.register(connection.channel.fileno, selectors.EVENT_WRITE, connection)
        except BaseException:
            connection.channel.close()
            raise
        return connection

    def _rest(self, connection: _Connection) -> None:
        connection.step = self._leave
        self._idle.append(connection)

    # --- a connection goes on ----------------------------------------------------------

    def _go_on(self, connection: _Connection) -> None:
        connection.since = self._now
        try:
            connection.step(connection)
        except Exception as exc:
            if connection.order is None:
                raise  # by `fail`: there is nobody left to be told
            self._break(connection, exc)
            return
        if connection.left == 0:
            # Out here: what the feed raises is nobody's but the caller's.
            self._follow(connection)

    def _open(self, connection: _Connection) -> None:
        event = connection.channel.open()
        fileno = connection.channel.fileno
        self._selector.modify(fileno, event or selectors.EVENT_READ, connection)
        if not event:
            connection.is_open = True
            self._send(connection)

    def _send(self, connection: _Connection) -> None:
        assert connection.request is not None
        connection.step = self._receive
        connection.channel.send(connection.request.head)

    def _receive(self, connection: _Connection) -> None:
        while True:
            count = connection.channel.receive(self._buffer)
            if count is None:
                return
            if not count:
                raise ConnectionResetError("the server hung up")
            body = self._buffer[:count]
            connection.is_answered = True
            if connection.left is None:
                found = self._read_head(connection, count)
                if found is None:
                    continue
                body = found
            self._take(connection, body)
            if not connection.left or not connection.channel.holds_back:
                return

    def _read_head(self, connection: _Connection, count: int) -> memoryview | None:
        """Check an answer's head, and return what came of its body; None if more is to come."""
        if connection.head:
            connection.head += self._buffer[:count]
            raw: bytes | bytearray = connection.head
            count = len(raw)
        else:
            raw = self._bytes
        end = raw.find(b"\r\n\r\n", 0, count)
        if end < 0:
            if count > _LONGEST_HEAD:
                raise UnexpectedAnswerError("a head without an end")
            connection.head = bytes(raw[:count])
            return None
        connection.head = b""
        text = str(memoryview(raw)[:end], "latin-1")
        fields = [line.partition(":") for line in text.split("\r\n")[1:]]
        headers = {name.lower(): value.strip() for name, _, value in fields}
        status = text[9:12]
        if text[:12] not in _GOOD or "transfer-encoding" in headers:
            if status in _SLOW_DOWN:
                self._narrow(connection)
            raise UnexpectedAnswerError(text[:40])
        assert connection.order is not None
        assert connection.request is not None
        connection.request.check(int(status), headers)
        if headers.get("content-length") != str(connection.order.length):
            raise UnexpectedAnswerError("another length than asked for")
        connection.is_last = headers.get("connection", "").lower() == "close"
        connection.left = connection.order.length
        return memoryview(raw)[end + 4 : count]

    def _take(self, connection: _Connection, body: memoryview) -> None:
        order = connection.order
        assert order is not None
        assert connection.left is not None
        connection.left -= len(body)
        if connection.left < 0:
            raise UnexpectedAnswerError("more bytes than announced")
        if body:
            order.take(body)
        self._width.note(len(body), self._now, is_end=not connection.left)
        if connection.left:
            return
        connection.was_used = True
        try:
            order.complete()
            connection.order = None
        except Exception as exc:  # noqa: BLE001 - its owner knows what to do
            connection.order = None
            order.fail(exc)
        self._busy.discard(connection)

    def _follow(self, connection: _Connection) -> None:
        """Give a connection whose order is complete the next one."""
        connection.left = None
        if connection.is_last:
            self._leave(connection)
            return
        following = self._next() if self._has_room() else None
        if following is None:
            self._rest(connection)
        else:
            self._start(following, connection)

    # --- a connection ends ---------------------------------------------------------------

    def _leave(self, connection: _Connection) -> None:
        """Close a connection that carries nothing: the server hung up, or said it would."""
        connection.step = self._ignore
        self._selector.unregister(connection.channel.fileno)
        connection.channel.close()
        if connection in self._idle:
            self._idle.remove(connection)

    def _ignore(self, connection: _Connection) -> None:
        """Do nothing: it was closed since the selector saw it."""

    def _break(self, connection: _Connection, error: Exception) -> None:
        """Close a connection, and give its order up unless another can surely carry it."""
        order, connection.order = connection.order, None
        self._busy.discard(connection)
        self._leave(connection)
        if order is None:
            return
        if not connection.is_open:
            is_hopeful = connection.site.avoid(connection.channel)
            if not is_hopeful and self._has_open(connection.site):
                self._narrow(connection)
                is_hopeful = True
        else:
            # A server may close an idle connection at the very moment we use it.
            is_hung_up = isinstance(error, OSError) and not isinstance(error, TimeoutError)
            is_hopeful = connection.was_used and not connection.is_answered and is_hung_up
        if is_hopeful:
            self._again.append(order)
        else:
            order.fail(error)

    def _narrow(self, connection: _Connection) -> None:
        """Send less at a time; what was under way together and is refused together counts once."""
        if connection.turn == self._turn:
            self._turn += 1
            self._width.narrow()

    def _sweep(self) -> None:
        """Break connections that have been silent for too long."""
        if self._now - self._swept < 1:
            return
        self._swept = self._now
        for connection in list(self._busy):
            limit = READ_SECONDS if connection.is_open else CONNECT_SECONDS
            if self._now - connection.since > limit:
                self._break(connection, TimeoutError("the server did not answer in time"))
