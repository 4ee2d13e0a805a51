"""A locked dataset that is in place is known again by looks, and walked when anything differs."""

import os
from collections.abc import Callable
from pathlib import Path
from shutil import copyfile

import pytest

from datacachalog import presence
from datacachalog.catalog import Catalog
from datacachalog.errors import LocalFileConflictError
from datacachalog.events import DatasetFinished, Planned
from datacachalog.sync.dataset import DatasetSync
from tests.projects import EventRecorder, Project, one, orders

Walks = list[str]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project whose two datasets are locked and in place."""
    project = Project(tmp_path)
    project.put_all({"one.csv": b"one", "orders/a": b"a", "orders/b/c": b"c"})
    project.catalog(one(), orders()).lock()
    project.catalog(one(), orders()).sync()
    return project


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> Walks:
    """Return a list that gets the name of each dataset that is walked."""
    walked: Walks = []
    real = DatasetSync.sync

    def sync(line: DatasetSync, **options: bool) -> object:
        walked.append(line.dataset.name)
        return real(line, **options)

    monkeypatch.setattr(DatasetSync, "sync", sync)
    return walked


def opened(project: Project, walks: Walks, **options: str) -> Catalog:
    """Return a catalog that has found both datasets in place often enough to be sure."""
    catalog = project.catalog(one(), orders(), **options)
    for _ in range(3):
        catalog.fetch("one")
        catalog.fetch("orders")
    walks.clear()
    return catalog


@pytest.mark.parametrize("mode", ["obey", "locked", "frozen"])
def test_what_was_seen_twice_is_only_looked_at(project: Project, walks: Walks, mode: str) -> None:
    """The paths are those of the walks, and a list of them is the caller's own."""
    catalog = opened(project, walks, lock_mode=mode)
    catalog.fetch("orders").clear()  # type: ignore[union-attr]
    paths = [catalog.fetch("one"), catalog.fetch("orders")]

    assert walks == []
    assert paths == [
        project.data / "one/one.csv",
        [project.data / "orders/a", project.data / "orders/b/c"],
    ]


def test_twice_before_and_after(project: Project, walks: Walks) -> None:
    """One sync proves nothing of what lay there before it."""
    catalog = project.catalog(one())
    for _ in range(3):
        catalog.fetch("one")

    assert walks == ["one", "one"]


def test_the_events_are_those_of_a_walk(project: Project, walks: Walks) -> None:
    """Whoever listens cannot tell the difference."""
    catalog, near, far = opened(project, walks), EventRecorder(), EventRecorder()
    catalog.fetch("orders", report=near)
    project.catalog(one(), orders()).fetch("orders", report=far)

    assert walks == ["orders"]
    assert near.events == far.events
    assert [type(event) for event in near.events] == [Planned, DatasetFinished]


def _touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def _replace(path: Path) -> None:
    """Put a copy of the same size and time in its place, as an editor would."""
    stat = path.stat()
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    copy.replace(path)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda p: (p.data / "orders/b/c").unlink(), id="a-file-vanished"),
        pytest.param(lambda p: _replace(p.data / "orders/a"), id="another-inode"),
        pytest.param(lambda p: p.state_file().unlink(), id="no-state"),
        pytest.param(lambda p: _touch(p.state_file()), id="another-state"),
        pytest.param(lambda p: p.catalog(one(), orders()).invalidate("orders"), id="invalidated"),
        pytest.param(
            lambda p: copyfile(p.state_file(), p.state_file().with_suffix(".coming")),
            id="announced",
        ),
        pytest.param(lambda p: _touch(p.root / "catalog.lock"), id="another-lock"),
        pytest.param(lambda p: (p.root / "catalog.lock").unlink(), id="no-lock"),
    ],
)
def test_whatever_differs_is_walked(
    project: Project, walks: Walks, change: Callable[[Project], object]
) -> None:
    """And put right, as by any other fetch."""
    catalog = opened(project, walks)
    change(project)
    catalog.fetch("orders")

    assert walks == ["orders"]
    assert project.files() == {"a": b"a", "b/c": b"c"}


def test_an_edit_is_found_as_ever(project: Project, walks: Walks) -> None:
    """A file of another size is the user's own from now on, and an error that names it."""
    catalog = opened(project, walks)
    path = project.data / "orders/a"
    path.unlink()
    path.write_bytes(b"mine")
    with pytest.raises(LocalFileConflictError, match="orders/a"):
        catalog.fetch("orders")

    assert path.read_bytes() == b"mine"


def test_an_edit_between_look_and_walk_is_not_taken_for_what_was_there(
    project: Project, walks: Walks
) -> None:
    """What the last sync left is compared with what this one leaves; a change starts over."""
    catalog = project.catalog(one(), orders())
    catalog.fetch("orders")
    _replace(project.data / "orders/a")
    for _ in range(3):
        catalog.fetch("orders")

    assert walks == ["orders"] * 3


@pytest.mark.parametrize(
    "asked",
    [{"refresh": True}, {"as_of": "2030-01-01"}],
    ids=["refresh", "as-of"],
)
def test_who_asks_for_more_gets_a_walk(
    project: Project, walks: Walks, asked: dict[str, str | bool]
) -> None:
    """And the next plain fetch is as fast as before."""
    catalog = opened(project, walks)
    catalog.fetch("orders", **asked)  # type: ignore[arg-type]
    catalog.fetch("orders")

    assert walks == ["orders"]


def test_without_a_lock_the_source_is_asked(project: Project, walks: Walks) -> None:
    """Being in place is not being current."""
    catalog = opened(project, walks, lock_mode="ignore")
    project.put("one.csv", b"two")

    assert catalog.fetch("one").read_bytes() == b"two"  # type: ignore[union-attr]
    assert walks == ["one"]


def test_many_files_are_walked(
    project: Project, walks: Walks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered stays small."""
    monkeypatch.setattr(presence, "MOST_FILES", 1)
    catalog = opened(project, walks)
    catalog.fetch("one")
    catalog.fetch("orders")

    assert walks == ["orders"]


def test_what_killed_runs_left_goes_all_the_same(project: Project, walks: Walks) -> None:
    """A look ends as a walk does: with a sweep."""
    catalog = opened(project, walks)
    staging = project.data / "orders/.dcl-tmp"
    staging.mkdir()
    catalog.fetch("orders")

    assert walks == []
    assert project.debris() == []
