"""What every storage promises, over local disks, other filesystems of fsspec's, and S3.

The fake that other tests build on (`MemoryStorage`) takes the same tests, so it cannot lie.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from datacachalog import globs
from datacachalog.errors import (
    ObjectChangedError,
    ObjectNotFoundError,
    PushConflictError,
    VersioningNotSupportedError,
)
from datacachalog.model import DeleteMarker, RemoteObject
from datacachalog.spec.models import StorageSettings
from datacachalog.storage import Precondition, Storage, open_storage, wrap_filesystem
from datacachalog.storage.base import MisreadKeyError
from tests.conftest import TestS3
from tests.memory_storage import MemoryStorage


@dataclass(frozen=True)
class Case:
    """A storage, and a way to write beside it."""

    storage: Storage
    root: str
    put: Callable[[str, bytes], object]
    delete: Callable[[str], object]
    keeps_history: bool
    is_flat_keyed: bool
    """Keys are names, not paths: a file may have a folder's name, segments may be empty."""
    takes_line_ends: bool = True
    """The server takes a key with a line end."""

    def uri(self, key: str) -> str:
        """Return the URI of `key` or pattern."""
        return f"{self.root}/{key}"

    def scan(self, pattern: str) -> list[RemoteObject]:
        """Return what `pattern` gives, sorted by relpath."""
        return sorted(self.storage.scan(self.uri(pattern)), key=lambda obj: obj.relpath)

    def scan_again(self, pattern: str) -> list[RemoteObject]:
        """Return what `pattern` gives once all was read: only that shows a key that was misread."""
        for obj in self.scan(pattern):
            with suppress(MisreadKeyError):
                self.bytes(obj)
        return self.scan(pattern)

    def paths(self, pattern: str) -> list[str]:
        """Return the relpaths that `pattern` gives."""
        return [obj.relpath for obj in self.scan(pattern)]

    def one(self, key: str) -> RemoteObject:
        """Return the object at `key`."""
        (obj,) = self.storage.scan(globs.escape(self.uri(key)))
        return obj

    def bytes(self, obj: RemoteObject, start: int = 0, stop: int | None = None) -> bytes:
        """Return what reading gives."""
        return b"".join(self.storage.read(obj, start, obj.size if stop is None else stop))


def _memory_case(keeps_history: bool) -> Case:
    storage = MemoryStorage(keeps_history=keeps_history, chunk=7)
    return Case(
        storage,
        "memory://lake",
        lambda key, data: storage.put(f"memory://lake/{key}", data),
        lambda key: storage.delete(f"memory://lake/{key}"),
        keeps_history,
        True,
    )


def _local_case(root: Path, storage: Storage, uri: str) -> Case:
    def put(key: str, data: bytes) -> None:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        # A new file each time, as careful writers do.
        temp = path.with_name(f"{path.name}.new")
        temp.write_bytes(data)
        temp.replace(path)

    return Case(
        storage,
        uri,
        put,
        lambda key: (root / key).unlink(),
        False,
        False,
    )


def _filesystem_case(name: str) -> Case:
    fs = fsspec.filesystem("memory")
    return Case(
        open_storage("memory://", StorageSettings()),
        f"memory://{name}",
        lambda key, data: fs.pipe_file(f"/{name}/{key}", data),
        lambda key: fs.rm_file(f"/{name}/{key}"),
        False,
        False,
    )


def _own_filesystem(root: Path) -> AbstractFileSystem:
    """Return a user's own filesystem: it begins at `root`, and says nothing but size and time."""
    return DirFileSystem(str(root), fs=LocalFileSystem(auto_mkdir=True), skip_instance_cache=True)


def _s3_case(s3: TestS3, keeps_history: bool, storage: Storage) -> Case:
    bucket = s3.bucket(versioning=keeps_history)
    return Case(
        storage,
        f"s3://{bucket.name}",
        bucket.put,
        bucket.delete,
        keeps_history,
        True,
        takes_line_ends=False,
    )


KINDS = [
    *("fake", "fake-unversioned", "local", "memory", "own"),
    *("s3", "s3-versioned", "s3-fsspec", "s3-fsspec-versioned"),
]


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """Give each kind of storage, empty."""
    kind: str = request.param
    if kind.startswith("fake"):
        yield _memory_case(kind == "fake")
    elif kind == "local":
        root = tmp_path / "source"
        yield _local_case(root, open_storage("file://", StorageSettings()), f"file://{root}")
    elif kind == "memory":
        yield _filesystem_case(tmp_path.name)
    elif kind == "own":
        storage = wrap_filesystem(_own_filesystem(tmp_path), StorageSettings())
        yield _local_case(tmp_path / "source", storage, "dir://source")
    else:
        s3: TestS3 = request.getfixturevalue("s3")
        engine = "fsspec" if "fsspec" in kind else "auto"
        settings = s3.settings.model_copy(update={"engine": engine})
        yield _s3_case(s3, kind.endswith("-versioned"), open_storage("s3://", settings))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Give a file to upload."""
    path = tmp_path / "new.bin"
    path.write_bytes(b"brand new")
    return path


def test_a_literal_uri_gives_one_object(case: Case) -> None:
    """Its size, bytes, name and URI are those of the object."""
    case.put("a/b.csv", b"hello")

    obj = case.one("a/b.csv")

    assert (obj.uri, obj.relpath, obj.size) == (case.uri("a/b.csv"), "b.csv", 5)
    assert case.bytes(obj) == b"hello"
    assert obj.modified.utcoffset() is not None


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param("a/*.csv", ["1.csv", "2.csv"], id="one level"),
        pytest.param("a/**/*.csv", ["1.csv", "2.csv", "b/3.csv", "b/c/4.csv"], id="any level"),
        pytest.param("a/**", ["1.csv", "2.csv", "b/3.csv", "b/c/4.csv", "x.txt"], id="all below"),
        pytest.param("a/b/", ["3.csv", "c/4.csv"], id="trailing slash"),
        pytest.param("a/?.csv", ["1.csv", "2.csv"], id="question mark"),
        pytest.param("a/[!1].csv", ["2.csv"], id="negated class"),
        pytest.param("*/b/*.csv", ["a/b/3.csv"], id="folder pattern"),
        pytest.param("a/*/c/*", ["b/c/4.csv"], id="folder in the middle"),
        pytest.param("a/1*", ["1.csv"], id="prefix within a name"),
        pytest.param("none/*", [], id="no such folder"),
        pytest.param("a/*.json", [], id="no match"),
    ],
)
def test_globs(case: Case, pattern: str, expected: list[str]) -> None:
    """A glob gives what it matches, with paths below its fixed folder."""
    for key in ("a/1.csv", "a/2.csv", "a/b/3.csv", "a/b/c/4.csv", "a/x.txt", "ab/5.csv"):
        case.put(key, key.encode())

    assert case.paths(pattern) == expected


def test_metacharacters_in_names_are_names(case: Case) -> None:
    """A name full of pattern characters is found by its escaped spelling, and only it."""
    case.put("x/[1]*?.csv", b"odd")
    case.put("x/1ab.csv", b"plain")

    assert case.paths("x/[[]1[]]*") == ["[1]*?.csv"]
    assert case.bytes(case.one("x/[1]*?.csv")) == b"odd"


def test_listed_and_literal_descriptions_agree(case: Case) -> None:
    """The object a listing gives is the one a literal URI gives."""
    case.put("a/b.csv", b"hello")

    (listed,) = case.scan("a/*")

    assert listed.is_same_as(case.one("a/b.csv"))


def test_nothing_at_a_literal_uri(case: Case) -> None:
    """A literal URI without an object is an error."""
    case.put("a/b.csv", b"")

    with pytest.raises(ObjectNotFoundError):
        case.one("a/c.csv")


def test_a_range_gives_those_bytes(case: Case) -> None:
    """Start is included, stop is not."""
    case.put("a", bytes(range(100)))

    obj = case.one("a")

    assert case.bytes(obj, 10, 20) == bytes(range(10, 20))
    assert case.bytes(obj, 99, 100) == b"\x63"
    assert case.bytes(obj, 50, 50) == b""


def test_buffers_stay_valid(case: Case) -> None:
    """What a read gave is still right after it gave the rest, and is never much at once."""
    data = bytes(range(256)) * 5000
    case.put("a", data)
    obj = case.one("a")

    pieces = list(case.storage.read(obj, 1, obj.size))

    assert b"".join(pieces) == data[1:]
    assert max(map(len, pieces)) <= 4 << 20


def test_what_the_filesystem_reaches(case: Case) -> None:
    """The storage's filesystem reads what the storage reads."""
    case.put("a/b.csv", b"hello")

    assert case.storage.filesystem.cat_file(case.uri("a/b.csv")) == b"hello"


def test_an_empty_object_has_no_bytes(case: Case) -> None:
    """Reading nothing gives nothing, and is no error."""
    case.put("empty", b"")

    assert case.bytes(case.one("empty")) == b""


def test_overwriting_makes_another_object(case: Case) -> None:
    """What was resolved before is not the same as what is there after, at equal size."""
    case.put("a", b"one")
    before = case.one("a")
    case.put("a", b"two")

    assert not before.is_same_as(case.one("a"))


def test_reading_what_was_overwritten(case: Case) -> None:
    """Listed before and overwritten at the same size, it is refused, never mixed."""
    case.put("a/x", b"one")
    (listed,) = case.scan("a/*")
    case.put("a/x", b"two")

    with pytest.raises(ObjectChangedError):
        case.bytes(listed)


def test_reading_what_was_deleted(case: Case) -> None:
    """Listed before and deleted since, it is not found."""
    case.put("a/x", b"one")
    (listed,) = case.scan("a/*")
    case.delete("a/x")

    with pytest.raises(ObjectNotFoundError):
        case.bytes(listed)


def test_many_keys_with_common_beginnings(case: Case) -> None:
    """Each key is given once, and neighbours are not."""
    for i in range(30):
        case.put(f"p/k{i}", b"x")
    case.put("pk1", b"x")

    assert len(set(case.paths("p/k*"))) == 30


def test_upload_to_a_free_key(case: Case, file: Path) -> None:
    """Expecting nothing and finding nothing, the file is there afterwards."""
    moved: list[int] = []
    done = case.storage.upload(
        file, case.uri("new/file.bin"), precondition=Precondition.ABSENT, advance=moved.append
    )

    assert case.bytes(case.one("new/file.bin")) == b"brand new"
    assert done.object.is_same_as(case.one("new/file.bin"))
    assert sum(moved) == 9


def test_upload_over_what_was_known(case: Case, file: Path) -> None:
    """Expecting the present object, it is replaced."""
    case.put("a", b"old")
    case.storage.upload(file, case.uri("a"), precondition=case.one("a"), advance=lambda _: None)

    assert case.bytes(case.one("a")) == b"brand new"


def test_upload_where_something_is_already(case: Case, file: Path) -> None:
    """Expecting nothing and finding something, nothing is changed."""
    case.put("a", b"old")

    with pytest.raises(PushConflictError, match="expected no object, found 3 bytes"):
        case.storage.upload(
            file, case.uri("a"), precondition=Precondition.ABSENT, advance=lambda _: None
        )
    assert case.bytes(case.one("a")) == b"old"


@pytest.mark.parametrize("change", ["overwritten", "deleted"])
def test_upload_over_what_has_changed(case: Case, file: Path, change: str) -> None:
    """Expecting what is no longer there, nothing is changed and both sides are named."""
    case.put("a", b"old")
    known = case.one("a")
    if change == "overwritten":
        case.put("a", b"mid")
    else:
        case.delete("a")

    with pytest.raises(PushConflictError, match="expected 3 bytes"):
        case.storage.upload(file, case.uri("a"), precondition=known, advance=lambda _: None)
    if change == "overwritten":
        assert case.bytes(case.one("a")) == b"mid"


def test_upload_regardless(case: Case, file: Path) -> None:
    """Expecting anything, whatever is there is replaced."""
    case.put("a", b"old")
    done = case.storage.upload(
        file, case.uri("a"), precondition=Precondition.ANYTHING, advance=lambda _: None
    )

    assert done.unproven is None
    assert case.bytes(case.one("a")) == b"brand new"


def test_history_is_newest_first(case: Case) -> None:
    """Versions and delete markers come key by key, newest first; or it is said there are none."""
    case.put("h/a", b"1")
    case.put("h/a", b"22")
    case.delete("h/a")
    case.put("h/a", b"333")
    case.put("h/ab", b"4444")

    if not case.keeps_history:
        with pytest.raises(VersioningNotSupportedError):
            list(case.storage.versions(case.uri("h/a")))
        return
    one = list(case.storage.versions(case.uri("h/a")))
    both = list(case.storage.versions(case.uri("h/*")))

    assert [getattr(entry, "size", None) for entry in one] == [3, None, 2, 1]
    assert [entry.relpath for entry in both] == ["a"] * 4 + ["ab"]
    assert isinstance(one[1], DeleteMarker)


def test_an_old_version_can_be_read(case: Case) -> None:
    """What history names can be fetched after it was overwritten and deleted."""
    if not case.keeps_history:
        pytest.skip("keeps no history")
    case.put("a", b"one")
    case.put("a", b"two")
    case.delete("a")
    oldest = list(case.storage.versions(case.uri("a")))[-1]
    assert isinstance(oldest, RemoteObject)

    assert case.bytes(oldest) == b"one"


def test_a_version_says_it_is_gone(case: Case) -> None:
    """A version that a lifecycle rule deleted is not found, by its name."""
    if not case.keeps_history:
        pytest.skip("keeps no history")
    case.put("a", b"one")
    known = case.one("a")
    gone = RemoteObject(
        known.uri, known.relpath, known.size, known.modified, known.etag, "deadbeef"
    )

    with pytest.raises(ObjectNotFoundError):
        case.bytes(gone)


def test_a_version_is_found_by_its_id(case: Case) -> None:
    """A version id gives the object as it was, also after it was overwritten."""
    case.put("a.csv", b"old")
    if not case.keeps_history:
        with pytest.raises((VersioningNotSupportedError, ObjectNotFoundError)):
            case.storage.version(case.uri("a.csv"), "v1")
        return
    old = case.one("a.csv")
    case.put("a.csv", b"newer")

    found = case.storage.version(case.uri("a.csv"), old.version_id or "")

    assert found == old
    assert case.bytes(found) == b"old"


def test_a_version_that_never_was(case: Case) -> None:
    """An unknown version id is not found."""
    case.put("a.csv", b"old")

    with pytest.raises((ObjectNotFoundError, VersioningNotSupportedError)):
        case.storage.version(case.uri("a.csv"), "no-such-version")


def test_the_storage_names_its_server(case: Case) -> None:
    """The endpoint is a text, the same each time, and the clock has a zone."""
    assert case.storage.endpoint
    assert case.storage.endpoint == case.storage.endpoint
    assert case.storage.now().utcoffset() is not None


def test_folder_markers_are_left_out(case: Case) -> None:
    """An empty key ending in a slash is no file; one with bytes is."""
    if not case.is_flat_keyed:
        pytest.skip("folders are real here")
    case.put("m/", b"")
    case.put("m/sub/", b"")
    case.put("m/full/", b"bytes")
    case.put("m/a", b"")

    assert case.paths("m/**") == ["a", "full~2F"]


@pytest.mark.parametrize(
    "key",
    [
        "a//b", "/lead", "x/../y", "x/./y", "ctl\x01", "tab\t", "back\\slash", "über/日本/😀",
        "sp ace+plus%41&amp;<x>'\"", "x/trail/", "?versionId=1", "#frag", "semi;colon", "~0A",
        "a=b:c@d!e$f,g(h)", "..", "...", "e\u0301",
    ],
    ids=repr,
)  # fmt: skip
def test_keys_of_any_spelling(case: Case, key: str) -> None:
    """Each is listed, described, read whole and in part, and has a path of its own."""
    if not case.is_flat_keyed:
        pytest.skip("keys are paths here")
    case.put(key, b"0123456789")
    case.put("plain", b"9876543210")

    found = {obj.uri: obj for obj in case.scan_again("**")}
    odd = found[case.uri(key)]

    assert len({obj.relpath for obj in found.values()}) == 2
    assert case.bytes(odd) == b"0123456789"
    assert case.bytes(odd, 3, 5) == b"34"
    assert not os.path.isabs(odd.relpath)
    assert ".." not in odd.relpath.split("/")
    if not key.endswith("/"):
        assert odd.is_same_as(case.one(key))
    if case.keeps_history:
        assert case.uri(key) in {e.uri for e in case.storage.versions(case.uri("**"))}


SEGMENTS = ("a", "/a", "a/", "a//b", "./a", "a/../b", "a/./b", "a/b", "b", "/", "..", ".", "//")
"""Keys that a path, or a client that tidies up, would take for one another."""

CONTROLS = ("c", "c\x01", "c\x1f", "c\x7f", "c\t", "c\r", "\x01c", "c\x85")
"""Keys that differ in what a line, a header or a document of XML may lose."""


LINE_ENDS = ("c", "c\n", "c\r\n", "c\n\n", "c\nd")


def _put_apart(case: Case, keys: Iterable[str]) -> dict[str, bytes]:
    """Write each key with bytes of its own, all of one size; return them by URI."""
    written = {key: f"<{number:02}>".encode() for number, key in enumerate(keys)}
    for key, data in written.items():
        case.put(f"k/{key}", data)
    return {case.uri(f"k/{key}"): data for key, data in written.items()}


def _check_apart(case: Case, written: dict[str, bytes]) -> None:
    listed = {obj.uri: case.bytes(obj) for obj in case.scan("k/**")}
    asked = {uri: case.bytes(_at(case, uri)) for uri in written if not uri.endswith("/")}

    assert listed == written
    assert asked == {uri: data for uri, data in written.items() if uri in asked}
    assert len({obj.relpath for obj in case.scan("k/**")}) == len(written)


def _at(case: Case, uri: str) -> RemoteObject:
    (obj,) = case.storage.scan(globs.escape(uri))
    return obj


def _check_apart_in_history(case: Case, written: dict[str, bytes]) -> None:
    entries = list(case.storage.versions(case.uri("k/**")))
    objects = [entry for entry in entries if isinstance(entry, RemoteObject)]

    assert {obj.uri: case.bytes(obj) for obj in objects} == written
    for obj in objects:
        if not obj.uri.endswith("/"):
            found = case.storage.version(globs.escape(obj.uri), obj.version_id or "")

            assert case.bytes(found) == written[obj.uri]


def test_keys_that_look_like_paths_stay_apart(case: Case) -> None:
    """`/a`, `a/`, `a//b`, `./a`, `a/../b`, `a` are six objects: listed, asked for, in history."""
    if not case.is_flat_keyed:
        pytest.skip("names are paths here: several of these are one file, or a folder")
    written = _put_apart(case, SEGMENTS)

    _check_apart(case, written)
    if case.keeps_history:
        _check_apart_in_history(case, written)


@pytest.mark.parametrize("keys", [CONTROLS, LINE_ENDS], ids=["controls", "line ends"])
def test_keys_with_control_characters_stay_apart(case: Case, keys: tuple[str, ...]) -> None:
    """A key is its bytes, whatever a terminal or a parser makes of them."""
    if keys is LINE_ENDS and not case.takes_line_ends:
        pytest.skip("moto's server has no route to a key with a line end: it answers 404")
    written = _put_apart(case, keys)

    _check_apart(case, written)
    if case.keeps_history:
        _check_apart_in_history(case, written)


def test_odd_keys_are_bound_to_their_state(case: Case) -> None:
    """One of these that is overwritten at equal size is refused; its neighbours are not."""
    if not case.is_flat_keyed:
        pytest.skip("names are paths here: several of these are one file, or a folder")
    _put_apart(case, SEGMENTS)
    listed = {obj.uri: obj for obj in case.scan("k/**")}
    case.put("k/a/../b", b"<xx>")

    with pytest.raises(ObjectChangedError):
        case.bytes(listed[case.uri("k/a/../b")])
    assert len(case.bytes(listed[case.uri("k/b")])) == 4
