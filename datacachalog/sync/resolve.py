"""The single resolver: a dataset and its pin become a list of remote objects.

All knowledge of what is remote ends here: a single object, a glob, latest, an instant, a
version and what to do when the source cannot be reached differ only inside this module.
Knows storages and the last state, but neither disk nor plan.
"""

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice, pairwise
from operator import attrgetter, eq
from typing import TYPE_CHECKING, Protocol, TypeVar

from blake3 import blake3

from datacachalog import globs, relpath
from datacachalog.cache.placed_files import NOTHING, PlacedFiles
from datacachalog.cache.state import State
from datacachalog.errors import (
    AccessDeniedError,
    CatalogError,
    NothingThereYetError,
    ObjectNotFoundError,
    OfflineError,
    SourceUnreachableError,
    StorageError,
    VersioningNotSupportedError,
)
from datacachalog.gc_pause import collection_paused
from datacachalog.model import (
    Ago,
    AsOf,
    Origin,
    Pin,
    RemoteObject,
    Resolution,
    VersionId,
    pin_identity,
)
from datacachalog.storage.base import Storage
from datacachalog.sync.history import Snapshot

if TYPE_CHECKING:
    from datacachalog.spec.models import Dataset

Clock = Callable[[], datetime]
"""Tells the time: aware, in UTC."""

T = TypeVar("T")


class Retry(Protocol):
    """Runs a listing, again after transient errors."""

    def __call__(self, action: Callable[[], T], /) -> T:
        """Return what `action` returns."""


_FINAL_AFTER = timedelta(days=1, seconds=-1)
"""An instant this long past no longer changes: multipart uploads carry the time they began.

A day, counted from the end of the second that an instant names.
"""


@dataclass(frozen=True, slots=True)
class Policy:
    """How far a resolution may go: never to the source, or there even where it is known."""

    offline: bool = False
    refresh: bool = False


def digest(dataset: "Dataset", pin: Pin, endpoint: str) -> str:
    """Return a hash of everything that determines what a dataset resolves to.

    Descriptions, owners, readers and paths take no part.
    """
    parts = [list(dataset.sources), sorted(dataset.exclude), pin_identity(pin), endpoint]
    return blake3(json.dumps(parts).encode()).hexdigest()[:32]


def resolve(
    dataset: "Dataset",
    pin: Pin,
    storage: Storage,
    *,
    previous: State | None,
    policy: Policy,
    now: datetime,
    retry: Retry,
    server_now: Clock | None = None,
    with_versions: bool = False,
) -> Resolution:
    """Return what `dataset` means under `pin`.

    `previous` is the last state; it answers if its digest still fits and the policy, the
    age of the last check or the pin allow it. It also answers, with a warning, when the
    source cannot be reached and `on_stale` does not forbid it. For the rest see
    `resolve_remote`.
    """
    placed = previous.files if previous is not None else NOTHING
    if previous is not None and previous.digest != digest(dataset, pin, storage.endpoint):
        previous = None
    if policy.offline:
        if previous is None:
            raise OfflineError(
                f"'{dataset.name}' was never fetched {_as_meant(dataset, pin)}, and `--offline`"
                " asks nothing",
                hint="run the command once with the network",
            )
        return _from_state(previous, pin)
    if previous is not None and not policy.refresh and _is_fresh(dataset, pin, previous, now):
        return _from_state(previous, pin)
    try:
        return resolve_remote(
            dataset,
            pin,
            storage,
            now=now,
            retry=retry,
            server_now=server_now,
            with_versions=with_versions,
            placed=placed,
        )
    except SourceUnreachableError as exc:
        if previous is None or dataset.on_stale == "error":
            raise
        warning = f"the source cannot be reached, using what is in place: {exc}"
        return replace(_from_state(previous, pin), warnings=(warning,))


def resolve_remote(
    dataset: "Dataset",
    pin: Pin,
    storage: Storage,
    *,
    now: datetime,
    retry: Retry,
    server_now: Clock | None = None,
    with_versions: bool = False,
    placed: PlacedFiles = NOTHING,
) -> Resolution:
    """Return what `dataset` means under `pin`, from the source itself.

    `now` is this machine's clock, `server_now` the storage's (a whole run may share one
    reading). `retry` repeats an action after transient errors. `with_versions` learns the
    version ids of what is latest too, where the source has them: what a lock needs, and a
    plain listing does not tell. `placed` is what the last state has: where some of it is missing
    now, the source is listed in the most thorough way before that is believed.
    """
    server_now = server_now or storage.now
    meant = instant_of(pin, server_now()) if isinstance(pin, Ago) else pin
    is_excluded = globs.excluder(dataset.exclude)
    finder = _Finder(storage, meant, retry, is_excluded, with_versions, placed)
    objects: list[RemoteObject] = []
    warnings: tuple[str, ...] = ()
    why_nothing = None
    for source in dataset.sources:
        found = finder.find(source)
        warnings += found.warnings
        why_nothing = found.why_nothing or why_nothing
        objects += found.objects
    if dataset.exclude:
        objects = [obj for obj in objects if not is_excluded(obj.relpath)]
    if len(dataset.sources) > 1:
        objects = _without_repeats(objects)
    if not objects and not dataset.allow_empty:
        raise _nothing(dataset, meant, why_nothing)
    if isinstance(meant, AsOf):
        server_time = now
        with suppress(StorageError):  # a server that does not tell the time is no reason to fail
            server_time = server_now()
        warnings = (*_doubts(meant, server_time, is_lockable=pin == dataset.pin), *warnings)
        # Whether an absolute pin is final is told by the server's clock.
        now = server_time if meant is pin else now
    return Resolution(
        objects=_arranged(objects),
        pin=pin,
        endpoint=storage.endpoint,
        checked=now,
        warnings=(*warnings, *_weakness(objects)),
    )


def instant_of(pin: Ago, now: datetime) -> AsOf:
    """Return the instant that a duration before `now` means: a whole second, to its end.

    >>> str(instant_of(Ago(timedelta(days=7)), datetime(2026, 3, 8, 9, 30, 5, tzinfo=UTC)))
    '2026-03-01T09:30:05Z'
    """
    at = (now - pin.delta).astimezone(UTC).replace(microsecond=999_999)
    return AsOf(at, f"{at:%Y-%m-%dT%H:%M:%SZ}")


def _nothing(dataset: "Dataset", pin: Pin, why: str | None) -> ObjectNotFoundError:
    if why is not None:
        return NothingThereYetError(
            why, hint=f"`dcl versions {dataset.name}` shows what there is when"
        )
    if isinstance(pin, AsOf) and not dataset.is_glob:
        return ObjectNotFoundError(
            f"there never was an object at {_quoted(dataset.sources)}", hint="check the key"
        )
    return ObjectNotFoundError(
        f"nothing matches {_quoted(dataset.sources)}{_at(pin)}",
        hint="correct the pattern (`**` crosses folders, `*` does not), or set `allow_empty: true`",
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What one source has; `why_nothing` says why it has nothing, where that is known."""

    objects: list[RemoteObject]
    warnings: tuple[str, ...] = ()
    why_nothing: str | None = None


@dataclass(frozen=True, slots=True)
class _Finder:
    """Finds what sources of one storage have under one pin."""

    storage: Storage
    pin: Pin
    retry: Retry
    is_excluded: Callable[[str], bool]
    with_versions: bool
    placed: PlacedFiles

    def find(self, source: str) -> _Found:
        """Return what the pin makes of one source."""
        match self.pin:
            case AsOf():
                return self._as_of(source, self.pin)
            case VersionId(version_id):
                return _Found(self.retry(lambda: [self.storage.version(source, version_id)]))
            case _ if self.with_versions and globs.is_glob(source):
                return self._latest_versions(source)
            case _:
                return _Found(self._scan(source))

    def _scan(self, source: str) -> list[RemoteObject]:
        known = _empty(self.placed)

        def scan(*, is_thorough: bool) -> list[RemoteObject]:
            with collection_paused():
                return list(self.storage.scan(source, known=known, is_thorough=is_thorough))

        found = self.retry(partial(scan, is_thorough=self.with_versions))
        if self.with_versions or not globs.is_glob(source):
            return found
        if _is_missing_some(source, found, self.placed):
            return self.retry(partial(scan, is_thorough=True))
        return found

    def _pick(self, source: str, at: datetime | None) -> tuple[list[RemoteObject], Snapshot]:
        """Return what was current at `at`, and what the history was like on the way."""

        def pick() -> tuple[list[RemoteObject], Snapshot]:
            snapshot = Snapshot(at)
            history = self.storage.versions(source)
            wanted = (entry for entry in history if not self.is_excluded(entry.relpath))
            with collection_paused():
                return list(snapshot.pick(wanted)), snapshot

        return self.retry(pick)

    def _latest_versions(self, source: str) -> _Found:
        try:
            return _Found(self._pick(source, None)[0])
        except VersioningNotSupportedError:
            return _Found(self._scan(source))
        except AccessDeniedError as exc:
            warning = f"{exc}; '{source}' is held by ETags, which cannot bring old bytes back"
            return _Found(self._scan(source), (warning,))

    def _as_of(self, source: str, pin: AsOf) -> _Found:
        try:
            found, snapshot = self._pick(source, pin.at)
        except VersioningNotSupportedError as exc:
            return self._unchanged_since(source, pin, exc)
        if not found and snapshot.first is not None:
            why = _nothing_at(source, pin, snapshot.first, is_sure=snapshot.unsure is None)
            return _Found([], why_nothing=why)
        return _Found(found, _gaps(snapshot, pin))

    def _unchanged_since(self, source: str, pin: AsOf, exc: VersioningNotSupportedError) -> _Found:
        """Return the present of a source without history, if nothing in it is younger."""
        found = [obj for obj in self._scan(source) if not self.is_excluded(obj.relpath)]
        youngest = max(found, key=lambda obj: obj.modified, default=None)
        if youngest is not None and youngest.modified > pin.at:
            raise VersioningNotSupportedError(
                f"'{youngest.uri}' changed on {_time(youngest.modified)}, after {pin},"
                " and its source keeps no history",
                hint=_NO_HISTORY_HINT,
            ) from exc
        if not globs.is_glob(source):
            return _Found(found)
        return _Found(
            found, (f"'{source}' keeps no history: files deleted since {pin} cannot be seen",)
        )


def _empty(placed: PlacedFiles) -> frozenset[str]:
    """Return the URIs of the empty objects among `placed`."""
    if 0 not in placed.size:
        return frozenset()
    return frozenset(uri for uri, size in zip(placed.uri, placed.size, strict=True) if not size)


def _is_missing_some(source: str, found: list[RemoteObject], placed: PlacedFiles) -> bool:
    """Tell whether something that was placed from `source` was not found."""
    if [obj.relpath for obj in found] == placed.relpath:  # as nearly always
        return False
    missing = set(placed.uri).difference(obj.uri for obj in found)
    return bool(missing) and any(map(globs.Glob(source).matches, missing))


_NO_HISTORY_HINT = (
    "only what is there now can be had: leave `as_of` out;"
    " a bucket has a history from when its versioning is turned on"
)


def _nothing_at(source: str, pin: AsOf, first: datetime, *, is_sure: bool) -> str:
    if first <= pin.at:
        reason = "all that was there had been deleted"
    elif is_sure:
        reason = f"its first version appeared on {_time(first)}"
    else:
        reason = f"the first version that was kept appeared on {_time(first)}"
    return f"'{source}' had nothing as of {pin}: {reason}"


def _gaps(snapshot: Snapshot, pin: AsOf) -> tuple[str, ...]:
    """Return a warning if the history has a gap where the pin points.

    A version `null` was written while the bucket kept no history (before versioning, or
    with it suspended), and took the place of any older one.
    """
    entry = snapshot.unsure
    if entry is None:
        return ()
    return (
        f"the history has a gap: '{entry.uri}' was written on {_time(entry.modified)} while its"
        f" bucket kept no versions, so what it was as of {pin} may be lost",
    )


def _doubts(pin: AsOf, now: datetime, *, is_lockable: bool) -> tuple[str, ...]:
    """Return a warning if what was there at the pin's instant can still change."""
    if now - pin.at > _FINAL_AFTER:
        return ()
    advice = "; `dcl lock` holds what is there now" if is_lockable else ""
    reason = (
        "not over yet, so what is there may still change"
        if pin.at > now
        else "less than a day ago: multipart uploads begun before then may still appear"
    )
    return (f"{pin} is {reason}{advice}",)


def _weakness(objects: Iterable[RemoteObject]) -> tuple[str, ...]:
    """Return a warning if a change of the source may go unseen."""
    weak = next((obj for obj in objects if obj.is_weak), None)
    if weak is None:
        return ()
    return (f"only size and time identify '{weak.uri}': a change that keeps both cannot be seen",)


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _without_repeats(objects: list[RemoteObject]) -> list[RemoteObject]:
    """Return each key once, as the first source has it that matches it."""
    uris = [obj.uri for obj in objects]
    if len(set(uris)) == len(uris):
        return objects
    first = dict(zip(reversed(uris), reversed(objects), strict=True))
    return [first[uri] for uri in dict.fromkeys(uris)]


def _arranged(objects: list[RemoteObject]) -> tuple[RemoteObject, ...]:
    """Sort by relpath; give paths that would collide on some file system their own names."""
    objects.sort(key=attrgetter("relpath"))
    paths = [obj.relpath for obj in objects]
    if any(map(eq, paths, islice(paths, 1, None))):
        objects = _without_repeats(objects)  # a server may list a key twice
        for one, other in pairwise(objects):
            if one.relpath == other.relpath:
                raise CatalogError(
                    f"'{one.uri}' and '{other.uri}' would both land on '{one.relpath}'",
                    hint="make them two datasets, or use one pattern from their common folder",
                )
        paths = [obj.relpath for obj in objects]
    apart = relpath.disambiguate(paths)
    if apart == paths:
        return tuple(objects)
    renamed = (obj._replace(relpath=path) for obj, path in zip(objects, apart, strict=True))
    return tuple(sorted(renamed, key=attrgetter("relpath")))


def _is_fresh(dataset: "Dataset", pin: Pin, previous: State, now: datetime) -> bool:
    match pin:
        case AsOf(at):
            # Checked well after the instant: the answer cannot change any more.
            return previous.checked - at > _FINAL_AFTER
        case VersionId():
            return True
        case _:
            age = now - previous.checked
            return dataset.max_age is not None and timedelta(0) <= age < dataset.max_age


def _from_state(state: State, pin: Pin) -> Resolution:
    return Resolution(
        objects=tuple(state.files.objects()),
        pin=pin,
        endpoint=state.endpoint,
        checked=state.checked,
        origin=Origin.STATE,
    )


def _at(pin: Pin) -> str:
    return f" as of {pin}" if isinstance(pin, AsOf) else ""


def _as_meant(dataset: "Dataset", pin: Pin) -> str:
    """Say which state of a dataset is meant: the catalog's, or another."""
    if pin == dataset.pin:
        return "as the catalog has it now"
    return f"as of {pin}" if isinstance(pin, AsOf) else f"in {pin}"


def _quoted(sources: Iterable[str]) -> str:
    return ", ".join(f"'{source}'" for source in sources)
