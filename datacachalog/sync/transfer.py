"""Doing what the plan says: bytes into the store, files into place.

The order is what makes a crash harmless:

    temp file -> size, identity, checksums verified -> renamed into the store
    -> all objects of the dataset there -> all files staged -> journal says what is to come
    -> old files dropped, new ones renamed into `data/` -> state written (by `dataset`)

so that old data stays until all of the new is verified, and whatever a killed run left is a
temporary file, a valid object, or a file that is in the journal. Called by `dataset`; knows plans,
storages and the cache, but not how objects were resolved.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from datacachalog.cache.file_lock import FileLock
from datacachalog.cache.files import FileStat
from datacachalog.cache.placed_files import PlacedFile, PlacedFiles
from datacachalog.checksums import Hashes
from datacachalog.errors import DatacachalogError, LocalFileConflictError, OfflineError
from datacachalog.gc_pause import collection_paused
from datacachalog.model import RemoteObject
from datacachalog.storage.base import Storage
from datacachalog.sync.download import Demand, DownloadGroup, Stored
from datacachalog.sync.placement import Disk, Folder, SourceVanishedError, Staged
from datacachalog.sync.plan import Download, Link, Plan
from datacachalog.sync.run import RunContext

T = TypeVar("T")

LOCK_WAIT = 15 * 60.0
"""Seconds to wait for another run that fetches the same large object; then fetch it too."""

_RACES = 2
"""How often a file is staged again because other runs changed what it was staged for."""

_AT_ONCE = 64
"""Files that one task stages or publishes."""


class TransferResult(NamedTuple):
    """What a transfer did: the files as they now stand, and counts for the report."""

    placed: PlacedFiles
    downloaded: int
    downloaded_bytes: int
    linked: int
    dropped: int


@dataclass(slots=True)
class Transfer:
    """Carries out the plan of one dataset.

    `before` are the files of the last state. `write_journal` is called with what is about to be
    put in place, before anything visible changes. With `is_offline`, nothing may be read.
    """

    dataset: str
    plan: Plan
    storage: Storage
    disk: Disk
    run: RunContext
    demand: Demand
    before: PlacedFiles
    write_journal: Callable[[PlacedFiles], None] = lambda files: None  # noqa: ARG005
    is_offline: bool = False
    _stored: dict[str, Stored] = field(default_factory=dict)

    def execute(self) -> TransferResult:
        """Fetch what is missing, then put everything in place; return what stands there.

        Raises the first error, with the folder as it was; `ObjectChangedError` asks the
        caller to resolve again. Objects that did arrive stay in the store.
        """
        refuse_conflicts(self.plan, self.disk)
        self._fetch()
        with collection_paused():
            placed, dropped = self._put_in_place()
        stored = [(step.object, self._stored[step.object.uri]) for step in self._steps]
        downloads = [obj.size for obj, found in stored if found.is_downloaded]
        return TransferResult(
            placed=self.before.with_changes(self.plan.hits, placed),
            downloaded=len(downloads),
            downloaded_bytes=sum(downloads),
            linked=len(stored) - len(downloads),
            dropped=dropped,
        )

    @property
    def _steps(self) -> tuple[Link | Download, ...]:
        return (*self.plan.links, *self.plan.downloads)

    # --- into the store ---------------------------------------------------------

    def _fetch(self) -> None:
        """Bring every object of the plan's links and downloads into the store, verified."""
        if self.plan.downloads:
            self.disk.store.prepare()  # what cannot be kept is not asked for
        group = self._group()
        links = [link.object for link in self.plan.links]
        self.run.workers.start(lambda obj: self._check_stored(obj, group), links, group)
        self._download([step.object for step in self.plan.downloads], group)
        self._finish(group)

    def _group(self) -> DownloadGroup:
        return DownloadGroup(
            self.run.cancel,
            dataset=self.dataset,
            storage=self.storage,
            store=self.disk.store,
            demand=self.demand,
            report=self.run.report,
            temps=self.run.temps,
        )

    def _finish(self, group: DownloadGroup) -> None:
        """Wait for all that is under way, then fetch what another run was fetching."""
        group.wait()
        self._stored |= group.stored
        for obj in group.skipped:
            self._wait_for_other_run(obj)

    def _download(
        self, objects: Sequence[RemoteObject], group: DownloadGroup, lock: FileLock | None = None
    ) -> None:
        """Queue the downloads of `objects`; `lock` is held for the one."""
        self._refuse_offline(objects)
        if objects:
            self.run.downloads.add(objects, group, lock=lock)

    def _refuse_offline(self, objects: Sequence[RemoteObject]) -> None:
        if objects and self.is_offline:
            raise OfflineError(
                f"'{objects[0].uri}' is not in the cache, and `--offline` fetches nothing",
                hint="run the command once with the network",
            )

    def _wait_for_other_run(self, obj: RemoteObject) -> None:
        """Wait until another run has fetched an object, and fetch it if that failed.

        Nothing else is locked meanwhile, so that two runs cannot wait for each other.
        """
        group = self._group()
        lock = FileLock(self.disk.store.lock_path(obj.fingerprint(self.disk.endpoint)))
        lock.acquire(wait=LOCK_WAIT, sleep=self.run.cancel.sleep)
        if self.disk.is_stored(obj):
            lock.release()
            self._check_stored(obj, group)
        else:
            self._download([obj], group, lock)
        self._finish(group)

    def _check_stored(self, obj: RemoteObject, group: DownloadGroup) -> None:
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
            self._download([obj], group)
        else:
            group.stored[obj.uri] = Stored(path, hashes.blake3, is_downloaded=False)

    def _fetch_again(self, obj: RemoteObject) -> None:
        """Bring an object back that vanished from the store after it was fetched."""
        group = self._group()
        self._check_stored(obj, group)
        self._finish(group)

    # --- into place -------------------------------------------------------------

    def _put_in_place(self) -> tuple[list[PlacedFile], int]:
        """Stage everything, and only then change what is visible; return what came and went."""
        disk = self.disk
        self.run.at_interrupt.append(disk.give_up)
        try:
            staged = dict(
                self._each_step(lambda step: (step.object.uri, self._stage(step, step.over)))
            )
            if staged:
                self.write_journal(PlacedFiles.of(map(self._expected, self._steps)))
            dropped = sum(
                disk.drop(drop.relpath, size=drop.over.size, mtime_ns=drop.over.mtime_ns)
                for drop in self.plan.drops
            )
            placed = self._each_step(lambda step: self._publish(step, staged[step.object.uri]))
        finally:
            disk.give_up()
        return placed, dropped

    def _each_step(self, action: Callable[[Link | Download], T]) -> list[T]:
        """Run `action` for every step and return the results, in any order.

        In this thread if it links, which costs little; else in the pool.
        """
        results: list[T] = []

        def run(steps: Sequence[Link | Download]) -> None:
            for step in steps:
                self.run.cancel.check()
                results.append(action(step))

        first, rest = self._steps[:_AT_ONCE], self._steps[_AT_ONCE:]
        run(first)  # by now it is known which kind of link works
        if self.disk.is_linking:
            run(rest)
        else:
            parts = [rest[i : i + _AT_ONCE] for i in range(0, len(rest), _AT_ONCE)]
            self.run.workers.each(run, parts)
        return results

    def _expected(self, step: Link | Download) -> PlacedFile:
        obj = step.object
        return PlacedFile(obj, self._stored[obj.uri].blake3, obj.mtime_ns)

    def _stage(self, step: Link | Download, over: FileStat | None) -> Staged:
        """Make the file ready; `over` is what may be replaced."""
        for _ in range(_RACES):
            try:
                return self._stage_once(step.object, over)
            except (SourceVanishedError, LocalFileConflictError) as exc:
                over = self._after_race(step.object, over, exc)
        return self._stage_once(step.object, over)

    def _stage_once(self, obj: RemoteObject, over: FileStat | None) -> Staged:
        source = self._stored[obj.uri].path
        return self.disk.stage(source, obj.relpath, over=over, mtime_ns=obj.mtime_ns)

    def _publish(self, step: Link | Download, staged: Staged) -> PlacedFile:
        for _ in range(_RACES):
            try:
                found = self.disk.publish(staged)
                break
            except (SourceVanishedError, LocalFileConflictError) as exc:
                staged = self._stage(step, self._after_race(step.object, staged.over, exc))
        else:
            found = self.disk.publish(staged)
        return PlacedFile(step.object, self._stored[step.object.uri].blake3, found.mtime_ns)

    def _after_race(
        self, obj: RemoteObject, over: FileStat | None, error: DatacachalogError
    ) -> FileStat | None:
        """Return what may be replaced after another run changed the store or the folder.

        Raises `error` if it was not a run of ours.
        """
        if isinstance(error, SourceVanishedError):
            self._fetch_again(obj)
            return over
        found = self.disk.stat(obj.relpath)
        if found is None:
            raise error
        if not self.disk.is_ours(obj.relpath, found, None):
            self.disk.refresh()
            if not self.disk.is_ours(obj.relpath, found, None):
                raise error
        return found


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
