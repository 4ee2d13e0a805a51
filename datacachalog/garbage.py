"""Pausing Python's cyclic garbage collector while many values are made at once.

The collector would walk all fresh values again and again: for 100,000 rows that costs as
much as reading them. Reference counting goes on.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """Keep the cyclic collector off during the block, and as it was afterwards."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
