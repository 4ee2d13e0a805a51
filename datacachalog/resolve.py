"""The single resolver: a dataset and its pin become a list of remote objects.

All knowledge of what is remote ends here: a single object, a glob, latest, an instant, a
version and what to do when the source cannot be reached differ only inside this module.
Used by `line`; knows storages and the last state, but neither disk nor plan.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from blake3 import blake3

from datacachalog import globs, relpath
from datacachalog.cache.state import State
from datacachalog.errors import (
    AccessDeniedError,
    CatalogError,
    ObjectNotFoundError,
    OfflineError,
    SourceUnreachableError,
    VersioningNotSupportedError,
)
from datacachalog.history import Snapshot
from datacachalog.model import (
    Ago,
    AsOf,
    Latest,
    Origin,
    Pin,
    RemoteObject,
    Resolution,
    VersionId,
)
from datacachalog.spec import Dataset
from datacachalog.storage.protocol import Storage

Retry = Callable[[Callable[[], list[RemoteObject]]], list[RemoteObject]]
"""Runs a listing, again after transient errors."""

SETTLED = timedelta(days=1)
"""An instant this long past no longer changes: multipart uploads carry the time they began."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How far a resolution may go: never ask, or ask even where an answer is known."""

    offline: bool = False
    refresh: bool = False


def digest(dataset: Dataset, pin: Pin, endpoint: str) -> str:
    """Return a hash of everything that determines what a dataset resolves to.

    Descriptions, owners, readers and paths take no part.
    """
    parts = [list(dataset.sources), sorted(dataset.exclude), _pin_identity(pin), endpoint]
    return blake3(json.dumps(parts).encode()).hexdigest()[:32]


def resolve(
    dataset: Dataset,
    pin: Pin,
    storage: Storage,
    *,
    previous: State | None,
    policy: Policy,
    now: datetime,
    retry: Retry,
) -> Resolution:
    """Return what `dataset` means under `pin`.

    `previous` is the last state; it answers if its digest still fits and the policy, the
    age of the last check or the pin allow it. It also answers, with a warning, when the
    source cannot be reached and `on_stale` does not forbid it. `retry` repeats an action
    after transient errors.
    """
    if previous is not None and previous.digest != digest(dataset, pin, storage.endpoint):
        previous = None
    if policy.offline:
        if previous is None:
            raise OfflineError(
                f"'{dataset.name}' was never fetched as the catalog has it now, and `--offline`"
                " asks nothing",
                hint=f"run `dcl sync {dataset.name}` once with the network",
            )
        return _from_state(previous, pin)
    if previous is not None and not policy.refresh and _is_fresh(dataset, pin, previous, now):
        return _from_state(previous, pin)
    try:
        return ask(dataset, pin, storage, now=now, retry=retry)
    except SourceUnreachableError as exc:
        if previous is None or dataset.on_stale == "error":
            raise
        warning = f"the source cannot be reached, using what is in place: {exc}"
        return replace(_from_state(previous, pin), warnings=(warning,))


def ask(
    dataset: Dataset,
    pin: Pin,
    storage: Storage,
    *,
    now: datetime,
    retry: Retry,
    with_versions: bool = False,
) -> Resolution:
    """Return what `dataset` means under `pin`, from the source itself.

    `with_versions` learns the version ids of what is latest too, where the source has
    them: what a lock needs, and a plain listing does not tell.
    """
    is_excluded = globs.excluder(dataset.exclude)
    objects: dict[str, RemoteObject] = {}
    warnings: tuple[str, ...] = ()
    why_nothing = None
    for source in dataset.sources:
        found = _look_up(source, pin, storage, retry, with_versions=with_versions)
        warnings += found.warnings
        why_nothing = found.why_nothing or why_nothing
        for obj in found.objects:
            if not is_excluded(obj.relpath):
                objects.setdefault(obj.uri, obj)
    if not objects and not dataset.allow_empty:
        if why_nothing is not None:
            raise ObjectNotFoundError(
                why_nothing, hint=f"`dcl versions {dataset.name}` shows what there is when"
            )
        raise ObjectNotFoundError(
            f"nothing matches {_quoted(dataset.sources)}{_at(pin)}",
            hint="correct the pattern (`**` crosses folders, `*` does not),"
            " or set `allow_empty: true`",
        )
    return Resolution(
        objects=_arranged(list(objects.values())),
        pin=pin,
        endpoint=storage.endpoint,
        checked=now,
        warnings=warnings,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What one source has; `why_nothing` says why it has nothing, where that is known."""

    objects: list[RemoteObject]
    warnings: tuple[str, ...] = ()
    why_nothing: str | None = None


def _look_up(
    source: str, pin: Pin, storage: Storage, retry: Retry, *, with_versions: bool
) -> _Found:
    match pin:
        case AsOf():
            return _as_of(source, pin, storage, retry)
        case VersionId(version_id):
            return _Found(retry(lambda: [storage.version(source, version_id)]))
        case Ago(delta):
            at = storage.now().replace(microsecond=0) - delta
            return _as_of(source, AsOf(at, f"{pin} ago"), storage, retry)
        case Latest() if with_versions and globs.is_glob(source):
            return _latest_versions(source, storage, retry)
        case Latest():
            return _Found(retry(lambda: list(storage.scan(source))))


def _latest_versions(source: str, storage: Storage, retry: Retry) -> _Found:
    try:
        return _Found(retry(lambda: list(Snapshot(None).pick(storage.versions(source)))))
    except VersioningNotSupportedError:
        return _Found(retry(lambda: list(storage.scan(source))))
    except AccessDeniedError as exc:
        warning = f"{exc}; '{source}' is held by ETags, which cannot bring old bytes back"
        return _Found(retry(lambda: list(storage.scan(source))), (warning,))


def _as_of(source: str, pin: AsOf, storage: Storage, retry: Retry) -> _Found:
    snapshot = Snapshot(pin.at)
    try:
        found = retry(lambda: list(snapshot.pick(storage.versions(source))))
    except VersioningNotSupportedError as exc:
        return _unchanged_since(source, pin, storage, retry, exc)
    if not found and snapshot.first is not None:
        return _Found([], why_nothing=_nothing_yet(source, pin, snapshot.first))
    return _Found(found, _doubts(pin, storage))


def _nothing_yet(source: str, pin: AsOf, first: datetime) -> str:
    if first > pin.at:
        return f"'{source}' had nothing as of {pin}: its first version appeared on {_time(first)}"
    return f"'{source}' had nothing as of {pin}: all that was there had been deleted"


def _unchanged_since(
    source: str,
    pin: AsOf,
    storage: Storage,
    retry: Retry,
    exc: VersioningNotSupportedError,
) -> _Found:
    """Return the present of a source without history, if nothing in it is younger than the pin."""
    found = retry(lambda: list(storage.scan(source)))
    youngest = max(found, key=lambda obj: obj.modified, default=None)
    if youngest is not None and youngest.modified > pin.at:
        raise VersioningNotSupportedError(
            f"'{youngest.uri}' changed on {_time(youngest.modified)}, after {pin},"
            " and its source keeps no history",
            hint="remove `as_of`; to have a history from now on, turn on the bucket's versioning",
        ) from exc
    if not globs.is_glob(source):
        return _Found(found)
    return _Found(
        found, (f"'{source}' keeps no history: files deleted since {pin} cannot be seen",)
    )


def _doubts(pin: AsOf, storage: Storage) -> tuple[str, ...]:
    """Return a warning if the past that was asked for can still change."""
    if datetime.now(UTC) - pin.at > 2 * SETTLED or storage.now() - pin.at > SETTLED:
        return ()
    return (
        f"{pin} is less than a day ago: multipart uploads begun before then may still appear;"
        " `dcl lock` holds what is there now",
    )


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def _arranged(objects: list[RemoteObject]) -> tuple[RemoteObject, ...]:
    """Sort by relpath; give paths that would collide on some file system their own names."""
    objects.sort(key=lambda o: o.relpath)
    for one, other in pairwise(objects):
        if one.relpath == other.relpath:
            raise CatalogError(
                f"'{one.uri}' and '{other.uri}' would both land on '{one.relpath}'",
                hint="make them two datasets, or use one pattern from their common folder",
            )
    paths = [o.relpath for o in objects]
    apart = relpath.disambiguate(paths)
    if apart is paths or apart == paths:
        return tuple(objects)
    renamed = (
        o if o.relpath == p else replace(o, relpath=p) for o, p in zip(objects, apart, strict=True)
    )
    return tuple(sorted(renamed, key=lambda o: o.relpath))


def _is_fresh(dataset: Dataset, pin: Pin, previous: State, now: datetime) -> bool:
    match pin:
        case AsOf(at):
            # Asked well after the instant: the answer cannot change any more.
            return previous.checked - at > SETTLED
        case VersionId():
            return True
        case _:
            age = now - previous.checked
            return dataset.max_age is not None and timedelta(0) <= age < dataset.max_age


def _from_state(state: State, pin: Pin) -> Resolution:
    return Resolution(
        objects=tuple(placed.object for placed in state.files),
        pin=pin,
        endpoint=state.endpoint,
        checked=state.checked,
        origin=Origin.STATE,
    )


def _pin_identity(pin: Pin) -> str:
    match pin:
        case Latest():
            return "latest"
        case AsOf(at):
            return f"as of {at.astimezone(UTC).isoformat()}"
        case Ago(delta):
            return f"ago {delta.total_seconds()}"
        case VersionId(version_id):
            return f"version {version_id}"


def _at(pin: Pin) -> str:
    return "" if isinstance(pin, Latest) else f" as of {pin}"


def _quoted(sources: Iterable[str]) -> str:
    return ", ".join(f"'{source}'" for source in sources)
