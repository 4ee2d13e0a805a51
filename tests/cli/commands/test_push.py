"""The command that uploads."""

from pathlib import Path

from tests.cli.conftest import Dcl


def test_push_is_refused_unless_allowed(dcl: Dcl, project: Path) -> None:
    """A dataset without `push: true` exits with 1 and the key to set."""
    ran = dcl("push", "one", "raw/parts/2.csv")

    assert (ran.code, ran.out) == (1, "")
    assert "push: true" in ran.err
