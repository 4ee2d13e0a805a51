"""The single resolver: a dataset and its pin become a list of remote objects.

All knowledge of what is remote ends here: a single object, a glob, latest, an instant, a
version and what to do when the source cannot be reached differ only inside this module.
Used by `line`; knows storages and the last state, but neither disk nor plan.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise

from blake3 import blake3

from datacachalog import globs, relpath
from datacachalog.cache.state import State
from datacachalog.errors import (
    CatalogError,
    ObjectNotFoundError,
    OfflineError,
    SourceUnreachableError,
    VersioningNotSupportedError,
)
from datacachalog.model import (
    Ago,
    AsOf,
    DeleteMarker,
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
        return _ask(dataset, pin, storage, now, retry)
    except SourceUnreachableError as exc:
        if previous is None or dataset.on_stale == "error":
            raise
        warning = f"the source cannot be reached, using what is in place: {exc}"
        return replace(_from_state(previous, pin), warnings=(warning,))


def _ask(
    dataset: Dataset,
    pin: Pin,
    storage: Storage,
    now: datetime,
    retry: Retry,
) -> Resolution:
    warnings: tuple[str, ...] = ()
    is_excluded = globs.excluder(dataset.exclude)
    objects: dict[str, RemoteObject] = {}
    for source in dataset.sources:
        found, why = _look_up(source, pin, storage, retry)
        warnings += why
        for obj in found:
            if not is_excluded(obj.relpath):
                objects.setdefault(obj.uri, obj)
    if not objects and not dataset.allow_empty:
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


def _look_up(
    source: str,
    pin: Pin,
    storage: Storage,
    retry: Retry,
) -> tuple[list[RemoteObject], tuple[str, ...]]:
    match pin:
        case AsOf():
            return _as_of(source, pin, storage, retry)
        case VersionId(version_id):
            return retry(lambda: [_version(source, version_id, storage)]), ()
        case Ago(delta):
            at = storage.now().replace(microsecond=0) - delta
            return _as_of(source, AsOf(at, str(pin)), storage, retry)
        case Latest():
            return retry(lambda: list(storage.scan(source))), ()


def _as_of(
    source: str,
    pin: AsOf,
    storage: Storage,
    retry: Retry,
) -> tuple[list[RemoteObject], tuple[str, ...]]:
    try:
        return retry(lambda: list(_pick_each(storage.versions(source), pin.at))), ()
    except VersioningNotSupportedError as exc:
        # Without history the present is all there is: it holds if nothing is younger.
        found = retry(lambda: list(storage.scan(source)))
        younger = max((o for o in found if o.modified > pin.at), key=_age, default=None)
        if younger is not None:
            raise VersioningNotSupportedError(
                f"'{younger.uri}' changed on {younger.modified:%Y-%m-%d %H:%M:%S}Z, after {pin},"
                " and its source keeps no history",
                hint="remove `as_of`, or turn on versioning for the bucket from now on",
            ) from exc
        if not globs.is_glob(source):
            return found, ()
        return found, (f"'{source}' keeps no history: files deleted since {pin} cannot be seen",)


def _age(obj: RemoteObject) -> datetime:
    return obj.modified


def _pick_each(
    history: Iterable[RemoteObject | DeleteMarker], at: datetime
) -> Iterator[RemoteObject]:
    for _, versions in groupby(history, key=lambda v: v.uri):
        found = pick_as_of(versions, at)
        if found is not None:
            yield found


def pick_as_of(history: Iterable[RemoteObject | DeleteMarker], at: datetime) -> RemoteObject | None:
    """Return the object that was current at `at`, or None if there was none.

    `history` is one key's, newest first, as S3 lists it. A delete marker counts: a key
    deleted before `at` and not rewritten since is absent.
    """
    for version in history:
        if version.modified <= at:
            return version if isinstance(version, RemoteObject) else None
    return None


def _version(source: str, version_id: str, storage: Storage) -> RemoteObject:
    for version in storage.versions(source):
        if version.version_id == version_id and isinstance(version, RemoteObject):
            return version
    raise ObjectNotFoundError(
        f"'{source}' has no version '{version_id}'",
        hint="a lifecycle rule may have removed it",
    )


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
