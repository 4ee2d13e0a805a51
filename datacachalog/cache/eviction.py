"""Making room in the store: the least recently used objects go first.

An object's access time says when it was last used; `Store.use` sets it whatever the
file system's mount options are. Removing an object never removes a file in `data/`.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta

from datacachalog.cache.store import Store, StoreStats


def evict(
    store: Store, *, max_size: int | None, unused_for: timedelta | None, now: datetime
) -> StoreStats:
    """Remove objects unused since `now - unused_for`, then the oldest until `max_size` holds.

    Returns what went. An object that another run removes meanwhile is not counted.
    """
    entries = sorted(_by_use(store))
    total = sum(size for _, size, _ in entries)
    limit = total if max_size is None else max_size
    horizon = 0 if unused_for is None else int((now - unused_for).timestamp() * 1e9)
    removed = []
    for used_ns, size, fingerprint in entries:
        if total <= limit and used_ns >= horizon:
            break
        if store.discard(fingerprint):
            removed.append(size)
        total -= size
    return StoreStats(len(removed), sum(removed), store.sweep())


def _by_use(store: Store) -> Iterator[tuple[int, int, str]]:
    """Yield when each object was last used (ns since the epoch), its size and fingerprint."""
    for fingerprint, found in store.objects():
        with suppress(FileNotFoundError):
            yield os.stat(store.path(fingerprint)).st_atime_ns, found.size, fingerprint
