"""What earlier runs left: the state, corrected by the journal of a killed run."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from blake3 import blake3

from datacachalog.cache.files import LinkKind
from datacachalog.cache.placed_files import PlacedFile, PlacedFiles
from datacachalog.cache.state import State, StateFolder
from datacachalog.cache.store import Store
from datacachalog.model import RemoteObject
from datacachalog.sync.placement import Disk
from datacachalog.sync.recovery import RecoveredState

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LATER = datetime(2026, 4, 1, tzinfo=UTC)


class Left:
    """What runs left: states, and files in a folder."""

    def __init__(self, base: Path) -> None:
        self.states = StateFolder(base / "state")
        self.disk = Disk(
            str(base / "data" / "set"),
            (LinkKind.COPY,),
            0o444,
            store=Store(base / "cache"),
            endpoint="memory",
        )

    def state(self, *rows: PlacedFile, root: str = "data/set") -> State:
        return State("set", "d", "latest", "memory", root, NOW, PlacedFiles.of(rows))

    def file(self, relpath: str, data: bytes, at: datetime) -> Path:
        path = Path(self.disk.path(relpath))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (at.timestamp(), at.timestamp()))
        return path

    def read(self) -> RecoveredState:
        return RecoveredState.read(self.states, "set", "data/set", self.disk)


@pytest.fixture
def left(tmp_path: Path) -> Left:
    """Give a project in which nothing ran yet."""
    return Left(tmp_path)


def row(relpath: str, data: bytes, at: datetime = NOW) -> PlacedFile:
    """Return the row of a file with these bytes."""
    obj = RemoteObject(f"memory://lake/{relpath}", relpath, len(data), at, f"{data!r}")
    return PlacedFile(obj, blake3(data).hexdigest(), obj.mtime_ns)


def test_nothing_is_known_at_first(left: Left) -> None:
    """That is not complete: there is work to do."""
    record = left.read()

    assert (record.state, record.journal, len(record.placed)) == (None, None, 0)
    assert not record.is_complete


def test_a_state_without_a_journal_is_complete(left: Left) -> None:
    """Nothing on disk is compared."""
    left.states.write("set", left.state(row("a", b"1")))
    record = left.read()

    assert record.is_complete
    assert list(record.placed) == [row("a", b"1")]


def test_files_of_the_journal_that_came_count_as_placed(left: Left) -> None:
    """New ones and replaced ones; those that did not come are as the state says."""
    left.states.write("set", left.state(row("old", b"1"), row("waiting", b"1")))
    coming = (row("old", b"2", LATER), row("waiting", b"2", LATER), row("new", b"3", LATER))
    left.states.write_journal("set", left.state(*coming))
    left.file("old", b"2", LATER)
    left.file("waiting", b"1", NOW)
    left.file("new", b"3", LATER)
    record = left.read()

    assert not record.is_complete
    assert list(record.placed) == [coming[2], coming[0], row("waiting", b"1")]
    assert record.journaled == {"old", "waiting", "new"}


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda left: left.file("a", b"x", LATER), id="other bytes"),
        pytest.param(lambda left: left.file("a", b"1", NOW), id="another time"),
        pytest.param(lambda left: left.file("a", b"11", LATER), id="another size"),
        pytest.param(lambda left: None, id="nothing there"),
        pytest.param(lambda left: os.makedirs(left.disk.path("a")), id="a folder there"),
    ],
)
def test_what_the_journal_has_but_is_not_there_does_not_count(
    left: Left, spoil: Callable[[Left], object]
) -> None:
    """Else a user's file could be taken for ours."""
    left.states.write_journal("set", left.state(row("a", b"1", LATER)))
    spoil(left)

    assert len(left.read().placed) == 0


def test_files_elsewhere_are_known_by_their_states(left: Left) -> None:
    """The dataset's path changed, perhaps twice, and a run was killed in between."""
    left.states.write("set", left.state(row("a", b"1"), root="data/first"))
    left.states.write_journal("set", left.state(row("a", b"1"), root="data/second"))
    record = left.read()

    assert [state.root for state in record.elsewhere] == ["data/first", "data/second"]
    assert len(record.placed) == 0
    assert not record.is_complete


def test_the_stat_tells_that_another_run_wrote(left: Left) -> None:
    """Also if it wrote the same."""
    before = left.read().stat
    left.states.write("set", left.state(row("a", b"1")))
    after = left.read().stat
    left.states.write("set", left.state(row("a", b"1")))

    assert len({before, after, left.read().stat}) == 3
