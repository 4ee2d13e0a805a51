"""One dataset along the pipeline: resolve, plan, transfer, files, with its state around them.

The state is read first and written last. `Catalog` makes one `DatasetSync` per dataset and call.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from datacachalog import events, globs
from datacachalog.cache.file_lock import FileLock
from datacachalog.cache.placed_files import PlacedFiles
from datacachalog.cache.state import State, StateFolder
from datacachalog.checksums import LOCK, Checksum, Hashes
from datacachalog.errors import (
    DatacachalogError,
    NotFetchedError,
    ObjectChangedError,
    ObjectNotFoundError,
    OfflineError,
)
from datacachalog.gc_pause import collection_paused
from datacachalog.lock.file import LockedDataset, PinKind
from datacachalog.lock.rules import LockView, find_local, lost, with_hashes
from datacachalog.model import EPOCH, Latest, ObjectVersion, Origin, Pin, RemoteObject, Resolution
from datacachalog.storage.base import MisreadKeyError, Storage
from datacachalog.sync.download import no_room
from datacachalog.sync.history import list_versions
from datacachalog.sync.placement import Disk, Folder
from datacachalog.sync.plan import Plan, plan
from datacachalog.sync.recovery import RecoveredState
from datacachalog.sync.resolve import Policy, digest, resolve
from datacachalog.sync.results import DatasetStatus, Freshness, Outcome, judge
from datacachalog.sync.retry import retrying
from datacachalog.sync.run import RunContext
from datacachalog.sync.transfer import LOCK_WAIT, Transfer, TransferResult

if TYPE_CHECKING:
    from datacachalog.spec.models import Dataset

T = TypeVar("T")

RESOLVE_AGAIN = 3
"""How often a dataset is resolved again because its source changed during the transfer."""


class SyncResult(NamedTuple):
    """What became of one dataset, and the entry that the lock should get, if it must change."""

    outcome: Outcome
    lock_entry: LockedDataset | None = None


@dataclass(slots=True)
class DatasetSync:
    """One dataset under one pin on its way to disk.

    `key` names its state; `root` is its folder as the state records it (relative to the
    project); `folder_at` opens any such folder; `lock` is what the lock says.
    """

    dataset: "Dataset"
    pin: Pin
    key: str
    root: str
    storage: Storage
    disk: Disk
    states: StateFolder
    policy: Policy
    run: RunContext
    folder_at: Callable[[str], Folder]
    lock: LockView

    # --- resolving ----------------------------------------------------------------

    def resolve(self, previous: State | None) -> Resolution:
        """Ask what the dataset means now, or take the answer that is known."""
        locked = self.lock.find()
        if locked is not None:
            return self._resolve_locked(locked, previous)
        # What is to get into the lock needs version ids, which no state may know.
        policy = replace(self.policy, refresh=self.policy.refresh or self.lock.counts)
        return self._warned(self._resolve(previous, policy, with_versions=self.lock.counts))

    def resolve_for_lock(self) -> LockedDataset:
        """Ask the source afresh, with version ids, and return the lock's entry.

        Local files are hashed at once: nothing else identifies them.
        """
        resolution = self._warned(self._resolve(None, Policy(), with_versions=True))
        entry = self.lock.entry_for(resolution.objects, resolution.endpoint)
        if entry.pin_kind is not PinKind.HASH:
            return entry
        hashes: dict[str, str] = {}

        def read(obj: RemoteObject) -> None:
            digests = Hashes(())
            for data in self.storage.read(obj, 0, obj.size):
                self.run.cancel.check()
                digests.update(data)
            hashes[obj.relpath] = digests.blake3

        self.run.workers.each(read, resolution.objects)
        return replace(entry, hashes=hashes)

    def versions(
        self, *, limit: int | None, key: str | None, at: datetime | None
    ) -> list[ObjectVersion]:
        """Return the history of the dataset's sources, key by key, newest first."""
        is_excluded = globs.excluder(self.dataset.exclude)
        is_chosen = globs.excluder(["**" if key is None else key])

        def is_wanted(relpath: str) -> bool:
            return is_chosen(relpath) and not is_excluded(relpath)

        def read(source: str) -> list[ObjectVersion]:
            history = self.storage.versions(source)
            return list(list_versions(history, limit=limit, at=at, is_wanted=is_wanted))

        found: list[ObjectVersion] = []
        for source in self.dataset.sources:
            known = {version.uri for version in found}
            found += [v for v in self._retry(partial(read, source)) if v.uri not in known]
        return found

    def _resolve(
        self, previous: State | None, policy: Policy, *, with_versions: bool
    ) -> Resolution:
        return resolve(
            self.dataset,
            self.pin,
            self.storage,
            previous=previous,
            policy=policy,
            now=now(),
            retry=self._retry,
            server_now=lambda: self._retry(lambda: self.run.now(self.storage)),
            with_versions=with_versions,
        )

    def _warned(self, resolution: Resolution) -> Resolution:
        for warning in resolution.warnings:
            self._warn(warning)
        return resolution

    def _retry(self, action: Callable[[], T]) -> T:
        def failed(error: DatacachalogError, attempt: int, delay: float) -> None:
            name, uri = self.dataset.name, self.dataset.sources[0]
            self.run.report(events.Retrying(name, uri, error, attempt, delay))

        return retrying(action, cancel=self.run.cancel, failed=failed)

    def _resolve_locked(self, locked: LockedDataset, previous: State | None) -> Resolution:
        objects = locked.objects
        if locked.pin_kind is PinKind.HASH:
            objects = find_local(
                locked,
                partial(self._find_here, previous),
                lambda: self._resolve(None, Policy(), with_versions=False).objects,
            )
        return Resolution(
            objects=objects,
            pin=self.pin,
            endpoint=self.storage.endpoint,
            checked=EPOCH,  # nobody was asked, so nobody may trust this check later
            origin=Origin.LOCK,
            hashes=dict(locked.hashes),
        )

    def _find_here(
        self, state: State | None, locked: RemoteObject, blake3: str | None
    ) -> RemoteObject | None:
        """Return what was placed with these bytes, if it still is in place or stored."""
        placed = state.files.find(locked.relpath) if state is not None else None
        if placed is None or blake3 is None or placed.blake3 != blake3:
            return None
        found = self.disk.stat(locked.relpath)
        is_there = found is not None and found.mtime_ns == placed.mtime_ns
        return placed.object if is_there or self.disk.is_stored(placed.object) else None

    # --- planning -----------------------------------------------------------------

    def recover(self) -> RecoveredState:
        """Return what earlier runs left: the state, and what a killed one had begun."""
        return RecoveredState.read(self.states, self.key, self.root, self.disk)

    def plan(self, resolution: Resolution, before: RecoveredState) -> Plan:
        """Compare with what was placed and what lies on disk."""
        with collection_paused():
            return plan(resolution, before.placed, self.disk)

    def placed_state(self) -> State:
        """Return the state of the last sync; raise `NotFetchedError` if there was none."""
        state = self.states.read(self.key)
        if state is None or state.root != self.root:
            raise NotFetchedError(
                f"'{self.dataset.name}' was not fetched yet",
                hint=f"run `dcl sync {self.dataset.name}`",
            )
        return state

    def placed_paths(self) -> list[Path]:
        """Return the paths of the last sync, from its state; asks neither network nor disk."""
        return [Path(self.disk.path(relpath)) for relpath in self.placed_state().files.relpath]

    def placed_entry(self) -> LockedDataset | None:
        """Return what is in place as a lock's entry, from the state; None if nothing is."""
        state = self.states.read(self.key)
        if state is None:
            return None
        entry = self.lock.entry_for(state.files.objects(), state.endpoint)
        return with_hashes(entry, state.files)

    def status(self) -> DatasetStatus:
        """Return how the dataset stands; changes nothing."""
        checked = None
        try:
            before = self.recover()
            checked = before.state.checked if before.state is not None else None
            todo = self.plan(self.resolve(before.state), before)
        except DatacachalogError as exc:
            return DatasetStatus(
                self.dataset.name, Freshness.ERROR, str(self.pin), checked=checked, error=exc
            )
        resolution = todo.resolution
        return DatasetStatus(
            name=self.dataset.name,
            freshness=judge(todo, was_fetched=before.state is not None),
            pin=str(self.pin),
            files=len(resolution.objects),
            size=sum(obj.size for obj in resolution.objects),
            downloads=len(todo.downloads),
            download_bytes=todo.download_bytes,
            links=len(todo.links),
            drops=len(todo.drops),
            conflicts=todo.conflicts,
            checked=None if resolution.checked == EPOCH else resolution.checked,
            is_locked=resolution.origin is Origin.LOCK,
            plan=todo,
            warnings=resolution.warnings,
        )

    # --- syncing ------------------------------------------------------------------

    def sync(self, *, dry_run: bool = False) -> SyncResult:
        """Make the folder match, and return what was done.

        A source that changes meanwhile is resolved again, at most three times.
        """
        for attempt in count(1):
            try:
                result = self._sync_once(dry_run=dry_run)
                break
            except ObjectChangedError as exc:
                if self.policy.offline or self.lock.find() is not None:
                    raise
                if attempt > RESOLVE_AGAIN:
                    raise ObjectChangedError(
                        f"'{self.dataset.name}' keeps changing while it is fetched: {exc}",
                        hint="run the command again when nobody writes to the source",
                    ) from exc
                if not isinstance(exc, MisreadKeyError):
                    self._warn(f"{exc}; resolving again ({attempt})")
                # What was known without asking has just proven wrong.
                self.policy = replace(self.policy, refresh=True)
        self.run.report(result.outcome.event())
        return result

    def _sync_once(self, *, dry_run: bool) -> SyncResult:
        before, todo = self._compare()
        if dry_run:
            return SyncResult(self._outcome(todo))
        if self._is_done(before, todo):
            return self._confirm(before, todo)
        with self._locked() as has_waited:
            if has_waited or self.states.stat(self.key) != before.stat:
                # Another run was at it, and the source may have moved on: look again.
                before, todo = self._compare()
                if self._is_done(before, todo):
                    return self._confirm(before, todo)
            return self._carry_out(before, todo)

    def _compare(self) -> tuple[RecoveredState, Plan]:
        before = self.recover()
        todo = self.plan(self.resolve(before.state), before)
        self.run.report(
            events.Planned(
                self.dataset.name,
                downloads=len(todo.downloads),
                download_bytes=todo.download_bytes,
                links=len(todo.links),
                drops=len(todo.drops),
                hits=len(todo.hits),
            )
        )
        for keep in todo.keeps:
            self._warn(f"'{keep.relpath}' is {keep.reason}; it stays and is yours from now on")
        return before, todo

    def _is_done(self, before: RecoveredState, todo: Plan) -> bool:
        """Tell whether all is in place and on record; raise if its checksums do not fit."""
        self._check_hits(before, todo)
        return todo.is_noop and before.is_complete and len(todo.hits) == len(before.placed)

    def _check_hits(self, before: RecoveredState, todo: Plan) -> None:
        """Compare files in place with checksums they were not yet compared with.

        A lock's hashes are compared with the recorded ones; a checksum that is new in the
        catalog is compared with the bytes.
        """
        hashes = todo.resolution.hashes
        if hashes:
            recorded = dict(zip(before.placed.relpath, before.placed.blake3, strict=True))
            for obj in todo.hits:
                known = recorded[obj.relpath]
                wanted = hashes.get(obj.relpath, known)
                if wanted != known:
                    demanded = Checksum("blake3", str(wanted), LOCK)
                    Hashes([demanded], known=known).check(obj)
        compared = before.state.checksum if before.state is not None else ""
        if todo.hits and self._checksum_text() not in ("", compared):
            self.run.workers.each(self._check_hit, todo.hits)

    def _check_hit(self, obj: RemoteObject) -> None:
        checksum = self.dataset.checksum_of(obj.relpath)
        if checksum is not None:
            hashes = Hashes([checksum])
            hashes.read(self.disk.path(obj.relpath))
            hashes.check(obj)

    def _checksum_text(self) -> str:
        """Return the catalog's checksums as the state records them; empty if there are none."""
        checksum = self.dataset.checksum
        return "" if checksum is None else json.dumps(checksum, sort_keys=True)

    def _confirm(self, before: RecoveredState, todo: Plan) -> SyncResult:
        """Record that all still is as it should be, writing as little as possible."""
        resolution, state = todo.resolution, before.state
        assert state is not None
        if resolution.origin is not Origin.STATE:
            fresh = self._state(resolution, state.files)
            if (state.digest, state.checksum) != (fresh.digest, fresh.checksum):
                # Another spelling of the same files: only the head changes.
                self.states.write(self.key, fresh)
            elif state.checked != fresh.checked:
                self.states.confirm(self.key, fresh.checked)
        self.disk.sweep_all()
        return SyncResult(self._outcome(todo), self.lock.entry_after(resolution, state.files))

    def _carry_out(self, before: RecoveredState, todo: Plan) -> SyncResult:
        if self.policy.offline and todo.downloads:
            raise OfflineError(
                f"{len(todo.downloads)} files of '{self.dataset.name}' are not in the cache,"
                " and `--offline` fetches nothing",
                hint=f"run `dcl sync {self.dataset.name}` once with the network",
            )
        try:
            result = self._transfer(before, todo)
        except (ObjectNotFoundError, ObjectChangedError) as exc:
            locked = self.lock.find()
            if locked is not None:
                raise lost(locked, exc) from exc
            if isinstance(exc, ObjectChangedError) or not isinstance(self.pin, Latest):
                raise
            # It was there when it was resolved a moment ago: deleted meanwhile.
            raise ObjectChangedError(f"{exc}, although it was listed", hint=exc.hint) from exc
        entry = self.lock.entry_after(todo.resolution, result.placed)
        return SyncResult(self._outcome(todo, result), entry)

    def _transfer(self, before: RecoveredState, todo: Plan) -> TransferResult:
        """Do what the plan says, and record what is in place, last of all."""
        resolution = todo.resolution
        result = Transfer(
            dataset=self.dataset.name,
            plan=todo,
            storage=self.storage,
            disk=self.disk,
            run=self.run,
            demand=partial(self._demanded, resolution),
            before=before.placed,
            write_journal=lambda files: self.states.write_journal(
                self.key, self._state(resolution, files)
            ),
            is_offline=self.policy.offline,
        ).execute()
        for old in before.elsewhere:
            self._leave(old, result.placed)
        # A killed run may have made folders without files in them, or left some behind.
        if before.journaled or before.placed.relpath != result.placed.relpath:
            known = {*before.placed.relpath, *before.journaled}
            for relpath in known.difference(result.placed.relpath):
                self.disk.prune(relpath)
        self.states.write(self.key, self._state(resolution, result.placed))
        self.states.clear_journal(self.key)
        return result

    def _demanded(self, resolution: Resolution, obj: RemoteObject) -> list[Checksum]:
        checksum = self.dataset.checksum_of(obj.relpath)
        demanded = [] if checksum is None else [checksum]
        locked = resolution.hashes.get(obj.relpath)
        if locked is not None:
            demanded.append(Checksum("blake3", locked, LOCK))
        return demanded

    def _state(self, resolution: Resolution, placed: PlacedFiles) -> State:
        # A frozen lock need not be what the catalog says, and must not pass for it later.
        is_foreign = resolution.origin is Origin.LOCK and not self.lock.fits
        return State(
            dataset=self.dataset.name,
            digest="" if is_foreign else digest(self.dataset, self.pin, self.storage.endpoint),
            pin=str(self.pin),
            endpoint=resolution.endpoint,
            root=self.root,
            checked=resolution.checked,
            checksum=self._checksum_text(),
            files=placed,
        )

    def _leave(self, old: State, placed: PlacedFiles) -> None:
        """Remove our untouched files from where the dataset lay before its path changed."""
        folder = self.folder_at(old.root)
        present = {self.disk.path(relpath) for relpath in placed.relpath}
        for row in old.files:
            relpath, path = row.object.relpath, folder.path(row.object.relpath)
            if path in present:
                continue
            if folder.stat(relpath) is None:
                folder.prune(relpath)
            elif not folder.drop(relpath, size=row.object.size, mtime_ns=row.mtime_ns):
                self._warn(f"'{path}' was edited here; it stays and is yours from now on")
        folder.leave()

    def _outcome(self, todo: Plan, result: TransferResult | None = None) -> Outcome:
        kept = tuple(f"'{keep.relpath}' is {keep.reason}; it stays" for keep in todo.keeps)
        return Outcome(
            name=self.dataset.name,
            plan=todo,
            folder=Path(self.disk.root),
            downloaded=result.downloaded if result else 0,
            downloaded_bytes=result.downloaded_bytes if result else 0,
            linked=result.linked if result else 0,
            hits=len(todo.hits),
            dropped=result.dropped if result else 0,
            total_bytes=sum(obj.size for obj in todo.resolution.objects),
            warnings=todo.resolution.warnings + kept,
        )

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Hold the dataset's file lock; yields whether another run had it first.

        It saves double work. Where locks do nothing, renames keep both runs right.
        """
        lock = FileLock(self.states.lock_path(self.key))
        has_waited = not lock.acquire(sleep=self.run.cancel.sleep)
        if has_waited:
            lock.acquire(wait=LOCK_WAIT, sleep=self.run.cancel.sleep)
        try:
            yield has_waited
        finally:
            lock.release()

    def _warn(self, message: str) -> None:
        self.run.report(events.Warned(self.dataset.name, message))

    # --- changing what is there ---------------------------------------------------

    def adopt(self, obj: RemoteObject, snapshot: str) -> None:
        """Make the file `snapshot` the stored object `obj`, and put it in place (after a push)."""
        store, fingerprint = self.disk.store, obj.fingerprint(self.storage.endpoint)
        try:
            store.finalize(snapshot, obj.mtime_ns)
            store.adopt(snapshot, fingerprint)
        except OSError as exc:
            raise no_room(exc, snapshot) from exc
        resolution = Resolution((obj,), self.pin, self.storage.endpoint, now())
        with self._locked(), self.disk.accepting(store.path(fingerprint)):
            before = self.recover()
            self._transfer(before, self.plan(resolution, before))

    def invalidate(self, pattern: str) -> int:
        """Discard the stored objects of files that match, and distrust what is in place.

        Returns how many files that were. Their rows stay, so that the files still count as
        ours, but without a hash they are not what they should be.
        """
        is_matching = globs.excluder([pattern])
        with self._locked():
            state = self.states.read(self.key)
            if state is None:
                return 0
            rows = list(state.files)
            matching = [i for i, row in enumerate(rows) if is_matching(row.object.relpath)]
            for i in matching:
                self.disk.store.discard(rows[i].object.fingerprint(state.endpoint))
                rows[i] = rows[i]._replace(blake3=None)
            fresh = replace(state, files=PlacedFiles.of(rows), checked=EPOCH)
            self.states.write(self.key, fresh)
            return len(matching)


def now() -> datetime:
    """Return this machine's time."""
    return datetime.now(UTC)
