"""Commands that check: verify, doctor."""

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import Dcl


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
