"""Making room in the store: the least recently used objects go first.

An object's access time says when it was last used; `Store.use` sets it whatever the
file system's mount options are. Removing an object never removes a file in `data/`.
"""

import os
from datetime import datetime, timedelta
from typing import NamedTuple

from datacachalog.cache.store import Store, StoreStats


class _Entry(NamedTuple):
    used_ns: int
    size: int
    fingerprint: str


def evict(
    store: Store, *, max_size: int | None, unused_for: timedelta | None, now: datetime
) -> StoreStats:
    """Remove objects unused since `now - unused_for`, then the oldest until `max_size` holds.

    Returns what went. An object that another run removes meanwhile is not counted.
    """
    entries = sorted(_entries(store))
    total = sum(entry.size for entry in entries)
    limit = total if max_size is None else max_size
    horizon = 0 if unused_for is None else int((now - unused_for).timestamp() * 1e9)
    count = size = 0
    for entry in entries:
        if total <= limit and entry.used_ns >= horizon:
            break
        if store.discard(entry.fingerprint):
            count += 1
            size += entry.size
        total -= entry.size
    return StoreStats(count, size, store.sweep())


def _entries(store: Store) -> list[_Entry]:
    entries = []
    for fingerprint, found in store.objects():
        try:
            used = os.stat(store.path(fingerprint)).st_atime_ns
        except FileNotFoundError:
            continue
        entries.append(_Entry(used, found.size, fingerprint))
    return entries
