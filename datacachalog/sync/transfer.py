"""Doing what the plan says: bytes into the store, files into place, state last.

The order is what makes a crash harmless:

    temp file -> size, identity, checksums verified -> renamed into the store
    -> all objects of the dataset there -> all files staged -> what is to come announced
    -> old files dropped, new ones renamed into `data/` -> state written

so that old data stays until all of the new is verified, and whatever a killed run left
is a temporary file, a valid object, or a file that was announced. Called by `line`; knows
plans, storages and the cache, but not how objects were resolved.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

from datacachalog.cache.file_lock import FileLock
from datacachalog.cache.files import FileStat
from datacachalog.cache.placed_files import PlacedFile, PlacedFiles
from datacachalog.checksums import Checksum, Hashes
from datacachalog.errors import LocalFileConflictError, OfflineError
from datacachalog.gc_pause import collection_paused
from datacachalog.model import RemoteObject
from datacachalog.storage.base import Storage
from datacachalog.sync.download import Destination
from datacachalog.sync.placement import Disk, Folder, SourceVanishedError, Staged
from datacachalog.sync.plan import Download, Link, Plan
from datacachalog.sync.pool import Batch
from datacachalog.sync.run import RunContext

LOCK_WAIT = 15 * 60.0
"""Seconds to wait for another run that fetches the same large object; then fetch it too."""

_AT_ONCE = 64
"""Files that one task stages or publishes."""


class Stored(NamedTuple):
    """An object that lies verified in the store: where, and its blake3 (64 hex digits)."""

    path: str
    blake3: str
    downloaded: bool


@dataclass(frozen=True, slots=True)
class Result:
    """What a transfer did: the files as they now stand, and counts for the report."""

    placed: PlacedFiles
    downloaded: int
    downloaded_bytes: int
    linked: int
    dropped: int


class Demand(Protocol):
    """What the catalog or a lock demands of an object's bytes."""

    def __call__(self, obj: RemoteObject) -> Sequence[Checksum]:
        """Return the checksums that the object must have; empty if none is known."""


def demand_nothing(obj: RemoteObject) -> Sequence[Checksum]:  # noqa: ARG001 - of any object
    """Demand no checksum."""
    return ()


def keep_quiet(coming: PlacedFiles) -> None:
    """Announce nothing: where no state is kept."""


@dataclass(slots=True)
class Transfer:
    """Carries out the plan of one dataset.

    `before` are the files of the last state. `announce` is told what is about to be put in
    place, before anything visible changes. With `is_offline`, nothing may be read.
    """

    dataset: str
    plan: Plan
    storage: Storage
    disk: Disk
    run: RunContext
    demand: Demand
    before: PlacedFiles
    announce: Callable[[PlacedFiles], None] = keep_quiet
    is_offline: bool = False
    _stored: dict[str, Stored] = field(default_factory=dict)
    _busy: list[RemoteObject] = field(default_factory=list)

    def execute(self) -> Result:
        """Fetch what is missing, then put everything in place; return what stands there.

        Raises the first error, with the folder as it was; `ObjectChangedError` asks the
        caller to resolve again. Objects that did arrive stay in the store.
        """
        refuse_conflicts(self.plan, self.disk)
        self.fetch()
        with collection_paused():
            placed, dropped = self._put_in_place()
        downloads = [step.object for step in self._steps if self._stored_of(step).downloaded]
        return Result(
            placed=self.before.with_changes(self.plan.hits, placed),
            downloaded=len(downloads),
            downloaded_bytes=sum(obj.size for obj in downloads),
            linked=len(self._steps) - len(downloads),
            dropped=dropped,
        )

    @property
    def _steps(self) -> tuple[Link | Download, ...]:
        return (*self.plan.links, *self.plan.downloads)

    def _stored_of(self, step: Link | Download) -> Stored:
        return self._stored[step.object.uri]

    # --- into the store ---------------------------------------------------------

    def fetch(self) -> None:
        """Bring every object of the plan's links and downloads into the store, verified."""
        if self.plan.downloads:
            self.disk.store.prepare()  # what cannot be kept is not asked for
        batch = Batch(self.run.cancel)
        self.run.pool.start([partial(self._vouch, link.object) for link in self.plan.links], batch)
        self._download([step.object for step in self.plan.downloads], batch)
        batch.wait()
        while self._busy:
            self._wait_for(self._busy.pop())

    def _download(
        self, objects: Sequence[RemoteObject], batch: Batch, lock: FileLock | None = None
    ) -> None:
        """Queue the downloads of `objects`, as tasks of `batch`; `lock` is held for the one."""
        self._refuse_offline(objects)
        to = Destination(
            self.dataset,
            self.storage,
            self.disk.store,
            self.disk.endpoint,
            self.demand,
            arrived=self._note_arrived,
            busy=self._busy.append,
            found=lambda obj: self._vouch_aside(obj, batch),
        )
        self.run.downloads.add(objects, to, batch, lock=lock)

    def _refuse_offline(self, objects: Sequence[RemoteObject]) -> None:
        if objects and self.is_offline:
            raise OfflineError(
                f"'{objects[0].uri}' is not in the cache, and `--offline` fetches nothing",
                hint="run the command once with the network",
            )

    def _note_arrived(self, obj: RemoteObject, fingerprint: str, blake3: str) -> None:
        self._stored[obj.uri] = Stored(self.disk.store.path(fingerprint), blake3, downloaded=True)

    def _vouch_aside(self, obj: RemoteObject, batch: Batch) -> None:
        self.run.pool.start([partial(self._vouch, obj)], batch)

    def _wait_for(self, obj: RemoteObject) -> None:
        """Fetch what another run is fetching, unless it succeeds.

        Nothing else is held meanwhile, so that two runs cannot wait for each other.
        """
        lock = FileLock(self.disk.store.lock_path(obj.fingerprint(self.disk.endpoint)))
        lock.acquire(wait=LOCK_WAIT, sleep=self.run.cancel.sleep)
        if self.disk.is_stored(obj):
            lock.release()
            self._vouch(obj)
        else:
            self._download_now(obj, lock)

    def _download_now(self, obj: RemoteObject, lock: FileLock | None = None) -> None:
        """Bring one object into the store, and return when it is there."""
        batch = Batch(self.run.cancel)
        self._download([obj], batch, lock)
        batch.wait()
        if obj in self._busy:
            self._busy.remove(obj)
            self._wait_for(obj)

    def _vouch(self, obj: RemoteObject) -> None:
        """Check an object which lies in the store already; fetch it afresh if it is not right."""
        store, fingerprint = self.disk.store, obj.fingerprint(self.disk.endpoint)
        path = store.path(fingerprint)
        known = self.before.find(obj.relpath)
        is_known = known is not None and known.blake3 and known.object.is_same_as(obj)
        hashes = Hashes(self.demand(obj), known=known.blake3 if known and is_known else None)
        try:
            if hashes.must_read:
                hashes.read(path)
            hashes.check(obj)
            # Looked at last: what is written to it from now on shows.
            if not store.use(fingerprint, size=obj.size, mtime_ns=obj.mtime_ns):
                raise FileNotFoundError(path)
        except OSError:  # a wrong checksum is one, too
            self._refuse_offline([obj])
            store.discard(fingerprint)
            self._download_now(obj)
        else:
            self._stored[obj.uri] = Stored(path, hashes.blake3, downloaded=False)

    # --- into place -------------------------------------------------------------

    def _put_in_place(self) -> tuple[list[PlacedFile], int]:
        """Stage everything, and only then change what is visible; return what came and went."""
        folder = self.disk
        staged: dict[str, Staged] = {}
        placed: list[PlacedFile] = []
        self.run.at_interrupt.append(folder.give_up)
        try:
            self._in_lots(
                lambda step: staged.__setitem__(step.object.uri, self._stage(step, step.over))
            )
            if self._steps:
                self.announce(PlacedFiles.of(self._coming(step) for step in self._steps))
            dropped = self._drop()
            self._in_lots(lambda step: placed.append(self._publish(step, staged)))
        finally:
            for file in staged.values():
                folder.discard(file)
            folder.sweep()
        return placed, dropped

    def _in_lots(self, action: Callable[[Link | Download], None]) -> None:
        """Run `action` for every step: here if it links, which costs little; else in the pool."""
        steps = self._steps

        def run_lot(lot: Sequence[Link | Download]) -> None:
            for step in lot:
                self.run.cancel.check()
                action(step)

        run_lot(steps[:_AT_ONCE])  # by now it is known which kind of link works
        lots = [steps[i : i + _AT_ONCE] for i in range(_AT_ONCE, len(steps), _AT_ONCE)]
        if self.disk.is_linking:
            for lot in lots:
                run_lot(lot)
        else:
            self.run.pool.each(run_lot, lots)

    def _coming(self, step: Link | Download) -> PlacedFile:
        return PlacedFile(step.object, self._stored_of(step).blake3, step.object.mtime_ns)

    def _stage(self, step: Link | Download, over: FileStat | None) -> Staged:
        """Make the file ready; `over` is what may be replaced."""
        obj, folder = step.object, self.disk
        for is_last in (False, False, True):
            source = self._stored_of(step).path
            try:
                return folder.stage(source, obj.relpath, over=over, mtime_ns=obj.mtime_ns)
            except SourceVanishedError:
                if is_last:
                    raise
                self._vouch(obj)
            except LocalFileConflictError:
                over = self._of_another_run(obj.relpath)
                if over is None or is_last:
                    raise
        raise AssertionError("unreachable")

    def _publish(self, step: Link | Download, staged: Mapping[str, Staged]) -> PlacedFile:
        obj, file = step.object, staged[step.object.uri]
        for is_last in (False, False, True):
            try:
                st = self.disk.publish(file)
            except SourceVanishedError:
                if is_last:
                    raise
                self._vouch(obj)
                file = self._stage(step, file.over)
            except LocalFileConflictError:
                over = self._of_another_run(obj.relpath)
                if over is None or is_last:
                    raise
                file = self._stage(step, over)
            else:
                return PlacedFile(obj, self._stored_of(step).blake3, st.mtime_ns)
        raise AssertionError("unreachable")

    def _of_another_run(self, relpath: str) -> FileStat | None:
        """Return what another run of ours put at `relpath` since the plan was made, if it did."""
        found = self.disk.stat(relpath)
        if found is None or self.disk.is_ours(relpath, found, None):
            return found
        self.disk.refresh()
        return found if self.disk.is_ours(relpath, found, None) else None

    def _drop(self) -> int:
        folder = self.disk
        return sum(
            folder.drop(step.relpath, size=step.over.size, mtime_ns=step.over.mtime_ns)
            for step in self.plan.drops
        )


def refuse_conflicts(plan: Plan, folder: Folder) -> None:
    """Raise `LocalFileConflictError` if files that are not ours are in the way."""
    if not plan.conflicts:
        return
    first, *rest = plan.conflicts
    more = f" (and {len(rest)} more)" if rest else ""
    raise LocalFileConflictError(
        f"'{folder.path(first.relpath)}'{more} was {first.reason}; nothing was changed",
        hint="move it away (or delete it), then run the command again",
    )
