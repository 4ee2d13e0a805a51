"""Files on this machine: stats, temporary names, links and copies."""

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datacachalog.cache import files

DAY = 24 * 3600


def test_a_file_is_told_by_size_time_and_inode(tmp_path: Path) -> None:
    """That is what an untouched file keeps."""
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    os.utime(path, ns=(5, 7_000))

    assert files.stat(str(path)) == files.FileStat(3, 7_000, path.stat().st_ino)


@pytest.mark.parametrize("name", ["missing", "file/below", "missing/below"])
def test_nothing_is_none(tmp_path: Path, name: str) -> None:
    """A name below a file is as absent as any other."""
    (tmp_path / "file").touch()

    assert files.stat(f"{tmp_path}/{name}") is None


@pytest.mark.parametrize("kind", ["folder", "link", "dangling", "pipe"])
def test_what_is_no_regular_file_has_no_size(tmp_path: Path, kind: str) -> None:
    """So it never equals a file of ours, whatever it points to."""
    path = tmp_path / "x"
    (tmp_path / "target").touch()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("target" if kind == "link" else "nowhere")
    found = files.stat(str(path))

    assert found is not None
    assert found.size == -1


def test_temporary_names_are_unique() -> None:
    """Also within one process and one instant."""
    assert len({files.temp_name() for _ in range(1000)}) == 1000


def test_the_temporary_file_of_a_dead_process_is_abandoned() -> None:
    """Whatever its age."""
    with subprocess.Popen(["true"]) as process:
        pid = process.pid
    name = files.temp_name().replace(f"-{os.getpid()}-", f"-{pid}-")

    assert files.is_abandoned(name, 0)


@pytest.mark.parametrize("whose", ["ours", "root's"])
def test_the_temporary_file_of_a_living_process_is_not_abandoned(whose: str) -> None:
    """Whatever its age, and whoever's process it is."""
    pid = os.getpid() if whose == "ours" else 1
    name = files.temp_name().replace(f"-{os.getpid()}-", f"-{pid}-")

    assert not files.is_abandoned(name, 9 * DAY)


@pytest.mark.parametrize(("age", "abandoned"), [(DAY - 60, False), (DAY + 60, True)])
def test_another_host_s_temporary_file_is_abandoned_after_a_day(
    age: float, abandoned: bool
) -> None:
    """Its processes cannot be seen from here."""
    assert files.is_abandoned("elsewhere-1-0-01234567.tmp", age) is abandoned


@pytest.mark.parametrize("name", ["x.csv", "a-1-0-xyz.tmp", "elsewhere-1-0-01234567", "-1-2-3.tmp"])
def test_what_does_not_look_like_ours_is_never_abandoned(name: str) -> None:
    """A key of the source may have landed in a folder of that name."""
    assert not files.is_abandoned(name, 900 * DAY)


def test_a_state_s_temporary_name_counts_too() -> None:
    """It begins with a dot, to be hidden beside states."""
    assert files.is_abandoned(".elsewhere-1-0-01234567.tmp", 2 * DAY)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """What fails half-way leaves the old bytes, and no temporary file."""
    path = tmp_path / "x"
    files.replace(str(path), [b"old", b"!"], mtime_ns=7_000)

    def failing() -> Iterator[bytes]:
        yield b"new"
        raise OSError(errno.ENOSPC, "")

    with pytest.raises(OSError, match="28"):
        files.replace(str(path), failing())

    assert (path.read_bytes(), path.stat().st_mtime_ns) == (b"old!", 7_000)
    assert os.listdir(tmp_path) == ["x"]


def test_a_sweep_removes_what_dead_runs_left_and_counts_it(tmp_path: Path) -> None:
    """And nothing else; a folder that is not there is no error."""
    alive = files.temp_name()
    dead = alive.replace(f"-{os.getpid()}-", "-999999999-")
    for name in (alive, dead, f".{dead}", "x.tmp"):
        (tmp_path / name).write_bytes(b"123")

    assert files.sweep(str(tmp_path)) == 6
    assert sorted(os.listdir(tmp_path)) == sorted([alive, "x.tmp"])
    assert files.sweep(f"{tmp_path}/missing") == 0


def test_reflink_or_copy_gives_a_file_of_its_own(tmp_path: Path) -> None:
    """Writing to one does not change the other, whatever the file system can do."""
    (tmp_path / "a").write_bytes(b"abc")
    files.reflink_or_copy(f"{tmp_path}/a", f"{tmp_path}/b")
    (tmp_path / "b").write_bytes(b"new")

    assert (tmp_path / "a").read_bytes() == b"abc"


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_equal_bytes_are_found_equal(tmp_path: Path, size: int) -> None:
    """At and beyond the size of one chunk, too."""
    data = os.urandom(size)
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(data)

    assert files.have_same_bytes(f"{tmp_path}/a", f"{tmp_path}/b")


@pytest.mark.parametrize("other", [b"abd", b"ab", b"abcd", None], ids=str)
def test_other_bytes_are_not(tmp_path: Path, other: bytes | None) -> None:
    """Nor is a file that cannot be read."""
    (tmp_path / "a").write_bytes(b"abc")
    if other is not None:
        (tmp_path / "b").write_bytes(other)

    assert not files.have_same_bytes(f"{tmp_path}/a", f"{tmp_path}/b")


@pytest.mark.parametrize(
    ("found", "wanted", "same"),
    [
        pytest.param(1_000_000_123_456_789, 1_000_000_123_456_789, True, id="exact"),
        pytest.param(1_000_000_123_456_700, 1_000_000_123_456_789, True, id="100 ns steps"),
        pytest.param(1_000_000_000_000_000, 1_000_000_123_456_789, True, id="1 s steps"),
        pytest.param(1_000_000_000_000_000, 1_001_500_000_000_000, False, id="too far for 1 s"),
        pytest.param(1_000_000_000_000_000, 1_000_001_500_000_000, True, id="2 s steps"),
        pytest.param(1_000_000_123_456_001, 1_000_000_123_456_789, False, id="1 ns too precise"),
        pytest.param(1_000_001_000_000_000, 1_000_000_123_456_789, False, id="later"),
    ],
)
def test_times_are_compared_as_the_file_system_keeps_them(
    found: int, wanted: int, same: bool
) -> None:
    """A coarse file system drops digits, always downwards."""
    assert files.same_time(found, wanted) is same


def test_the_clock_of_files_has_nanoseconds(tmp_path: Path) -> None:
    """What tells a written-to hard link from a pristine one rests on this, here at least."""
    times: set[int] = set()
    end = time.monotonic() + 5
    while len(times) < 4 and time.monotonic() < end:
        (tmp_path / "x").write_bytes(b"x")
        times.add((tmp_path / "x").stat().st_mtime_ns)

    assert any(at % 1000 for at in times)
