"""The examples run as their pages say."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from datacachalog import load_catalog

EXAMPLES = Path(__file__).parents[1] / "examples"
DCL = [sys.executable, "-m", "datacachalog"]
TIMEOUT = 60


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Give an environment in which the cache is the test's own."""
    return os.environ | {"HOME": str(tmp_path), "DCL_CACHE_DIR": str(tmp_path / "cache")}


@pytest.fixture
def lake(environment: dict[str, str]) -> Iterator[str]:
    """Run the example's lake on a free port and give its endpoint."""
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "s3" / "lake.py", "0"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    words = process.stdout.readline().split()
    yield words[words.index("at") + 1].rstrip(",")
    process.send_signal(signal.SIGINT)
    returncode = process.wait(TIMEOUT)
    process.stdout.close()

    assert returncode == 0


def copy_of(example: str, folder: Path) -> Path:
    """Return a copy of an example's folder, so that running it leaves nothing behind."""
    return shutil.copytree(EXAMPLES / example, folder / example)


def run(*words: str, cwd: Path, environment: dict[str, str]) -> str:
    """Run `dcl` and return its standard output."""
    result = subprocess.run(
        [*DCL, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=TIMEOUT
    )

    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    "catalog", sorted(str(p.relative_to(EXAMPLES.parent)) for p in EXAMPLES.glob("**/catalog.yaml"))
)
def test_each_catalog_is_valid(catalog: str) -> None:
    """The catalogs of the examples, wherever they are read, have no problem."""
    assert load_catalog(EXAMPLES.parent / catalog).datasets


def test_the_catalog_of_all_keys_is_valid(environment: dict[str, str], tmp_path: Path) -> None:
    """`catalog.example.yaml` passes `dcl validate` where a user would copy it to."""
    shutil.copy(EXAMPLES.parent / "catalog.example.yaml", tmp_path / "catalog.yaml")
    listed = json.loads(run("validate", "--json", cwd=tmp_path, environment=environment))

    assert listed["valid"] is True


def test_local_files(environment: dict[str, str], tmp_path: Path) -> None:
    """Local sources are synced, without the draft, and a change is seen."""
    project = copy_of("local-files", tmp_path)
    run("sync", cwd=project, environment=environment)
    paths = run("path", "measurements", cwd=project, environment=environment).splitlines()
    with (project / "measurements" / "2026-02.csv").open("a") as file:
        file.write("2026-02-02,1,6.0\n")
    status = run("status", cwd=project, environment=environment)

    assert [Path(path).name for path in paths] == ["2026-01.csv", "2026-02.csv"]
    assert "1 to download" in status


def test_a_bucket(environment: dict[str, str], lake: str, tmp_path: Path) -> None:
    """The lake serves what the catalog names, and takes a report back."""
    project = copy_of("s3", tmp_path)
    environment["LAKE"] = lake
    run("sync", cwd=project, environment=environment)
    (project / "new.csv").write_text("month,amount\n2026-03,95\n")
    run("push", "report", "new.csv", cwd=project, environment=environment)

    assert sorted(str(p.relative_to(project)) for p in project.glob("data/**/*.csv")) == [
        "data/customers/current.csv",
        "data/orders/year=2026/month=01/orders.csv",
        "data/orders/year=2026/month=02/orders.csv",
        "data/report/monthly.csv",
    ]
    assert (project / "data/report/monthly.csv").read_text() == "month,amount\n2026-03,95\n"


def test_the_python_interface(environment: dict[str, str], tmp_path: Path) -> None:
    """The program prints what its comments promise."""
    result = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "python_api.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "'orders' was not fetched yet (run `dcl sync orders`)",
        "data/orders/2026-01.csv",
        "data/orders/2026-02.csv",
        "stale: True",
        "orders: 2 new, 1 kept",
        "rows: 3 total: 245",
    ]
