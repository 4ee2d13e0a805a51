"""From a function's full name to the function: what `reader:` in a catalog means.

Only the modules that the name spells are imported. A catalog that names a reader runs code
of an installed package, and only when the dataset is loaded: no command does that.
"""

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from datacachalog.errors import MissingExtraError, ReaderError
from datacachalog.readers.libraries import EXTRAS, how_to_install
from datacachalog.suggest import nearest

Function = Callable[..., Any]


def locate(full_name: str, dataset: str) -> Function:
    """Return the function `package.module.function`, wherever in it modules end.

    `dataset` is for messages. Raises `MissingExtraError` or `ReaderError`.
    """
    head, *parts = full_name.split(".")
    found: Any = _import(head, full_name, dataset)
    so_far = head
    for part in parts:
        so_far = f"{so_far}.{part}"
        if hasattr(found, part):
            found = getattr(found, part)
        elif isinstance(found, ModuleType):
            found = _import(so_far, full_name, dataset, known=dir(found))
        else:
            raise _missing(so_far, full_name, dataset, known=dir(found))
    if not callable(found):
        kind = "a module" if isinstance(found, ModuleType) else f"of type {type(found).__name__}"
        raise ReaderError(
            f"the reader `{full_name}` of '{dataset}' is {kind}, not a function",
            hint="write a function's full name, such as `reader: polars.read_csv`",
        )
    function: Function = found
    return function


def _import(module: str, full_name: str, dataset: str, known: list[str] | None = None) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name == module:
            raise _missing(module, full_name, dataset, known) from exc
        raise _broken(module, full_name, dataset, exc) from exc
    except Exception as exc:
        # A module may do anything when it is imported.
        raise _broken(module, full_name, dataset, exc) from exc


def _missing(so_far: str, full_name: str, dataset: str, known: list[str] | None) -> ReaderError:
    owner, _, part = so_far.rpartition(".")
    if not owner and part in EXTRAS:
        return MissingExtraError(
            f"the reader `{full_name}` of '{dataset}' needs {part}, which is not installed",
            hint=f"run `{how_to_install(part)}`",
        )
    meant = nearest(part, known or EXTRAS)
    if meant is not None:
        hint = f"did you mean `{full_name.replace(part, meant, 1)}`?"
    elif owner:
        hint = f"correct `reader:` of '{dataset}' in the catalog"
    else:
        hint = f"install the package that has it, or correct `reader:` of '{dataset}'"
    what = f"`{owner}` has no '{part}'" if owner else f"there is no module '{part}'"
    return ReaderError(f"the reader `{full_name}` of '{dataset}' does not exist: {what}", hint=hint)


def _broken(module: str, full_name: str, dataset: str, exc: Exception) -> ReaderError:
    return ReaderError(
        f"the reader `{full_name}` of '{dataset}' cannot be imported: {type(exc).__name__}: {exc}",
        hint=f"see `python -c 'import {module}'`",
    )
