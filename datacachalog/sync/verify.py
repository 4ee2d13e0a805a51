"""Verifying: hash the files that are in place again, and compare with what was recorded.

Finds what size and modification time cannot: bytes that rotted, or were edited by a tool
that restores times. Used by `catalog`.
"""

import os

from datacachalog.cache.placed_files import PlacedFile
from datacachalog.checksums import Hashes
from datacachalog.errors import NotFetchedError
from datacachalog.sync.dataset import DatasetSync
from datacachalog.sync.results import BadFile, Verification


def verify(line: DatasetSync) -> Verification:
    """Return the verdict on one dataset; removes stored objects whose bytes are wrong."""
    state = line.states.read(line.key)
    if state is None or state.root != line.root:
        raise NotFetchedError(
            f"'{line.dataset.name}' was not fetched yet",
            hint=f"run `dcl sync {line.dataset.name}`",
        )
    bad: list[BadFile] = []

    def check(placed: PlacedFile) -> None:
        line.run.cancel.check()
        reason = _why_bad(line, placed)
        if reason is not None:
            bad.append(BadFile(placed.object.relpath, reason))
            _distrust(line, placed)

    line.run.pool.each(check, state.files)
    return Verification(
        line.dataset.name,
        files=len(state.files),
        size=sum(state.files.size),
        bad=tuple(sorted(bad, key=lambda b: b.relpath)),
    )


def _why_bad(line: DatasetSync, placed: PlacedFile) -> str | None:
    path = line.disk.path(placed.object.relpath)
    found = line.disk.stat(placed.object.relpath)
    if found is None:
        return "missing"
    if found.size < 0:
        return "not a file"
    if found.size != placed.object.size:
        return f"{found.size} bytes instead of {placed.object.size}"
    if placed.blake3 is None:
        return None  # invalidated: there is nothing to compare with until the next sync
    hashes = Hashes(())
    try:
        hashes.read(path)
    except OSError as exc:
        return f"cannot be read: {os.strerror(exc.errno or 0)}"
    return None if hashes.blake3 == placed.blake3 else "other bytes than were put there"


def _distrust(line: DatasetSync, placed: PlacedFile) -> None:
    fingerprint = placed.object.fingerprint(line.disk.endpoint)
    stored = line.disk.store.path(fingerprint)
    hashes = Hashes(())
    try:
        hashes.read(stored)
    except OSError:
        return
    if placed.blake3 is not None and hashes.blake3 != placed.blake3:
        line.disk.store.discard(fingerprint)
