"""Pushing: a local file becomes the dataset's remote object, if nobody else was first.

Walks the line backwards once: a snapshot of the file goes into the cache, from there to
the remote, and comes back into place under the remote's identity. Used by `catalog`.
"""

import os
import time
from functools import partial
from pathlib import Path

from datacachalog import events, globs, relpath
from datacachalog.cache import files
from datacachalog.errors import (
    CacheError,
    ObjectNotFoundError,
    PushRefusedError,
)
from datacachalog.model import Latest, RemoteObject, Resolution
from datacachalog.storage.base import Precondition
from datacachalog.sync.dataset import DatasetSync
from datacachalog.sync.results import PushReport
from datacachalog.sync.transfer import refuse_conflicts


def push(line: DatasetSync, file: Path, *, force: bool) -> PushReport:
    """Upload `file` and put its bytes in place as the dataset's; return what the remote says.

    What was last fetched must still be there, unless `force`. The file is read once, into
    a snapshot: what is uploaded is what is cached, also if the file changes meanwhile.
    """
    began = time.monotonic()
    _refuse(line, file)
    source = line.dataset.sources[0]
    precondition = Precondition.ANYTHING if force else _last_fetched(line, globs.unescape(source))
    snapshot = line.disk.store.temp()
    line.run.temps.add(snapshot)
    try:
        _copy(file, snapshot)
        size = os.path.getsize(snapshot)
        shown = _shown(line, source, size)
        _refuse_if_place_is_taken(line, shown, snapshot)
        line.run.report(events.TransferStarted(line.dataset.name, shown))
        uploaded = line.storage.upload(
            Path(snapshot),
            source,
            precondition=precondition,
            advance=partial(_advance, line, shown),
        )
        line.run.report(events.TransferFinished(line.dataset.name, shown))
        line.adopt(uploaded.object, snapshot)
    finally:
        files.remove(snapshot)
        line.run.temps.discard(snapshot)
    return PushReport(uploaded.object, uploaded.unproven, time.monotonic() - began)


def _refuse(line: DatasetSync, file: Path) -> None:
    dataset = line.dataset
    if not dataset.is_single:
        raise PushRefusedError(
            f"'{dataset.name}' is a glob or a list; only a single object can be pushed",
            hint="make a dataset of the one object to push",
        )
    if not isinstance(line.pin, Latest):
        raise PushRefusedError(
            f"'{dataset.name}' is pinned to {line.pin}; a push would not change what it means",
            hint="remove `as_of` or `version_id` from the dataset",
        )
    if not dataset.push:
        raise PushRefusedError(
            f"'{dataset.name}' does not allow pushing",
            hint=f"add `push: true` to '{dataset.name}' in the catalog",
        )
    if not file.is_file():
        raise ObjectNotFoundError(f"there is no file '{file}'")


def _last_fetched(line: DatasetSync, key: str) -> RemoteObject | Precondition:
    """Return the object that was last fetched from `key`; the dataset may have had another."""
    state = line.states.read(line.key)
    known = [placed.object for placed in state.files] if state is not None else []
    return next((obj for obj in known if obj.uri == key), Precondition.ABSENT)


def _copy(file: Path, snapshot: str) -> None:
    try:
        files.reflink_or_copy(str(file), snapshot)
    except OSError as exc:
        raise CacheError(f"'{file}' cannot be read into the cache: {exc.strerror}") from exc


def _refuse_if_place_is_taken(line: DatasetSync, shown: RemoteObject, snapshot: str) -> None:
    """Raise before anything is uploaded if the new bytes could not be put in place after."""
    with line.disk.accepting(snapshot):
        todo = line.plan(
            Resolution((shown,), line.pin, line.storage.endpoint, line.now()),
            line.recall(),
        )
    refuse_conflicts(todo, line.disk.folder)


def _shown(line: DatasetSync, source: str, size: int) -> RemoteObject:
    """Return the upload as events show it: what will be there."""
    key = globs.unescape(source)
    return RemoteObject(key, relpath.encode(key.rpartition("/")[2]), size, line.now())


def _advance(line: DatasetSync, shown: RemoteObject, count: int) -> None:
    line.run.cancel.check()
    line.run.report(events.Transferred(line.dataset.name, shown, count))
