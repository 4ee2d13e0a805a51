"""A command line to run in-process, and a project of local files to run it on."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from datacachalog.cli.door import run


class Tty(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Ran:
    """What one command line left: its exit code and both streams."""

    code: int
    out: str
    err: str


Dcl = Callable[..., Ran]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let nothing of the outer environment in; the cache is the test's own."""
    for name in ("NO_COLOR", "FORCE_COLOR", "CI", "COLUMNS", "TERM", "DCL_CATALOG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DCL_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def dcl() -> Dcl:
    """Return a function that runs `dcl` with the given words, as in a pipe."""

    def call(*argv: str) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        return Ran(run(argv, out, err), out.getvalue(), err.getvalue())

    return call


@pytest.fixture
def dcl_tty(monkeypatch: pytest.MonkeyPatch) -> Dcl:
    """Return a function that runs `dcl` on a terminal `columns` wide."""

    def call(*argv: str, columns: int = 80) -> Ran:
        monkeypatch.setenv("COLUMNS", str(columns))
        out, err = Tty(), Tty()
        return Ran(run(argv, out, err), out.getvalue(), err.getvalue())

    return call


CATALOG = """\
# The project's data.
datasets:
  one:
    description: A single file
    owner: team-a
    source: raw/one.txt  # the only one
  parts: {source: "raw/parts/**/*.csv", tags: [pii, daily]}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project of two datasets with their sources, which is also the working folder."""
    root = tmp_path / "project"
    (root / "raw/parts/a").mkdir(parents=True)
    (root / "catalog.yaml").write_text(CATALOG)
    (root / "raw/one.txt").write_text("one\n")
    (root / "raw/parts/a/1.csv").write_text("a,b\n1,2\n")
    (root / "raw/parts/2.csv").write_text("a,b\n")
    monkeypatch.chdir(root)
    return root
