"""The floors: folders import downwards only, and leave to libraries what libraries do.

Read from the source, so that nothing is imported and imports for type checkers count as well.
"""

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1] / "datacachalog"

FLOORS = """
cli        catalog sync lock storage cache readers spec values
catalog    sync lock storage cache readers spec values
sync       lock storage cache spec values
lock       cache spec values
storage    spec values
cache      values
readers    spec values
spec       values
"""
"""Each folder or module, and what it may import; `values` are the other modules at the top."""

MAY_IMPORT = {line.split()[0]: set(line.split()) for line in FLOORS.split("\n") if line}
LIGHT = {"blake3", "lazy_loader", "platformdirs", "pydantic", "pydantic_core", "yaml"}
LIGHT_IN_CLI = LIGHT | {"cyclopts", "rich"}
NETWORK = {"hmac", "http", "selectors", "socket", "ssl", "subprocess"}
HAS_SERVER = {"cli.commands.demo", "cli.demo_server"}


class Import(NamedTuple):
    """One imported module, or what may be one; `is_late` is one in a function or for types."""

    module: str
    line: int
    is_late: bool


def _imports(node: ast.AST, is_late: bool = False) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        late = is_late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        late = late or (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING")
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, is_late) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            names = {f"{child.module}.{alias.name}" for alias in child.names}
            found = names & OURS or {child.module or ""}
            yield from (Import(name, child.lineno, is_late) for name in found)
        yield from _imports(child, late)


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


TREES = {_name(path): ast.parse(path.read_text()) for path in ROOT.rglob("*.py")}
OURS = set(TREES)
IMPORTS = {module: list(_imports(tree)) for module, tree in TREES.items()}
INNER = sorted(OURS - {"datacachalog"})


def _short(module: str) -> str:
    return module.removeprefix("datacachalog").removeprefix(".")


def _floor(module: str) -> str:
    top = _short(module).partition(".")[0]
    return "cli" if top == "__main__" else top if top in MAY_IMPORT else "values"


@pytest.mark.parametrize("module", INNER, ids=_short)
def test_imports_point_down(module: str) -> None:
    """A module imports from its own folder, or from one that stands below it."""
    allowed = MAY_IMPORT.get(_floor(module), {"values"})
    wrong = [
        f"line {found.line} imports {found.module}"
        for found in IMPORTS[module]
        if found.module in OURS and _floor(found.module) not in allowed
    ]

    assert wrong == []


def test_no_two_modules_import_each_other() -> None:
    """Within a folder, too, there is an order."""
    graph = {
        module: {found.module for found in IMPORTS[module]} & OURS - {module, "datacachalog"}
        for module in INNER
    }

    assert len(list(TopologicalSorter(graph).static_order())) == len(INNER)


@pytest.mark.parametrize("module", INNER, ids=_short)
def test_our_own_modules_are_imported_at_the_top(module: str) -> None:
    """An import of ours inside a function is how a direction begins to break."""
    inside = [
        f"line {found.line} imports {found.module}"
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for found in _imports(node)
        if found.module.partition(".")[0] == "datacachalog"
    ]

    assert inside == []


@pytest.mark.parametrize("module", INNER, ids=_short)
def test_heavy_packages_are_imported_where_they_are_needed(module: str) -> None:
    """At the top stand the standard library, ours, and a few light packages."""
    allowed = {"datacachalog", *(LIGHT_IN_CLI if _floor(module) == "cli" else LIGHT)}
    at_top = {f.module.partition(".")[0] for f in IMPORTS[module] if not f.is_late}

    assert at_top - sys.stdlib_module_names <= allowed


@pytest.mark.parametrize("module", INNER, ids=_short)
def test_reaching_a_server_is_left_to_libraries(module: str) -> None:
    """The demo aside, which runs a server and commands."""
    used = {found.module.partition(".")[0] for found in IMPORTS[module]}

    assert _short(module) in HAS_SERVER or not used & NETWORK
