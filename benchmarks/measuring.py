"""One process, run and measured from outside: wall time, CPU seconds, peak memory."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 1800.0

_SHOWN = 400


class FailedError(Exception):
    """A measured command did not do what it should."""


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, where, and how to see afterwards that it did its work.

    `verify` raises `FailedError` if it did not. Both it and `discard` are not timed.
    `seconds_in` reads the time from what the command printed, where its own measure counts.
    """

    argv: Sequence[str]
    cwd: Path
    environ: Mapping[str, str]
    verify: Callable[[], None] = _nothing
    discard: Callable[[], None] = _nothing
    seconds_in: Callable[[str], float] | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run took: seconds of wall time and of CPU (all threads), peak bytes."""

    seconds: float
    cpu: float
    peak: int


def measure(command: Command) -> Sample:
    """Run the command once and return what it took; raise `FailedError` if it failed."""
    log = command.cwd / "output.log"
    with open(log, "wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command.argv,
            cwd=command.cwd,
            env=command.environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        watchdog = threading.Timer(TIMEOUT, process.kill)
        watchdog.daemon = True
        watchdog.start()
        # What the kernel accounted to exactly this child, and those it waited for.
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:  # Ctrl-C or SIGTERM: its servers are about to stop
            process.kill()
            raise
        finally:
            watchdog.cancel()
        seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    said = log.read_text(errors="replace")
    if process.returncode != 0:
        raise FailedError(f"exit code {process.returncode}: {said.strip()[-_SHOWN:]}")
    command.verify()
    if command.seconds_in is not None:
        seconds = command.seconds_in(said)
    return Sample(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
