"""A process that carries parcels: what it runs, and the language it is spoken to in.

One interpreter can use one processor for what is Python, and of a small object most is.
`crew` starts workers and tells each first its `Errand`, then lots of objects, at last None;
the worker answers what became of them. Messages are pickles behind their length, between
a process and its own child. A worker whose input ends early ends at once, and cleans up.
"""

import os
import queue
import signal
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from datacachalog import events
from datacachalog.cache.store import Store
from datacachalog.checksums import Checksum
from datacachalog.haul import Haul, Parcel
from datacachalog.model import RemoteObject
from datacachalog.pool import Pool, Valve
from datacachalog.retry import Cancel, Cancelled
from datacachalog.run import Run
from datacachalog.storage.lane import Lane
from datacachalog.storage.protocol import Storage

_LENGTH = struct.Struct("!I")


class Errand(NamedTuple):
    """What a worker needs to know once."""

    storage: Storage
    endpoint: str
    cache: Path
    width: int


class Load(NamedTuple):
    """One object to be fetched, by the number that the answer names."""

    number: int
    object: RemoteObject
    demanded: Sequence[Checksum]


class Answer(NamedTuple):
    """What became of an object: its blake3 (64 hex digits), or None if it is handed back."""

    number: int
    blake3: str | None


def write(stream: IO[bytes], message: object) -> None:
    """Write one message to an unbuffered stream."""
    import pickle  # here, since most runs need no worker

    data = pickle.dumps(message)
    view = memoryview(_LENGTH.pack(len(data)) + data)
    while view:
        view = view[stream.write(view) :]


def read(stream: IO[bytes]) -> Any:
    """Read one message; raises EOFError at the end."""
    import pickle

    (length,) = _LENGTH.unpack(_read_all(stream, _LENGTH.size))
    return pickle.loads(_read_all(stream, length))  # noqa: S301 - from our own child or parent


def _read_all(stream: IO[bytes], count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = stream.read(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


class Worker:
    """Carries what comes in through `source`, and answers through `sink`."""

    def __init__(self, source: IO[bytes], sink: IO[bytes]) -> None:
        self._source = source
        self._sink = sink
        self._cancel = Cancel()
        self._loads: queue.SimpleQueue[Load | None] = queue.SimpleQueue()
        self._demanded: dict[str, Sequence[Checksum]] = {}
        self._numbers: dict[str, int] = {}
        self._answers: list[Answer] = []
        self._is_last = False

    def run(self) -> None:
        """Carry all there is; return early if the source ends early."""
        errand: Errand = read(self._source)
        nobody = Pool(1, self._cancel)
        self._haul = Haul(
            dataset="",
            storage=errand.storage,
            endpoint=errand.endpoint,
            store=Store(errand.cache),
            run=Run(nobody, nobody, Valve(1), self._cancel, events.ignore),
            demand=lambda obj: self._demanded.pop(obj.uri),
            arrived=lambda obj, _, blake3: self._answer(obj, blake3),
            handed_back=lambda obj: self._answer(obj, None),
            is_over=lambda: False,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        Lane(self._next, most=errand.width, check=self._turn).run()
        self._turn()

    def _listen(self) -> None:
        try:
            while (loads := read(self._source)) is not None:
                for load in loads:
                    self._loads.put(load)
        except (EOFError, OSError):
            self._cancel.set()
        self._loads.put(None)

    def _next(self, *, may_wait: bool) -> Parcel | None:
        if self._is_last:
            return None
        if may_wait:
            self._turn()  # what is to come may wait for the answers
        try:
            load = self._loads.get(block=may_wait)
        except queue.Empty:
            return None
        if load is None:
            self._is_last = True
            return None
        self._numbers[load.object.uri] = load.number
        self._demanded[load.object.uri] = load.demanded
        return Parcel(load.object, self._haul)

    def _answer(self, obj: RemoteObject, blake3: str | None) -> None:
        self._answers.append(Answer(self._numbers.pop(obj.uri), blake3))

    def _turn(self) -> None:
        """Answer for what is done, once for all that came together."""
        self._cancel.check()
        if self._answers:
            write(self._sink, self._answers)
            self._answers = []


def main() -> None:
    """Run a worker between standard input and output."""
    # Ctrl-C reaches every process of the terminal; the parent says when it is over.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.dup(1)
    os.dup2(2, 1)  # what any library prints is no answer
    with os.fdopen(0, "rb", 0) as source, os.fdopen(answers, "wb", 0) as sink:
        with suppress(Cancelled, EOFError, BrokenPipeError):  # the parent wants no more
            Worker(source, sink).run()
        os._exit(0)  # without waiting for the listener
