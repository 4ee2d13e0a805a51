"""Commands that only read the catalog: list, validate, schema."""

import json
from pathlib import Path

import pytest

from datacachalog.spec.schema import catalog_schema
from tests.cli.conftest import Dcl


def test_list_is_a_table_of_the_catalog(dcl: Dcl, project: Path) -> None:
    """One line per dataset, in the catalog's order, sources as they were written."""
    ran = dcl("list")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "NAME   SOURCE              OWNER   TAGS       DESCRIPTION\n"
        "one    raw/one.txt         team-a             A single file\n"
        "parts  raw/parts/**/*.csv          pii daily\n"
    )


def test_list_takes_names_in_their_order(dcl: Dcl, project: Path) -> None:
    """Names choose, and say the order."""
    lines = dcl("list", "parts", "one").out.splitlines()

    assert [line.split(" ")[0] for line in lines] == ["NAME", "parts", "one"]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_list_fits_its_terminal(dcl_tty: Dcl, project: Path, columns: int) -> None:
    """On a terminal no line wraps."""
    out = dcl_tty("list", "--color=never", columns=columns).out

    assert max(len(line) for line in out.splitlines()) <= columns


def test_list_as_json(dcl: Dcl, project: Path) -> None:
    """The document has a version, the catalog, and each dataset with defaults merged."""
    document = json.loads(dcl("list", "--json", "one").out)

    assert {key: document[key] for key in ("schema_version", "kind", "catalog")} == {
        "schema_version": 1,
        "kind": "datasets",
        "catalog": str(project / "catalog.yaml"),
    }
    assert document["datasets"] == [
        {
            "name": "one",
            "description": "A single file",
            "sources": [f"file://{project}/raw/one.txt"],
            "exclude": [],
            "pin": None,
            "storage": None,
            "path": str(project / "data/one"),
            "format": None,
            "reader": None,
            "checksum": None,
            "owner": "team-a",
            "tags": [],
            "push": False,
            "allow_empty": False,
            "on_stale": "warn",
            "max_age_seconds": None,
            "metadata": {},
            "declared": "catalog.yaml:3",
        }
    ]


def test_list_of_an_empty_catalog_says_what_to_do(dcl: Dcl, project: Path) -> None:
    """An empty catalog gives no table but a next step."""
    (project / "catalog.yaml").write_text("datasets: {}\n")

    assert dcl("list").err == "catalog.yaml has no datasets; `dcl add NAME URI` adds one\n"


def test_an_unknown_dataset_is_a_usage_error(dcl: Dcl, project: Path) -> None:
    """A name that is not in the catalog exits with 2 and the nearest name."""
    ran = dcl("list", "part")

    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "error: no dataset 'part' in catalog.yaml\nhint: did you mean 'parts'?\n"


@pytest.mark.parametrize(
    "argv",
    [["list", "-c", "sub"], ["-c", "sub/catalog.yaml", "list"]],
    ids=["folder-after", "file-before"],
)
def test_catalog_option_chooses(dcl: Dcl, project: Path, argv: list[str]) -> None:
    """`-c` takes a file or a folder, before or after the command."""
    (project / "sub").mkdir()
    (project / "sub/catalog.yaml").write_text("datasets: {other: x.csv}\n")

    assert "other" in dcl(*argv).out


def test_catalog_option_has_a_twin(
    dcl: Dcl, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`DCL_CATALOG` names a catalog, and `-c` stands above it."""
    (project / "other.yaml").write_text("datasets: {other: x.csv}\n")
    monkeypatch.setenv("DCL_CATALOG", "other.yaml")

    assert "other" in dcl("list").out
    assert "parts" in dcl("list", "-c", "catalog.yaml").out


def test_validate_says_that_it_is_valid(dcl: Dcl, project: Path) -> None:
    """A valid catalog is told on standard error, exit code 0."""
    ran = dcl("validate")

    assert (ran.code, ran.out, ran.err) == (0, "", "catalog.yaml is valid: 2 datasets\n")


def test_validate_shows_all_problems(dcl: Dcl, project: Path) -> None:
    """Every problem is a line with its place, with a hint below; exit code 2."""
    (project / "catalog.yaml").write_text(
        "datasets:\n  a: {sorce: x.csv}\n  b: {source: 'ftp://x/y'}\n"
    )
    ran = dcl("validate")

    assert (ran.code, ran.out) == (2, "")
    assert "catalog.yaml:2:7: unknown key `sorce`" in ran.err
    assert "  hint: did you mean `source`?" in ran.err
    assert "catalog.yaml:3:" in ran.err


def test_validate_as_json(dcl: Dcl, project: Path) -> None:
    """Problems are data for those who ask for it; the exit code stays 2."""
    (project / "catalog.yaml").write_text("datasets:\n  a: {source: x.csv, pusch: true}\n")
    ran = dcl("validate", "--json")
    document = json.loads(ran.out)

    assert (ran.code, ran.err, document["valid"]) == (2, "", False)
    assert document["problems"][0]["line"] == 2
    assert document["problems"][0]["hint"] == "did you mean `push`?"


def test_schema_is_the_schema(dcl: Dcl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dcl schema` needs no catalog."""
    monkeypatch.chdir(tmp_path)

    assert json.loads(dcl("schema").out) == catalog_schema()


def test_no_catalog_says_how_to_get_one(
    dcl: Dcl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of any project, commands exit with 2 and name `dcl init`."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    ran = dcl("list")

    assert ran.code == 2
    assert ran.err.splitlines() == [
        f"error: there is no catalog.yaml in {tmp_path} or above it",
        "hint: `dcl init` writes one; `--catalog PATH` names one elsewhere",
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_asks_for_names(dcl: Dcl, shell: str) -> None:
    """Each shell's script completes commands, and calls back for the names of datasets."""
    ran = dcl("completion", shell)

    assert (ran.code, ran.err) == (0, "")
    assert "invalidate-glob" in ran.out
    assert "__complete" in ran.out


def test_names_complete(capfd: pytest.CaptureFixture[str], dcl: Dcl, project: Path) -> None:
    """What the scripts call back for are the catalog's names and descriptions."""
    dcl("__complete", "sync", "")

    assert "one\tA single file\nparts\n" in capfd.readouterr().out


def test_names_complete_to_nothing_without_a_catalog(
    capfd: pytest.CaptureFixture[str], dcl: Dcl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Completion never shows an error in the middle of a command line."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    ran = dcl("__complete", "sync", "")

    assert (ran.code, ran.err) == (0, "")
    assert "error" not in capfd.readouterr().out
