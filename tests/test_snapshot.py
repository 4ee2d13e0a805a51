"""What was read once counts until anything it was read from changes, and never longer."""

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog import __version__, snapshot
from datacachalog.snapshot import Reading

VALUE = [["one", "größe \udcff", ""], ["two", "", "\x1b"]]
ENVIRON = {"HOME": "/home/user", "BUCKET": "lake", "OTHER": "x"}


@pytest.fixture
def at(tmp_path: Path) -> Path:
    """Return where the snapshot of a catalog lies."""
    return snapshot.place(tmp_path / "cache", tmp_path / "catalog.yaml")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Return a catalog and what it includes."""
    main, included = tmp_path / "catalog.yaml", tmp_path / "common.yaml"
    main.write_bytes(b"include: common.yaml\n")
    included.write_bytes(b"datasets: {a: b.csv}\n")
    return main, included


def keep(at: Path, files: tuple[Path, ...], environ: Mapping[str, str] = ENVIRON) -> Reading:
    """Keep `VALUE` as made from these files, `BUCKET`, and the lack of `UNSET`."""
    reading = Reading(environ)
    for path in files:
        reading.read(path)
    assert (reading.environ.get("BUCKET"), reading.environ.get("UNSET")) == ("lake", None)
    snapshot.keep(at, reading, VALUE)
    return reading


def keep_of_nothing(at: Path) -> None:
    """Keep `VALUE` as made from nothing."""
    snapshot.keep(at, Reading(ENVIRON), VALUE)


def test_gives_back_what_was_kept(at: Path, files: tuple[Path, Path]) -> None:
    """Any text survives, lone surrogates and control characters too."""
    keep(at, files)

    assert snapshot.recall(at, ENVIRON) == VALUE


def test_reading_gives_what_the_file_holds(files: tuple[Path, Path]) -> None:
    """Whoever reads through it gets the same bytes and the same variables."""
    reading = Reading(ENVIRON)

    assert reading.read(files[0]) == b"include: common.yaml\n"
    assert dict(reading.environ) == ENVIRON
    with pytest.raises(FileNotFoundError):
        reading.read(files[0].with_name("none"))


def test_nothing_is_recalled_where_nothing_was_kept(at: Path) -> None:
    """No folder, no file, no error."""
    assert snapshot.recall(at, ENVIRON) is None


def _same_size_and_time(path: Path) -> None:
    before = path.stat()
    path.write_bytes(path.read_bytes().swapcase())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("index", [0, 1], ids=["main", "included"])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_same_size_and_time, id="same-size-and-time"),
        pytest.param(lambda path: path.write_bytes(b""), id="emptied"),
        pytest.param(Path.unlink, id="removed"),
    ],
)
def test_a_change_of_any_file_ends_it(
    at: Path, files: tuple[Path, Path], index: int, change: Callable[[Path], object]
) -> None:
    """Bytes decide, not sizes and times."""
    keep(at, files)
    change(files[index])

    assert snapshot.recall(at, ENVIRON) is None


def test_a_file_that_was_only_touched_does_not(at: Path, files: tuple[Path, Path]) -> None:
    """A checkout that writes the same bytes again changes nothing."""
    keep(at, files)
    os.utime(files[0], (0, 0))

    assert snapshot.recall(at, ENVIRON) == VALUE


@pytest.mark.parametrize(
    ("environ", "holds"),
    [
        pytest.param({**ENVIRON, "OTHER": "y", "NEW": "z"}, True, id="others"),
        pytest.param({**ENVIRON, "BUCKET": "lab"}, False, id="changed"),
        pytest.param({**ENVIRON, "BUCKET": ""}, False, id="emptied"),
        pytest.param({k: v for k, v in ENVIRON.items() if k != "BUCKET"}, False, id="removed"),
        pytest.param({**ENVIRON, "UNSET": ""}, False, id="set-since"),
        pytest.param({**ENVIRON, "HOME": "/root"}, False, id="home"),
    ],
)
def test_variables_count_that_were_asked_for(
    at: Path, files: tuple[Path, Path], environ: dict[str, str], holds: bool
) -> None:
    """Also those that were not there; and `HOME`, which is what `~` means."""
    keep(at, files)

    assert (snapshot.recall(at, environ) == VALUE) is holds


def test_who_looks_at_all_variables_depends_on_all(at: Path) -> None:
    """Going through the environment is asking for everything in it."""
    reading = Reading(ENVIRON)
    assert len(reading.environ) == len(list(reading.environ))
    snapshot.keep(at, reading, VALUE)

    assert snapshot.recall(at, {**ENVIRON, "OTHER": "y"}) is None


def test_another_program_starts_anew(at: Path, files: tuple[Path, Path]) -> None:
    """What another version read may mean something else to this one."""
    reading = Reading(ENVIRON)
    reading.read(files[0])
    reading.program = ["0.0.9"]
    snapshot.keep(at, reading, VALUE)

    assert snapshot.recall(at, ENVIRON) is None


def test_the_program_is_its_version_and_every_module() -> None:
    """Also between two releases: an edited module is another program."""
    version, _, modules = Reading(ENVIRON).program
    root = Path(snapshot.__file__).parent

    assert version == __version__
    assert isinstance(modules, list)
    assert {path for path, _, _ in modules} == {str(path) for path in root.rglob("*.py")}
    assert modules[0][1:] == (os.stat(modules[0][0]).st_size, os.stat(modules[0][0]).st_mtime_ns)


def test_what_counts_is_what_was_read(at: Path, files: tuple[Path, Path]) -> None:
    """A file that changes after it was read, and before the value is kept, is not taken for it."""
    reading = Reading(ENVIRON)
    reading.read(files[0])
    files[0].write_bytes(b"datasets: {}\n")
    snapshot.keep(at, reading, VALUE)

    assert snapshot.recall(at, ENVIRON) is None


@given(data=st.data())
def test_a_damaged_one_is_as_none(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Wherever it was cut, lengthened or overwritten."""
    at = tmp_path_factory.getbasetemp() / "damaged"
    keep_of_nothing(at)
    whole = at.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    damaged = whole[:start] + data.draw(st.binary(max_size=80)) + whole[end:]
    at.write_bytes(damaged)

    assert snapshot.recall(at, ENVIRON) == (VALUE if damaged == whole else None)


def test_a_folder_in_its_place_is_as_none(at: Path, files: tuple[Path, Path]) -> None:
    """It is neither read nor replaced, and leaves nothing behind."""
    at.mkdir(parents=True)
    keep(at, files)

    assert snapshot.recall(at, ENVIRON) is None
    assert list(at.parent.iterdir()) == [at]


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    """A cache that cannot be made is no error."""
    (tmp_path / "cache").write_text("a file")
    at = snapshot.place(tmp_path / "cache", tmp_path / "catalog.yaml")
    keep_of_nothing(at)

    assert snapshot.recall(at, ENVIRON) is None
    assert (tmp_path / "cache").read_text() == "a file"


def test_it_is_for_its_owner_and_tells_no_secret(at: Path, files: tuple[Path, Path]) -> None:
    """Variables count without being written down."""
    keep(at, files, {**ENVIRON, "HOME": "/home/s3cr3t"})

    assert stat.S_IMODE(at.stat().st_mode) == 0o600
    assert b"s3cr3t" not in at.read_bytes()
    assert list(at.parent.iterdir()) == [at]


def test_what_others_wrote_is_as_none(
    at: Path, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache may be shared; what decides where data comes from may not."""
    keep(at, files)
    monkeypatch.setattr(os, "geteuid", lambda: at.stat().st_uid + 1)

    assert snapshot.recall(at, ENVIRON) is None


def test_each_subject_has_its_place(tmp_path: Path) -> None:
    """Neither two catalogs take turns, nor two things kept of one."""
    kinds = [("a.yaml", ""), ("b.yaml", ""), ("a.yaml", "catalog")]
    places = [snapshot.place(tmp_path, tmp_path / name, kind) for name, kind in kinds]
    for i, at in enumerate(places):
        snapshot.keep(at, Reading(ENVIRON), i)

    assert [snapshot.recall(at, ENVIRON) for at in places] == [0, 1, 2]


def test_the_oldest_make_room(tmp_path: Path) -> None:
    """Whoever lists a thousand catalogs does not fill a disk."""
    places = [snapshot.place(tmp_path, Path(f"/{i}")) for i in range(60)]
    for i, at in enumerate(places):
        snapshot.keep(at, Reading(ENVIRON), i)
        os.utime(at, (i, i))
    keep_of_nothing(places[0])
    left = {snapshot.recall(at, ENVIRON) is not None for at in places[11:]}

    assert len(list(places[0].parent.iterdir())) == 50
    assert left == {True}
    assert snapshot.recall(places[0], ENVIRON) == VALUE


def test_clear_removes_them_all(tmp_path: Path, at: Path) -> None:
    """And is content where there is nothing."""
    keep_of_nothing(at)
    snapshot.clear(tmp_path / "cache")
    snapshot.clear(tmp_path / "none")

    assert list(at.parent.iterdir()) == []
