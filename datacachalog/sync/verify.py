"""Verifying: hash the files that are in place again, and compare with what was recorded.

Finds what size and modification time cannot: bytes that rotted, or were edited by a tool
that restores times. Used by `catalog`.
"""

import os

from datacachalog.cache.placed_files import PlacedFile
from datacachalog.checksums import blake3_of
from datacachalog.sync.dataset import DatasetSync
from datacachalog.sync.placement import Disk
from datacachalog.sync.results import BadFile, Verification


def verify(sync: DatasetSync) -> Verification:
    """Return the verdict on one dataset; removes stored objects whose bytes are wrong.

    Raises `NotFetchedError` if it was never fetched.
    """
    placed = sync.placed_state().files
    bad: list[BadFile] = []

    def check(file: PlacedFile) -> None:
        sync.run.cancel.check()
        reason = _why_bad(sync.disk, file)
        if reason is not None:
            bad.append(BadFile(file.object.relpath, reason))
            _discard_if_bad(sync.disk, file)

    sync.run.workers.each(check, placed)
    return Verification(
        sync.dataset.name,
        files=len(placed),
        size=sum(placed.size),
        bad=tuple(sorted(bad, key=lambda b: b.relpath)),
    )


def _why_bad(disk: Disk, file: PlacedFile) -> str | None:
    relpath, size = file.object.relpath, file.object.size
    found = disk.stat(relpath)
    if found is None:
        return "missing"
    if found.size < 0:
        return "not a file"
    if found.size != size:
        return f"{found.size} bytes instead of {size}"
    if file.blake3 is None:
        return None  # invalidated: there is nothing to compare with until the next sync
    try:
        blake3 = blake3_of(disk.path(relpath))
    except OSError as exc:
        return f"cannot be read: {os.strerror(exc.errno or 0)}"
    return None if blake3 == file.blake3 else "other bytes than were put there"


def _discard_if_bad(disk: Disk, file: PlacedFile) -> None:
    store, fingerprint = disk.store, file.object.fingerprint(disk.endpoint)
    try:
        blake3 = blake3_of(store.path(fingerprint))
    except OSError:
        return
    if file.blake3 is not None and blake3 != file.blake3:
        store.discard(fingerprint)
