"""What lanes carry for one dataset: small objects as parcels, large ones by their ranges.

What does not go smoothly (a refusal, a changed object, a wrong checksum, a full disk) is
handed back, to be asked for again in the way that repeats and explains. Used by `transfer`;
knows storages and the store, but no plans.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from datacachalog import events
from datacachalog.arrival import Arrival, Carefully, SpanOrder, put_away
from datacachalog.cache import files
from datacachalog.cache.store import Store
from datacachalog.checksums import Checksum, Hashes
from datacachalog.model import RemoteObject
from datacachalog.run import Run
from datacachalog.settings import processors
from datacachalog.storage.lane import Lane, UnexpectedAnswerError
from datacachalog.storage.protocol import Request, Storage

LANES = min(4, processors())
"""Threads that carry large objects: receiving, hashing and writing leave Python's lock free."""

_HOPELESS = 16
"""So many more parcels that went wrong than right are no accident."""

_FIRST = 2
"""Requests that a lane for large objects begins with."""

STREAMS = 4
"""While more large objects than this are to come, each is one stream."""


@dataclass(slots=True)
class Haul:
    """What the parcels of one dataset share, and those that wait to be carried.

    `arrived(obj, fingerprint, blake3)` and `handed_back(obj)` are called by whoever carried
    the object; `is_over` tells that no more need to be begun. Where more goes wrong than right,
    nothing more is begun, and all that waits is handed back: asking twice for each would help
    nobody.
    """

    dataset: str
    storage: Storage
    endpoint: str
    store: Store
    run: Run
    demand: Callable[[RemoteObject], Sequence[Checksum]]
    arrived: Callable[[RemoteObject, str, str], None]
    handed_back: Callable[[RemoteObject], None]
    is_over: Callable[[], bool]
    waiting: deque[RemoteObject] = field(default_factory=deque)
    _excess: int = 0
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def carry(self, share: Callable[[], int]) -> None:
        """Bring what waits into the store, in this thread, or hand it back.

        `share` tells how many requests may be under way.
        """
        check = self.run.cancel.check
        Lane(self._next, most=self.run.width, allowed=share, check=check).run()

    @property
    def is_waiting(self) -> bool:
        """Tell whether there is something to begin."""
        return bool(self.waiting) and not self.is_over()

    def take(self, count: int) -> list[RemoteObject]:
        """Return up to `count` objects that the caller carries from now on. Thread-safe."""
        taken: list[RemoteObject] = []
        with suppress(IndexError):
            while len(taken) < count and self.is_waiting:
                taken.append(self.waiting.popleft())
        return taken

    def store_away(self, obj: RemoteObject, fingerprint: str, blake3: str) -> None:
        """Note that an object is in the store."""
        with self._mutex:
            self._excess -= 1
        self.arrived(obj, fingerprint, blake3)

    def give_back(self, obj: RemoteObject) -> None:
        """Hand an object back that did not come; all that waits, if that is the rule by now."""
        with self._mutex:
            self._excess += 1
            is_hopeless = self._excess >= _HOPELESS
        self.handed_back(obj)
        while is_hopeless and (taken := self.take(1)):
            self.handed_back(taken[0])

    def note(self, obj: RemoteObject, blake3: str) -> None:
        """Note that another process has brought an object into the store."""
        self.store_away(obj, obj.fingerprint(self.endpoint), blake3)
        self.run.report(events.TransferStarted(self.dataset, obj))
        self.run.report(events.Transferred(self.dataset, obj, obj.size))
        self.run.report(events.TransferFinished(self.dataset, obj))

    def _next(self, *, may_wait: bool) -> "Parcel | None":  # noqa: ARG002 - all are known
        if self.is_over():
            return None
        try:
            return Parcel(self.waiting.popleft(), self)
        except IndexError:
            return None


class Convoy:
    """The large objects of one dataset, one after another; several lanes share them.

    `begin(obj, in_one)` opens an arrival, or returns None where there is nothing to carry.
    """

    def __init__(
        self,
        objects: Iterable[RemoteObject],
        run: Run,
        *,
        begin: Callable[[RemoteObject, bool], Arrival | None],
        carefully: Carefully,
        is_over: Callable[[], bool],
    ) -> None:
        self._waiting = deque(objects)
        self._run = run
        self._begin = begin
        self._carefully = carefully
        self._is_over = is_over
        self._mutex = threading.Lock()
        self.lanes = min(LANES, run.width)

    def carry(self, share: Callable[[], int]) -> None:
        """Carry ranges until there are no more; for as many threads as there are `lanes`.

        All ranges of one object are carried by one of them: more than one writer of a file only
        wait for each other. `share` tells how many requests each may have under way.
        """
        orders: deque[SpanOrder] = deque()

        def feed(*, may_wait: bool) -> SpanOrder | None:  # noqa: ARG001 - all are known
            while not orders and (found := self._next()) is not None:
                orders.extend(found.orders(self._carefully))
            return orders.popleft() if orders else None

        check = self._run.cancel.check
        Lane(feed, most=self._run.width, allowed=share, first=_FIRST, check=check).run()

    def _next(self) -> Arrival | None:
        """Begin the next object; return None if there is none."""
        with self._mutex:
            while self._waiting and not self._is_over():
                # Many come side by side, each in order: that is hashed as it comes.
                in_one = len(self._waiting) > STREAMS
                arrival = self._begin(self._waiting.popleft(), in_one)
                if arrival is not None:
                    return arrival
        return None


class Parcel:
    """One object, written and hashed as it comes, and stored when it is verified."""

    __slots__ = (
        "_fd", "_fingerprint", "_hashes", "_haul", "_object", "_report", "_taken", "_temp",
        "length",
    )  # fmt: skip

    def __init__(self, obj: RemoteObject, haul: Haul) -> None:
        self.length = obj.size
        self._object = obj
        self._haul = haul
        self._report = haul.run.report
        self._fingerprint = obj.fingerprint(haul.endpoint)
        self._hashes = Hashes(haul.demand(obj))
        self._temp = ""
        self._fd = -1
        self._taken = 0

    def request(self) -> Request:
        """Return the GET of the whole object."""
        request = self._haul.storage.request(self._object, 0, self.length)
        if request is None:
            raise UnexpectedAnswerError("no lane leads there")
        return request

    def take(self, data: memoryview) -> None:
        """Write and hash the next bytes."""
        if self._fd < 0:
            self._open()
        files.write_all(self._fd, data)
        self._hashes.update(data)
        self._taken += len(data)
        self._report(events.Transferred(self._haul.dataset, self._object, len(data)))

    def complete(self) -> None:
        """Verify the bytes and make them the stored object."""
        if self._fd < 0:  # an empty object
            self._open()
        haul, obj, temp = self._haul, self._object, self._temp
        self._hashes.check(obj)
        fd, self._fd = self._fd, -1
        put_away(haul.store, fd, temp, obj, self._fingerprint)
        haul.run.temps.discard(temp)
        haul.store_away(obj, self._fingerprint, self._hashes.blake3)
        self._report(events.TransferFinished(haul.dataset, obj))

    def fail(self, error: BaseException) -> None:
        """Remove what came, and hand the object back unless the run was ended."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):  # its bytes are not wanted
                os.close(fd)
        if self._temp:
            with suppress(OSError):  # why it cannot be removed, reading it will say
                files.remove(self._temp)
            self._haul.run.temps.discard(self._temp)
        if self._taken:
            self._report(events.Transferred(self._haul.dataset, self._object, -self._taken))
        if isinstance(error, Exception):
            self._haul.give_back(self._object)

    def _open(self) -> None:
        haul = self._haul
        self._temp = haul.store.temp()
        haul.run.temps.add(self._temp)
        self._fd = haul.store.create(self._temp)
        self._report(events.TransferStarted(haul.dataset, self._object))
