"""The exit codes of `dcl`, which scripts rely on."""

DONE = 0
"""Everything asked for is done."""

FAILED = 1
"""Some dataset failed, the others are done; or `dcl` itself has a defect."""

USAGE = 2
"""The command line, the catalog or the lock is wrong; nothing was done."""

VERDICT = 3
"""A check ran and its answer is no: `status --check`, `lock --check`, `outdated`, `verify`, …"""

INTERRUPTED = 130
"""Ctrl-C: 128 + SIGINT, as shells report it."""
