"""The line for one dataset: resolve, plan, transfer, files.

Strings the floors below together, with the state around them: read first, written last.
`Catalog` builds one `DatasetSync` per dataset and call.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

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
from datacachalog.lock.rules import LockView, find_local, lost
from datacachalog.model import EPOCH, Latest, ObjectVersion, Origin, Pin, RemoteObject, Resolution
from datacachalog.storage.base import MisreadKeyError, Storage
from datacachalog.sync.download import no_room
from datacachalog.sync.history import list_versions
from datacachalog.sync.placement import Disk, Folder
from datacachalog.sync.plan import Plan, plan
from datacachalog.sync.recovery import RecoveredState
from datacachalog.sync.resolve import Policy, digest, resolve, resolve_remote
from datacachalog.sync.results import DatasetStatus, Freshness, Outcome, judge
from datacachalog.sync.retry import retrying
from datacachalog.sync.run import RunContext
from datacachalog.sync.transfer import LOCK_WAIT, Demand, Result, Transfer, demand_nothing

if TYPE_CHECKING:
    from datacachalog.spec.models import Dataset

T = TypeVar("T")

RESOLVE_AGAIN = 3
"""How often a dataset is resolved again because its source changed during the transfer."""


@dataclass(slots=True)
class DatasetSync:
    """One dataset under one pin on its way to disk.

    `key` names its state; `root` is its folder as the state records it (relative to the
    project); `folder_at` opens any such folder; `hold` is what the lock says.
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
    hold: LockView
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    # --- what is known ------------------------------------------------------------

    def resolve(self, previous: State | None) -> Resolution:
        """Ask what the dataset means now, or take the answer that is known."""
        locked = self.hold.find()
        if locked is not None:
            resolution = self._resolve_locked(locked, previous)
        else:
            # What is to get into the lock needs version ids, which no state may know.
            policy = replace(self.policy, refresh=self.policy.refresh or self.hold.counts)
            resolution = resolve(
                self.dataset,
                self.pin,
                self.storage,
                previous=previous,
                policy=policy,
                now=self.now(),
                retry=self._retry,
                server_now=self._server_now,
                with_versions=self.hold.counts,
            )
        for warning in resolution.warnings:
            self.run.report(events.Warned(self.dataset.name, warning))
        return resolution

    def resolve_for_lock(self) -> LockedDataset:
        """Ask the source afresh, with version ids, and return the lock's entry.

        Local files are hashed at once: nothing else holds them.
        """
        resolution = self._ask(with_versions=True)
        for warning in resolution.warnings:
            self.run.report(events.Warned(self.dataset.name, warning))
        entry = self.hold.entry_for(resolution.objects, resolution.endpoint)
        if entry.pin_kind is not PinKind.HASH:
            return entry
        hashes: dict[str, str] = {}

        def read(obj: RemoteObject) -> None:
            digests = Hashes(())
            for data in self.storage.read(obj, 0, obj.size):
                self.run.cancel.check()
                digests.update(data)
            hashes[obj.relpath] = digests.blake3

        self.run.pool.each(read, resolution.objects)
        return replace(entry, hashes=hashes)

    def versions(
        self, *, limit: int | None, key: str | None, at: datetime | None
    ) -> list[ObjectVersion]:
        """Return the history of the dataset's sources, key by key, newest first."""
        is_excluded = globs.excluder(self.dataset.exclude)
        is_chosen = globs.excluder([key]) if key is not None else lambda relpath: True  # noqa: ARG005

        def is_wanted(relpath: str) -> bool:
            return is_chosen(relpath) and not is_excluded(relpath)

        found: dict[str, list[ObjectVersion]] = {}
        for source in self.dataset.sources:
            read = partial(self._read_history, source, limit=limit, at=at, is_wanted=is_wanted)
            for uri, entries in groupby(self._retry(read), key=lambda version: version.uri):
                found.setdefault(uri, list(entries))
        return [version for entries in found.values() for version in entries]

    def _read_history(
        self,
        source: str,
        *,
        limit: int | None,
        at: datetime | None,
        is_wanted: Callable[[str], bool],
    ) -> list[ObjectVersion]:
        history = self.storage.versions(source)
        return list(list_versions(history, limit=limit, at=at, is_wanted=is_wanted))

    def _ask(self, *, with_versions: bool) -> Resolution:
        return resolve_remote(
            self.dataset,
            self.pin,
            self.storage,
            now=self.now(),
            retry=self._retry,
            server_now=self._server_now,
            with_versions=with_versions,
        )

    def _retry(self, action: Callable[[], T]) -> T:
        return retrying(action, cancel=self.run.cancel, failed=self._note_failed_listing)

    def _server_now(self) -> datetime:
        return self._retry(lambda: self.run.now(self.storage))

    # --- the lock -----------------------------------------------------------------

    def _resolve_locked(self, locked: LockedDataset, previous: State | None) -> Resolution:
        objects = locked.objects
        if locked.pin_kind is PinKind.HASH:
            objects = find_local(
                locked,
                partial(self._find_here, previous),
                lambda: self._ask(with_versions=False).objects,
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

    def recall(self) -> RecoveredState:
        """Return what earlier runs left: the state, and what a killed one had announced."""
        return RecoveredState.read(self.states, self.key, self.root, self.disk)

    def plan(self, resolution: Resolution, record: RecoveredState) -> Plan:
        """Compare with what was placed and what lies on disk."""
        with collection_paused():
            return plan(resolution, record.placed, self.disk)

    def paths(self, resolution: Resolution) -> Path | list[Path]:
        """Return where the dataset's files are: one path for a single object."""
        return self._one_or_many([obj.relpath for obj in resolution.objects])

    def placed_paths(self) -> Path | list[Path]:
        """Return the paths of the last sync, from its state; asks neither network nor disk."""
        state = self.states.read(self.key)
        if state is None or state.root != self.root:
            raise NotFetchedError(
                f"'{self.dataset.name}' was not fetched yet",
                hint=f"run `dcl sync {self.dataset.name}`",
            )
        return self._one_or_many(state.files.relpath)

    def _one_or_many(self, relpaths: Sequence[str]) -> Path | list[Path]:
        paths = [Path(self.disk.path(relpath)) for relpath in relpaths]
        # A single object that is excluded, where that is allowed, has no path.
        return paths[0] if self.dataset.is_single and paths else paths

    def placed_entry(self) -> LockedDataset | None:
        """Return what is in place as a lock's entry, from the state; None if nothing is."""
        state = self.states.read(self.key)
        if state is None:
            return None
        objects = (placed.object for placed in state.files)
        entry = self.hold.entry_for(objects, state.endpoint)
        known = zip(state.files.relpath, state.files.blake3, strict=True)
        return replace(entry, hashes={path: b3 for path, b3 in known if b3 is not None})

    def status(self) -> DatasetStatus:
        """Return how the dataset stands; changes nothing."""
        checked = None
        try:
            record = self.recall()
            checked = record.state.checked if record.state is not None else None
            resolution = self.resolve(record.state)
            todo = self.plan(resolution, record)
        except DatacachalogError as exc:
            return DatasetStatus(
                self.dataset.name, Freshness.ERROR, str(self.pin), checked=checked, error=exc
            )
        return DatasetStatus(
            name=self.dataset.name,
            freshness=judge(todo, was_fetched=record.state is not None),
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

    # --- what is done -------------------------------------------------------------

    def sync(self, *, dry_run: bool = False) -> tuple[Outcome, Resolution]:
        """Make the folder match; return what was done and what it matches now.

        A source that changes meanwhile is resolved again, at most three times.
        """
        for again in range(1, RESOLVE_AGAIN + 1):
            try:
                return self._sync_once(dry_run=dry_run)
            except ObjectChangedError as exc:
                if self.policy.offline or self.hold.find() is not None:
                    raise
                if not isinstance(exc, MisreadKeyError):
                    message = f"{exc}; resolving again ({again})"
                    self.run.report(events.Warned(self.dataset.name, message))
                # What was known without asking has just proven wrong.
                self.policy = replace(self.policy, refresh=True)
        try:
            return self._sync_once(dry_run=dry_run)
        except ObjectChangedError as exc:
            raise ObjectChangedError(
                f"'{self.dataset.name}' keeps changing while it is fetched: {exc}",
                hint="run the command again when nobody writes to the source",
            ) from exc

    def _sync_once(self, *, dry_run: bool) -> tuple[Outcome, Resolution]:
        record, todo = self._compare()
        if dry_run:
            return self._outcome(todo, None), todo.resolution
        if self._is_done(record, todo):
            return self._confirm(record, todo), todo.resolution
        with self._alone() as has_waited:
            if has_waited or self.states.stat(self.key) != record.stat:
                # Another run was at it, and the source may have moved on: look again.
                record, todo = self._compare()
                if self._is_done(record, todo):
                    return self._confirm(record, todo), todo.resolution
            return self._carry_out(record, todo), todo.resolution

    def _compare(self) -> tuple[RecoveredState, Plan]:
        record = self.recall()
        todo = self.plan(self.resolve(record.state), record)
        self._report(todo)
        return record, todo

    def _is_done(self, record: RecoveredState, todo: Plan) -> bool:
        """Tell whether all is in place and on record; raise if its checksums do not fit."""
        self._check_hits(record, todo)
        return todo.is_noop and record.is_complete and len(todo.hits) == len(record.placed)

    def _carry_out(self, record: RecoveredState, todo: Plan) -> Outcome:
        self._refuse_downloads_offline(todo)
        resolution = todo.resolution
        try:
            result = self._transfer(todo, record).execute()
        except (ObjectNotFoundError, ObjectChangedError) as exc:
            locked = self.hold.find()
            if locked is not None:
                raise lost(locked, exc) from exc
            if isinstance(exc, ObjectChangedError) or not isinstance(self.pin, Latest):
                raise
            # It was there when it was resolved a moment ago: deleted meanwhile.
            raise ObjectChangedError(f"{exc}, although it was listed", hint=exc.hint) from exc
        self._settle(record, resolution, result)
        self.hold.note(resolution, result.placed)
        return self._outcome(todo, result)

    def _check_hits(self, record: RecoveredState, todo: Plan) -> None:
        """Compare files in place with checksums they were not yet compared with.

        A lock's hashes are compared with the recorded ones; a checksum that is new in the
        catalog is compared with the bytes.
        """
        hashes = todo.resolution.hashes
        if hashes:
            recorded = dict(zip(record.placed.relpath, record.placed.blake3, strict=True))
            for obj in todo.hits:
                known = recorded[obj.relpath]
                wanted = hashes.get(obj.relpath, known)
                if wanted != known:
                    demanded = Checksum("blake3", str(wanted), LOCK)
                    Hashes([demanded], known=known).check(obj)
        compared = record.state.checksum if record.state is not None else ""
        if todo.hits and self._checksum_text() not in ("", compared):
            self.run.pool.each(self._check_hit, todo.hits)

    def _check_hit(self, obj: RemoteObject) -> None:
        checksum = self.dataset.checksum_of(obj.relpath)
        if checksum is not None:
            hashes = Hashes([Checksum(checksum.algorithm, checksum.digest)])
            hashes.read(self.disk.path(obj.relpath))
            hashes.check(obj)

    def _checksum_text(self) -> str:
        """Return the catalog's checksums as the state records them; empty if there are none."""
        checksum = self.dataset.checksum
        return "" if checksum is None else json.dumps(checksum, sort_keys=True)

    def _transfer(self, todo: Plan, record: RecoveredState) -> Transfer:
        return Transfer(
            dataset=self.dataset.name,
            plan=todo,
            storage=self.storage,
            disk=self.disk,
            run=self.run,
            demand=self._demand(todo.resolution),
            before=record.placed,
            announce=lambda coming: self.states.write_journal(
                self.key, self._state(todo.resolution, coming)
            ),
            is_offline=self.policy.offline,
        )

    def _demand(self, resolution: Resolution) -> Demand:
        if self.dataset.checksum is None and not resolution.hashes:
            return demand_nothing
        return lambda obj: self._demanded(obj, resolution)

    def _demanded(self, obj: RemoteObject, resolution: Resolution) -> list[Checksum]:
        demanded = []
        checksum = self.dataset.checksum_of(obj.relpath)
        if checksum is not None:
            demanded.append(Checksum(checksum.algorithm, checksum.digest))
        locked = resolution.hashes.get(obj.relpath)
        if locked is not None:
            demanded.append(Checksum("blake3", locked, LOCK))
        return demanded

    def _confirm(self, record: RecoveredState, todo: Plan) -> Outcome:
        """Note that all still is as it should be, writing as little as possible."""
        resolution, state = todo.resolution, record.state
        assert state is not None
        if resolution.origin is not Origin.STATE:
            fresh = self._state(resolution, state.files)
            if (state.digest, state.checksum) != (fresh.digest, fresh.checksum):
                # Another spelling of the same files: only the head changes.
                self.states.write(self.key, fresh)
            elif state.checked != fresh.checked:
                self.states.confirm(self.key, fresh.checked)
        self.hold.note(resolution, state.files)
        self.disk.sweep_all()
        return self._outcome(todo, None)

    def _state(self, resolution: Resolution, placed: PlacedFiles) -> State:
        # A frozen lock need not be what the catalog says, and must not pass for it later.
        is_foreign = resolution.origin is Origin.LOCK and not self.hold.fits
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

    def _settle(self, record: RecoveredState, resolution: Resolution, result: Result) -> None:
        """Record what is in place, last of all."""
        for old in record.elsewhere:
            self._leave(old, result.placed)
        # A killed run may have made folders without files in them, or left some behind.
        if record.journaled or record.placed.relpath != result.placed.relpath:
            known = {*record.placed.relpath, *record.journaled}
            for relpath in known.difference(result.placed.relpath):
                self.disk.prune(relpath)
        self.states.write(self.key, self._state(resolution, result.placed))
        self.states.clear_journal(self.key)

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
                message = f"'{path}' was edited here; it stays and is yours from now on"
                self.run.report(events.Warned(self.dataset.name, message))
        folder.leave()

    def _refuse_downloads_offline(self, todo: Plan) -> None:
        if self.policy.offline and todo.downloads:
            raise OfflineError(
                f"{len(todo.downloads)} files of '{self.dataset.name}' are not in the cache,"
                " and `--offline` fetches nothing",
                hint=f"run `dcl sync {self.dataset.name}` once with the network",
            )

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Hold the dataset's lock; yields whether another run had it first.

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

    def adopt(self, obj: RemoteObject, snapshot: str) -> None:
        """Make the file `snapshot` the stored object `obj`, and put it in place (after a push)."""
        store, fingerprint = self.disk.store, obj.fingerprint(self.storage.endpoint)
        try:
            store.finalize(snapshot, obj.mtime_ns)
            store.adopt(snapshot, fingerprint)
        except OSError as exc:
            raise no_room(exc, snapshot) from exc
        resolution = Resolution((obj,), self.pin, self.storage.endpoint, self.now())
        with self._alone(), self.disk.accepting(store.path(fingerprint)):
            record = self.recall()
            result = self._transfer(self.plan(resolution, record), record).execute()
            self._settle(record, resolution, result)

    def invalidate(self, pattern: str) -> int:
        """Discard the stored objects of files that match, and distrust what is in place.

        Returns how many files that were. Their rows stay, so that the files still count as
        ours, but without a hash they are not what they should be.
        """
        is_matching = globs.excluder([pattern])
        with self._alone():
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

    # --- what is said -------------------------------------------------------------

    def _report(self, todo: Plan) -> None:
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
            message = f"'{keep.relpath}' is {keep.reason}; it stays and is yours from now on"
            self.run.report(events.Warned(self.dataset.name, message))

    def _outcome(self, todo: Plan, result: Result | None) -> Outcome:
        kept = tuple(f"'{k.relpath}' is {k.reason}; it stays" for k in todo.keeps)
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

    def _note_failed_listing(self, error: DatacachalogError, attempt: int, delay: float) -> None:
        uri = self.dataset.sources[0]
        self.run.report(events.Retrying(self.dataset.name, uri, error, attempt, delay))
