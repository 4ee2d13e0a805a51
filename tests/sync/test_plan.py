"""The planner: every case of what should be, what was placed and what is, with its reason."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog.cache.files import FileStat
from datacachalog.cache.placed_files import PlacedFile, PlacedFiles
from datacachalog.model import Latest, RemoteObject, Resolution
from datacachalog.sync.placement import Disk
from datacachalog.sync.plan import Conflict, Download, Drop, Keep, Link, Plan, plan

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


class FakeDisk(Disk):
    """A disk that answers what the test says."""

    def __init__(
        self,
        there: dict[str, FileStat] | None = None,
        *,
        stored: AbstractSet[str] = frozenset(),
        ours: AbstractSet[str] = frozenset(),
        blockers: dict[str, str] | None = None,
        emptying: AbstractSet[str] = frozenset(),
    ) -> None:
        self.there = there or {}
        self.stored, self.ours, self.emptying = stored, ours, emptying
        self.blockers = blockers or {}
        self.questions: list[str] = []

    def stat(self, relpath: str) -> FileStat | None:
        self.questions.append("stat")
        return self.there.get(relpath)

    def touched(
        self, relpaths: Sequence[str], sizes: Sequence[int], mtimes_ns: Sequence[int]
    ) -> set[int]:
        now = map(self.stat, relpaths)
        wanted = zip(now, sizes, mtimes_ns, strict=True)
        return {
            i
            for i, (found, size, mtime_ns) in enumerate(wanted)
            if found is None or (found.size, found.mtime_ns) != (size, mtime_ns)
        }

    def blocker(self, relpath: str) -> str | None:
        self.questions.append("blocker")
        return self.blockers.get(relpath)

    def holds_only(self, relpath: str, known: AbstractSet[str]) -> bool:
        self.questions.append("holds_only")
        return relpath in self.emptying

    def is_stored(self, obj: RemoteObject) -> bool:
        self.questions.append("is_stored")
        return obj.relpath in self.stored

    def is_ours(self, relpath: str, found: FileStat, recorded: RemoteObject | None) -> bool:
        self.questions.append("is_ours")
        return relpath in self.ours


def obj(relpath: str = "a", **options: object) -> RemoteObject:
    """Return an object as listings have them."""
    base = RemoteObject(f"s3://lake/x/{relpath}", relpath, 3, NOW, "e1")
    return base._replace(**options)  # type: ignore[arg-type] # fields by name


def stat(of: RemoteObject, **options: int) -> FileStat:
    """Return the stat of the object's file as we place it."""
    return FileStat(of.size, of.mtime_ns, 1)._replace(**options)


def row(of: RemoteObject, blake3: str | None = "b3") -> PlacedFile:
    """Return the object's row in a state."""
    return PlacedFile(of, blake3, of.mtime_ns)


def planned(wanted: list[RemoteObject], placed: list[PlacedFile], disk: FakeDisk) -> Plan:
    """Plan for these objects, rows and disk."""
    return plan(Resolution(tuple(wanted), Latest(), "aws", NOW), PlacedFiles.of(placed), disk)


def steps(todo: Plan) -> list[object]:
    """Return all steps."""
    return [*todo.hits, *todo.links, *todo.downloads, *todo.drops, *todo.conflicts, *todo.keeps]


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(obj(), id="as it was"),
        pytest.param(obj(modified=LATER), id="written again with the same bytes"),
        pytest.param(obj(version_id="v1"), id="with a version, which the state did not know"),
    ],
)
def test_a_file_in_place_is_a_hit(now: RemoteObject) -> None:
    """Untouched here and unchanged there: one stat, and no other question."""
    disk = FakeDisk({"a": stat(obj())})

    assert steps(planned([now], [row(obj())], disk)) == [now]
    assert disk.questions == ["stat"]


@pytest.mark.parametrize(
    ("was", "now", "reason"),
    [
        (obj(), obj(etag="e2", modified=LATER), "changed at the source on 2026-03-01 13:00:00Z"),
        (obj(), obj(etag="e2"), "changed at the source"),
        (obj(), obj(etag="e2", size=4), "changed at the source: 3 to 4 bytes"),
        (obj(), obj(uri="s3://lake/y/a"), "another source"),
        (obj(version_id="v1"), obj(version_id="v2"), "changed at the source"),
        (obj(etag=None), obj(etag=None, modified=LATER),
         "changed at the source on 2026-03-01 13:00:00Z"),
    ],
    ids=["etag", "etag in one second", "size", "key", "version", "time"],
)  # fmt: skip
def test_a_changed_object_replaces_our_file(
    was: RemoteObject, now: RemoteObject, reason: str
) -> None:
    """The step says why, and which file it may replace."""
    found = stat(was)
    todo = planned([now], [row(was)], FakeDisk({"a": found}))

    assert steps(todo) == [Download(now, reason, found)]


def test_an_invalidated_file_is_fetched_again() -> None:
    """Its row has lost its hash; the file still counts as ours."""
    todo = planned([obj()], [row(obj(), None)], FakeDisk({"a": stat(obj())}))

    assert steps(todo) == [Download(obj(), "invalidated", stat(obj()))]


@pytest.mark.parametrize(
    ("placed", "reason"), [([], "new"), ([row(obj())], "missing on disk")], ids=["new", "deleted"]
)
@pytest.mark.parametrize("stored", [True, False])
def test_a_missing_file_comes_from_the_store_or_the_network(
    placed: list[PlacedFile], reason: str, stored: bool
) -> None:
    """Whichever has it."""
    todo = planned([obj()], placed, FakeDisk(stored={"a"} if stored else set()))

    assert steps(todo) == [Link(obj(), reason) if stored else Download(obj(), reason)]


def test_a_file_gone_at_the_source_is_dropped() -> None:
    """If it is ours and untouched."""
    todo = planned([], [row(obj())], FakeDisk({"a": stat(obj())}))

    assert steps(todo) == [Drop("a", "gone at the source", stat(obj()))]


def test_a_file_gone_at_the_source_but_edited_here_is_kept() -> None:
    """It is the user's own from now on."""
    todo = planned([], [row(obj())], FakeDisk({"a": stat(obj(), mtime_ns=5)}))

    assert steps(todo) == [Keep("a", "gone at the source, but edited here")]


def test_a_file_gone_on_both_sides_needs_no_step() -> None:
    """Only the record is behind."""
    assert planned([], [row(obj())], FakeDisk()).is_noop


@pytest.mark.parametrize(
    "found", [stat(obj(), mtime_ns=5), stat(obj(), size=9), stat(obj(), size=-1)],
    ids=["time", "size", "a folder"],
)  # fmt: skip
def test_an_edited_file_is_in_conflict_even_if_the_source_is_unchanged(found: FileStat) -> None:
    """The folder would not be exact, and the edit would be lost."""
    todo = planned([obj()], [row(obj())], FakeDisk({"a": found}, stored={"a"}))

    assert steps(todo) == [Conflict("a", "edited since it was put there")]


@pytest.mark.parametrize("placed", [[], [row(obj(etag="e0"))]], ids=["no state", "another state"])
def test_what_another_run_put_there_is_replaced(placed: list[PlacedFile]) -> None:
    """Our own link or copy is no conflict."""
    found = FileStat(9, 9, 9)
    todo = planned([obj()], placed, FakeDisk({"a": found}, ours={"a"}))

    assert steps(todo) == [Download(obj(), "put there by another run", found)]


def test_a_file_nobody_explains_is_in_conflict() -> None:
    """It is the user's."""
    todo = planned([obj()], [], FakeDisk({"a": FileStat(9, 9, 9)}))

    assert steps(todo) == [Conflict("a", "not put there by `dcl`")]


@pytest.mark.parametrize(
    "found", [stat(obj()), stat(obj(), mtime_ns=5)], ids=["same time", "other"]
)
def test_a_file_of_the_right_size_may_be_it(found: FileStat) -> None:
    """Without a state, bytes are compared before anything changes."""
    todo = planned([obj()], [], FakeDisk({"a": found}, stored={"a"}))

    assert steps(todo) == [Link(obj(), "in place, but not on record")]


def test_a_file_in_the_way_of_a_folder_is_in_conflict_once() -> None:
    """However many files need the folder."""
    disk = FakeDisk(blockers={"a/b": "a", "a/c": "a"})
    todo = planned([obj("a/b"), obj("a/c")], [], disk)

    assert steps(todo) == [Conflict("a", "in the way, where a folder is needed")]


def test_our_file_becomes_a_folder() -> None:
    """`a` is dropped and `a/b` comes, in one plan."""
    disk = FakeDisk({"a": stat(obj("a"))}, blockers={"a/b": "a"})
    todo = planned([obj("a/b")], [row(obj("a"))], disk)

    assert steps(todo) == [
        Download(obj("a/b"), "new"),
        Drop("a", "gone at the source", stat(obj("a"))),
    ]


def test_our_edited_file_cannot_become_a_folder() -> None:
    """It is kept, and so stands in the way."""
    disk = FakeDisk({"a": stat(obj("a"), mtime_ns=5)}, blockers={"a/b": "a"})
    todo = planned([obj("a/b")], [row(obj("a"))], disk)

    assert todo.conflicts == (Conflict("a", "in the way, where a folder is needed"),)


@pytest.mark.parametrize("emptying", [True, False])
def test_our_folder_becomes_a_file_if_nothing_else_is_in_it(emptying: bool) -> None:
    """`a/b` is dropped and `a` comes; a user's file in `a` forbids it."""
    folder = FileStat(-1, 5, 5)
    disk = FakeDisk(
        {"a": folder, "a/b": stat(obj("a/b"))}, emptying={"a"} if emptying else frozenset()
    )
    todo = planned([obj("a")], [row(obj("a/b"))], disk)

    assert todo.is_noop is False
    assert todo.downloads == ((Download(obj("a"), "new"),) if emptying else ())
    assert todo.conflicts == (() if emptying else (Conflict("a", "not put there by `dcl`"),))


def test_a_plan_counts_what_must_come() -> None:
    """Bytes over the network only."""
    todo = planned([obj("a"), obj("b"), obj("c", size=4)], [], FakeDisk(stored={"b"}))

    assert todo.download_bytes == 7
    assert [step.object.relpath for step in todo.downloads] == ["a", "c"]


NOWS = [
    {},
    {"etag": "e2"},
    {"etag": None},
    {"size": 4},
    {"version_id": "v1"},
    {"version_id": "v2", "etag": "e2"},
    {"version_id": "null"},
    {"uri": "s3://lake/y/other"},
]
PATHS = "abcdef"


@given(
    now=st.dictionaries(st.sampled_from(PATHS), st.sampled_from(NOWS)),
    was=st.dictionaries(
        st.sampled_from(PATHS), st.tuples(st.sampled_from(NOWS), st.sampled_from([None, "b3"]))
    ),
    missing=st.sets(st.sampled_from(PATHS)),
    edited=st.sets(st.sampled_from(PATHS)),
)
def test_each_file_of_many_gets_the_step_that_it_would_get_alone(
    now: dict[str, dict[str, object]],
    was: dict[str, tuple[dict[str, object], str | None]],
    missing: set[str],
    edited: set[str],
) -> None:
    """Whatever the others are: columns that are compared as a whole decide for none of them."""
    wanted = {path: obj(path, **options) for path, options in now.items()}
    rows = {path: row(obj(path, **options), b3) for path, (options, b3) in was.items()}
    stats = {path: stat(placed.object) for path, placed in rows.items() if path not in missing}
    stats |= {path: stats[path]._replace(mtime_ns=7) for path in edited & stats.keys()}

    def plan_for(paths: str) -> list[object]:
        some = [wanted[path] for path in sorted(paths) if path in wanted]
        placed = [rows[path] for path in sorted(paths) if path in rows]
        return steps(planned(some, placed, FakeDisk(stats)))

    together, alone = plan_for(PATHS), [step for path in PATHS for step in plan_for(path)]

    assert sorted(map(repr, together)) == sorted(map(repr, alone))
