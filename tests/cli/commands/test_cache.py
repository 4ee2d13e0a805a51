"""Commands about the cache, and invalidation."""

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import Dcl


def test_dir_is_where_the_environment_says(dcl: Dcl, project: Path, tmp_path: Path) -> None:
    """`dcl cache dir` prints the folder in effect."""
    assert dcl("cache", "dir").out == f"{tmp_path}/cache\n"


def test_dir_is_where_the_catalog_says(
    dcl: Dcl, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the variable the catalog decides."""
    monkeypatch.delenv("DCL_CACHE_DIR")
    (project / "catalog.yaml").write_text(f"cache: {{dir: {tmp_path}/other}}\n")

    assert dcl("cache", "dir").out == f"{tmp_path}/other\n"


def test_dir_needs_no_catalog(dcl: Dcl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache belongs to the machine; but a catalog that is named must exist."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)

    assert dcl("cache", "dir").code == 0
    assert dcl("cache", "dir", "-c", "none.yaml").code == 2


def test_stats_count_objects(dcl: Dcl, project: Path) -> None:
    """Objects and bytes, for people and for programs."""
    dcl("sync")

    assert dcl("cache", "stats").out == "3 objects, 16 B\n"
    assert json.loads(dcl("cache", "stats", "--json").out)["objects"] == 3


def test_clear_leaves_the_data(dcl: Dcl, project: Path) -> None:
    """All objects go, no file of a project does."""
    dcl("sync")
    ran = dcl("cache", "clear")

    assert (ran.code, ran.out, ran.err) == (0, "", "3 objects removed (16 B)\n")
    assert (project / "data/one/one.txt").read_text() == "one\n"


def test_clear_removes_what_earlier_versions_kept(dcl: Dcl, project: Path, tmp_path: Path) -> None:
    """They wrote what they had read of catalogs beside the objects."""
    folder = tmp_path / "cache/v1/catalogs"
    folder.mkdir(parents=True)
    (folder / "abcdef").write_text("{}")
    dcl("cache", "clear")

    assert not folder.exists()


def test_prune_needs_a_limit(dcl: Dcl, project: Path) -> None:
    """Without any limit, nothing is removed by guessing."""
    assert dcl("cache", "prune").code == 2


@pytest.mark.parametrize(
    ("argv", "removed"),
    [
        pytest.param(["--max-size", "1 GB"], 0, id="size-not-reached"),
        pytest.param(["--max-size", "0"], 3, id="no-size"),
        pytest.param(["--unused-for", "1 day"], 0, id="all-used-today"),
    ],
)
def test_prune_removes_what_is_too_much(
    dcl: Dcl, project: Path, argv: list[str], removed: int
) -> None:
    """Size and age decide."""
    dcl("sync")
    document = json.loads(dcl("cache", "prune", "--json", *argv).out)

    assert document["removed"]["objects"] == removed


def test_prune_takes_the_longest_unused_first(dcl: Dcl, project: Path, tmp_path: Path) -> None:
    """What was used last stays."""
    dcl("sync")
    objects = [p for p in (tmp_path / "cache/v1/objects").rglob("*") if p.is_file()]
    for age, path in enumerate(sorted(objects, key=lambda p: p.stat().st_size)):
        os.utime(path, (1_600_000_000 - age, path.stat().st_mtime))
    dcl("cache", "prune", "--max-size", "8")

    assert [p.stat().st_size for p in objects if p.exists()] == [4, 4]


def test_prune_takes_the_catalogs_limit(dcl: Dcl, project: Path) -> None:
    """`cache: {max_size: …}` is the limit where none is given."""
    dcl("sync")
    text = (project / "catalog.yaml").read_text()
    (project / "catalog.yaml").write_text(f"cache: {{max_size: 0}}\n{text}")

    assert dcl("cache", "prune").err == "3 objects removed (16 B)\n"


def test_invalidate_downloads_anew(dcl: Dcl, project: Path) -> None:
    """After it, the next sync downloads."""
    dcl("sync")

    assert dcl("invalidate", "one").err == ("one: 1 file will download anew with `dcl sync one`\n")
    assert "1 downloaded" in dcl("sync", "one").err


def test_invalidate_needs_names(dcl: Dcl, project: Path) -> None:
    """Everything at once is `dcl cache clear`."""
    assert dcl("invalidate").code == 2


def test_invalidate_glob_takes_some(dcl: Dcl, project: Path) -> None:
    """Only the files that match download anew."""
    dcl("sync")
    dcl("invalidate-glob", "parts", "a/**")

    assert "1 downloaded, 1 up to date" in dcl("sync", "parts").err
