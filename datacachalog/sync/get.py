"""Getting one URI to a place of the caller's choice, without a dataset: `dcl get`.

The same pipeline, from resolving to files, but nothing is recorded, and the files are the
caller's own writable copies. Used by `catalog`.
"""

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from datacachalog import events, globs
from datacachalog.cache.files import LinkKind
from datacachalog.cache.placed_files import NOTHING
from datacachalog.cache.store import Store
from datacachalog.errors import DatacachalogError
from datacachalog.model import Latest
from datacachalog.settings import umask
from datacachalog.storage.base import MisreadKeyError, Storage
from datacachalog.sync.placement import Disk
from datacachalog.sync.plan import plan
from datacachalog.sync.resolve import Policy, resolve
from datacachalog.sync.retry import retrying
from datacachalog.sync.run import RunContext
from datacachalog.sync.transfer import Transfer

if TYPE_CHECKING:
    from datacachalog.spec.models import Dataset


def retrieve(
    dataset: "Dataset",
    dest: str | os.PathLike[str] | None,
    storage: Storage,
    store: Store,
    run: RunContext,
) -> list[Path]:
    """Download what `dataset` names to `dest`, as `cp` does, and return the paths.

    A glob goes into the folder `dest`; so does a single object, if that is one or ends with a
    slash.
    """
    text = os.fspath(dest) if dest is not None else "."
    path, name = Path(os.path.abspath(text)), None
    if dataset.is_single and not text.endswith("/") and not path.is_dir():
        path, name = path.parent, path.name
    kinds, mode = (LinkKind.REFLINK, LinkKind.COPY), 0o666 & ~umask()
    disk = Disk(str(path), kinds, mode, store=store, endpoint=storage.endpoint, owns_folder=False)
    try:
        return _retrieve(dataset, name, storage, disk, run)
    except MisreadKeyError:
        return _retrieve(dataset, name, storage, disk, run)  # now listed as it is


def _retrieve(
    dataset: "Dataset", name: str | None, storage: Storage, disk: Disk, run: RunContext
) -> list[Path]:
    source = globs.unescape(dataset.sources[0])

    def failed(error: DatacachalogError, attempt: int, delay: float) -> None:
        run.report(events.Retrying(source, source, error, attempt, delay))

    resolution = resolve(
        dataset,
        Latest(),
        storage,
        previous=None,
        policy=Policy(),
        now=datetime.now(UTC),
        retry=lambda action: retrying(action, cancel=run.cancel, failed=failed),
    )
    if name is not None:
        (obj,) = resolution.objects
        resolution = replace(resolution, objects=(obj._replace(relpath=name),))
    Transfer(
        dataset=source,
        plan=plan(resolution, NOTHING, disk),
        storage=storage,
        disk=disk,
        run=run,
        demand=lambda obj: (),  # noqa: ARG005 - of no object
        before=NOTHING,
    ).execute()
    return [Path(disk.path(obj.relpath)) for obj in resolution.objects]
