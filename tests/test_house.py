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


@pytest.mark.parametrize("library", EXTRAS)
def test_each_reading_library_has_an_extra_that_brings_it(library: str) -> None:
    """The hint `pip install 'datacachalog[polars]'` works."""
    assert library in _requirements(library)


def test_the_development_extra_brings_all_others_and_the_tools() -> None:
    """Nothing that users can install goes untested; what CI and the hooks call is there."""
    all_extras = set().union(*map(_requirements, PROJECT["optional-dependencies"]))

    assert all_extras | {"mypy", "pytest", "ruff"} <= _requirements("dev")


def test_ci_and_the_hooks_call_the_same_tools() -> None:
    """A commit that passes the hooks is not refused later for its format, lint or types."""
    script = (ROOT / ".ci" / "run").read_text()
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    steps = re.findall(r"^(?:step )?(pip|ruff \w+|mypy|pytest)\b(.*)", script, re.MULTILINE)

    assert [tool for tool, _ in steps] == ["pip", "ruff format", "ruff check", "mypy", "pytest"]
    assert steps[0][1].endswith("'.[dev]'")
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
