"""Filesystems that a program brings to its catalog, and what they cannot promise."""

from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from datacachalog import Catalog, Dataset, load_catalog
from datacachalog.cli.commands.status import _is_weak
from datacachalog.errors import CatalogError, InvalidCatalogError, UnsupportedSchemeError
from datacachalog.storage import FilesystemStorage, LocalStorage, S3Storage
from tests.conftest import TestS3

CATALOG = """\
storages:
  lake: {}
defaults:
  storage: lake
datasets:
  all: "dir://raw/**"
  one: {source: ["dir://raw/a.csv"], push: false}
"""


@pytest.fixture
def lake(tmp_path: Path) -> DirFileSystem:
    """Give a folder with two files as a filesystem."""
    (tmp_path / "lake" / "raw" / "sub").mkdir(parents=True)
    (tmp_path / "lake" / "raw" / "a.csv").write_text("a")
    (tmp_path / "lake" / "raw" / "sub" / "b.csv").write_text("bb")
    return DirFileSystem(str(tmp_path / "lake"), fs=LocalFileSystem(), skip_instance_cache=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Give a catalog whose sources have a scheme that is in no table."""
    path = tmp_path / "project" / "catalog.yaml"
    path.parent.mkdir()
    path.write_text(CATALOG)
    return path


def test_a_filesystem_of_ones_own_serves_a_storage(
    file: Path, lake: DirFileSystem, tmp_path: Path
) -> None:
    """From the YAML to the bytes, and the very instance is handed out again."""
    catalog = load_catalog(file, filesystems={"lake": lake}, cache_dir=tmp_path / "cache")
    paths = catalog.fetch("all")

    assert isinstance(paths, list)
    assert [path.read_text() for path in paths] == ["a", "bb"]
    assert catalog.filesystem("one") is lake


def test_without_it_the_scheme_is_refused_where_it_stands(file: Path) -> None:
    """All of them at once, with their places."""
    with pytest.raises(InvalidCatalogError) as caught:
        load_catalog(file)

    assert [(problem.line, problem.message) for problem in caught.value.problems] == [
        (6, "the scheme of 'dir://raw/**' is not supported"),
        (7, "the scheme of 'dir://raw/a.csv' is not supported"),
    ]


def test_a_dataset_made_in_python_may_get_its_filesystem_later(
    lake: DirFileSystem, tmp_path: Path
) -> None:
    """Where it names a storage; without a filesystem it cannot be fetched."""
    dataset = Dataset(name="one", source="dir://raw/a.csv", storage="lake")
    cache = tmp_path / "cache"
    catalog = Catalog([dataset], root=tmp_path, cache_dir=cache, filesystems={"lake": lake})
    path = catalog.fetch("one")

    assert isinstance(path, Path)
    assert path.read_text() == "a"
    with pytest.raises(UnsupportedSchemeError):
        Catalog([dataset], root=tmp_path, cache_dir=cache).fetch("one")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("laek", "did you mean 'lake'?"), ("dir", "the catalog has 'lake'")],
)
def test_a_storage_that_the_catalog_does_not_know(
    name: str, hint: str, lake: DirFileSystem, tmp_path: Path
) -> None:
    """A filesystem that would serve nothing is a slip."""
    dataset = Dataset(name="one", source="s3://lake/a.csv", storage="lake")

    with pytest.raises(CatalogError, match=f"there is no storage '{name}'") as caught:
        Catalog([dataset], root=tmp_path, filesystems={name: lake})
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        pytest.param(LocalFileSystem, LocalStorage, id="local"),
        pytest.param(lambda: fsspec.filesystem("memory"), FilesystemStorage, id="memory"),
        pytest.param(
            lambda: fsspec.filesystem("s3", key="k", secret="s", skip_instance_cache=True),
            S3Storage,
            id="s3",
        ),
    ],
)
def test_each_filesystem_is_served_by_what_knows_it_best(
    make: Callable[[], object], kind: type, tmp_path: Path
) -> None:
    """Exact identities of local files and history of S3 are not lost by bringing one's own."""
    dataset = Dataset(name="one", source="a.csv", storage="lake")
    catalog = Catalog([dataset], root=tmp_path, filesystems={"lake": make()})

    assert type(catalog.storage_of(dataset)) is kind


def test_an_s3fs_of_ones_own(s3: TestS3, tmp_path: Path) -> None:
    """It reaches the server as its owner set it up; no setting of ours is needed."""
    bucket = s3.bucket(versioning=True)
    bucket.put("a.csv", b"1")
    mine = fsspec.filesystem(
        "s3",
        key="test",
        secret="test",
        endpoint_url=s3.endpoint,
        skip_instance_cache=True,
    )
    dataset = Dataset(name="one", source=bucket.uri("a.csv"), storage="lake")
    catalog = Catalog(
        [dataset], root=tmp_path, cache_dir=tmp_path / "cache", filesystems={"lake": mine}
    )
    path = catalog.fetch("one")

    assert isinstance(path, Path)
    assert path.read_bytes() == b"1"
    assert catalog.filesystem("one") is mine
    assert len(catalog.versions("one")) == 1


def test_a_local_filesystem_has_only_local_files(tmp_path: Path) -> None:
    """A bucket of that name is not looked for in the current folder."""
    dataset = Dataset(name="one", source="s3://lake/a.csv", storage="lake")
    catalog = Catalog([dataset], root=tmp_path, filesystems={"lake": LocalFileSystem()})

    with pytest.raises(UnsupportedSchemeError, match="no local file"):
        catalog.fetch("one")


def test_weak_identities_are_told(file: Path, lake: DirFileSystem, tmp_path: Path) -> None:
    """Status, sync and lock say that a change may go unseen."""
    catalog = load_catalog(file, filesystems={"lake": lake}, cache_dir=tmp_path / "cache")
    told = "only size and time identify 'dir://raw/a.csv': a change that keeps both cannot be seen"
    warned: list[object] = []
    status = catalog.status("one")[0]
    outcome = catalog.sync("one").outcomes[0]
    catalog.lock("one", report=lambda event: warned.append(getattr(event, "message", None)))

    assert status.warnings == (told,)
    assert outcome.warnings == (told,)
    assert told in warned
    assert _is_weak(catalog.status("one", offline=True)[0])


def test_what_a_server_identifies_is_not_called_weak(tmp_path: Path) -> None:
    """Local files have their inode and exact time."""
    (tmp_path / "a.csv").write_text("a")
    catalog = Catalog([Dataset(name="one", source="a.csv")], root=tmp_path)
    status = catalog.status("one")[0]

    assert status.warnings == ()
    assert not _is_weak(status)


def test_two_stores_of_one_kind_do_not_meet(tmp_path: Path) -> None:
    """Each storage has its own filesystem, also where URIs are the same."""
    datasets = [
        Dataset(name=name, source="memory://lake/a.csv", storage=name) for name in ("one", "two")
    ]
    stores = {
        name: MemoryFileSystem(global_store=False, skip_instance_cache=True)
        for name in ("one", "two")
    }
    for name, store in stores.items():
        store.pipe_file("/lake/a.csv", name.encode())
    catalog = Catalog(datasets, root=tmp_path, cache_dir=tmp_path / "cache", filesystems=stores)
    paths = catalog.fetch_all()

    assert {name: Path(str(path)).read_text() for name, path in paths.items()} == {
        "one": "one",
        "two": "two",
    }
