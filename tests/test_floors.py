"""The floors: imports point down only, and what is heavy is imported where it is needed.

A new module fails here until it has its place in `FLOORS`. Read from the source, so that
nothing is imported and imports under `TYPE_CHECKING` count as well.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "datacachalog"

FLOORS: tuple[tuple[str, ...], ...] = (
    # 0: values, and rules over values
    (
        "checksums",
        "dataset",
        "discovery",
        "document",
        "editing",
        "errors",
        "events",
        "garbage",
        "globs",
        "interpolation",
        "kept",
        "loader",
        "model",
        "relpath",
        "schema",
        "settings",
        "snapshot",
        "spec",
        "suggest",
        "template",
        "units",
        "uri",
        "wording",
    ),
    # 1: what is far away, what is on disk, what is in files; they do not know each other
    ("storage", "cache", "readers"),
    # 2: what a dataset means, and what is to do
    ("comparison", "history", "lockfile", "locking", "locktext", "plan", "resolve"),
    # 3: doing it
    (
        "concurrency",
        "download",
        "download_queue",
        "outcome",
        "pool",
        "presence",
        "retry",
        "run",
        "session",
        "sides",
        "transfer",
    ),
    # 4: the line in one piece, for programs
    ("catalog", "doctor", "line", "push", "retrieval", "verification"),
    # 5: the line in one piece, for people
    ("cli", "__main__"),
)

FACE = ""
"""`datacachalog/__init__.py`: its names are imported when they are asked for (PEP 562)."""

PARTS_OF_FLOOR_1 = FLOORS[1]

LIGHT = {"blake3", "platformdirs", "pydantic", "pydantic_core", "yaml"}
"""Third-party packages that any module may import at its top."""

LIGHT_IN_CLI = LIGHT | {"cyclopts", "rich"}

IMPORT_BY_NAME = {
    FACE,
    "__main__",
    "catalog",
    "cli.reopening",
    "cli.entries",
    "cli.listing",
    "cli.words",
    "loader",
    "readers",
    "readers.functions",
}
"""The only modules that turn text into modules: to start fast, and for a user's `reader:`."""


@dataclass(frozen=True, slots=True)
class Import:
    """One import: `module` is absolute, `name` what a `from` takes out of it."""

    module: str
    name: str | None
    line: int
    is_in_function: bool
    is_for_types: bool


def _modules() -> dict[str, Path]:
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


MODULES = _modules()


def _imports(path: Path) -> list[Import]:
    return list(_walk(ast.parse(path.read_text(encoding="utf-8")), False, False))


def _walk(node: ast.AST, in_function: bool, for_types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, None, child.lineno, in_function, for_types)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: imports are absolute"
            for alias in child.names:
                yield Import(child.module or "", alias.name, child.lineno, in_function, for_types)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for statement in child.body:
                yield from _walk(ast.Module([statement], []), in_function, True)
            for statement in child.orelse:
                yield from _walk(ast.Module([statement], []), in_function, for_types)
        else:
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _walk(child, in_function or is_function, for_types)


IMPORTS = {module: _imports(path) for module, path in MODULES.items()}


def _is_ours(found: Import) -> bool:
    return found.module.partition(".")[0] == "datacachalog"


def _target(found: Import) -> str:
    """Return the module of ours that an import means, `FACE` for the package itself."""
    module = found.module.removeprefix("datacachalog").removeprefix(".")
    inner = f"{module}.{found.name}".removeprefix(".")
    return inner if inner in MODULES else module


def _place(module: str) -> int:
    return next(floor for floor, names in enumerate(FLOORS) if module.partition(".")[0] in names)


def _say(module: str, found: Import, what: str) -> str:
    return f"{MODULES[module].relative_to(ROOT.parent)}:{found.line}: {what}"


INNER = sorted(module for module in MODULES if module != FACE)


def test_every_module_has_its_floor() -> None:
    """A new module needs a decision, and the table holds no module that is gone."""
    there = {module.partition(".")[0] for module in INNER}
    placed = [name for names in FLOORS for name in names]

    assert sorted(placed) == sorted(there)


@pytest.mark.parametrize("module", INNER)
def test_imports_point_down(module: str) -> None:
    """A module imports from its own floor or from below, for types too."""
    wrong = [
        _say(module, found, f"floor {_place(module)} imports {_target(found)}")
        for found in IMPORTS[module]
        if _is_ours(found) and _target(found) != FACE and _place(_target(found)) > _place(module)
    ]

    assert wrong == []


@pytest.mark.parametrize("module", INNER)
def test_only_the_version_is_taken_from_the_package_itself(module: str) -> None:
    """Inside, names come from where they live: the package's face would load the top floor."""
    wrong = [
        _say(module, found, f"from datacachalog import {found.name}")
        for found in IMPORTS[module]
        if _is_ours(found) and _target(found) == FACE and found.name != "__version__"
    ]

    assert wrong == []


@pytest.mark.parametrize("part", PARTS_OF_FLOOR_1)
def test_storage_cache_and_readers_do_not_know_each_other(part: str) -> None:
    """What is remote, what is on disk and what is in files meet above floor 1 only."""
    others = set(PARTS_OF_FLOOR_1) - {part}
    wrong = [
        _say(module, found, f"{part} imports {_target(found)}")
        for module in INNER
        if module.partition(".")[0] == part
        for found in IMPORTS[module]
        if _is_ours(found) and _target(found).partition(".")[0] in others
    ]

    assert wrong == []


def test_no_two_modules_import_each_other() -> None:
    """Within a floor, too, there is an order."""
    graph = {
        module: {_target(found) for found in IMPORTS[module] if _is_ours(found)} - {FACE, module}
        for module in INNER
    }

    assert len(list(TopologicalSorter(graph).static_order())) == len(INNER)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_our_own_modules_are_imported_at_the_top(module: str) -> None:
    """An import of ours inside a function is how a direction begins to break."""
    wrong = [
        _say(module, found, f"{_target(found)} is imported in a function")
        for found in IMPORTS[module]
        if _is_ours(found) and found.is_in_function
    ]

    assert wrong == []


def test_the_package_itself_imports_nothing_of_ours() -> None:
    """`import datacachalog` costs next to nothing; its names are for type checkers."""
    wrong = [
        _say(FACE, found, f"imports {found.module}")
        for found in IMPORTS[FACE]
        if _is_ours(found) and not found.is_for_types
    ]

    assert wrong == []


@pytest.mark.parametrize("module", sorted(MODULES))
def test_heavy_packages_are_imported_where_they_are_needed(module: str) -> None:
    """At the top stand the standard library, ours, and a few light packages."""
    allowed = LIGHT_IN_CLI if module.partition(".")[0] == "cli" else LIGHT
    wrong = [
        _say(module, found, f"{found.module} is imported at the top")
        for found in IMPORTS[module]
        if not (_is_ours(found) or found.is_in_function or found.is_for_types)
        and found.module.partition(".")[0] not in allowed | sys.stdlib_module_names
    ]

    assert wrong == []


NETWORK = {"hmac", "http", "selectors", "socket", "ssl", "subprocess"}
"""What reaching a server takes, and other processes: that is for libraries to use."""

HAS_SERVER = {"cli.demo"}


@pytest.mark.parametrize("module", sorted(set(MODULES) - HAS_SERVER))
def test_reaching_a_server_is_left_to_libraries(module: str) -> None:
    """The demo aside, which runs a server and commands."""
    wrong = [
        _say(module, found, f"{found.module} is imported")
        for found in IMPORTS[module]
        if found.module.partition(".")[0] in NETWORK
    ]

    assert wrong == []


@pytest.mark.parametrize("module", [m for m in INNER if m.startswith("storage")])
def test_documents_are_read_by_a_parser(module: str) -> None:
    """No module looks for an XML tag by a regular expression or by finding text."""
    text = MODULES[module].read_text(encoding="utf-8")

    assert re.search(r"""["']<(?!http)/?[A-Za-z]+>""", text) is None


def test_modules_are_imported_by_name_in_known_places_only() -> None:
    """What this page reads from import statements is nearly all there is."""
    using = {
        module
        for module, imports in IMPORTS.items()
        if any(found.name == "import_module" or found.module == "importlib" for found in imports)
        or "__import__(" in MODULES[module].read_text(encoding="utf-8")
    }

    assert using == IMPORT_BY_NAME
