"""What a lock says, byte for byte, and what is refused."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog import lockfile
from datacachalog.errors import LockError
from datacachalog.lockfile import Held, Lock, LockedDataset, LockFile, LockMode
from datacachalog.model import AsOf, Latest, RemoteObject
from datacachalog.spec import Dataset

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def an_object(path: str = "a.csv", *, version: str | None = "v1", size: int = 3) -> RemoteObject:
    """Return an object of the orders."""
    return RemoteObject(f"s3://lake/orders/{path}", path, size, AT, "e1", version)


def a_lock(*objects: RemoteObject, hashes: dict[str, str] | None = None) -> Lock:
    """Return a lock of one dataset."""
    entry = LockedDataset("orders", "d1", Held.VERSION, objects, hashes or {})
    return Lock({"orders": entry})


def test_text_is_one_head_and_one_line_a_file() -> None:
    """A lock is JSON lines: the format, a head for each dataset, a line for each file."""
    text = lockfile.render(a_lock(an_object(), hashes={"a.csv": "ab" * 32}))

    assert text == (
        '{"catalog_lock":"1.0"}\n'
        '{"dataset":"orders","digest":"d1","pin":"version","bucket":"s3://lake","prefix":"orders/"}\n'
        '{"key":"orders/a.csv","version_id":"v1","etag":"e1","size":3,'
        f'"modified":"2026-01-02T03:04:05Z","blake3":"{"ab" * 32}"}}\n'
    )


def test_order_of_input_does_not_show() -> None:
    """Datasets and files are sorted, whatever order they came in."""
    one, two = an_object("a.csv"), an_object("b/c.csv")
    first = {"x": LockedDataset("x", "d", Held.VERSION, (one, two))}
    second = {"y": LockedDataset("y", "d", Held.VERSION, ())}

    text = lockfile.render(Lock({**first, **second}))

    turned = LockedDataset("x", "d", Held.VERSION, (two, one))
    assert lockfile.render(Lock({**second, "x": turned})) == text


_keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).map(
    lambda text: text.replace("/", "_")
)


@given(keys=st.lists(_keys, unique=True, max_size=8), is_renamed=st.booleans())
def test_any_key_survives_a_round_trip(keys: list[str], *, is_renamed: bool) -> None:
    """Whatever a key holds, reading what was written gives the same lock, also renamed files."""
    objects = sorted(
        (
            RemoteObject(f"s3://lake/p/{key}", f"~{key}" if is_renamed else key, n, AT, "e", "v")
            for n, key in enumerate(keys)
        ),
        key=lambda obj: obj.relpath,
    )
    lock = a_lock(*objects, hashes={obj.relpath: "0" * 64 for obj in objects[::2]})

    text = lockfile.render(lock)

    again = lockfile.parse(text)
    assert again == lock
    assert lockfile.render(again) == text
    assert text.isascii()


def test_local_files_lose_what_holds_only_here(tmp_path: Path) -> None:
    """No absolute path, inode or time of this machine gets into a lock."""
    obj = RemoteObject(f"file://{tmp_path}/raw/iris.csv", "iris.csv", 9, AT, "1-2-3")
    dataset = Dataset(name="iris", source="raw/iris.csv")

    entry = lockfile.locked_dataset(dataset, Latest(), [obj], "file", tmp_path)
    text = lockfile.render(Lock({"iris": entry}))

    assert json.loads(text.splitlines()[2]) == {"key": "raw/iris.csv", "size": 9}
    assert json.loads(text.splitlines()[1])["pin"] == "hash"
    assert lockfile.parse(text).datasets["iris"] == entry


@pytest.mark.parametrize(
    ("versions", "held"),
    [
        pytest.param(["v1", "v2"], Held.VERSION, id="all have versions"),
        pytest.param(["v1", None], Held.ETAG, id="one has none"),
        pytest.param(["v1", "null"], Held.ETAG, id="null is mutable"),
        pytest.param([], Held.VERSION, id="nothing to hold"),
    ],
)
def test_a_lock_says_what_holds_the_files(versions: list[str | None], held: Held) -> None:
    """Only if every file has a version id does the lock promise that old bytes come back."""
    objects = [an_object(f"{n}.csv", version=v) for n, v in enumerate(versions)]

    assert lockfile.held_by(objects, "aws") is held


def test_digest_ignores_what_does_not_decide_the_files() -> None:
    """A description may change without a new lock; a pattern may not."""
    dataset = Dataset(name="x", source="s3://lake/a/**")
    described = Dataset(name="x", source="s3://lake/a/**", description="new", owner="me")
    narrowed = Dataset(name="x", source="s3://lake/a/**", exclude=["*.tmp"])

    digest = lockfile.digest_of(dataset, Latest())

    assert lockfile.digest_of(described, Latest()) == digest
    assert lockfile.digest_of(narrowed, Latest()) != digest
    assert lockfile.digest_of(dataset, AsOf(AT)) != digest


def test_an_unresolved_merge_says_how_to_resolve_it() -> None:
    """Conflict marks are told from damage, with the commands that help."""
    lines = lockfile.render(a_lock(an_object())).splitlines()
    text = "\n".join([*lines[:2], "<<<<<<< HEAD", lines[2], "=======", lines[2], ">>>>>>> x"])

    with pytest.raises(
        LockError, match=r"catalog\.lock:3: the file holds an unresolved merge"
    ) as e:
        lockfile.parse(text)

    assert e.value.hint == (
        "`git checkout --ours catalog.lock` (or --theirs), then `dcl lock`,"
        " then `git add catalog.lock`"
    )


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
            '{"catalog_lock":"1.0"}\n{"key":"a"}\n',
            "catalog.lock:2: a dataset's head is missing",
            id="file before head",
        ),
        pytest.param(
            '{"catalog_lock":"1.0"}\nnonsense\n',
            "catalog.lock:2: not a line of a lock",
            id="damage",
        ),
        pytest.param(
            '{"catalog_lock":"1.0"}\n[1],[2]\n', "catalog.lock:2: not a line of a lock", id="lists"
        ),
        pytest.param(
            '{"catalog_lock":"1.0"}\n{"dataset":"x","digest":"d","pin":"magic","bucket":"",'
            '"prefix":""}\n',
            "catalog.lock: dataset 'x' (line 2) cannot be read: 'magic' is not a valid Held",
            id="unknown pin",
        ),
    ],
)
def test_what_is_no_lock_is_refused(text: str, message: str) -> None:
    """A lock that cannot be trusted is an error that names the line."""
    with pytest.raises(LockError) as caught:
        lockfile.parse(text)

    assert str(caught.value) == message


def test_a_newer_minor_format_is_read() -> None:
    """Keys that this version does not know are no reason to refuse."""
    text = (
        lockfile.render(a_lock(an_object()))
        .replace('"1.0"', '"1.7"')
        .replace('"size":3', '"size":3,"later":true')
    )

    assert lockfile.parse(text) == a_lock(an_object())


def test_an_unchanged_lock_is_not_rewritten(tmp_path: Path) -> None:
    """Writing the same content leaves the file's inode and time alone."""
    file = LockFile(tmp_path / "catalog.lock")
    file.update(a_lock(an_object()).datasets.values())
    before = file.path.stat()

    is_changed = file.update(a_lock(an_object()).datasets.values())

    after = file.path.stat()
    assert not is_changed
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    """Each run adds its datasets to the lock as it is by then."""
    ours, theirs = LockFile(tmp_path / "catalog.lock"), LockFile(tmp_path / "catalog.lock")
    ours.update([LockedDataset("one", "d", Held.VERSION, (an_object(),))])
    theirs.load()
    ours.update([LockedDataset("two", "d", Held.VERSION, (an_object(),))])

    theirs.update([LockedDataset("three", "d", Held.VERSION, (an_object(),))])

    lock = ours.load()
    assert lock is not None
    assert sorted(lock.datasets) == ["one", "three", "two"]


@pytest.mark.parametrize("mode", [LockMode.LOCKED, LockMode.FROZEN], ids=lambda m: m.value)
def test_a_demanded_lock_must_be_there(tmp_path: Path, mode: LockMode) -> None:
    """`--locked` and `--frozen` without a lock are errors, not a fresh resolution."""
    with pytest.raises(LockError, match=r"there is no 'catalog\.lock'") as caught:
        LockFile(tmp_path / "catalog.lock", mode).read()

    assert caught.value.hint == "run `dcl lock`"


def test_an_ignored_lock_is_not_even_read(tmp_path: Path) -> None:
    """`--no-lock` works also where the lock is damaged."""
    path = tmp_path / "catalog.lock"
    path.write_text("damage")

    assert LockFile(path, LockMode.IGNORE).read() is None
