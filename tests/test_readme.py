"""The docs are true: every block that can run does, every link leads somewhere.

The blocks of a page run in order, in one project, against a bucket such as the page tells of.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import datacachalog
from datacachalog.cli.app import COMMANDS
from datacachalog.readers.formats import EXTRAS, FORMATS
from tests.cli.conftest import global_options
from tests.conftest import Bucket, TestS3

ROOT = Path(__file__).parents[1]
PAGES = (
    "docs/catalog.md",
    "docs/command-line.md",
    "docs/json.md",
    "docs/python.md",
    "docs/reproducibility.md",
)
JANUARY = datetime(2026, 1, 15, tzinfo=UTC)
LAKE = {
    "customers/current.csv": "customer,name\n1,Ada\n2,Grace\n",
    "orders/year=2026/month=01/orders.csv": "day,customer,amount\n2026-01-03,1,120\n",
    "orders/year=2026/month=02/orders.csv": "day,customer,amount\n2026-02-11,2,80\n",
    "reports/monthly.csv": "month,amount\n2026-01,100\n",
}
CATALOG = """\
datasets:
  customers: s3://acme-lake/customers/current.csv
  orders: s3://acme-lake/orders/**/*.csv
"""
INSTALLS = re.compile(r"^pip install .*$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, and where its first line is."""

    language: str
    text: str
    line: int


def blocks_of(page: str) -> Iterator[Block]:
    """Return the fenced blocks of a page in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(match[1], match[2], text.count("\n", 0, match.start(2)) + 1)


@pytest.fixture(scope="module")
def lake(s3: TestS3) -> TestS3:
    """Give an S3 that has the bucket of the docs."""
    s3.client.create_bucket(Bucket="acme-lake")
    s3.client.put_bucket_versioning(
        Bucket="acme-lake", VersioningConfiguration={"Status": "Enabled"}
    )
    bucket = Bucket("acme-lake", s3.client, s3.endpoint)
    for key in LAKE:
        bucket.put(key, b"customer,name\n1,Ada\n")
        bucket.backdate(key, JANUARY)
    return s3


@pytest.fixture
def environment(lake: TestS3, tmp_path: Path) -> dict[str, str]:
    """Give what a user has: the AWS variables, and `dcl` on the path."""
    for key, text in LAKE.items():
        lake.client.put_object(Bucket="acme-lake", Key=key, Body=text.encode())
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "dcl").write_text(f'#!/bin/sh\nexec {sys.executable} -m datacachalog "$@"\n')
    (programs / "dcl").chmod(0o755)
    return os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "DCL_CACHE_DIR": str(tmp_path / "cache"),
        "AWS_ENDPOINT_URL": lake.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def run(block: Block, project: Path, environment: dict[str, str]) -> str | None:
    """Do what a block says; return what it printed if it failed."""
    match block.language:
        case "yaml":
            assert block.text.startswith("# catalog.yaml\n"), "which file is it?"
            (project / "catalog.yaml").write_text(block.text, encoding="utf-8")
            words = [sys.executable, "-m", "datacachalog", "validate"]
        case "sh":
            words = ["bash", "-euo", "pipefail", "-c", INSTALLS.sub("", block.text)]
        case "python":
            words = [sys.executable, "-W", "error", "-c", block.text]
        case "text" | "":
            return None
        case _:
            raise AssertionError(f"nothing runs blocks of `{block.language}`")
    result = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True)
    return None if result.returncode == 0 else result.stdout + result.stderr


def run_all(page: str, project: Path, environment: dict[str, str]) -> None:
    """Do what all blocks of a page say, in order."""
    for block in blocks_of(page):
        failure = run(block, project, environment)

        assert failure is None, f"{page}:{block.line}: {failure}"


@pytest.mark.parametrize("page", PAGES)
def test_every_block_runs(page: str, environment: dict[str, str], tmp_path: Path) -> None:
    """A reader who has a catalog and types what the page says gets no error."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "catalog.yaml").write_text(CATALOG)
    (project / "reference").mkdir()
    (project / "reference" / "countries.csv").write_text("code,name\nAT,Austria\n")
    run_all(page, project, environment)


def test_the_tour(environment: dict[str, str], tmp_path: Path) -> None:
    """Starting with nothing, every block of README runs, and leaves what it says."""
    run_all("README.md", tmp_path, environment)
    status = json.loads((tmp_path / "status.json").read_text())
    orders = "data/orders/year=2026/month=01/orders.csv"

    assert (tmp_path / "data/customers/current.csv").read_text() == LAKE["customers/current.csv"]
    assert (tmp_path / orders).read_text() == LAKE[orders.removeprefix("data/")]
    assert (tmp_path / "data/report/monthly.csv").read_text() == "month,amount\n2026-01,120\n"
    assert status["schema_version"] == 1
    assert "/data/" in (tmp_path / ".gitignore").read_text()
    january = tmp_path / "report/data/customers@2026-01-31/current.csv"
    assert january.read_text() == "customer,name\n1,Ada\n"
    assert '"blake3"' in (tmp_path / "report/catalog.lock").read_text()


def test_the_two_commands_are_what_the_project_offers() -> None:
    """README installs extras that exist, and runs a program and a tool that they bring."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    first = next(block for block in blocks_of("README.md") if block.language == "sh")
    lines = [shlex.split(line, comments=True) for line in first.text.splitlines()]

    assert lines == [
        ["pip", "install", ".[demo]", "&&", "dcl", "demo"],
        ["pip", "install", ".[dev]", "&&", "pytest"],
    ]
    assert {"demo", "dev"} <= set(project["optional-dependencies"])
    assert "dcl" in project["scripts"]


@pytest.mark.parametrize(
    "page",
    sorted(
        str(page.relative_to(ROOT))
        for pattern in ("*.md", "docs/*.md", "examples/*.md")
        for page in ROOT.glob(pattern)
    ),
)
def test_links_lead_somewhere(page: str) -> None:
    """Every relative link is a file here, and every named link is defined."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)]+)\)", text)
    missing = [
        target
        for target in targets
        if "://" not in target and not (ROOT / page).parent.joinpath(target).exists()
    ]
    used = set(re.findall(r"\]\[([^\]]+)\]", text))
    defined = set(re.findall(r"^\[([^\]]+)\]: ", text, re.MULTILINE))

    assert missing == []
    assert used == defined


def test_the_picture_is_a_run_of_the_demo() -> None:
    """The picture is an image that loads nothing, of commands and words of the tool."""
    text = (ROOT / "docs" / "terminal.svg").read_text(encoding="utf-8")
    words = "".join(ET.fromstring(text).itertext()).replace("\xa0", " ")

    assert "http" not in text.replace("http://www.w3.org/", "").replace(
        "https://www.textualize.io", ""
    )
    for command in ("dcl sync", "dcl status", "dcl sync --dry-run", "dcl push"):
        assert command in words
    assert "2 to download" in words
    assert "is not what it was" in words


def test_the_page_of_commands_has_all_of_them() -> None:
    """The table names each command once, in the order of the help."""
    rows = re.findall(
        r"^\| `dcl ([^`]+)` \|", (ROOT / "docs/command-line.md").read_text(), re.MULTILINE
    )
    named = [re.split(r" [\[A-Z]", row)[0] for row in rows]

    assert sorted(named) == sorted(command.name for command in COMMANDS)


def test_the_page_of_commands_has_the_global_options() -> None:
    """Each option that all commands share stands there with its twin in the environment."""
    page = (ROOT / "docs/command-line.md").read_text()
    rows = {
        row[1]: re.findall(r"`([^`]+)`", row[0])
        for row in re.findall(r"^\| (`-.*?) \| `(DCL_\w+)` \|", page, re.MULTILINE)
    }

    assert rows == global_options()


def test_the_page_of_formats_is_the_table() -> None:
    """What the docs say can be read is what can be read, in the order of preference."""
    page = (ROOT / "docs/catalog.md").read_text()
    rows = re.findall(r"^\| (\w+) \| ((?:`\.\w+` ?)*)\s*\| ([^|]+) \|$", page, re.MULTILINE)
    told = [(name, re.findall(r"\.\w+", suffixes), libraries) for name, suffixes, libraries in rows]

    assert told == [
        (
            format_.name,
            list(format_.suffixes),
            ", ".join(r.library for r in format_.readers if r.library in EXTRAS) or "none needed",
        )
        for format_ in FORMATS
    ]


def test_the_page_of_python_names_what_exists() -> None:
    """Every method in its table is one of `Catalog`'s, every class in it is public."""
    page = (ROOT / "docs/python.md").read_text()
    methods = re.findall(
        r"`(\w+)(?:\([^)]*\))?`", "".join(re.findall(r"^\| (`[^|]+)\|", page, re.MULTILINE))
    )
    classes = set(re.findall(r"`([A-Z]\w+(?:Error|Report))`", page))
    builtin = {"FileNotFoundError", "PermissionError", "ConnectionError", "ValueError"}
    catalog = datacachalog.Catalog([], root="/nowhere")

    assert [name for name in methods if not hasattr(catalog, name)] == []
    assert classes - builtin <= set(dir(datacachalog))
