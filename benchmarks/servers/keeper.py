"""Runs a server for as long as somebody holds the other end of standard input.

`keeper.py COMMAND…`: when standard input ends, because whoever started this closed it or is
gone, killed even, the command is terminated. nginx cannot watch that itself, and a pipe
does so on every system, where a signal at the parent's death is Linux's alone.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    """Run the command until it ends by itself or standard input does; return its exit code."""
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())

    def watch() -> None:
        while os.read(0, 1):
            pass
        process.terminate()

    threading.Thread(target=watch, daemon=True).start()
    return process.wait()


if __name__ == "__main__":
    sys.exit(main())
