"""Pushing: a local file becomes the dataset's remote object, if nobody else was first.

A snapshot of the file goes into the cache, from there to the remote, and comes back into place
under the remote's identity. Used by `catalog`.
"""

import os
import time
from pathlib import Path

from datacachalog import events, globs, relpath
from datacachalog.cache import files
from datacachalog.errors import CacheError, ObjectNotFoundError, PushRefusedError
from datacachalog.model import Latest, RemoteObject, Resolution
from datacachalog.storage.base import Precondition
from datacachalog.sync.dataset import DatasetSync, now
from datacachalog.sync.results import PushReport
from datacachalog.sync.transfer import refuse_conflicts


def push(sync: DatasetSync, file: Path, *, force: bool) -> PushReport:
    """Upload `file` and put its bytes in place as the dataset's; return what the remote says.

    What was last fetched must still be there, unless `force`. The file is read once, into
    a snapshot: what is uploaded is what is cached, also if the file changes meanwhile.
    """
    began = time.monotonic()
    _refuse(sync, file)
    name, run, source = sync.dataset.name, sync.run, sync.dataset.sources[0]
    key = globs.unescape(source)
    precondition = Precondition.ANYTHING if force else _last_fetched(sync, key)
    store = sync.disk.store
    snapshot = store.temp()
    run.temps.add(snapshot)
    try:
        _copy(file, snapshot)
        # As events show it: what will be there.
        size, path = os.path.getsize(snapshot), relpath.encode(key.rpartition("/")[2])
        upload = RemoteObject(key, path, size, now())

        def advance(count: int) -> None:
            run.cancel.check()
            run.report(events.Transferred(name, upload, count))

        _refuse_if_place_is_taken(sync, upload, snapshot)
        run.report(events.TransferStarted(name, upload))
        uploaded = sync.storage.upload(
            Path(snapshot), source, precondition=precondition, advance=advance
        )
        run.report(events.TransferFinished(name, upload))
        sync.adopt(uploaded.object, snapshot)
    finally:
        files.remove(snapshot)
        run.temps.discard(snapshot)
    return PushReport(uploaded.object, uploaded.unproven, time.monotonic() - began)


def _refuse(sync: DatasetSync, file: Path) -> None:
    dataset = sync.dataset
    if not dataset.is_single:
        raise PushRefusedError(
            f"'{dataset.name}' is a glob or a list; only a single object can be pushed",
            hint="make a dataset of the one object to push",
        )
    if not isinstance(sync.pin, Latest):
        raise PushRefusedError(
            f"'{dataset.name}' is pinned to {sync.pin}; a push would not change what it means",
            hint="remove `as_of` or `version_id` from the dataset",
        )
    if not dataset.push:
        raise PushRefusedError(
            f"'{dataset.name}' does not allow pushing",
            hint=f"add `push: true` to '{dataset.name}' in the catalog",
        )
    if not file.is_file():
        raise ObjectNotFoundError(f"there is no file '{file}'")


def _last_fetched(sync: DatasetSync, key: str) -> RemoteObject | Precondition:
    """Return the object that was last fetched from `key`; the dataset may have had another."""
    state = sync.states.read(sync.key)
    known = [placed.object for placed in state.files] if state is not None else []
    return next((obj for obj in known if obj.uri == key), Precondition.ABSENT)


def _copy(file: Path, snapshot: str) -> None:
    try:
        files.reflink_or_copy(str(file), snapshot)
    except OSError as exc:
        raise CacheError(f"'{file}' cannot be read into the cache: {exc.strerror}") from exc


def _refuse_if_place_is_taken(sync: DatasetSync, upload: RemoteObject, snapshot: str) -> None:
    """Raise before anything is uploaded if the new bytes could not be put in place after."""
    resolution = Resolution((upload,), sync.pin, sync.storage.endpoint, now())
    with sync.disk.accepting(snapshot):
        todo = sync.plan(resolution, sync.recover())
    refuse_conflicts(todo, sync.disk)
