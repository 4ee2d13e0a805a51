"""What a dataset and its pin mean: one answer, from the source or from what is known."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from datacachalog.cache.placed_files import PlacedFile, PlacedFiles
from datacachalog.cache.state import State
from datacachalog.errors import (
    AccessDeniedError,
    DatacachalogError,
    NothingThereYetError,
    ObjectNotFoundError,
    OfflineError,
    SourceUnreachableError,
    StorageError,
    VersioningNotSupportedError,
)
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
from datacachalog.spec.models import Dataset
from datacachalog.spec.units import parse_instant
from datacachalog.sync.resolve import Policy, digest, resolve
from tests.memory_storage import MemoryStorage
from tests.projects import LAKE, one, orders, verbs

T = TypeVar("T")

NOW = datetime(2026, 3, 8, 12, tzinfo=UTC)


def day(number: int) -> datetime:
    """Return noon of a day of February."""
    return datetime(2026, 2, number, 12, tzinfo=UTC)


def as_of(text: str) -> AsOf:
    """Return the pin that is written so."""
    return parse_instant(text)


@pytest.fixture
def storage() -> MemoryStorage:
    """Give a storage with a history: two versions of `a`, a `b` that was deleted, a late `c`."""
    storage = MemoryStorage()
    storage.put(f"{LAKE}/orders/a", b"1", at=day(1))
    storage.put(f"{LAKE}/orders/b", b"22", at=day(2))
    storage.put(f"{LAKE}/orders/a", b"333", at=day(3))
    storage.delete(f"{LAKE}/orders/b", at=day(4))
    storage.put(f"{LAKE}/orders/c", b"4444", at=day(5))
    storage.clock = NOW
    return storage


def once(action: Callable[[], T]) -> T:
    """Try once only."""
    return action()


def ask(
    storage: MemoryStorage,
    dataset: Dataset,
    pin: Pin | None = None,
    *,
    previous: State | None = None,
    now: datetime = NOW,
    offline: bool = False,
    refresh: bool = False,
    with_versions: bool = False,
) -> Resolution:
    """Resolve a dataset."""
    return resolve(
        dataset,
        pin or dataset.pin,
        storage,
        previous=previous,
        policy=Policy(offline=offline, refresh=refresh),
        now=now,
        retry=once,
        with_versions=with_versions,
    )


def state_of(dataset: Dataset, resolution: Resolution) -> State:
    """Return the state that a sync would leave."""
    rows = (PlacedFile(obj, "0" * 64, obj.mtime_ns) for obj in resolution.objects)
    return State(
        dataset=dataset.name,
        digest=digest(dataset, resolution.pin, resolution.endpoint),
        pin=str(resolution.pin),
        endpoint=resolution.endpoint,
        root=f"data/{dataset.name}",
        checked=resolution.checked,
        files=PlacedFiles.of(rows),
    )


def sizes(resolution: Resolution) -> dict[str, int]:
    """Return what was found: sizes by path."""
    return {obj.relpath: obj.size for obj in resolution.objects}


# --- what each pin means ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pin", "expected"),
    [
        pytest.param(Latest(), {"a": 3, "c": 4}, id="latest"),
        pytest.param(as_of("2026-02-01"), {"a": 1}, id="to the end of a day"),
        pytest.param(as_of("2026-02-02T11:59Z"), {"a": 1}, id="just before a put"),
        pytest.param(as_of("2026-02-02T12:00:00Z"), {"a": 1, "b": 2}, id="in its second"),
        pytest.param(as_of("2026-02-03"), {"a": 3, "b": 2}, id="overwritten"),
        pytest.param(as_of("2026-02-04"), {"a": 3}, id="deleted"),
        pytest.param(as_of("2026"), {"a": 3, "c": 4}, id="a year to come"),
        pytest.param(Ago(timedelta(days=33)), {"a": 3, "b": 2}, id="days ago"),
        pytest.param(Ago(timedelta(0)), {"a": 3, "c": 4}, id="no days ago"),
    ],
)
def test_a_glob_at_an_instant(storage: MemoryStorage, pin: Pin, expected: dict[str, int]) -> None:
    """The newest version of each key at or before it; a deleted key is absent."""
    assert sizes(ask(storage, orders(), pin)) == expected


def test_a_single_object_at_an_instant(storage: MemoryStorage) -> None:
    """The same rules hold for one key, and its version is what is fetched."""
    dataset = Dataset(name="b", source=f"{LAKE}/orders/b", as_of="2026-02-03")
    (found,) = ask(storage, dataset).objects

    assert (found.relpath, found.size, found.version_id) == ("b", 2, "v000002")


def test_a_version_is_found_by_one_question(storage: MemoryStorage) -> None:
    """A version id needs no listing."""
    dataset = Dataset(name="a", source=f"{LAKE}/orders/a", version_id="v000001")
    (found,) = ask(storage, dataset).objects

    assert (found.size, verbs(storage)) == (1, ["version"])


def test_a_plain_listing_is_enough_for_latest(storage: MemoryStorage) -> None:
    """History is read only where a pin or a lock needs it: it takes another permission."""
    ask(storage, orders())
    plain = verbs(storage)
    storage.calls.clear()
    found = ask(storage, orders(), with_versions=True)

    assert (plain, verbs(storage)) == (["scan"], ["versions"])
    assert [obj.version_id for obj in found.objects] == ["v000003", "v000005"]


def test_without_the_permission_a_lock_holds_etags(storage: MemoryStorage) -> None:
    """Who may not list versions is told what that costs, and gets the present."""
    storage.fail("versions", AccessDeniedError("not permitted"))
    found = ask(storage, orders(), with_versions=True)

    assert sizes(found) == {"a": 3, "c": 4}
    assert found.warnings == (
        "not permitted; 'memory://lake/orders/**' is held by ETags, which cannot bring old bytes"
        " back",
    )


def test_what_is_excluded_does_not_count(storage: MemoryStorage) -> None:
    """Neither as an object, nor as the beginning of the history."""
    dataset = orders(exclude=["a"], as_of="2026-02-01")
    with pytest.raises(NothingThereYetError) as caught:
        ask(storage, dataset)

    assert str(caught.value) == (
        "'memory://lake/orders/**' had nothing as of 2026-02-01: its first version appeared on"
        " 2026-02-02T12:00:00Z"
    )
    assert caught.value.hint == "`dcl versions orders` shows what there is when"


def test_sources_that_overlap_give_each_object_once(storage: MemoryStorage) -> None:
    """An object that two patterns match is one file."""
    dataset = Dataset(name="all", source=[f"{LAKE}/orders/*", f"{LAKE}/orders/a"])

    assert sizes(ask(storage, dataset)) == {"a": 3, "c": 4}


def test_a_key_that_is_listed_twice_is_one_object() -> None:
    """Some servers repeat where one page ends and the next begins."""

    class Repeating(MemoryStorage):
        def scan(self, uri: str, **options: Any) -> Iterator[RemoteObject]:
            for obj in super().scan(uri):
                yield from (obj, obj)

    storage = Repeating()
    storage.put(f"{LAKE}/orders/a", b"111")
    storage.put(f"{LAKE}/orders/c", b"2222")

    assert sizes(ask(storage, Dataset(name="all", source=f"{LAKE}/orders/*"))) == {"a": 3, "c": 4}


def test_one_duration_is_one_instant_for_all_sources(storage: MemoryStorage) -> None:
    """The clock may move on between two listings; the instant does not."""
    dataset = Dataset(
        name="all", source=[f"{LAKE}/orders/*", f"{LAKE}/orders/a"], as_of="10 minutes"
    )
    ask(storage, dataset)

    assert storage.count("versions") == 2
    assert verbs(storage)[0] == "now"


# --- nothing there ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        pytest.param(
            orders(as_of="2026-01-01"),
            NothingThereYetError,
            "'memory://lake/orders/**' had nothing as of 2026-01-01: its first version appeared"
            " on 2026-02-01T12:00:00Z",
            id="too early",
        ),
        pytest.param(
            Dataset(name="b", source=f"{LAKE}/orders/b", as_of="2026-02-05"),
            NothingThereYetError,
            "'memory://lake/orders/b' had nothing as of 2026-02-05: all that was there had been"
            " deleted",
            id="deleted",
        ),
        pytest.param(
            one(as_of="2026-02-05"),
            ObjectNotFoundError,
            "there never was an object at 'memory://lake/one.csv'",
            id="never was",
        ),
        pytest.param(
            Dataset(name="x", source=f"{LAKE}/x/**", as_of="2026-02-05"),
            ObjectNotFoundError,
            "nothing matches 'memory://lake/x/**' as of 2026-02-05",
            id="a glob that never matched",
        ),
        pytest.param(
            Dataset(name="x", source=f"{LAKE}/x/**", as_of="7 days"),
            ObjectNotFoundError,
            "nothing matches 'memory://lake/x/**' as of 2026-03-01T12:00:00Z",
            id="days ago",
        ),
    ],
)
def test_nothing_there_says_why(
    storage: MemoryStorage, dataset: Dataset, error: type[DatacachalogError], message: str
) -> None:
    """An error says whether it was too early, too late, or never."""
    with pytest.raises(error) as caught:
        ask(storage, dataset)

    assert str(caught.value) == message


def test_a_deletion_before_any_version_is_no_appearance() -> None:
    """A marker without an object, as a delete of nothing leaves, is not what appeared first."""
    storage = MemoryStorage()
    storage.delete(f"{LAKE}/orders/a", at=day(1))
    storage.put(f"{LAKE}/orders/a", b"1", at=day(9))
    with pytest.raises(NothingThereYetError, match="first version appeared on 2026-02-09"):
        ask(storage, orders(as_of="2026-02-03"))


def test_nothing_is_fine_where_it_is_allowed(storage: MemoryStorage) -> None:
    """`allow_empty` holds at an instant too."""
    assert ask(storage, orders(as_of="2026-01-01", allow_empty=True)).objects == ()


# --- sources without a history ------------------------------------------------------------------


@pytest.fixture
def plain() -> MemoryStorage:
    """Give a storage that keeps no history."""
    storage = MemoryStorage(keeps_history=False)
    storage.put(f"{LAKE}/orders/a", b"1", at=day(1))
    storage.put(f"{LAKE}/orders/b", b"22", at=day(3))
    storage.clock = NOW
    return storage


def test_what_did_not_change_since_is_what_it_was(plain: MemoryStorage) -> None:
    """Without a history an instant holds where nothing is younger; deletions cannot be seen."""
    single = Dataset(name="a", source=f"{LAKE}/orders/a")
    alone = ask(plain, single, as_of("2026-02-01"))
    all_of_them = ask(plain, orders(), as_of("2026-02-03"))

    assert (sizes(alone), alone.warnings) == ({"a": 1}, ())
    assert sizes(all_of_them) == {"a": 1, "b": 2}
    assert all_of_them.warnings == (
        "'memory://lake/orders/**' keeps no history: files deleted since 2026-02-03 cannot be seen",
    )


def test_what_changed_since_cannot_be_proven(plain: MemoryStorage) -> None:
    """One younger object is enough; the error names it, and says what to do."""
    with pytest.raises(VersioningNotSupportedError) as caught:
        ask(plain, orders(), as_of("2026-02-02"))

    assert str(caught.value) == (
        "'memory://lake/orders/b' changed on 2026-02-03T12:00:00Z, after 2026-02-02, and its"
        " source keeps no history"
    )
    assert caught.value.hint == (
        "only what is there now can be had: leave `as_of` out; a bucket has a history from when"
        " its versioning is turned on"
    )


def test_what_is_excluded_may_have_changed(plain: MemoryStorage) -> None:
    """A younger object that is not brought proves nothing."""
    found = ask(plain, orders(exclude=["b"]), as_of("2026-02-02"))

    assert sizes(found) == {"a": 1}


# --- histories with gaps ------------------------------------------------------------------------


@pytest.fixture
def gapped() -> MemoryStorage:
    """Give a storage that kept no versions on the 5th, when `a` was overwritten and `b` deleted."""
    storage = MemoryStorage()
    storage.put(f"{LAKE}/a/a", b"1", at=day(1))
    storage.put(f"{LAKE}/b/b", b"22", at=day(1))
    storage.is_suspended = True
    storage.put(f"{LAKE}/a/a", b"333", at=day(5))
    storage.delete(f"{LAKE}/b/b", at=day(5))
    storage.clock = NOW
    return storage


@pytest.mark.parametrize(("name", "size"), [("a", 1), ("b", 2)])
def test_a_null_version_younger_than_the_pin_is_a_gap(
    gapped: MemoryStorage, name: str, size: int
) -> None:
    """It took the place of any older one: what is found may not be what was there."""
    found = ask(gapped, Dataset(name=name, source=f"{LAKE}/{name}/*"), as_of("2026-02-03"))

    assert sizes(found) == {name: size}
    assert found.warnings == (
        f"the history has a gap: '{LAKE}/{name}/{name}' was written on 2026-02-05T12:00:00Z while"
        " its bucket kept no versions, so what it was as of 2026-02-03 may be lost",
    )


def test_a_null_version_in_its_own_time_is_no_gap(gapped: MemoryStorage) -> None:
    """From when it was written, it is what was there."""
    found = ask(gapped, Dataset(name="a", source=f"{LAKE}/a/*"), as_of("2026-02-05"))

    assert (sizes(found), found.warnings) == ({"a": 3}, ())


def test_nothing_before_a_gap_is_not_certain() -> None:
    """Where the first version that is left is `null`, older ones may have been there."""
    storage = MemoryStorage()
    storage.is_suspended = True
    storage.put(f"{LAKE}/orders/a", b"1", at=day(5))
    with pytest.raises(NothingThereYetError, match="first version that was kept appeared on 2026"):
        ask(storage, orders(as_of="2026-02-03"))


# --- the past that can still change -------------------------------------------------------------


@pytest.mark.parametrize(
    ("pin", "warning"),
    [
        pytest.param("2026-03-07T12:00:00Z", None, id="a day ago"),
        pytest.param(
            "2026-03-07T12:00:01Z",
            "2026-03-07T12:00:01Z is less than a day ago: multipart uploads begun before then may"
            " still appear",
            id="less than a day",
        ),
        pytest.param(
            "2026-03-08",
            "2026-03-08 is not over yet, so what is there may still change",
            id="today",
        ),
    ],
)
def test_a_recent_instant_warns(storage: MemoryStorage, pin: str, warning: str | None) -> None:
    """By the server's clock: this machine's may be off by years."""
    years_off = datetime(2020, 1, 1, tzinfo=UTC)
    asked = ask(storage, orders(), as_of(pin), now=years_off)
    pinned = ask(storage, orders(as_of=pin), now=years_off)

    assert asked.warnings == (() if warning is None else (warning,))
    advised = () if warning is None else (f"{warning}; `dcl lock` holds what is there now",)
    assert pinned.warnings == advised


def test_a_server_without_a_clock_is_believed_to_have_ours(storage: MemoryStorage) -> None:
    """No `Date` is no reason to fail an absolute pin; a duration has no other meaning."""
    storage.fail("now", StorageError("the server does not say what time it is"), times=9)
    found = ask(storage, orders(), as_of("2026-03-08"))

    assert found.warnings == ("2026-03-08 is not over yet, so what is there may still change",)
    with pytest.raises(StorageError, match="what time it is"):
        ask(storage, orders(), Ago(timedelta(days=1)))


# --- answers that are known ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "is_known"),
    [
        pytest.param(orders(as_of="2026-03-07T12:00:00Z"), True, id="settled"),
        pytest.param(orders(as_of="2026-03-07T12:00:01Z"), False, id="less than a day ago"),
        pytest.param(orders(as_of="2026-04-01"), False, id="to come"),
        pytest.param(orders(as_of="30 days"), False, id="duration"),
        pytest.param(
            Dataset(name="a", source=f"{LAKE}/orders/a", version_id="v000001"), True, id="version"
        ),
        pytest.param(orders(), False, id="latest"),
    ],
)
def test_what_cannot_change_is_asked_once(
    storage: MemoryStorage, dataset: Dataset, is_known: bool
) -> None:
    """An absolute pin is answered from the state, with a wrong clock too; `refresh` asks again."""
    first = ask(storage, dataset, now=datetime(2020, 1, 1, tzinfo=UTC))
    state = state_of(dataset, first)
    storage.calls.clear()
    second = ask(storage, dataset, previous=state)
    asked = bool(storage.calls)
    third = ask(storage, dataset, previous=state, refresh=True)

    assert (second.origin is Origin.STATE, asked) == (is_known, not is_known)
    assert sizes(first) == sizes(second)
    assert third.origin is Origin.REMOTE


def test_another_pin_is_another_answer(storage: MemoryStorage) -> None:
    """A state answers only for the pin it was made under."""
    state = state_of(orders(as_of="2026-02-01"), ask(storage, orders(as_of="2026-02-01")))

    assert sizes(ask(storage, orders(as_of="2026-02-03"), previous=state)) == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    "dataset",
    [orders(), orders(as_of="2026-02-03"), orders(as_of="30 days")],
    ids=["latest", "instant", "duration"],
)
def test_a_source_that_is_away_leaves_what_is_in_place(
    storage: MemoryStorage, dataset: Dataset
) -> None:
    """With a warning; a duration means what it meant when it was last asked."""
    state = state_of(dataset, ask(storage, dataset))
    for verb in ("scan", "versions", "now"):
        storage.fail(verb, SourceUnreachableError("the server is down"), times=9)
    found = ask(storage, dataset, previous=state, refresh=True)

    assert found.origin is Origin.STATE
    assert found.warnings == (
        "the source cannot be reached, using what is in place: the server is down",
    )


@pytest.mark.parametrize(
    ("pin", "asked"),
    [
        pytest.param(None, "as the catalog has it now", id="the catalog's"),
        pytest.param(as_of("2026-02-03"), "as of 2026-02-03", id="instant"),
        pytest.param(VersionId("v1"), "in version v1", id="version"),
    ],
)
def test_offline_answers_only_what_is_known(
    storage: MemoryStorage, pin: Pin | None, asked: str
) -> None:
    """`--offline` asks nothing, and says what it lacks."""
    dataset = one()
    with pytest.raises(OfflineError) as caught:
        ask(storage, dataset, pin, offline=True)

    assert str(caught.value) == f"'one' was never fetched {asked}, and `--offline` asks nothing"
    assert storage.calls == []


def test_offline_takes_what_was_resolved(storage: MemoryStorage) -> None:
    """A duration, too: it means what it meant when it was last asked."""
    dataset = orders(as_of="33 days")
    state = state_of(dataset, ask(storage, dataset))
    storage.calls.clear()
    found = ask(storage, dataset, previous=state, offline=True)

    assert (sizes(found), storage.calls) == ({"a": 3, "b": 2}, [])
