"""A list that is made from what an earlier one read is never another than a fresh one."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from datacachalog.cli import entries, opening
from datacachalog.spec.loader import LoadedCatalog, load
from tests.cli.conftest import Dcl


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the catalogs that were read for a list, in order."""
    paths: list[Path] = []

    def counted(path: Path, **how: object) -> LoadedCatalog:
        paths.append(path)
        return load(path, **how)  # type: ignore[arg-type]  # as it came

    monkeypatch.setattr(opening, "load", counted)
    return paths


@pytest.mark.parametrize("argv", [[], ["-q"], ["parts", "one"]], ids=["alone", "option", "names"])
def test_an_unchanged_catalog_is_read_once(
    dcl: Dcl, project: Path, loads: list[Path], argv: list[str]
) -> None:
    """The second list shows the same, from the first one's snapshot."""
    first, second = dcl("list", *argv), dcl("list", *argv)

    assert first == second
    assert first.code == 0
    assert loads == [project / "catalog.yaml"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        pytest.param(
            lambda project: project.joinpath("catalog.yaml").write_text(
                "include: more.yaml\ndatasets: {one: 's3://${BUCKET}/two.txt'}\n"
            ),
            "one   s3://lake/two.txt",
            id="file",
        ),
        pytest.param(
            lambda project: project.joinpath("more.yaml").write_text("datasets: {new: x.csv}\n"),
            "new   x.csv",
            id="include",
        ),
        pytest.param(
            lambda project: os.environ.update(BUCKET="lab"), "one   s3://lab/one.txt", id="variable"
        ),
    ],
)
def test_a_change_is_seen(
    dcl: Dcl,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], object],
    line: str,
) -> None:
    """Whether in the file, in what it includes, or in a variable."""
    monkeypatch.setenv("BUCKET", "lake")
    (project / "catalog.yaml").write_text(
        "include: more.yaml\ndatasets: {one: 's3://${BUCKET}/one.txt'}\n"
    )
    (project / "more.yaml").write_text("datasets: {more: raw/one.txt}\n")
    dcl("list")
    change(project)

    assert line in dcl("list").out.splitlines()


def test_a_catalog_that_became_invalid_is_an_error(dcl: Dcl, project: Path) -> None:
    """What it once was does not hide what is wrong with it now; nor is that kept."""
    dcl("list")
    (project / "catalog.yaml").write_text("datasets: {one: {sorce: x.csv}}\n")
    first, second = dcl("list"), dcl("list")

    assert first == second
    assert (first.code, first.out) == (2, "")
    assert "unknown key `sorce`" in first.err


def test_a_variable_that_is_gone_is_an_error(
    dcl: Dcl, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it would be without a snapshot."""
    monkeypatch.setenv("BUCKET", "lake")
    (project / "catalog.yaml").write_text("datasets: {one: 's3://${BUCKET}/one.txt'}\n")
    dcl("list")
    monkeypatch.delenv("BUCKET")

    assert dcl("list").code == 2


def test_a_removed_catalog_is_an_error(dcl: Dcl, project: Path) -> None:
    """What is not there is not listed."""
    dcl("list")
    (project / "catalog.yaml").unlink()

    assert dcl("list", "-c", "catalog.yaml").code == 2


def test_two_catalogs_do_not_mix(dcl: Dcl, project: Path, loads: list[Path]) -> None:
    """Equal files in two folders are two catalogs, each with its own root."""
    (project / "sub").mkdir()
    (project / "sub/catalog.yaml").write_bytes((project / "catalog.yaml").read_bytes())
    dcl("list")
    dcl("list", "-c", "sub")

    assert loads == [project / "catalog.yaml", project / "sub/catalog.yaml"]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda at: at.write_bytes(at.read_bytes()[:-9]), id="cut"),
        pytest.param(lambda at: at.write_bytes(b"\x00" * 99), id="zeros"),
        pytest.param(lambda at: (at.unlink(), at.mkdir()), id="folder"),
    ],
)
def test_a_damaged_snapshot_does_no_harm(
    dcl: Dcl, project: Path, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    """The catalog is read again."""
    whole = dcl("list")
    (at,) = (tmp_path / "cache/v1/catalogs").iterdir()
    spoil(at)

    assert dcl("list") == whole


def test_a_cache_that_cannot_be_written_does_no_harm(
    dcl: Dcl, project: Path, tmp_path: Path, loads: list[Path]
) -> None:
    """Each list reads the catalog, and says nothing about it."""
    (tmp_path / "cache").write_text("a file")
    first, second = dcl("list"), dcl("list")

    assert first == second
    assert (first.code, first.err, len(loads)) == (0, "", 2)


def test_names_complete_from_the_same(
    capfd: pytest.CaptureFixture[str], dcl: Dcl, project: Path, loads: list[Path]
) -> None:
    """A key press does not read the catalog again."""
    dcl("list")
    dcl("__complete", "sync", "")

    assert "one\tA single file\nparts\n" in capfd.readouterr().out
    assert len(loads) == 1


def test_an_unknown_name_is_told_from_a_snapshot_too(dcl: Dcl, project: Path) -> None:
    """With the nearest name, the second time as the first."""
    first, second = dcl("list", "part"), dcl("list", "part")

    assert first == second
    assert first.err == "error: no dataset 'part' in catalog.yaml\nhint: did you mean 'parts'?\n"


@pytest.mark.parametrize(
    ("twin", "value"), [("DCL_JSON", "true"), ("DCL_COLOR", "always"), ("DCL_CATALOG", "sub")]
)
def test_a_twin_in_the_environment_counts_without_words(
    dcl: Dcl, project: Path, monkeypatch: pytest.MonkeyPatch, twin: str, value: str
) -> None:
    """Options that come as variables are options all the same."""
    (project / "sub").mkdir()
    (project / "sub/catalog.yaml").write_text("datasets: {other: x.csv}\n")
    plain = dcl("list").out
    monkeypatch.setenv(twin, value)
    ran = dcl("list")

    assert ran.code == 0
    assert ran.out != plain
    assert (twin == "DCL_JSON") is (ran.out[:1] == "{")


def test_json_is_read_afresh(dcl: Dcl, project: Path, loads: list[Path]) -> None:
    """The document says more than a list shows, and so more than is kept."""
    dcl("list")
    documents = [json.loads(dcl("list", "--json").out) for _ in range(2)]

    assert documents[0] == documents[1]
    assert len(loads) == 3


def test_entries_are_named(dcl: Dcl, project: Path) -> None:
    """What is kept comes back as it went."""
    path = project / "catalog.yaml"
    first, second = entries.read_entries(path), entries.read_entries(path)

    assert first == second
    assert second["parts"] == entries.Entry(
        name="parts",
        source="raw/parts/**/*.csv",
        as_of="",
        owner="",
        tags="pii daily",
        description="",
    )
