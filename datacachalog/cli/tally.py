"""The sums behind the progress bars, and how they look: events in, lines out.

Owns no thread and no terminal, so that a test can feed events and read frames.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from datacachalog.cli.tables import cells_of, cut
from datacachalog.cli.visible import visible
from datacachalog.events import (
    DatasetFinished,
    Event,
    Planned,
    TransferFinished,
    Transferred,
    TransferStarted,
)
from datacachalog.spec.units import format_size

LARGE = 8 * 1024 * 1024
"""Objects of this many bytes get a bar of their own."""

MAX_ROWS = 8
"""So many of them at once; more would only flicker."""

_WINDOW = 5.0
"""Seconds over which the rate is measured."""


class Bar(NamedTuple):
    """The characters of a bar: done and to do."""

    done: str
    rest: str


FINE = Bar("━", "─")
PLAIN = Bar("#", "-")


class Tally:
    """What the events of a run add up to. Used by one thread at a time."""

    def __init__(self, datasets: int) -> None:
        self.datasets = datasets
        self.finished = 0
        self.files = 0
        self.files_done = 0
        self.bytes = 0
        self.bytes_done = 0
        self._planned: dict[str, Planned] = {}
        self._active: dict[tuple[str, str], list[int]] = {}  # uri -> [size, done]
        self._samples: deque[tuple[float, int]] = deque()
        self._handlers: dict[type[Event], Callable[..., None]] = {
            Planned: self._plan,
            TransferStarted: self._start,
            Transferred: self._advance,
            TransferFinished: self._finish,
            DatasetFinished: self._finish_dataset,
        }

    def add(self, event: Event) -> None:
        """Count one event."""
        if handle := self._handlers.get(type(event)):
            handle(event)

    def sample(self, now: float) -> None:
        """Note how far the bytes are at `now` (seconds of any steady clock)."""
        samples = self._samples
        samples.append((now, self.bytes_done))
        while len(samples) > 2 and now - samples[1][0] >= _WINDOW:
            samples.popleft()

    @property
    def rate(self) -> float:
        """Return the bytes per second of the last few seconds; 0 if it is not known."""
        if len(self._samples) < 2:
            return 0.0
        (t0, b0), (t1, b1) = self._samples[0], self._samples[-1]
        return max(0.0, (b1 - b0) / (t1 - t0)) if t1 > t0 else 0.0

    def frame(self, width: int, bar: Bar = FINE) -> list[str]:
        """Return the lines to draw, each shorter than `width` cells."""
        width -= 1  # a full line wraps on some terminals
        rows = [
            _file_row(dataset, relpath, size, done, width, bar)
            for (dataset, relpath), (size, done) in list(self._active.items())[:MAX_ROWS]
        ]
        return [*rows, self._sum_row(width, bar)]

    def _sum_row(self, width: int, bar: Bar) -> str:
        datasets = f"{self.finished:,}/{self.datasets:,} datasets"
        if not self._planned:
            return cut(f"{datasets}  looking at the sources", width)
        files = f"{self.files_done:,}/{self.files:,} files"
        done = min(self.bytes_done, self.bytes)
        tail = [_percent(done, self.bytes), f"{format_size(done)}/{format_size(self.bytes)}"]
        if rate := self.rate:
            tail.append(f"{format_size(int(rate))}/s")
            if len(self._planned) >= self.datasets:
                tail.append(f"{_clock((self.bytes - done) / rate)} left")
        for head in ([datasets, files], [files], []):
            fixed = "  ".join([*head, "", *tail])
            room = width - len(fixed) - 2
            if room >= 8:
                return "  ".join([*head, _draw(done, self.bytes, min(room, 40), bar), *tail])
        return cut("  ".join(tail), width)

    def _plan(self, event: Planned) -> None:
        old = self._planned.get(event.dataset)
        self._planned[event.dataset] = event
        self.files += event.downloads - (old.downloads if old else 0)
        self.bytes += event.download_bytes - (old.download_bytes if old else 0)

    def _start(self, event: TransferStarted) -> None:
        if event.object.size >= LARGE:
            key = (event.dataset, event.object.relpath)
            self._active.setdefault(key, [event.object.size, 0])

    def _advance(self, event: Transferred) -> None:
        self.bytes_done += event.count
        if event.object.size >= LARGE:
            entry = self._active.get((event.dataset, event.object.relpath))
            if entry is not None:
                entry[1] += event.count

    def _finish(self, event: TransferFinished) -> None:
        entry = self._active.pop((event.dataset, event.object.relpath), None)
        if event.error is None:
            self.files_done += 1
        elif entry is not None:
            self.bytes_done -= entry[1]

    def _finish_dataset(self, _: DatasetFinished) -> None:
        self.finished += 1


def _file_row(dataset: str, relpath: str, size: int, done: int, width: int, bar: Bar) -> str:
    tail = f"{_percent(done, size)}  {format_size(done):>8}/{format_size(size)}"
    room = width - len(tail) - 4
    label_width = max(0, min(48, room // 2))
    label = cut(visible(f"{dataset}/{relpath}"), label_width, in_middle=True)
    padding = " " * (label_width - cells_of(label))
    drawn = _draw(done, size, max(0, min(40, room - label_width)), bar)
    return cut(f"{label}{padding}  {drawn}  {tail}", width)


def _draw(done: int, total: int, width: int, bar: Bar) -> str:
    filled = width * min(done, total) // total if total else width
    return bar.done * filled + bar.rest * (width - filled)


def _percent(done: int, total: int) -> str:
    return f"{100 * min(done, total) // total if total else 100:3d}%"


def _clock(seconds: float) -> str:
    """Return a time as people read clocks.

    >>> _clock(9.7), _clock(3725)
    ('0:09', '1:02:05')
    """
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"
