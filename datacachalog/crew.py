"""Workers that help to carry the parcels of a haul: one process each.

Hired where there is much to do, and a processor to do it on. They are never needed: what a
worker does not bring, for whatever reason, is handed back. Used by `transfer`.
"""

import itertools
import select
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from datacachalog import worker
from datacachalog.errors import DatacachalogError
from datacachalog.haul import Haul
from datacachalog.model import RemoteObject
from datacachalog.settings import processors
from datacachalog.worker import Answer, Errand, Load

if TYPE_CHECKING:
    import subprocess

    Process = subprocess.Popen[bytes]

MANY = 512
"""From so many parcels for each on, another process pays: it takes some 0.1 s to start."""

_LOT = 64
_SHIFT = 300.0
"""Seconds that a worker works: keys may expire, and a new worker gets new ones."""

_START = "import sys; sys.path[:] = sys.argv[1:]; from datacachalog.worker import main; main()"


def size(parcels: int, width: int) -> int:
    """Return how many workers are worth hiring for so many parcels and requests at a time."""
    if not sys.executable or getattr(sys, "frozen", False) or width < 64:
        return 0
    return max(0, min(processors() - 1, 3, parcels // MANY))


def start() -> "Process":
    """Start a worker that waits for its errand."""
    import subprocess  # most runs need no worker

    # An editable install need not be in the path; last, so that it hides nothing.
    home = str(Path(__file__).parents[1])
    return subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-I", "-S", "-c", _START, *sys.path, home],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )


def work(haul: Haul, share: Callable[[], int], *, start: "Callable[[], Process]" = start) -> None:
    """Let workers, one at a time, carry a part of `haul` until nothing is left to begin.

    `share` tells how many requests a worker may have under way.
    """
    while haul.is_waiting and _work_a_shift(haul, share(), start):
        pass


def _work_a_shift(haul: Haul, width: int, start: "Callable[[], Process]") -> bool:
    """Let a new worker work; return whether that went well."""
    out: dict[int, RemoteObject] = {}
    try:
        process = start()
    except OSError:
        return False
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        errand = Errand(haul.storage, haul.endpoint, haul.store.root, width)
        worker.write(process.stdin, errand)
        _share(haul, out, process.stdin, process.stdout)
        worker.write(process.stdin, None)
    except (OSError, EOFError, DatacachalogError):
        return False
    else:
        return True
    finally:
        with suppress(OSError):
            process.stdin.close()  # a worker that was not told to end now gives up
        _end(process)
        process.stdout.close()
        for obj in out.values():
            haul.give_back(obj)


def _share(haul: Haul, out: dict[int, RemoteObject], sink: IO[bytes], source: IO[bytes]) -> None:
    """Hand out objects, two lots ahead, and note what comes back; `out` is what did not yet."""
    numbers = itertools.count()
    until = time.monotonic() + _SHIFT
    while True:
        haul.run.cancel.check()
        while len(out) <= _LOT and time.monotonic() < until and (lot := haul.take(_LOT)):
            loads = [Load(next(numbers), obj, haul.demand(obj)) for obj in lot]
            out.update((load.number, load.object) for load in loads)
            worker.write(sink, loads)
        if not out:
            return
        while not select.select([source], [], [], 0.25)[0]:
            haul.run.cancel.check()
        answers: list[Answer] = worker.read(source)
        for number, blake3 in answers:
            obj = out.pop(number)
            if blake3 is None:
                haul.give_back(obj)
            else:
                haul.note(obj, blake3)


def _end(process: "Process") -> None:
    from subprocess import TimeoutExpired

    try:
        process.wait(2.0)
    except TimeoutExpired:
        process.kill()
        process.wait()
