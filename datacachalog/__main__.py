"""The console entry `dcl`: answers `--version` alone, and leaves the rest to the door."""

import sys
from importlib import import_module

from datacachalog import __version__


def main() -> None:
    """Run `dcl` with the process's arguments and exit with its code."""
    argv = sys.argv[1:]
    if argv in (["--version"], ["-V"]):
        sys.stdout.write(f"dcl {__version__}\n")
        return
    # By name, like every command: `dcl --version` loads nothing that it does not need.
    sys.exit(import_module("datacachalog.cli.door").run(argv, sys.stdout, sys.stderr))


if __name__ == "__main__":
    main()
