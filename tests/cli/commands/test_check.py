"""Commands that compare and judge, on local sources: status, show, verify, doctor."""

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import Dcl


def _cells(line: str) -> list[str]:
    return [cell for cell in line.split("  ") if cell]


def test_status_before_any_sync(dcl: Dcl, project: Path) -> None:
    """Datasets that were never fetched say so, and what a sync would bring."""
    ran = dcl("status")
    head, one, parts = ran.out.splitlines()

    assert ran.code == 0
    assert head.split() == ["NAME", "STATUS", "FILES", "SIZE", "CHANGES", "CHECKED"]
    assert [cell.strip() for cell in _cells(one)][:2] == ["one", "not fetched"]
    assert "2 to download (12 B)" in parts
    assert ran.err == "2 datasets: 2 not fetched\n"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        pytest.param(lambda root: None, "up to date", id="up-to-date"),
        pytest.param(
            lambda root: (root / "raw/one.txt").write_text("changed"), "stale", id="stale"
        ),
        pytest.param(
            lambda root: (root / "data/one/one.txt").unlink(), "incomplete", id="incomplete"
        ),
        pytest.param(lambda root: (root / "raw/one.txt").unlink(), "error", id="error"),
    ],
)
def test_status_has_one_word_for_each_state(
    dcl: Dcl, project: Path, change: object, word: str
) -> None:
    """Meaning is in words, never in colour."""
    dcl("sync")
    change(project)  # type: ignore[operator]  # one of the functions above

    assert json.loads(dcl("status", "one", "--json").out)["datasets"][0]["status"] == word


def test_an_edited_file_is_shown_and_kept(dcl: Dcl, project: Path) -> None:
    """A file that was replaced here is named in the table."""
    dcl("sync")
    (project / "data/one/one.txt").unlink()
    (project / "data/one/one.txt").write_text("my own text")
    out = dcl("status", "one").out

    assert "edited" in out
    assert "one.txt: edited since it was put there" in out


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        pytest.param(["status"], 0, id="without-check"),
        pytest.param(["status", "--check"], 3, id="check"),
        pytest.param(["status", "--check", "--json"], 3, id="check-json"),
        pytest.param(["status", "parts", "--check"], 0, id="check-another"),
    ],
)
def test_check_is_a_verdict(dcl: Dcl, project: Path, argv: list[str], code: int) -> None:
    """`--check` exits with 3 if something is not up to date; `status` alone never does."""
    dcl("sync")
    (project / "raw/one.txt").write_text("changed")

    assert dcl(*argv).code == code


def test_a_source_that_fails_is_no_verdict(dcl: Dcl, project: Path) -> None:
    """What could not be compared exits with 1 and is explained on standard error."""
    (project / "raw/one.txt").unlink()
    ran = dcl("status", "--check")

    assert ran.code == 1
    assert "error: one: there is no file" in ran.err


def test_list_with_status_is_the_status(dcl: Dcl, project: Path) -> None:
    """`dcl list --status` compares, too."""
    dcl("sync")

    assert dcl("list", "--status").out == dcl("status").out


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_status_fits_its_terminal(dcl_tty: Dcl, project: Path, columns: int) -> None:
    """On a terminal no line of the table wraps."""
    out = dcl_tty("status", "--color=never", columns=columns).out

    assert max(len(line) for line in out.splitlines()) <= columns


def test_show_tells_all_that_is_said(dcl: Dcl, project: Path) -> None:
    """Each key of the catalog that is set is a line, and what is on disk."""
    (project / "catalog.yaml").write_text(
        "datasets:\n  one: {source: raw/one.txt, owner: me, max_age: 10 minutes, push: true,\n"
        "    metadata: {ticket: DATA-1}, tags: [a, b], path: in/one}\n"
    )
    dcl("sync")
    lines = dcl("show", "one").out.splitlines()

    assert [line.split("  ")[0] for line in lines] == [
        "name",
        "owner",
        "tags",
        "source",
        "lands in",
        "push",
        "trusted for",
        "metadata",
        "declared in",
        "on disk",
    ]
    assert lines[-1].split(maxsplit=2)[2] == "1 file, 4 B, checked just now"


def test_show_of_what_is_not_here(dcl: Dcl, project: Path) -> None:
    """A dataset that was never fetched is shown all the same."""
    ran = dcl("show", "parts")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[-1].split(maxsplit=2)[2] == "not fetched"


def test_show_as_json(dcl: Dcl, project: Path) -> None:
    """The document holds the dataset, and its state if there is one."""
    assert json.loads(dcl("show", "one", "--json").out)["on_disk"] is None
    dcl("sync")

    assert json.loads(dcl("show", "one", "--json").out)["on_disk"]["files"] == 1


def test_verify_finds_nothing_bad(dcl: Dcl, project: Path) -> None:
    """After a sync all files hash to what was put there."""
    dcl("sync")
    ran = dcl("verify")

    assert (ran.code, ran.out, ran.err) == (0, "", "3 files hashed, 0 bad (16 B)\n")


def test_verify_passes_over_what_is_not_here(dcl: Dcl, project: Path) -> None:
    """Without names, only what was fetched is verified; a name insists."""
    dcl("sync", "one")

    assert dcl("verify").code == 0
    assert dcl("verify", "parts").code == 1


def test_verify_names_bad_files(dcl: Dcl, project: Path) -> None:
    """Other bytes under the same size and time are found: exit code 3, the file as data."""
    dcl("sync")
    file = project / "data/one/one.txt"
    before = file.stat()
    file.chmod(0o644)
    file.write_text("eno\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    ran = dcl("verify")

    assert ran.code == 3
    assert ran.out.startswith("one/one.txt: ")
    assert json.loads(dcl("verify", "one", "--json").out)["datasets"][0]["bad"][0]["path"] == (
        "one.txt"
    )


def test_doctor_finds_all_well(dcl: Dcl, project: Path) -> None:
    """Cache, data and sources are looked at; nothing is wrong, nothing is left behind."""
    before = sorted(path for path in project.rglob("*"))
    ran = dcl("doctor", "--json")
    checks = json.loads(ran.out)["checks"]

    assert ran.code == 0
    assert {(c["subject"], c["topic"]) for c in checks} >= {
        ("dcl", "version"),
        ("catalog", "file"),
        ("cache", "folder"),
        ("cache", "free space"),
        ("data", "link kind"),
        ("local files", "one"),
    }
    assert not [c for c in checks if c["verdict"] == "bad"]
    assert sorted(path for path in project.rglob("*")) == before


def test_doctor_says_what_is_wrong(dcl: Dcl, project: Path) -> None:
    """A source that is not there is a finding: exit code 3, and the others are told too."""
    (project / "raw/one.txt").unlink()
    ran = dcl("doctor")

    assert (ran.code, ran.err) == (3, "")
    assert any(line.startswith("  no  one") for line in ran.out.splitlines())


def test_doctor_without_a_catalog(
    dcl: Dcl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of a project the doctor still tells of the cache."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    ran = dcl("doctor")

    assert ran.code == 0
    assert "there is no catalog.yaml" in ran.out
    assert str(tmp_path / "cache") in ran.out


def test_doctor_of_a_broken_catalog(dcl: Dcl, project: Path) -> None:
    """A catalog that is not valid is a finding that leads to `dcl validate`."""
    (project / "catalog.yaml").write_text("datasets: {a: {}}\n")
    ran = dcl("doctor")

    assert ran.code == 3
    assert "hint: run `dcl validate`" in ran.out


def test_doctor_keeps_secrets(dcl: Dcl, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoint, region and the end of the key are told, and never the secret."""
    (project / "catalog.yaml").write_text(
        "storages:\n  lab: {endpoint_url: 'http://127.0.0.1:9', region: eu-west-1,\n"
        "    key: '${LAB_KEY}', secret: '${LAB_SECRET}'}\n"
        "datasets: {a: {source: 's3://lake/a.csv', storage: lab}}\n"
    )
    monkeypatch.setenv("LAB_KEY", "AKIAEXAMPLE1234")
    monkeypatch.setenv("LAB_SECRET", "very-secret-words")
    ran = dcl("doctor", "--offline")

    assert "http://127.0.0.1:9" in ran.out
    assert "eu-west-1" in ran.out
    assert "access key …1234" in ran.out
    assert "very-secret" not in ran.out + dcl("doctor", "--offline", "--json").out
    assert "AKIAEXAMPLE" not in ran.out


@pytest.mark.parametrize(
    ("chosen", "verdict", "finding"),
    [
        ("auto", "fact", "obstore"),
        ("fsspec", "fact", "fsspec (chosen by DCL_ENGINE)"),
        ("rust", "bad", "DCL_ENGINE is 'rust', which is no engine"),
    ],
)
def test_doctor_tells_the_engine(
    dcl: Dcl,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    chosen: str,
    verdict: str,
    finding: str,
) -> None:
    """And what chose it; a wrong choice is a finding."""
    (project / "catalog.yaml").write_text(
        "storages: {lab: {endpoint_url: 'http://127.0.0.1:9', anon: true}}\n"
        "datasets: {a: {source: 's3://lake/a.csv', storage: lab}}\n"
    )
    monkeypatch.setenv("DCL_ENGINE", chosen)
    checks = json.loads(dcl("doctor", "--offline", "--json").out)["checks"]
    (engine,) = (check for check in checks if check["topic"] == "engine")

    assert (engine["verdict"], engine["finding"]) == (verdict, finding)
