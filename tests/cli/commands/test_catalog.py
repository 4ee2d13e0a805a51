"""Commands that write the catalog: init, add."""

from pathlib import Path

import pytest

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
