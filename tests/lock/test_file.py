"""What a lock says, byte for byte, what is refused, and how the file is replaced."""

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog import relpath
from datacachalog.cache import files
from datacachalog.errors import CacheError, InvalidValueError, LockError
from datacachalog.lock.file import (
    CatalogLock,
    LockedDataset,
    LockFile,
    LockMode,
    PinKind,
    parse,
    render,
)
from datacachalog.model import EPOCH, RemoteObject

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def an_object(path: str = "a.csv", *, version: str | None = "v1", size: int = 3) -> RemoteObject:
    """Return an object of the orders."""
    return RemoteObject(f"s3://lake/orders/{path}", path, size, AT, "e1", version)


def a_lock(*objects: RemoteObject, hashes: dict[str, str] | None = None) -> CatalogLock:
    """Return a lock of one dataset."""
    entry = LockedDataset("orders", "d1", PinKind.VERSION, objects, hashes or {})
    return CatalogLock({"orders": entry})


def test_text_is_one_head_and_one_line_a_file() -> None:
    """A lock is JSON lines: the format, a head for each dataset, a line for each file."""
    text = render(a_lock(an_object(), hashes={"a.csv": "ab" * 32}))

    assert text == (
        '{"catalog_lock":"1.0"}\n'
        '{"dataset":"orders","digest":"d1","pin":"version","bucket":"s3://lake","prefix":"orders/"}\n'
        '{"key":"orders/a.csv","version_id":"v1","etag":"e1","size":3,'
        f'"modified":"2026-01-02T03:04:05Z","blake3":"{"ab" * 32}"}}\n'
    )


def test_order_of_input_does_not_show() -> None:
    """Datasets and files are sorted, whatever order they came in."""
    one, two = an_object("a.csv"), an_object("b/c.csv")
    first = {"x": LockedDataset("x", "d", PinKind.VERSION, (one, two))}
    second = {"y": LockedDataset("y", "d", PinKind.VERSION, ())}

    text = render(CatalogLock({**first, **second}))

    turned = LockedDataset("x", "d", PinKind.VERSION, (two, one))
    assert render(CatalogLock({**second, "x": turned})) == text


_keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
_texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)
_times = st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)) | st.just(EPOCH)  # noqa: DTZ001


@st.composite
def _objects(draw: st.DrawFn) -> list[RemoteObject]:
    """Draw objects of one dataset: any keys, in one bucket or several, renamed or not."""
    found: dict[str, RemoteObject] = {}
    for key in draw(st.lists(_keys, unique=True, max_size=8)):
        bucket = draw(st.sampled_from(["s3://lake", "s3://lake", "s3://other"]))
        path = relpath.encode(draw(st.sampled_from([key, f"renamed {key}", f"p/{key}"])))
        obj = RemoteObject(
            f"{bucket}/p/{key}",
            path,
            draw(st.integers(0, 2**63)),
            draw(_times),
            draw(_texts),
            draw(_texts),
        )
        found.setdefault(path, obj)
    return [found[path] for path in sorted(found)]


@given(objects=_objects())
def test_any_dataset_survives_a_round_trip(objects: list[RemoteObject]) -> None:
    """Whatever keys hold and wherever they lie, reading what was written gives the same lock."""
    lock = a_lock(*objects, hashes={obj.relpath: "0" * 64 for obj in objects[::2]})

    text = render(lock)

    again = parse(text)
    assert again == lock
    assert render(again) == text
    assert text.isascii()
    assert text.count("\n") == 2 + len(objects)


def test_line_ends_of_another_system_are_read() -> None:
    """A checkout that turned line ends is the same lock."""
    lock = a_lock(an_object("a.csv"), an_object("b.csv"))

    assert parse(render(lock).replace("\n", "\r\n")) == lock


def test_an_unresolved_merge_says_how_to_resolve_it() -> None:
    """Conflict marks are told from damage, with the commands that help."""
    lines = render(a_lock(an_object())).splitlines()
    text = "\n".join([*lines[:2], "<<<<<<< HEAD", lines[2], "=======", lines[2], ">>>>>>> x"])

    with pytest.raises(LockError) as caught:
        parse(text, where="data/core.lock")

    assert str(caught.value) == "data/core.lock:3: the file holds an unresolved merge"
    assert caught.value.hint == (
        "`git checkout --ours data/core.lock` (or --theirs), then `dcl lock`,"
        " then `git add data/core.lock`"
    )


HEAD = '{"catalog_lock":"1.0"}\n'
ORDERS = '{"dataset":"orders","digest":"d","pin":"version","bucket":"s3://lake","prefix":""}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "catalog.lock:1: this is no catalog lock", id="empty"),
        pytest.param("{}\n", "catalog.lock:1: this is no catalog lock", id="no format"),
        pytest.param(
            '{"catalog_lock":"2.0"}\n',
            "catalog.lock:1: the lock has format 2.0, this `dcl` reads up to 1",
            id="newer major",
        ),
        pytest.param(
            HEAD + '{"key":"a"}\n',
            "catalog.lock:2: a dataset's head is missing",
            id="file before head",
        ),
        pytest.param(
            HEAD + "nonsense\n", "catalog.lock:2: not a line of a lock", id="damage"
        ),
        pytest.param(HEAD + "\n" + ORDERS, "catalog.lock:2: not a line of a lock", id="gap"),
        pytest.param(
            HEAD + '{"key":"a"},{"key":"b"}\n',
            "catalog.lock:2: not a line of a lock",
            id="two on a line",
        ),
        pytest.param(HEAD + "[1],[2]\n", "catalog.lock:2: not a line of a lock", id="lists"),
        pytest.param(HEAD + ORDERS * 2, "catalog.lock:3: 'orders' is locked twice", id="twice"),
        pytest.param(
            HEAD + ORDERS.replace("version", "magic"),
            "catalog.lock: dataset 'orders' (line 2) cannot be read:"
            " 'magic' is no pin",
            id="unknown pin",
        ),
    ],
)  # fmt: skip
def test_what_is_no_lock_is_refused(text: str, message: str) -> None:
    """A lock that cannot be trusted is an error that names the line."""
    with pytest.raises(LockError) as caught:
        parse(text)

    assert str(caught.value) == message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        pytest.param(['{"key":"a","size":"3"}'], "a size is no number of bytes", id="size"),
        pytest.param(['{"key":"a","size":-3}'], "a size is no number of bytes", id="negative"),
        pytest.param(['{"key":"a"}'], "'size' is missing", id="no size"),
        pytest.param(['{"key":1,"size":3}'], "1 is no text", id="key"),
        pytest.param(['{"key":"a","size":3,"etag":7}'], "7 is no text", id="etag"),
        pytest.param(
            ['{"key":"a","size":3,"modified":"2026-01-02T03:04:05"}'],
            "a time has no zone",
            id="naive time",
        ),
        pytest.param(
            ['{"key":"a","size":3}', '{"key":"b","path":"a","size":3}'],
            "'a' is locked twice",
            id="two files on one path",
        ),
        *(
            pytest.param(
                [json.dumps({"key": "a", "path": path, "size": 3})],
                f"{path!r} is no path below a folder",
                id=f"path {path!r}",
            )
            for path in ("../a", "/etc/passwd", "a/../../b", "a//b", "a/", ".", "a\\b", "a\nb")
        ),
        pytest.param(
            ['{"key":"../../a","size":3}'], "'../../a' is no path below a folder", id="key as path"
        ),
    ],
)
def test_lines_that_no_sync_wrote_are_refused(lines: list[str], reason: str) -> None:
    """What is read is checked as what is resolved: no line leads out of a dataset's folder."""
    with pytest.raises(LockError) as caught:
        parse("\n".join([HEAD + ORDERS.rstrip(), *lines]))

    assert str(caught.value) == (
        f"catalog.lock: dataset 'orders' (line 2) cannot be read: {reason}"
    )


def test_a_newer_minor_format_is_read() -> None:
    """Keys that this version does not know are no reason to refuse."""
    text = (
        render(a_lock(an_object()))
        .replace('"1.0"', '"1.7"')
        .replace('"size":3', '"size":3,"later":true')
    )

    assert parse(text) == a_lock(an_object())


# --- the file -----------------------------------------------------------------------------


def a_file(folder: Path, mode: LockMode = LockMode.OBEY) -> LockFile:
    """Return the lock file of a project in `folder`."""
    return LockFile(folder / "catalog.lock", mode, guards=folder / "state")


def an_entry(name: str) -> LockedDataset:
    """Return an entry without files."""
    return LockedDataset(name, "d", PinKind.VERSION, ())


def test_an_unchanged_lock_is_not_rewritten(tmp_path: Path) -> None:
    """Writing the same content leaves the file's inode and time alone."""
    file = a_file(tmp_path)
    file.update([an_entry("one")])
    before = file.path.stat()

    is_changed = file.update([an_entry("one")])

    after = file.path.stat()
    assert not is_changed
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    """Runs that add to one lock at once each read it as it is by then."""
    names = [f"n{number}" for number in range(8)]
    threads = [
        threading.Thread(target=lambda name=name: a_file(tmp_path).update([an_entry(name)]))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lock = a_file(tmp_path).demand()
    assert sorted(lock.datasets) == names
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalog.lock", "state"]


def test_a_change_by_others_is_seen(tmp_path: Path) -> None:
    """The file is read once, and again when it is another one."""
    ours, theirs = a_file(tmp_path), a_file(tmp_path)
    ours.update([an_entry("one")])
    first = theirs.load()
    ours.update([an_entry("two")])

    assert theirs.load() is not first
    assert theirs.load() is theirs.load()


@pytest.mark.parametrize("mode", [LockMode.LOCKED, LockMode.FROZEN], ids=lambda m: m.value)
def test_a_demanded_lock_must_be_there(tmp_path: Path, mode: LockMode) -> None:
    """`--locked` and `--frozen` without a lock are errors, not a fresh resolution."""
    with pytest.raises(LockError, match=r"there is no '.*catalog\.lock'") as caught:
        a_file(tmp_path, mode).read()

    assert caught.value.hint == "run `dcl lock`"


def test_no_lock_is_none_to_obey(tmp_path: Path) -> None:
    """Without a lock, runs go by the catalog alone."""
    assert a_file(tmp_path).read() is None


def test_an_ignored_lock_is_not_even_read(tmp_path: Path) -> None:
    """`--no-lock` works also where the lock is damaged."""
    (tmp_path / "catalog.lock").write_text("damage")

    assert a_file(tmp_path, LockMode.IGNORE).read() is None


def test_messages_name_the_file_as_seen_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hint that holds the path can be typed in the folder where the command ran."""
    file = a_file(tmp_path)
    file.path.write_bytes(b"\xff")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LockError, match=r"^catalog\.lock: this is no catalog lock$"):
        file.load()
    monkeypatch.chdir(tmp_path / "sub")

    with pytest.raises(LockError, match=f"^{file.path}: this is no catalog lock$"):
        file.load()


def test_a_lock_that_cannot_be_written_stays(tmp_path: Path) -> None:
    """A folder in its place is an error of ours, and no temporary file is left."""
    file = a_file(tmp_path)
    file.path.mkdir()

    with pytest.raises((CacheError, LockError), match=r"catalog\.lock"):
        file.update([an_entry("one")])

    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalog.lock", "state"]


def test_what_a_killed_run_left_is_swept(tmp_path: Path) -> None:
    """A half-written lock of a process that is gone does not stay beside the catalog."""
    ours = files.temp_name()
    dead = ours.replace(f"-{os.getpid()}-", "-999999999-")
    for name in (f".{ours}", f".{dead}", ".env.tmp"):
        (tmp_path / name).write_text("{")
    a_file(tmp_path).update([an_entry("one")])

    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted(
        [f".{ours}", ".env.tmp", "catalog.lock"]
    )


def test_a_mode_that_is_none_is_refused_with_the_nearest() -> None:
    """A misspelt mode is told, with the one that was meant."""
    with pytest.raises(InvalidValueError, match="'frozn' is no lock mode") as caught:
        LockMode.of("frozn")

    assert caught.value.hint == "did you mean 'frozen'?"


def test_a_lock_is_a_value() -> None:
    """Datasets are replaced and left out by name, in a new lock."""
    lock = CatalogLock().with_datasets([an_entry("one"), an_entry("two")])

    assert list(lock.only(["two", "three"]).datasets) == ["two"]
    assert list(lock.datasets) == ["one", "two"]
