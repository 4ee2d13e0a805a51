"""States: written whole or not at all, read in one go, made again when they cannot be read."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog.cache import files
from datacachalog.cache.placed_files import PlacedFile, PlacedFiles
from datacachalog.cache.state import State, StateFolder
from datacachalog.errors import CacheError
from datacachalog.model import RemoteObject

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)

keys = st.text(st.characters(), min_size=1, max_size=12)
objects = st.builds(
    RemoteObject,
    uri=keys.map("s3://lake/".__add__),
    relpath=keys,
    size=st.integers(0, 1 << 50),
    modified=st.datetimes(timezones=st.just(UTC)),
    etag=st.none() | keys,
    version_id=st.none() | keys,
)
rows = st.builds(PlacedFile, objects, st.none() | keys, st.integers(-(1 << 40), 1 << 62))


def state(*placed: PlacedFile) -> State:
    """Return a state of these files."""
    return State("orders", "d1", "latest", "memory", "data/orders", NOW, PlacedFiles.of(placed))


def placed(relpath: str = "a", **options: object) -> PlacedFile:
    """Return one file as it usually is."""
    obj = RemoteObject(f"s3://lake/x/{relpath}", relpath, 3, NOW, "e1")
    return PlacedFile(obj._replace(**options), "b3", obj.mtime_ns)  # type: ignore[arg-type] # fields


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    """Give a folder of states that does not exist yet."""
    return StateFolder(tmp_path / "state")


@given(found=st.lists(rows, max_size=5, unique_by=lambda row: row.object.relpath))
def test_what_is_written_is_read(
    found: list[PlacedFile], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any key, time, size and hash there can be, sorted by path."""
    folder = StateFolder(tmp_path_factory.mktemp("state"))
    written = state(*found)
    folder.write("orders", written)
    read = folder.read("orders")

    assert read is not None
    assert read == written
    assert list(read.files) == sorted(found, key=lambda row: row.object.relpath)


def test_many_files_are_written_and_read_like_few(folder: StateFolder) -> None:
    """Also where a column lacks values, or texts need escapes, here and there."""
    few = (4095, 4096, 9000)
    rows = [
        placed(f"{i:05}{'é' if i in few else ''}", etag='"\\\n' if i in few else "e1")
        for i in range(9001)
    ]
    rows[4097] = rows[4097]._replace(blake3=None)
    folder.write("orders", state(*rows))
    read = folder.read("orders")

    assert read is not None
    assert list(read.files) == rows


def test_a_state_holds_no_column_it_can_do_without(folder: StateFolder) -> None:
    """Keys follow from their prefix, and times from the remote's: 100,000 rows stay small."""
    folder.write("orders", state(placed("a"), placed("b")))
    written = json.loads(folder.path("orders").read_text())["files"]

    assert written["uri"] is None
    assert written["version_id"] is None
    assert written["mtime_ns"] is None


@pytest.mark.parametrize(
    "uris",
    [
        pytest.param(["s3://lake/x/a", "s3://lake/x/b"], id="below one folder"),
        pytest.param(["s3://lake/x/a", "s3://lake/y/b"], id="below several"),
        pytest.param(["s3://lake/x/~a", "s3://lake/x/b"], id="spelled unlike their paths"),
    ],
)
def test_keys_are_kept_whatever_they_have_in_common(folder: StateFolder, uris: list[str]) -> None:
    """Through writing, reading and a change of one of them."""
    before = PlacedFiles.of([placed("a", uri=uris[0]), placed("b", uri="s3://lake/x/b")])
    after = before.with_changes([placed("a", uri=uris[0]).object], [placed("b", uri=uris[1])])
    folder.write("orders", state(*after))
    read = folder.read("orders")

    assert read is not None
    assert list(read.files.uri) == list(after.uri) == uris


def test_there_may_be_no_state(folder: StateFolder) -> None:
    """Asking makes no folder."""
    assert folder.read("orders") is None
    assert not folder.root.exists()


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda text: text[:-10], id="cut short"),
        pytest.param(lambda text: "", id="empty"),
        pytest.param(lambda text: "\0" * len(text), id="zeros"),
        pytest.param(lambda text: text.replace('"format":1', '"format":2'), id="another format"),
        pytest.param(lambda text: text.replace('"size":[3,3]', '"size":[3]'), id="a short column"),
        pytest.param(lambda text: text.replace('"size"', '"sise"'), id="a missing column"),
        pytest.param(
            lambda text: text.replace('"relpath":["a","b"]', '"relpath":5'), id="no column"
        ),
        pytest.param(lambda text: text.replace('["a","b"]', '["b","a"]'), id="out of order"),
        pytest.param(lambda text: text.replace('["a","b"]', "[1,2]"), id="no paths"),
        pytest.param(lambda text: text.replace('"s3://lake/x/"', "null"), id="no keys"),
        pytest.param(lambda text: text.replace('"s3://lake/x/"', "7"), id="a base that is no text"),
        pytest.param(lambda text: "[]", id="a list"),
        pytest.param(lambda text: "\udcff", id="no text"),
    ],
)
def test_a_state_that_cannot_be_read_counts_as_none(
    folder: StateFolder, spoil: Callable[[str], str]
) -> None:
    """It is made again from what the storage and the disk say."""
    folder.write("orders", state(placed("a"), placed("b")))
    path = folder.path("orders")
    whole = path.read_text()
    text = spoil(whole)
    assert text != whole
    path.write_bytes(text.encode("utf-8", "surrogateescape"))

    assert folder.read("orders") is None


def test_a_state_that_may_not_be_read_is_an_error(folder: StateFolder) -> None:
    """Else a sync would take every file for the user's."""
    folder.path("orders").mkdir(parents=True)
    with pytest.raises(CacheError) as caught:
        folder.read("orders")

    assert str(caught.value) == f"'{folder.path('orders')}' cannot be read: Is a directory"


def test_a_state_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    """With the reason, and without debris."""
    (tmp_path / "file").touch()
    folder = StateFolder(tmp_path / "file" / "state")
    with pytest.raises(CacheError) as caught:
        folder.write("orders", state())

    assert str(caught.value) == f"'{folder.path('orders')}' cannot be written: Not a directory"


def test_confirming_changes_the_time_of_the_check_only(folder: StateFolder) -> None:
    """The file is not written again: same inode, same bytes."""
    folder.write("orders", state(placed()))
    before = folder.path("orders").stat()
    folder.confirm("orders", NOW + timedelta(hours=1))
    read = folder.read("orders")

    assert read is not None
    assert read.checked == NOW + timedelta(hours=1)
    assert folder.path("orders").stat().st_ino == before.st_ino


def test_confirming_nothing_is_harmless(folder: StateFolder) -> None:
    """Another run may have removed the state."""
    folder.confirm("orders", NOW)

    assert folder.read("orders") is None


def test_a_journal_stays_until_it_is_cleared(folder: StateFolder) -> None:
    """Beside the state, which it does not change."""
    folder.write("orders", state(placed("a")))
    folder.write_journal("orders", state(placed("b")))
    journal = folder.read_journal("orders")
    folder.clear_journal("orders")

    assert journal is not None
    assert journal.files.relpath == ["b"]
    assert folder.read_journal("orders") is None
    assert folder.read("orders") is not None


def test_the_journal_of_one_dataset_is_no_state_of_another(folder: StateFolder) -> None:
    """Names may hold dots."""
    folder.write_journal("orders", state(placed()))
    folder.write("orders.coming", state())

    assert folder.read("orders") is None
    assert folder.read_journal("orders.coming") is None


def test_what_killed_runs_left_half_written_is_swept(folder: StateFolder) -> None:
    """By the first write of the next process; a living one's is left."""
    folder.root.mkdir()
    alive = f".{files.temp_name()}"
    dead = alive.replace(f"-{os.getpid()}-", "-999999999-")
    for name in (alive, dead):
        (folder.root / name).touch()
    folder.write("orders", state())

    assert sorted(os.listdir(folder.root)) == sorted([alive, "orders.json"])


def test_a_file_that_comes_into_place_during_the_sweep_does_no_harm(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another dataset's state is renamed into place between listing and looking."""
    folder.root.mkdir(parents=True, exist_ok=True)
    passing = folder.root / f".{files.temp_name()}"
    passing.touch()
    list_entries = os.scandir

    @contextmanager
    def list_then_vanish(path: Path) -> Iterator[list[os.DirEntry[str]]]:
        with list_entries(path) as entries:
            found = list(entries)
        passing.unlink(missing_ok=True)
        yield found

    monkeypatch.setattr(os, "scandir", list_then_vanish)
    folder.write("orders", state(placed()))

    assert folder.read("orders") is not None
