"""Which catalog is meant, from where the user stands."""

from pathlib import Path

import pytest

from datacachalog.errors import CatalogError, CatalogNotFoundError
from datacachalog.spec.discovery import discover_catalogs, find_catalog


def touch(path: Path) -> Path:
    """Make an empty file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize("name", ["catalog.yaml", "catalog.yml", "catalog.toml"])
def test_the_nearest_catalog_above_is_found(tmp_path: Path, name: str) -> None:
    """A command works anywhere inside the project."""
    catalog = touch(tmp_path / name)
    (tmp_path / "a" / "b").mkdir(parents=True)

    assert find_catalog(start=tmp_path / "a" / "b", environ={}) == catalog


def test_a_nearer_catalog_stands_before_a_farther_one(tmp_path: Path) -> None:
    """Projects may lie inside one another."""
    touch(tmp_path / "catalog.yaml")
    inner = touch(tmp_path / "inner" / "catalog.toml")

    assert find_catalog(start=tmp_path / "inner", environ={}) == inner


def test_the_search_ends_at_the_repository(tmp_path: Path) -> None:
    """A stray catalog above the repository is none of its business."""
    touch(tmp_path / "catalog.yaml")
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    (tmp_path / "repo" / "src").mkdir()

    with pytest.raises(CatalogNotFoundError) as caught:
        find_catalog(start=tmp_path / "repo" / "src", environ={})

    assert caught.value.hint == "`dcl init` writes one; `--catalog PATH` names one elsewhere"


def test_two_catalogs_in_one_folder_are_refused(tmp_path: Path) -> None:
    """Neither is silently ignored."""
    touch(tmp_path / "catalog.yaml")
    touch(tmp_path / "catalog.toml")

    with pytest.raises(CatalogError) as caught:
        find_catalog(start=tmp_path, environ={})

    assert caught.value.message == (
        f"there are two catalogs in {tmp_path}: catalog.yaml and catalog.toml"
    )
    assert caught.value.hint == "remove one, or name one: `--catalog catalog.yaml`"


def test_the_environment_names_a_catalog(tmp_path: Path) -> None:
    """`DCL_CATALOG` stands before the search, and what is given before both."""
    nearest = touch(tmp_path / "catalog.yaml")
    named = touch(tmp_path / "elsewhere" / "my.yaml")
    environ = {"DCL_CATALOG": str(named)}

    assert find_catalog(start=tmp_path, environ=environ) == named
    assert find_catalog("catalog.yaml", start=tmp_path, environ=environ) == nearest


@pytest.mark.parametrize("given", ["core", ".datacachalog/catalogs/core.yaml"])
def test_a_further_catalog_has_a_name_and_a_path(tmp_path: Path, given: str) -> None:
    """Both mean the same file."""
    touch(tmp_path / "catalog.yaml")
    core = touch(tmp_path / ".datacachalog" / "catalogs" / "core.yaml")

    assert find_catalog(given, start=tmp_path, environ={}) == core


def test_a_folder_means_the_catalog_in_it(tmp_path: Path) -> None:
    """As `git -C` does."""
    catalog = touch(tmp_path / "project" / "catalog.yaml")

    assert find_catalog(tmp_path / "project", start=tmp_path, environ={}) == catalog


def test_a_name_works_from_below_the_project(tmp_path: Path) -> None:
    """Names are the project's, wherever one stands in it."""
    core = touch(tmp_path / ".datacachalog" / "catalogs" / "core.toml")
    (tmp_path / "src").mkdir()

    assert find_catalog("core", start=tmp_path / "src", environ={}) == core


def test_catalogs_are_listed_by_name(tmp_path: Path) -> None:
    """The main one first; what is no catalog is left out."""
    main = touch(tmp_path / "catalog.yaml")
    folder = tmp_path / ".datacachalog" / "catalogs"
    core, lab = touch(folder / "core.yaml"), touch(folder / "lab.toml")
    touch(folder / "notes.txt")
    touch(folder / ".hidden.yaml")

    catalogs = discover_catalogs(tmp_path)

    assert list(catalogs.items()) == [("catalog", main), ("core", core), ("lab", lab)]


def test_no_catalogs_are_an_empty_list(tmp_path: Path) -> None:
    """Asking what there is, is no error."""
    (tmp_path / ".git").mkdir()

    assert discover_catalogs(tmp_path) == {}


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ("cor", "there is no catalog 'cor'", "did you mean 'core'?"),
        ("zzz", "there is no catalog 'zzz'", "there are catalog, core"),
        ("zzz.yaml", "there is no file zzz.yaml", "`dcl init` writes a new catalog"),
        ("a/zzz", "there is no file a/zzz", "`dcl init` writes a new catalog"),
    ],
)
def test_an_unknown_catalog_says_what_there_is(
    tmp_path: Path, given: str, message: str, hint: str
) -> None:
    """A slip in a name gets the name; a path is taken as a path."""
    touch(tmp_path / "catalog.yaml")
    touch(tmp_path / ".datacachalog" / "catalogs" / "core.yaml")

    with pytest.raises(CatalogNotFoundError) as caught:
        find_catalog(given, start=tmp_path, environ={})

    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_a_project_with_further_catalogs_only_asks_which(tmp_path: Path) -> None:
    """None of them is the main one by chance."""
    touch(tmp_path / ".datacachalog" / "catalogs" / "core.yaml")

    with pytest.raises(CatalogNotFoundError) as caught:
        find_catalog(start=tmp_path, environ={})

    assert caught.value.hint == "name one: `--catalog core`"


@pytest.mark.parametrize("twin", ["core.toml", "catalog.yaml"])
def test_one_name_for_two_catalogs_is_refused(tmp_path: Path, twin: str) -> None:
    """`--catalog NAME` always means one file."""
    touch(tmp_path / "catalog.yaml")
    touch(tmp_path / ".datacachalog" / "catalogs" / "core.yaml")
    touch(tmp_path / ".datacachalog" / "catalogs" / twin)

    with pytest.raises(CatalogError, match="two catalogs are called"):
        discover_catalogs(tmp_path)
