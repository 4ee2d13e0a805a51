"""Reading a history: what was current at an instant, and what versions there are.

A history is what `Storage.versions` streams: keys ascending, per key newest first, delete
markers included (https://docs.aws.amazon.com/AmazonS3/latest/userguide/versioning-workflows.html).
Used by `resolve` and `catalog`; pure.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from datacachalog.model import DeleteMarker, ObjectVersion, RemoteObject

Entry = RemoteObject | DeleteMarker


def pick_as_of(history: Iterable[Entry], at: datetime | None) -> RemoteObject | None:
    """Return the object that was current at `at` (None: that is now), or None if there was none.

    `history` is one key's, newest first, as S3 lists it. A delete marker counts: a key
    deleted before `at` and not rewritten since is absent.
    """
    for entry in history:
        if at is None or entry.modified <= at:
            return entry if isinstance(entry, RemoteObject) else None
    return None


@dataclass(slots=True)
class Snapshot:
    """Picks one object per key while a history streams by, and remembers what it was like.

    `first` is when the first object appeared, of keys that had none at the instant.
    `unsure` is an entry that proves a gap: younger than `at`, and `null`, so that it may have
    taken the place of an older one.
    """

    at: datetime | None
    first: datetime | None = None
    unsure: Entry | None = None

    def pick(self, history: Iterable[Entry]) -> Iterator[RemoteObject]:
        """Return what was current of each key."""
        for _, entries in groupby(history, key=lambda entry: entry.uri):
            noted = self._noting(entries)
            found = pick_as_of(noted, self.at)
            if found is not None:
                yield found
            else:
                deque(noted, maxlen=0)

    def _noting(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Pass a key's entries on, newest first, and note what they say of its history."""
        for entry in entries:
            is_object = isinstance(entry, RemoteObject)
            if is_object and (self.first is None or entry.modified < self.first):
                self.first = entry.modified
            if self.at is not None and entry.modified > self.at and entry.version_id == "null":
                self.unsure = self.unsure or entry
            yield entry


def list_versions(
    history: Iterable[Entry],
    *,
    limit: int | None = None,
    at: datetime | None = None,
    is_wanted: Callable[[str], bool] = lambda relpath: True,  # noqa: ARG005 - a predicate's shape
) -> Iterator[ObjectVersion]:
    """Return the versions of each key, newest first, at most `limit` of each.

    `at` leaves out what is younger; `is_wanted` chooses keys by their relpath.
    """
    for _, entries in groupby(history, key=lambda entry: entry.uri):
        count = 0
        for position, entry in enumerate(entries):
            if not is_wanted(entry.relpath) or (at is not None and entry.modified > at):
                continue
            if limit is not None and count == limit:
                continue
            count += 1
            yield _version(entry, is_latest=position == 0)


def _version(entry: Entry, *, is_latest: bool) -> ObjectVersion:
    obj = entry if isinstance(entry, RemoteObject) else None
    return ObjectVersion(
        uri=entry.uri,
        relpath=entry.relpath,
        last_modified=entry.modified,
        version_id=entry.version_id,
        etag=obj.etag if obj else None,
        size=obj.size if obj else None,
        is_latest=is_latest,
        is_delete_marker=obj is None,
    )
