"""Commands that read or write the catalog: init, add, validate, list, schema."""

import json
from pathlib import Path

import pytest

from datacachalog.spec.schema import catalog_schema
from tests.cli.conftest import Dcl


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working folder."""
    folder = tmp_path / "new"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_init_writes_a_catalog_that_is_valid(dcl: Dcl, folder: Path) -> None:
    """The new catalog validates, and says next what to do."""
    ran = dcl("init")

    assert (ran.code, ran.out) == (0, "")
    assert ran.err.splitlines() == [
        "wrote catalog.yaml",
        "added /data/ and /.datacachalog/state/ to .gitignore",
        "next: `dcl add NAME URI`, then `dcl sync`",
    ]
    assert dcl("validate").code == 0
    assert (folder / ".gitignore").read_text() == "/data/\n/.datacachalog/state/\n"


def test_init_in_another_folder(dcl: Dcl, folder: Path) -> None:
    """A folder can be named; it is made."""
    ran = dcl("init", "a/b", "-q")

    assert (ran.code, ran.err) == (0, "")
    assert (folder / "a/b/catalog.yaml").is_file()


@pytest.mark.parametrize("name", ["catalog.yaml", "catalog.yml", "catalog.toml"])
def test_init_overwrites_nothing(dcl: Dcl, folder: Path, name: str) -> None:
    """A catalog of any spelling is left as it is."""
    (folder / name).write_text("mine\n")
    ran = dcl("init")

    assert ran.code == 2
    assert ran.err.splitlines()[0] == f"error: there is a {name} already"
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_text() == "mine\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", "/data/\n/.datacachalog/state/\n", id="empty"),
        pytest.param("*.pyc", "*.pyc\n/data/\n/.datacachalog/state/\n", id="no-newline-at-end"),
        pytest.param("data\n", "data\n/.datacachalog/state/\n", id="data-in-another-spelling"),
        pytest.param(
            "data/\r\n.datacachalog/\r\n", "data/\r\n.datacachalog/\r\n", id="nothing-missing"
        ),
    ],
)
def test_init_adds_what_gitignore_lacks(dcl: Dcl, folder: Path, before: str, after: str) -> None:
    """Lines that are there are kept, whatever their spelling, and none is added twice."""
    (folder / ".gitignore").write_bytes(before.encode())
    dcl("init")

    assert (folder / ".gitignore").read_bytes() == after.encode()


def test_add_keeps_what_is_there(dcl: Dcl, project: Path) -> None:
    """Comments and order stay; the new dataset comes last and can be listed."""
    before = (project / "catalog.yaml").read_text()
    ran = dcl("add", "more", "s3://lake/more/*.csv")

    assert (ran.code, ran.out) == (0, "")
    assert ran.err == "added 'more' to catalog.yaml:8; `dcl sync more` fetches it\n"
    assert (project / "catalog.yaml").read_text().startswith(before)
    assert dcl("list", "more").code == 0


def test_add_takes_description_and_storage(dcl: Dcl, project: Path) -> None:
    """The common keys can be given on the command line."""
    (project / "catalog.yaml").write_text("storages: {lab: {anon: true}}\ndatasets: {}\n")
    dcl("add", "x", "s3://b/k", "--storage", "lab", "--description", "It: is #1")

    assert '"description": "It: is #1"' in dcl("list", "--json").out
    assert '"storage": "lab"' in dcl("list", "--json").out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        pytest.param(["one", "s3://b/k"], "there is a dataset 'one' already", id="taken"),
        pytest.param(["a b", "s3://b/k"], "'a b' is not a name", id="no-name"),
        pytest.param(["x", "ftp://b/k"], "ftp", id="no-source"),
        pytest.param(["x", "s3://b/k", "--storage", "nope"], "nope", id="no-storage"),
    ],
)
def test_add_refuses_what_would_not_be_valid(
    dcl: Dcl, project: Path, argv: list[str], message: str
) -> None:
    """The error says why, exit code 2, and the file is as it was."""
    before = (project / "catalog.yaml").read_bytes()
    ran = dcl("add", *argv)

    assert ran.code == 2
    assert message in ran.err
    assert (project / "catalog.yaml").read_bytes() == before
    assert {path.name for path in project.iterdir()} == {"catalog.yaml", "raw"}


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


@pytest.mark.parametrize(
    ("twin", "value"), [("DCL_JSON", "true"), ("DCL_COLOR", "always"), ("DCL_CATALOG", "sub")]
)
def test_options_have_twins_in_the_environment(
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
