"""The console entry `dcl`: answers `--version` alone, and leaves the rest to the app."""

import gc
import os
import sys
from importlib import import_module

from datacachalog import __version__

_ALLOCATIONS = 100_000
"""Net allocations between two looks for cyclic garbage: more than loading all of `dcl` makes."""


def main() -> None:
    """Run `dcl` with the process's arguments and exit with its code."""
    argv = sys.argv[1:]
    if argv in (["--version"], ["-V"]):
        sys.stdout.write(f"dcl {__version__}\n")
        return
    gc.set_threshold(_ALLOCATIONS)
    # Searching all installed packages for pydantic's plugins costs more than our models do.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # By name, like every command: `dcl --version` loads nothing that it does not need.
    code = import_module("datacachalog.cli.app").run(argv, sys.stdout, sys.stderr)
    # Files are closed, streams are flushed, temporary files are gone. Taking a hundred thousand
    # values apart, or waiting for a thread that Ctrl-C left in a request, would gain nothing.
    os._exit(code)


if __name__ == "__main__":
    main()
