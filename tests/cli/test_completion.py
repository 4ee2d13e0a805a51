"""Completion in a shell: its script, and the names that it asks for."""

from pathlib import Path

import pytest

from tests.cli.conftest import Dcl


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
