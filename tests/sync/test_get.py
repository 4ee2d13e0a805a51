"""Getting one URI: like `cp`, but verified; files are the caller's own."""

import os
from pathlib import Path

import pytest

from datacachalog import catalog
from datacachalog.errors import LocalFileConflictError, ObjectNotFoundError
from datacachalog.storage.base import MisreadKeyError
from tests.projects import LAKE, Project, contents, current_umask, mode_of


def get(project: Project, source: str, dest: str | Path | None = None) -> Path | list[Path]:
    """Get a source of the project's storage."""
    return catalog.get(f"{LAKE}/{source}", dest, catalog=project.catalog())


@pytest.mark.parametrize(
    ("dest", "lands"),
    [
        ("new.csv", "new.csv"),
        ("there", "there/one.csv"),
        ("there/", "there/one.csv"),
        ("made/", "made/one.csv"),
        ("made/new.csv", "made/new.csv"),
        (None, "one.csv"),
    ],
    ids=str,
)
def test_one_object_lands_as_with_cp(
    project: Project, monkeypatch: pytest.MonkeyPatch, dest: str | None, lands: str
) -> None:
    """As the file named, or into the folder."""
    (project.base / "here" / "there").mkdir(parents=True)
    monkeypatch.chdir(project.base / "here")
    project.put("one.csv", b"1")
    path = get(project, "one.csv", dest)

    assert path == project.base / "here" / lands
    assert path.read_bytes() == b"1"


def test_a_glob_lands_in_a_folder(project: Project) -> None:
    """With its hierarchy; nothing else is left there."""
    project.put_all({"d/a": b"1", "d/e/b": b"2"})
    paths = get(project, "d/**", project.base / "out")

    assert paths == [project.base / "out" / "a", project.base / "out" / "e" / "b"]
    assert contents(project.base / "out") == {"a": b"1", "e/b": b"2"}


def test_what_is_got_is_the_caller_s_own(project: Project) -> None:
    """Writable, and no link into the cache."""
    obj = project.put("one.csv", b"1")
    path = get(project, "one.csv", project.base / "x")
    assert isinstance(path, Path)
    times = path.stat().st_mtime_ns
    mode = mode_of(path)
    path.write_bytes(b"changed")

    assert mode == 0o666 & ~current_umask()
    assert times == obj.mtime_ns
    assert [stored.read_bytes() for stored in project.stored()] == [b"1"]


def test_getting_the_same_again_is_free(project: Project) -> None:
    """From the cache, or not at all."""
    project.put("one.csv", b"1")
    get(project, "one.csv", project.base / "x")
    get(project, "one.csv", project.base / "x")
    get(project, "one.csv", project.base / "y")

    assert project.storage.count("read") == 1


@pytest.mark.parametrize("changed", ["here", "there", "there, to the same size"])
def test_a_file_with_other_bytes_is_never_overwritten(project: Project, changed: str) -> None:
    """Not even one that was got before: it is the caller's."""
    project.put("one.csv", b"1")
    path = project.base / "x"
    get(project, "one.csv", path)
    if changed == "here":
        path.write_bytes(b"mine")
    else:
        project.put("one.csv", b"2" if "size" in changed else b"22")
    before = path.read_bytes()
    with pytest.raises(LocalFileConflictError):
        get(project, "one.csv", path)

    assert path.read_bytes() == before


def test_one_conflict_of_many_changes_nothing(project: Project) -> None:
    """All or none."""
    project.put_all({"d/a": b"1", "d/b": b"2"})
    (project.base / "out").mkdir()
    (project.base / "out" / "b").write_bytes(b"x")
    with pytest.raises(LocalFileConflictError):
        get(project, "d/**", project.base / "out")

    assert contents(project.base / "out") == {"b": b"x"}


def test_an_empty_folder_of_the_caller_s_stays(project: Project) -> None:
    """Also if getting failed."""
    (project.base / "out").mkdir()
    with pytest.raises(ObjectNotFoundError):
        get(project, "missing", project.base / "out")

    assert os.listdir(project.base / "out") == []


def test_nothing_is_recorded(project: Project) -> None:
    """Neither in the project nor beside the file."""
    project.put("one.csv", b"1")
    get(project, "one.csv", project.base / "out" / "x")

    assert not (project.root / ".datacachalog").exists()
    assert os.listdir(project.base / "out") == ["x"]


def test_a_key_that_a_listing_showed_wrongly_is_listed_again(project: Project) -> None:
    """Only its read tells; then nobody hears of it."""
    project.put_all({"d/a": b"1", "d/b": b"2"})
    project.storage.fail("read", MisreadKeyError("d/a is d/a/ in truth"))
    get(project, "d/**", project.base / "out")

    assert contents(project.base / "out") == {"a": b"1", "b": b"2"}
    assert project.storage.count("scan") == 2
