"""Getting one URI to a place of the caller's choice, without a dataset: `dcl get`.

The same line, from resolving to files, but nothing is recorded, and the files are the
caller's own writable copies. Used by `catalog`.
"""

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from datacachalog import events, globs
from datacachalog.cache.files import LinkKind
from datacachalog.cache.placed_files import NOTHING
from datacachalog.cache.store import Store
from datacachalog.errors import DatacachalogError
from datacachalog.model import Latest, Resolution
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


class Target(NamedTuple):
    """Where a retrieval lands: a folder, and a file name for a single object."""

    folder: Path
    name: str | None

    @classmethod
    def of(cls, dataset: "Dataset", dest: str | os.PathLike[str] | None) -> "Target":
        """Decide as `cp` does: an existing folder or a trailing slash means "into it"."""
        text = os.fspath(dest) if dest is not None else "."
        path = Path(os.path.abspath(text))
        if not dataset.is_single:
            return cls(path, None)
        if text.endswith(("/", os.sep)) or path.is_dir():
            return cls(path, None)
        return cls(path.parent, path.name)


def retrieve(
    dataset: "Dataset", target: Target, storage: Storage, store: Store, run: RunContext
) -> Path | list[Path]:
    """Download what `dataset` names to `target` and return the path, or paths for a glob."""
    try:
        return _retrieve(dataset, target, storage, store, run)
    except MisreadKeyError:
        return _retrieve(dataset, target, storage, store, run)  # now listed as it is


def _retrieve(
    dataset: "Dataset", target: Target, storage: Storage, store: Store, run: RunContext
) -> Path | list[Path]:
    source = globs.unescape(dataset.sources[0])

    def note(error: DatacachalogError, attempt: int, delay: float) -> None:
        run.report(events.Retrying(source, source, error, attempt, delay))

    resolution = resolve(
        dataset,
        Latest(),
        storage,
        previous=None,
        policy=Policy(),
        now=datetime.now(UTC),
        retry=lambda action: retrying(action, cancel=run.cancel, failed=note),
    )
    if target.name is not None:
        resolution = _renamed(resolution, target.name)
    kinds = (LinkKind.REFLINK, LinkKind.COPY)
    mode = 0o666 & ~umask()
    disk = Disk(
        str(target.folder), kinds, mode, store=store, endpoint=storage.endpoint, owns_folder=False
    )
    todo = plan(resolution, NOTHING, disk)
    Transfer(
        dataset=source,
        plan=todo,
        storage=storage,
        disk=disk,
        run=run,
        demand=lambda _: (),
        before=NOTHING,
    ).execute()
    paths = [Path(disk.path(obj.relpath)) for obj in resolution.objects]
    return paths[0] if dataset.is_single else paths


def _renamed(resolution: Resolution, name: str) -> Resolution:
    (obj,) = resolution.objects
    return replace(resolution, objects=(obj._replace(relpath=name),))
