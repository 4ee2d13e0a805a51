"""A sync of a catalog that did not change reads it once, and is never another than a fresh one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from datacachalog.cli import opening
from datacachalog.spec.loader import LoadedCatalog, load
from tests.cli.conftest import Dcl, Ran


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the catalogs that were read for a sync, in order."""
    paths: list[Path] = []

    def counted(path: Path, **how: object) -> LoadedCatalog:
        paths.append(path)
        return load(path, **how)  # type: ignore[arg-type]  # as it came

    monkeypatch.setattr(opening, "load", counted)
    return paths


def timeless(ran: Ran) -> Ran:
    """Return what ran without the seconds it took."""
    document = json.loads(ran.out) if ran.out[:1] == "{" else {}
    document.pop("seconds", None)
    return Ran(ran.code, json.dumps(document) if document else ran.out, ran.err)


@pytest.mark.parametrize(
    "argv",
    [
        ["sync", "--json", "-q"],
        ["sync", "one", "-q"],
        ["sync", "--dry-run"],
        ["sync", "--jobs", "2", "-q"],
        ["fetch", "--all", "-q"],
    ],
    ids=" ".join,
)
def test_an_unchanged_catalog_is_read_once(
    dcl: Dcl, project: Path, loads: list[Path], argv: list[str]
) -> None:
    """Whoever reads the line, and whatever is asked: the same is said from what was kept."""
    dcl("sync", "-q")
    loads.clear()
    kept = dcl(*argv)
    assert loads == []
    shutil.rmtree(project.parent / "cache/v1/catalogs")
    fresh = dcl(*argv)

    assert loads == [project / "catalog.yaml"]
    assert timeless(kept) == timeless(fresh)


def _rewrite(project: Path) -> None:
    path = project / "catalog.yaml"
    path.write_text(path.read_text().replace("raw/one.txt", "raw/two.txt"))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_rewrite, id="another-source"),
        pytest.param(lambda p: (p / "raw/one.txt").write_text("changed"), id="another-file"),
    ],
)
def test_what_changed_counts(
    dcl: Dcl, project: Path, loads: list[Path], change: Callable[[Path], object]
) -> None:
    """Be it the catalog, which is read again, or what it names, which is asked each time."""
    (project / "raw/two.txt").write_text("second")
    dcl("sync", "-q")
    change(project)
    dcl("sync", "-q")
    (placed,) = (project / "data/one").iterdir()

    assert placed.read_text() in ("second", "changed")


def test_a_variable_counts(dcl: Dcl, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes mean another source in another environment."""
    (project / "raw/two.txt").write_text("second")
    (project / "catalog.yaml").write_text('datasets: {one: "raw/${WHICH:-one}.txt"}\n')
    dcl("sync", "-q")
    monkeypatch.setenv("WHICH", "two")

    assert dcl("fetch", "one", "-q").out.endswith("/data/one/two.txt\n")


def test_an_invalid_catalog_is_told_each_time(dcl: Dcl, project: Path) -> None:
    """What is wrong is not kept."""
    (project / "catalog.yaml").write_text("datasets: {one: {sourse: x}}\n")
    first, second = dcl("sync"), dcl("sync")

    assert first == second
    assert (first.code, "did you mean `source`?" in first.err) == (2, True)


def test_a_catalog_with_secrets_is_read_each_time(
    dcl: Dcl, project: Path, loads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no byte of them gets into the cache."""
    monkeypatch.setenv("LAB_KEY", "AKIA-s3cr3t")
    path = project / "catalog.yaml"
    path.write_text(
        path.read_text() + 'storages: {lab: {key: "${LAB_KEY}", secret: "${LAB_KEY}"}}\n'
    )
    dcl("sync", "-q")
    dcl("sync", "-q")
    written = [p.read_bytes() for p in (project.parent / "cache").rglob("*") if p.is_file()]

    assert len(loads) == 2
    assert not any(b"s3cr3t" in data for data in written)
