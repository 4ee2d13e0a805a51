"""Progress on standard error while worker threads run: bars on a terminal, lines elsewhere.

A worker that is watched by bars pays one append to a deque per event. rich's thread drains
it, five times a second, and is the only one that counts and draws.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datacachalog.cli.console import Terminal, plural, visible
from datacachalog.events import (
    DatasetFinished,
    Event,
    Planned,
    Report,
    Retrying,
    TransferFinished,
    Transferred,
    TransferStarted,
    Warned,
    ignore,
)
from datacachalog.spec.units import format_size

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID

LARGE = 8 * 1024 * 1024
"""Objects of this many bytes get a bar of their own."""

MAX_ROWS = 8
"""So many of them at once; more would only flicker."""


@contextmanager
def watch(terminal: Terminal, datasets: int, *, is_dry: bool = False) -> Iterator[Report]:
    """Give a `report` that shows how a run over so many datasets goes, as the streams allow.

    A dry run has no line for each dataset: what it finds is shown at its end.
    """
    if terminal.quiet:
        yield ignore
    elif terminal.progress and terminal.err.is_live:
        notes = Notes(terminal, has_datasets=terminal.verbose)
        with Bars(terminal.err.console, datasets, notes).drawn() as report:
            yield report
        notes.close()
    else:
        notes = Notes(terminal, has_datasets=not is_dry)
        yield notes
        notes.close()


class Notes:
    """A `report` that writes what is worth a line; each warning once, however many have it.

    An instant that is asked of a whole catalog, say, is as recent for all of it.
    """

    def __init__(self, terminal: Terminal, *, has_datasets: bool) -> None:
        self._terminal = terminal
        self._has_datasets = has_datasets
        self._lock = threading.Lock()
        self._warnings: Counter[str] = Counter()

    def __call__(self, event: Event) -> None:
        """Write the event's line, if it has one."""
        match event:
            case Retrying(name, _, error, _, delay):
                self._note(f"{name}: {error}; trying again in {delay:.1f} s")
            case DatasetFinished() if self._has_datasets:
                self._note(f"{event.dataset}: {_tell_dataset(event)}")
            case Warned(name, message, hint):
                with self._lock:
                    self._warnings[message] += 1
                    if self._warnings[message] == 1:
                        self._terminal.warn(f"{name}: {message}", hint)

    def _note(self, text: str) -> None:
        with self._lock:
            self._terminal.note(text)

    def close(self) -> None:
        """Say of how many datasets more the warnings are true."""
        for message, count in self._warnings.items():
            if count > 1:
                self._terminal.warn(f"{plural(count - 1, 'more dataset')}: {message}")


@dataclass(slots=True)
class _Large:
    """An object with a bar of its own, and how many of its bytes are here."""

    bar: TaskID
    done: int = 0


class Bars:
    """Bars at the bottom of a terminal: of large objects, and of all; lines appear above them."""

    def __init__(self, console: Console, datasets: int, notes: Report) -> None:
        self._console = console
        self._datasets = datasets
        self._notes = notes
        self._events: deque[Event] = deque()
        self._finished = self.files = self.files_done = self.bytes = self.bytes_done = 0
        self._planned: dict[str, Planned] = {}
        self._large: dict[tuple[str, str], _Large] = {}
        self._bars = _new_bars(console)
        self._sum = self._bars.add_task("", total=None)

    @contextmanager
    def drawn(self) -> Iterator[Report]:
        """Draw while the body runs; give the `report` to fill the bars."""
        from rich.live import Live

        live = Live(
            console=self._console,
            get_renderable=self._frame,
            refresh_per_second=5,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        # A terminal that is gone takes its bars with it; the run goes on.
        with suppress(OSError):
            live.start()
            self._console.show_cursor()  # a run that is killed must not leave it hidden
        try:
            yield self._events.append
        finally:
            with suppress(OSError):
                live.stop()

    def _frame(self) -> RenderableType:
        """Count what came in, and return what is to be seen now."""
        from rich.constrain import Constrain
        from rich.text import Text

        for _ in range(len(self._events)):
            event = self._events.popleft()
            self._count(event)
            self._notes(event)
        text = f"{self._finished:,}/{self._datasets:,} datasets"
        if not self._planned:
            return Text(f"{text}  looking at the sources", no_wrap=True, overflow="ellipsis")
        text += f"  {self.files_done:,}/{self.files:,} files"
        done = self.bytes_done
        self._bars.update(self._sum, description=text, total=self.bytes, completed=done)
        total, *large = self._bars.tasks
        table = self._bars.make_tasks_table([*large[:MAX_ROWS], total])
        # Room for the `^C` that a terminal shows: on a full line it would push the bars up.
        return Constrain(table, max(1, self._console.width - 3))

    def _count(self, event: Event) -> None:
        match event:
            case Planned(name):
                old = self._planned.get(name)
                self._planned[name] = event
                self.files += event.downloads - (old.downloads if old else 0)
                self.bytes += event.download_bytes - (old.download_bytes if old else 0)
            case TransferStarted(name, obj) if obj.size >= LARGE:
                if (name, obj.relpath) not in self._large:
                    label = visible(f"{name}/{obj.relpath.rpartition('/')[2]}")
                    bar = self._bars.add_task(label, total=obj.size)
                    self._large[name, obj.relpath] = _Large(bar)
            case Transferred(name, obj, count):
                self.bytes_done += count
                if (large := self._large.get((name, obj.relpath))) is not None:
                    large.done += count
                    self._bars.update(large.bar, completed=large.done)
            case TransferFinished(name, obj, error):
                self.files_done += error is None
                if (large := self._large.pop((name, obj.relpath), None)) is not None:
                    self.bytes_done -= large.done if error else 0
                    self._bars.remove_task(large.bar)
            case DatasetFinished():
                self._finished += 1


def _new_bars(console: Console) -> Progress:
    """Return rich's bars, which count and look; they are not started, as `Bars` draws them."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.table import Column

    return Progress(
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(ratio=2, no_wrap=True, overflow="ellipsis"),
        ),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        TaskProgressColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        expand=True,
        speed_estimate_period=5,
    )


def _tell_dataset(done: DatasetFinished) -> str:
    """Return what became of one dataset's files.

    >>> _tell_dataset(DatasetFinished("orders", downloaded=2, downloaded_bytes=2048, hits=1))
    '2 downloaded, 1 up to date (2.0 kB)'
    """
    if done.error is not None:
        return "failed"
    counts = tell_counts(done.downloaded, done.linked, done.hits, done.dropped)
    size = done.downloaded_bytes if done.downloaded else done.total_bytes
    return f"{', '.join(counts) or 'no files'} ({format_size(size)})"


def tell_counts(downloaded: int, linked: int, hits: int, dropped: int) -> list[str]:
    """Return what became of files, in words for each count that is not zero."""
    pairs = (
        (downloaded, "downloaded"),
        (linked, "linked from cache"),
        (hits, "up to date"),
        (dropped, "removed"),
    )
    return [f"{count:,} {word}" for count, word in pairs if count]
