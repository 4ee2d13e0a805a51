"""A command line to run in-process, and a project of local files to run it on."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cyclopts import Parameter

from datacachalog.cli.app import build_app, run
from tests.conftest import Bucket, TestS3


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


def global_options() -> dict[str, list[str]]:
    """Return the options of every command by their variables, as cyclopts reads them."""
    command = build_app()["schema"]  # which has no others
    options = command.assemble_argument_collection(default_parameter=Parameter(negative=()))
    return {
        variable: list(option.names)
        for option in options.filter_by(show=True)
        for variable in option.parameter.env_var or ()
    }


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


@dataclass(frozen=True)
class Timeline:
    """A project on a bucket that keeps versions: two orders in February, prices, a local file."""

    root: Path
    bucket: Bucket

    def add(self, dataset: str) -> None:
        """Add a line to the catalog."""
        with (self.root / "catalog.yaml").open("a") as file:
            file.write(f"  {dataset}\n")

    def move_on(self) -> None:
        """Let the source change: one order more, one less, one other, and the local file."""
        self.bucket.put("orders/a.csv", b"a" * 5000)
        self.bucket.delete("orders/b.csv")
        self.bucket.put("orders/c.csv", b"ccc")
        (self.root / "raw.txt").write_text("RAW")


TIMELINE = """\
storages:
  test: {{endpoint_url: "{endpoint}", key: "${{KEY:-test}}", secret: "${{KEY:-test}}"}}
datasets:
  orders: {{source: "s3://{bucket}/orders/**", storage: test}}
  prices: {{source: "s3://{bucket}/prices.csv", storage: test, push: true}}
  raw: raw.txt
"""


@pytest.fixture
def timeline(s3: TestS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Timeline:
    """Return a project with a history, which is also the working folder."""
    root = tmp_path / "timeline"
    root.mkdir()
    bucket = s3.bucket(versioning=True)
    for day, key, data in (
        (1, "orders/a.csv", b"a" * 100),
        (2, "orders/b.csv", b"b"),
        (3, "prices.csv", b"1"),
        (4, "prices.csv", b"22"),
    ):
        bucket.put(key, data)
        bucket.backdate(key, datetime(2026, 2, day, 9, 30, 5, tzinfo=UTC))
    text = TIMELINE.format(endpoint=s3.endpoint, bucket=bucket.name)
    (root / "catalog.yaml").write_text(text)
    (root / "raw.txt").write_text("raw")
    monkeypatch.chdir(root)
    return Timeline(root, bucket)
