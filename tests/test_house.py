"""The house: what pyproject, the CI script and the docs promise together stays one promise."""

import ast
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from datacachalog.readers.formats import EXTRAS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _requirements(extra: str) -> set[str]:
    """Return the packages that an extra brings, extras of our own resolved."""
    names: set[str] = set()
    for requirement in PROJECT["optional-dependencies"][extra]:
        inner = re.match(r"datacachalog\[(.+)\]", requirement)
        if inner:
            names.update(*(_requirements(part.strip()) for part in inner[1].split(",")))
        else:
            names.add(re.split(r"[\[<>=!~ ;]", requirement)[0].lower())
    return names


def _step(line: str) -> bool:
    script = (ROOT / ".ci" / "run").read_text()
    return re.search(rf"^(step )?{re.escape(line)}", script, re.MULTILINE) is not None


@pytest.mark.parametrize("library", EXTRAS)
def test_each_reading_library_has_an_extra_that_brings_it(library: str) -> None:
    """The hint `pip install 'datacachalog[polars]'` works."""
    assert library in _requirements(library)


@pytest.mark.parametrize("extra", sorted(set(PROJECT["optional-dependencies"]) - {"dev"}))
def test_the_development_extra_brings_all_others(extra: str) -> None:
    """Nothing that users can install goes untested for want of a package."""
    assert _requirements(extra) <= _requirements("dev")


@pytest.mark.parametrize(
    "line",
    ["pip install -qq '.[dev]'", "ruff format --check", "ruff check", "mypy", "pytest"],
)
def test_ci_runs_every_check(line: str) -> None:
    """The script installs the development extra and runs each tool over everything."""
    assert _step(line)


@pytest.mark.parametrize("tool", ["mypy", "pytest", "ruff"])
def test_the_development_extra_brings_the_tools(tool: str) -> None:
    """What CI and the hooks call is installed by the same command."""
    assert tool in _requirements("dev")


def test_ci_and_the_hooks_call_the_same_tools() -> None:
    """A commit that passes the hooks is not refused later for its format, lint or types."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()

    assert re.findall(r"entry: (ruff format|ruff check|mypy)\b", hooks) == [
        "ruff format",
        "ruff check",
        "mypy",
    ]


def test_the_ci_script_is_a_program() -> None:
    """It can be run as it is, and bash finds nothing wrong with its syntax."""
    script = ROOT / ".ci" / "run"
    result = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)

    assert os.access(script, os.X_OK)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_changelog_has_the_version() -> None:
    """The version of the package is the newest one that the changelog tells of."""
    source = (ROOT / "datacachalog" / "__init__.py").read_text()
    version = next(
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"
    )
    told = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert told[0] == version
