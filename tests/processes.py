"""Other processes in tests: forked, interrupted, and given time on a machine that is busy."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def fork(action: Callable[[], object]) -> int:
    """Run `action` in a forked child, which fails if it raises, and return its process id."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(120)
        try:
            action()
        except BaseException as exc:  # noqa: BLE001 - the child ends here
            sys.stderr.write(f"{type(exc).__name__}: {exc}\n")
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    return pid


def in_child(action: Callable[[], object]) -> int:
    """Run `action` in a forked child and return its wait status."""
    return os.waitpid(fork(action), 0)[1]


def run_python(*argv: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run Python to its end, and return what it wrote."""
    command = [sys.executable, *argv]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )


def interrupt(process: subprocess.Popen[str]) -> str:
    """Press Ctrl-C, see that the process ends within two seconds, and return its complaints."""
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    slowness = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))

    assert time.monotonic() - began < 2 * slowness
    return err
