"""The line for one dataset: resolve, plan, transfer, files.

Strings the floors below together, with the state around them: read first, written last.
`Catalog` builds one `Line` per dataset and call.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from datacachalog import events, globs
from datacachalog.cache.disk import Disk
from datacachalog.cache.placement import Folder
from datacachalog.cache.state import PlacedFile, PlacedFiles, State, StateFolder
from datacachalog.checksums import Checksum, Hashes
from datacachalog.errors import (
    DatacachalogError,
    NotFetchedError,
    ObjectChangedError,
    ObjectNotFoundError,
    OfflineError,
    StorageError,
)
from datacachalog.history import list_versions
from datacachalog.lockfile import Held, LockedDataset
from datacachalog.locking import Hold, find_local
from datacachalog.model import EPOCH, Latest, ObjectVersion, Origin, Pin, RemoteObject, Resolution
from datacachalog.outcome import DatasetStatus, Freshness, Outcome, judge
from datacachalog.plan import NOTHING, Hit, Plan, plan
from datacachalog.resolve import Policy, ask, digest, resolve
from datacachalog.retry import retrying
from datacachalog.spec import Dataset
from datacachalog.storage.protocol import Storage
from datacachalog.transfer import LOCK_WAIT, Result, Run, Transfer

RESOLVE_AGAIN = 3
"""How often a dataset is resolved again because its source changed during the transfer."""


@dataclass(slots=True)
class Line:
    """One dataset under one pin on its way to disk.

    `key` names its state; `root` is its folder as the state records it (relative to the
    project); `folder_at` opens any such folder; `hold` is what the lock says.
    """

    dataset: Dataset
    pin: Pin
    key: str
    root: str
    storage: Storage
    disk: Disk
    states: StateFolder
    policy: Policy
    run: Run
    lock_path: str
    folder_at: Callable[[str], Folder]
    hold: Hold
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    # --- what is known ------------------------------------------------------------

    def resolve(self, previous: State | None) -> Resolution:
        """Ask what the dataset means now, or take the answer that is known."""
        locked = self.hold.find()
        if locked is not None:
            resolution = self._resolve_locked(locked)
        elif self.hold.counts and not self.policy.offline:
            resolution = self._ask(with_versions=True)
        else:
            resolution = resolve(
                self.dataset,
                self.pin,
                self.storage,
                previous=previous,
                policy=self.policy,
                now=self.now(),
                retry=self._retry,
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
        if entry.held is not Held.HASH:
            return entry
        hashes: dict[str, str] = {}

        def read(obj: RemoteObject) -> None:
            self.run.cancel.check()
            digests = Hashes(())
            digests.read(obj.uri.removeprefix("file://"))
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

        return [
            version
            for source in self.dataset.sources
            for version in list_versions(
                self.storage.versions(source), limit=limit, at=at, is_wanted=is_wanted
            )
        ]

    def _ask(self, *, with_versions: bool) -> Resolution:
        return ask(
            self.dataset,
            self.pin,
            self.storage,
            now=self.now(),
            retry=self._retry,
            with_versions=with_versions,
        )

    def _retry(self, action: Callable[[], list[RemoteObject]]) -> list[RemoteObject]:
        return retrying(action, cancel=self.run.cancel, failed=self._note_failed_listing)

    # --- the lock -----------------------------------------------------------------

    def _resolve_locked(self, locked: LockedDataset) -> Resolution:
        objects = locked.objects
        if locked.held is Held.HASH:
            objects = find_local(locked, self._ask(with_versions=False).objects)
        return Resolution(
            objects=objects,
            pin=self.pin,
            endpoint=self.storage.endpoint,
            checked=self.now(),
            origin=Origin.LOCK,
            hashes=dict(locked.hashes),
        )

    def plan(self, resolution: Resolution, previous: State | None) -> Plan:
        """Compare with what was placed and what lies on disk."""
        return plan(resolution, self._before(previous), self.disk)

    def paths(self, resolution: Resolution) -> Path | list[Path]:
        """Return where the dataset's files are: one path for a single object."""
        paths = [Path(self.disk.folder.path(obj.relpath)) for obj in resolution.objects]
        return paths[0] if self.dataset.is_single else paths

    def placed_paths(self) -> Path | list[Path]:
        """Return the paths of the last sync, from its state; asks neither network nor disk."""
        state = self.states.read(self.key)
        if state is None or state.root != self.root:
            raise NotFetchedError(
                f"'{self.dataset.name}' was not fetched yet",
                hint=f"run `dcl sync {self.dataset.name}`",
            )
        paths = [Path(self.disk.folder.path(relpath)) for relpath in state.files.relpath]
        return paths[0] if self.dataset.is_single else paths

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
        state = self.states.read(self.key)
        checked = state.checked if state is not None else None
        try:
            resolution = self.resolve(state)
            todo = self.plan(resolution, state)
        except DatacachalogError as exc:
            return DatasetStatus(
                self.dataset.name, Freshness.ERROR, str(self.pin), checked=checked, error=exc
            )
        return DatasetStatus(
            name=self.dataset.name,
            freshness=judge(todo, was_fetched=state is not None),
            pin=str(self.pin),
            files=len(resolution.objects),
            size=sum(obj.size for obj in resolution.objects),
            downloads=len(todo.downloads),
            download_bytes=todo.download_bytes,
            links=len(todo.links),
            drops=len(todo.drops),
            conflicts=todo.conflicts,
            checked=resolution.checked,
            plan=todo,
            warnings=resolution.warnings,
        )

    # --- what is done -------------------------------------------------------------

    def sync(self, *, dry_run: bool = False) -> tuple[Outcome, Resolution]:
        """Make the folder match; return what was done and what it matches now.

        A source that changes meanwhile is resolved again, at most three times.
        """
        again = 0
        while True:
            try:
                return self._sync_once(dry_run=dry_run)
            except ObjectChangedError as exc:
                if again == RESOLVE_AGAIN or self.policy.offline or self.hold.find() is not None:
                    raise
                again += 1
                self.run.report(
                    events.Warned(self.dataset.name, f"{exc}; resolving again ({again})")
                )

    def _sync_once(self, *, dry_run: bool) -> tuple[Outcome, Resolution]:
        state = self.states.read(self.key)
        resolution = self.resolve(state)
        todo = self.plan(resolution, state)
        self._announce(todo)
        if dry_run:
            return self._outcome(todo, None), resolution
        self._check_hits(todo, state)
        if todo.is_noop and state is not None and state.root == self.root:
            self._confirm(state, resolution)
            self.hold.note(resolution, state.files)
            return self._outcome(todo, None), resolution
        with self._alone() as has_waited:
            if has_waited:
                # Another run of ours was at it: look again.
                state = self.states.read(self.key)
                todo = self.plan(resolution, state)
            self._refuse_downloads_offline(todo)
            try:
                result = self._transfer(todo, state).execute()
            except (ObjectNotFoundError, ObjectChangedError) as exc:
                if resolution.origin is Origin.LOCK:
                    raise self._lost(exc) from exc
                if isinstance(exc, ObjectChangedError) or not isinstance(self.pin, Latest):
                    raise
                # It was there when it was resolved a moment ago: deleted meanwhile.
                raise ObjectChangedError(f"{exc}, although it was listed", hint=exc.hint) from exc
            self._leave_old_root(state)
            self._record(resolution, result)
            self.hold.note(resolution, result.placed)
        return self._outcome(todo, result), resolution

    def _check_hits(self, todo: Plan, state: State | None) -> None:
        """Compare files in place with checksums they were not yet compared with.

        A lock's hashes are compared with the recorded ones; a checksum that is new in the
        catalog is compared with the bytes.
        """
        if state is None or not todo.hits:
            return
        hashes = todo.resolution.hashes
        if hashes:
            for hit in todo.hits:
                known = state.files.blake3[hit.row]
                wanted = hashes.get(hit.object.relpath, known)
                if wanted != known:
                    demanded = Checksum("blake3", str(wanted), "the lock")
                    Hashes([demanded], known=known).check(hit.object)
        if self._checksum_text() not in ("", state.checksum):
            self.run.pool.each(self._check_hit, todo.hits)

    def _check_hit(self, hit: Hit) -> None:
        checksum = self.dataset.checksum_of(hit.object.relpath)
        if checksum is not None:
            hashes = Hashes([Checksum(checksum.algorithm, checksum.digest)])
            hashes.read(self.disk.folder.path(hit.object.relpath))
            hashes.check(hit.object)

    def _checksum_text(self) -> str:
        """Return the catalog's checksums as the state records them; empty if there are none."""
        checksum = self.dataset.checksum
        return "" if checksum is None else json.dumps(checksum, sort_keys=True)

    def _lost(self, exc: StorageError) -> ObjectNotFoundError:
        name = self.dataset.name
        return ObjectNotFoundError(
            f"what the lock names no longer exists: {exc}",
            hint=f"get the bytes from a machine that has them, or run `dcl lock --upgrade {name}`",
        )

    def _transfer(self, todo: Plan, state: State | None) -> Transfer:
        return Transfer(
            dataset=self.dataset.name,
            plan=todo,
            storage=self.storage,
            disk=self.disk,
            run=self.run,
            demand=lambda obj: self._demanded(obj, todo.resolution),
            before=state.files if state is not None else NOTHING,
        )

    def _demanded(self, obj: RemoteObject, resolution: Resolution) -> list[Checksum]:
        demanded = []
        checksum = self.dataset.checksum_of(obj.relpath)
        if checksum is not None:
            demanded.append(Checksum(checksum.algorithm, checksum.digest))
        locked = resolution.hashes.get(obj.relpath)
        if locked is not None:
            demanded.append(Checksum("blake3", locked, "the lock"))
        return demanded

    def _before(self, state: State | None) -> PlacedFiles:
        return state.files if state is not None and state.root == self.root else NOTHING

    def _confirm(self, state: State, resolution: Resolution) -> None:
        if resolution.origin is Origin.STATE:
            return
        wanted = digest(self.dataset, self.pin, self.storage.endpoint)
        checksum = self._checksum_text()
        if (state.digest, state.checksum) == (wanted, checksum):
            self.states.confirm(self.key, resolution.checked)
            return
        # Another spelling of the same files: only the head changes.
        fresh = replace(
            state,
            digest=wanted,
            pin=str(self.pin),
            checked=resolution.checked,
            checksum=checksum,
        )
        self.states.write(self.key, fresh)

    def _record(self, resolution: Resolution, result: Result) -> None:
        state = State(
            dataset=self.dataset.name,
            digest=digest(self.dataset, self.pin, self.storage.endpoint),
            pin=str(self.pin),
            endpoint=resolution.endpoint,
            root=self.root,
            checked=resolution.checked,
            checksum=self._checksum_text(),
            files=result.placed,
        )
        self.states.write(self.key, state)

    def _leave_old_root(self, state: State | None) -> None:
        """Remove our untouched files from where the dataset lay before its path changed."""
        if state is None or state.root == self.root:
            return
        folder = self.folder_at(state.root)
        for placed in state.files:
            folder.drop(placed.object.relpath, size=placed.object.size, mtime_ns=placed.mtime_ns)

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
        os.makedirs(os.path.dirname(self.lock_path), exist_ok=True)
        lock = FileLock(self.lock_path, thread_local=False)
        has_waited = False
        try:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                has_waited = True
                lock.acquire(LOCK_WAIT, cancel_check=lambda: self.run.cancel.is_set)
        except (Timeout, OSError):
            self.run.cancel.check()
        try:
            yield has_waited
        finally:
            if lock.is_locked:
                lock.release()

    def adopt(self, obj: RemoteObject, snapshot: str) -> None:
        """Make the file `snapshot` the stored object `obj`, and put it in place (after a push)."""
        fingerprint = obj.fingerprint(self.storage.endpoint)
        self.disk.store.adopt(snapshot, fingerprint, mtime_ns=obj.mtime_ns)
        resolution = Resolution((obj,), self.pin, self.storage.endpoint, self.now())
        state = self.states.read(self.key)
        with self._alone(), self.disk.accepting(self.disk.store.path(fingerprint)):
            result = self._transfer(self.plan(resolution, state), state).execute()
            self._leave_old_root(state)
            self._record(resolution, result)

    def invalidate(self, pattern: str) -> int:
        """Discard the stored objects of files that match, and distrust what is in place.

        Returns how many files that were. Their rows stay, so that the files still count as
        ours, but equal no remote object any more.
        """
        state = self.states.read(self.key)
        if state is None:
            return 0
        is_matching = globs.excluder([pattern])
        with self._alone():
            rows = []
            count = 0
            for placed in state.files:
                obj = placed.object
                if is_matching(obj.relpath):
                    self.disk.store.discard(obj.fingerprint(state.endpoint))
                    nothing = replace(obj, etag=None, version_id=None, modified=EPOCH)
                    placed = PlacedFile(nothing, None, placed.mtime_ns)
                    count += 1
                rows.append(placed)
            fresh = replace(state, files=PlacedFiles.of(rows), checked=EPOCH)
            self.states.write(self.key, fresh)
        return count

    # --- what is said -------------------------------------------------------------

    def _announce(self, todo: Plan) -> None:
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
