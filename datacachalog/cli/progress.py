"""Progress on standard error while worker threads run: bars on a terminal, lines elsewhere.

A worker pays one append to a deque per event. One thread drains it, ten times a second,
and is the only one that counts and draws.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from datacachalog.cli.console import Stream, Terminal
from datacachalog.cli.sentences import tell_dataset
from datacachalog.cli.tables import cells_of
from datacachalog.cli.tally import FINE, PLAIN, Tally
from datacachalog.cli.visible import plural
from datacachalog.events import DatasetFinished, Event, Report, Retrying, Warned, ignore

_INTERVAL = 0.1


@contextmanager
def watch(terminal: Terminal, datasets: int, *, is_dry: bool = False) -> Iterator[Report]:
    """Give a `report` that shows how a run over so many datasets goes, as the streams allow.

    A dry run has no line for each dataset: what it finds is shown at its end.
    """
    if terminal.quiet:
        yield ignore
        return
    once = Once()
    if terminal.progress and terminal.err.is_live:
        with Bars(terminal, datasets).drawn() as report:
            yield once.over(report)
    else:
        kinds = (Retrying, Warned) if is_dry else (Retrying, Warned, DatasetFinished)
        yield once.over(Lines(terminal, kinds))
    once.close(terminal)


class Once:
    """Lets each warning through once, however many datasets it holds for.

    An instant that is asked of a whole catalog is as recent for all of it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def over(self, report: Report) -> Report:
        """Return a `report` that passes on to another what is new."""

        def pass_on(event: Event) -> None:
            if isinstance(event, Warned):
                with self._lock:
                    self._counts[event.message] += 1
                    if self._counts[event.message] > 1:
                        return
            report(event)

        return pass_on

    def close(self, terminal: Terminal) -> None:
        """Say of how many datasets more the warnings are true."""
        for message, count in self._counts.items():
            if count > 1:
                terminal.warn(f"{plural(count - 1, 'more dataset')}: {message}")


class Lines:
    """A `report` that writes a line for each event of the given kinds."""

    def __init__(self, terminal: Terminal, kinds: tuple[type[Event], ...]) -> None:
        self._terminal = terminal
        self._kinds = kinds
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Write the event's line, if it has one."""
        if isinstance(event, self._kinds):
            with self._lock:
                _tell(event, self._terminal)


def _tell(event: Event, terminal: Terminal) -> None:
    match event:
        case DatasetFinished():
            terminal.note(f"{event.dataset}: {tell_dataset(event)}")
        case Retrying():
            terminal.note(f"{event.dataset}: {event.error}; trying again in {event.delay:.1f} s")
        case Warned():
            terminal.warn(f"{event.dataset}: {event.message}", event.hint)


class Bars:
    """Bars at the bottom of a terminal; what is worth a line appears above them."""

    def __init__(self, terminal: Terminal, datasets: int, *, interval: float = _INTERVAL) -> None:
        self._interval = interval
        self._terminal = terminal
        self._stream = terminal.err
        self._events: deque[Event] = deque()
        self.tally = Tally(datasets)
        self._stop = threading.Event()
        self._drawn: list[int] = []  # cells of each line that stands on the screen
        self._bar = FINE if _can_write(self._stream, FINE.done + FINE.rest) else PLAIN

    @contextmanager
    def drawn(self) -> Iterator[Report]:
        """Draw in a thread of its own while the body runs; give the `report` to fill it."""
        painter = threading.Thread(target=self._paint_until_stopped, name="progress", daemon=True)
        painter.start()
        try:
            yield self._events.append
        finally:
            self._stop.set()
            painter.join()
            self._clear()

    def _paint_until_stopped(self) -> None:
        # A terminal that is gone takes its bars with it; the run goes on.
        with suppress(OSError):
            while not self._stop.wait(self._interval):
                with self._stream.at_once():
                    self._erase()
                    self._take_events()
                    self._draw()

    def _clear(self) -> None:
        with suppress(OSError), self._stream.at_once():
            self._erase()
            self._take_events()

    def _take_events(self) -> None:
        """Count what came in, and write what is worth a line above the bars."""
        for _ in range(len(self._events)):
            event = self._events.popleft()
            self.tally.add(event)
            if isinstance(event, Retrying | Warned) or (
                isinstance(event, DatasetFinished) and self._terminal.verbose
            ):
                _tell(event, self._terminal)

    def _draw(self) -> None:
        self.tally.sample(time.monotonic())
        lines = self.tally.frame(self._stream.measure(), self._bar)
        self._drawn = [cells_of(line) for line in lines]
        for line in lines:
            self._stream.line(line)

    def _erase(self) -> None:
        """Take the bars off the screen, also where a narrower window has wrapped them."""
        width = self._stream.measure()
        rows = sum(max(1, -(-cells // width)) for cells in self._drawn)
        self._drawn = []
        if rows:
            self._stream.write(f"\x1b[{rows}A\r\x1b[J")


def _can_write(stream: Stream, text: str) -> bool:
    try:
        text.encode(getattr(stream.file, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
