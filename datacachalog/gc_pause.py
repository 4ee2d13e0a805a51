"""Pausing Python's cyclic garbage collector while many values are made at once.

The collector would visit all fresh values again and again: for 100,000 rows that costs as
much as reading them. Reference counting goes on.
"""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Pauses:
    """How many blocks want the collector off, and whether it was on before the first."""

    lock = threading.Lock()
    count = 0
    was_enabled = False


@contextmanager
def collection_paused() -> Iterator[None]:
    """Keep the cyclic collector off during the block, and as it was afterwards.

    In any number of threads at once: the last to leave turns it on again.
    """
    with _Pauses.lock:
        if not _Pauses.count:
            _Pauses.was_enabled = gc.isenabled()
            gc.disable()
        _Pauses.count += 1
    try:
        yield
    finally:
        with _Pauses.lock:
            _Pauses.count -= 1
            if not _Pauses.count and _Pauses.was_enabled:
                gc.enable()
