"""What starting may load: counts, not times."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TestS3

_PROBE = """
import sys
sys.argv[0] = "dcl"
import atexit, os
real_exit = os._exit
def tell(code):
    sys.stdout.flush()
    print("\\n".join(sorted(sys.modules)), file=sys.stderr)
    sys.stderr.flush()
    real_exit(code)
os._exit = tell
from datacachalog.__main__ import main
main()
tell(0)
"""

HEAVY = {"aiohttp", "boto3", "botocore", "fsspec", "pandas", "polars", "pyarrow", "s3fs"}
PARSING = {"attrs", "cyclopts", "pydantic", "rich", "yaml"}
LINE = {"datacachalog.catalog", "datacachalog.sync.dataset", "datacachalog.lock.lockfile"}
"""Where a command begins that does more than read the catalog."""


def _loaded(folder: Path, *argv: str) -> set[str]:
    environ = {**os.environ, "COLUMNS": "80"}
    ran = subprocess.run(
        [sys.executable, "-c", _PROBE, *argv],
        capture_output=True,
        check=True,
        cwd=folder,
        env=environ,
        text=True,
    )
    return set(ran.stderr.split())


def test_version_loads_nothing_of_ours(project: Path) -> None:
    """`dcl --version` loads the package's name and version, and not even dataclasses."""
    loaded = _loaded(project, "--version")

    assert {name for name in loaded if name.startswith("datacachalog")} == {
        "datacachalog",
        "datacachalog.__main__",
    }
    assert not loaded & (HEAVY | PARSING | {"dataclasses", "inspect"})


@pytest.mark.parametrize("argv", [["--help"], [], ["cache"]], ids=["help", "none", "group"])
def test_overviews_load_no_command(project: Path, argv: list[str]) -> None:
    """The root help needs the parser and its table of commands, and no catalog."""
    loaded = _loaded(project, *argv)

    assert not [name for name in loaded if name.startswith("datacachalog.cli.commands")]
    assert not loaded & (HEAVY | LINE | {"pydantic", "yaml"})


@pytest.mark.parametrize(
    "argv",
    [["list"], ["list", "--json"], ["list", "one", "-q"], ["validate"]],
    ids=["list", "json", "names", "validate"],
)
def test_reading_the_catalog_loads_no_storage(project: Path, argv: list[str]) -> None:
    """Commands that only read the catalog load no storage, no lock, no transfer, and no rich."""
    loaded = _loaded(project, *argv)

    assert "pydantic" in loaded
    assert not loaded & (HEAVY | LINE | {"datacachalog.storage", "platformdirs", "rich", "tomllib"})


def test_local_datasets_load_no_cloud(project: Path) -> None:
    """Syncing local files needs no library of any cloud, and progress in a pipe no rich.

    fsspec reads them, and is not needed where there is nothing to read.
    """
    assert not _loaded(project, "sync") & (HEAVY - {"fsspec"} | {"rich"})
    assert not _loaded(project, "sync") & HEAVY


def test_plain_keys_load_no_cloud(
    s3: TestS3, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With keys from the environment, no library of a cloud lists or reads."""
    bucket = s3.bucket()
    bucket.put("one.txt", b"one")
    (project / "catalog.yaml").write_text(f"datasets: {{one: '{bucket.uri('*.txt')}'}}\n")
    monkeypatch.setenv("HOME", str(project))
    for name, value in (("ENDPOINT_URL", s3.endpoint), ("ACCESS_KEY_ID", "x")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")

    assert not _loaded(project, "sync") & (HEAVY | {"rich"})
    assert not _loaded(project, "status") & (HEAVY | {"rich"})
