"""Pushing: refused where it makes no sense, conditional, and idle afterwards."""

import shutil
from pathlib import Path

import pytest

from datacachalog import events
from datacachalog.catalog import Catalog
from datacachalog.errors import (
    LocalFileConflictError,
    ObjectNotFoundError,
    PushConflictError,
    PushRefusedError,
    SourceUnreachableError,
)
from datacachalog.spec.models import CacheSettings, Dataset
from tests.memory_storage import MemoryStorage
from tests.projects import LAKE, EventRecorder, Project, mode_of, one, orders, verbs


@pytest.fixture
def new(project: Project) -> Path:
    """Give a file of the user's to push."""
    path = project.base / "new.csv"
    path.write_bytes(b"new bytes")
    return path


def pushable(project: Project, **options: object) -> Catalog:
    """Return a catalog whose dataset `one` may be pushed."""
    return project.catalog(one(push=True, **options))


def remote(project: Project, key: str = "one.csv") -> bytes | None:
    """Return what the source holds now."""
    return project.storage.newest(f"{LAKE}/{key}")


def test_a_push_replaces_what_was_fetched(project: Project, new: Path) -> None:
    """At the source, in place, and in the cache; the next sync moves nothing."""
    project.put("one.csv", b"old")
    catalog = pushable(project)
    catalog.sync()
    report = catalog.push("one", new)
    project.storage.calls.clear()
    (outcome,) = catalog.sync().outcomes

    assert remote(project) == b"new bytes"
    assert project.files("one") == {"one.csv": b"new bytes"}
    assert report.object.size == 9
    assert outcome.hits == 1
    assert verbs(project.storage) == ["scan"]


@pytest.mark.parametrize("link", ["hardlink", "copy"])
def test_the_user_keeps_the_original(project: Project, new: Path, link: str) -> None:
    """A file of its own: writing to it later changes neither cache nor data."""
    catalog = pushable(project)
    catalog.cache = CacheSettings.model_validate({"link": link})
    catalog.push("one", new)
    with new.open("ab") as file:
        file.write(b" and more")

    assert mode_of(new) & 0o200
    assert project.files("one") == {"one.csv": b"new bytes"}
    assert catalog.verify()[0].bad == ()
    assert [path.read_bytes() for path in project.stored()] == [b"new bytes"]


def test_what_was_pushed_needs_no_download_anywhere_near(project: Project, new: Path) -> None:
    """Another project with the same cache links it."""
    pushable(project).push("one", new)
    shutil.rmtree(project.data)
    (outcome,) = pushable(project).sync().outcomes

    assert (outcome.linked, project.storage.count("read")) == (1, 0)


def test_the_very_file_in_data_can_be_pushed(project: Project) -> None:
    """Edited where it lies, as people do: that is no conflict."""
    project.put("one.csv", b"old")
    catalog = pushable(project)
    path = catalog.fetch("one")
    assert isinstance(path, Path)
    path.chmod(0o644)
    path.write_bytes(b"edited here")
    catalog.push("one", path)
    (outcome,) = catalog.sync().outcomes

    assert remote(project) == b"edited here"
    assert project.files("one") == {"one.csv": b"edited here"}
    assert outcome.hits == 1
    assert mode_of(path) & 0o222 == 0


def test_a_first_push_expects_nothing_there(project: Project, new: Path) -> None:
    """What somebody else put there first is not overwritten."""
    pushable(project).push("one", new)
    theirs = project.put("two.csv", b"theirs")
    second = project.catalog(Dataset(name="two", source=theirs.uri, push=True))
    with pytest.raises(PushConflictError):
        second.push("two", new)

    assert remote(project) == b"new bytes"
    assert remote(project, "two.csv") == b"theirs"


def test_a_remote_that_changed_is_a_conflict_that_shows_both_sides(
    project: Project, new: Path
) -> None:
    """Nothing is uploaded, nothing here changes, and nothing is left."""
    project.put("one.csv", b"old")
    catalog = pushable(project)
    catalog.sync()
    project.put("one.csv", b"theirs")
    with pytest.raises(PushConflictError) as caught:
        catalog.push("one", new)

    assert remote(project) == b"theirs"
    assert project.files("one") == {"one.csv": b"old"}
    assert "expected 3 bytes of 2024-01-01 00:00:01Z" in str(caught.value)
    assert "found 6 bytes of 2024-01-01 00:00:02Z" in str(caught.value)
    assert "`--force`" in str(caught.value.hint)
    assert project.debris() == []


def test_force_overwrites_what_is_there(project: Project, new: Path) -> None:
    """The user said so."""
    project.put("one.csv", b"old")
    catalog = pushable(project)
    catalog.sync()
    project.put("one.csv", b"theirs")
    catalog.push("one", new, force=True)

    assert remote(project) == b"new bytes"
    assert catalog.sync().outcomes[0].hits == 1


def test_what_was_fetched_from_another_source_is_not_expected(project: Project, new: Path) -> None:
    """The catalog names another key since."""
    project.put("one.csv", b"one")
    pushable(project).sync()
    project.put("two.csv", b"two")
    moved = pushable(project, source=f"{LAKE}/two.csv")
    with pytest.raises(PushConflictError) as caught:
        moved.push("one", new)

    assert "expected no object" in str(caught.value)
    assert remote(project, "two.csv") == b"two"


@pytest.mark.parametrize(
    ("dataset", "message", "hint"),
    [
        (one(), "'one' does not allow pushing", "add `push: true` to 'one' in the catalog"),
        (orders(push=True), "'orders' is a glob or a list; only a single object can be pushed",
         "make a dataset of the one object to push"),
        (one(push=True, as_of="2024-01-01"),
         "'one' is pinned to 2024-01-01; a push would not change what it means",
         "remove `as_of` or `version_id` from the dataset"),
    ],
    ids=["not allowed", "glob", "pinned"],
)  # fmt: skip
def test_a_push_that_makes_no_sense_is_refused(
    project: Project, new: Path, dataset: Dataset, message: str, hint: str
) -> None:
    """Before anything is asked, with the way out."""
    with pytest.raises(PushRefusedError) as caught:
        project.catalog(dataset).push(dataset.name, new)

    assert (str(caught.value), caught.value.hint) == (message, hint)
    assert project.storage.calls == []


@pytest.mark.parametrize("name", ["missing", "a folder"])
def test_only_a_file_can_be_pushed(project: Project, name: str) -> None:
    """It is named."""
    (project.base / "a folder").mkdir()
    with pytest.raises(ObjectNotFoundError, match="there is no file"):
        pushable(project).push("one", project.base / name)


def test_a_place_that_is_taken_is_found_before_the_upload(project: Project, new: Path) -> None:
    """Else the source would change and the folder could not follow."""
    mine = project.data / "one" / "one.csv"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(LocalFileConflictError):
        pushable(project).push("one", new)

    assert remote(project) is None
    assert mine.read_bytes() == b"mine"
    assert project.debris() == []


def test_what_is_uploaded_is_what_is_cached_even_if_the_file_changes(
    project: Project, new: Path
) -> None:
    """It is read once, into a snapshot."""
    project.storage.meanwhile("upload", lambda: new.write_bytes(b"changed meanwhile"))
    catalog = pushable(project)
    catalog.push("one", new)

    assert remote(project) == b"new bytes"
    assert catalog.verify()[0].bad == ()
    assert project.files("one") == {"one.csv": b"new bytes"}


def test_a_failed_upload_leaves_everything_as_it_was(project: Project, new: Path) -> None:
    """No snapshot stays in the cache."""
    project.put("one.csv", b"old")
    catalog = pushable(project)
    catalog.sync()
    project.storage.fail("upload", SourceUnreachableError("reset"), times=99)
    with pytest.raises(SourceUnreachableError):
        catalog.push("one", new)

    assert project.files("one") == {"one.csv": b"old"}
    assert project.debris() == []
    assert catalog.sync().outcomes[0].hits == 1


def test_a_key_with_odd_characters_is_pushed_where_it_is_fetched(
    project: Project, new: Path
) -> None:
    """What the catalog has to escape is unescaped once, not twice."""
    key = "odd[1]*.csv"
    dataset = Dataset(name="odd", source=f"{LAKE}/odd[[]1][*].csv", push=True)
    catalog = project.catalog(dataset)
    catalog.push("odd", new)
    path = catalog.fetch("odd")

    assert remote(project, key) == b"new bytes"
    assert project.storage.count("read") == 0
    assert isinstance(path, Path)
    assert path.read_bytes() == b"new bytes"


def test_the_listener_hears_of_the_upload(project: Project, new: Path) -> None:
    """As of any transfer."""
    recorder = EventRecorder()
    pushable(project).push("one", new, report=recorder)

    assert [e.object.size for e in recorder.of(events.TransferStarted)][:1] == [9]
    assert sum(e.count for e in recorder.of(events.Transferred)) == 9
    assert [e.error for e in recorder.of(events.TransferFinished)][:1] == [None]


@pytest.mark.parametrize("keeps_history", [True, False])
def test_pushing_the_same_bytes_again_is_a_new_version(
    project: Project, new: Path, keeps_history: bool
) -> None:
    """And idle afterwards, also where both have one ETag."""
    project.storage = MemoryStorage(keeps_history=keeps_history)
    catalog = pushable(project)
    catalog.push("one", new)
    catalog.push("one", new)

    assert catalog.sync().outcomes[0].hits == 1
    assert project.storage.count("upload") == 2
