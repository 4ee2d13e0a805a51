"""What starting may load: counts, not times."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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

HEAVY = {"aiohttp", "boto3", "botocore", "fsspec", "obstore", "pandas", "polars", "pyarrow", "s3fs"}
PARSING = {"attrs", "cyclopts", "pydantic", "rich", "yaml"}


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
    """The root help needs the table of commands and the streams, no parser and no command."""
    loaded = _loaded(project, *argv)

    assert {name for name in loaded if name.startswith("datacachalog.")} == {
        "datacachalog.__main__",
        "datacachalog.cli",
        "datacachalog.cli.commands",
        "datacachalog.cli.door",
        "datacachalog.cli.exits",
        "datacachalog.cli.manual",
        "datacachalog.cli.streams",
        "datacachalog.cli.visible",
        "datacachalog.cli.words",
        "datacachalog.errors",
        "datacachalog.suggest",
    }
    assert not loaded & (HEAVY | PARSING)


@pytest.mark.parametrize("command", ["list", "validate"])
def test_reading_the_catalog_loads_no_storage(project: Path, command: str) -> None:
    """Commands that only read the catalog load no storage, no transfer, no rich console."""
    loaded = _loaded(project, command)

    assert not loaded & HEAVY
    assert not loaded & {
        "datacachalog.catalog",
        "datacachalog.storage",
        "datacachalog.transfer",
        "rich.console",
    }


def test_local_datasets_load_no_cloud(project: Path) -> None:
    """Syncing local files needs no library of any cloud."""
    assert not _loaded(project, "sync", "-q") & (HEAVY - {"fsspec"})
