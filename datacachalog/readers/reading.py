"""Reading a fetched dataset: choose a function, call it, make one table of many files.

A catalog that names a reader runs code of an installed package, and only when the dataset is
loaded: no command does that. Only the modules that the name spells are imported.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from datacachalog.errors import MissingExtraError, ReaderError
from datacachalog.readers.formats import EXTRAS, DataFiles, Reader, identify
from datacachalog.spec.models import Dataset
from datacachalog.suggest import nearest

_LONGEST = 400


def read(
    dataset: Dataset, found: Path | Sequence[Path], read_args: Mapping[str, Any] | None = None
) -> Any:
    """Return what the dataset's files hold, as its reader gives it.

    `dataset.reader` wins: it is called with the path, or with the list of paths of a glob or
    list. Else the format, named or known by the suffix, decides, and the first of its libraries
    that is installed reads; many files become one table, in their order. `read_args` are
    added to the dataset's own and stand above them. Raises `ReaderError`, and
    `MissingExtraError` where no library is there.
    """
    args = {**dataset.read_args, **(read_args or {})}
    if dataset.reader is not None:
        return _call(dataset.reader, found, args, dataset)
    paths = [found] if isinstance(found, Path) else list(found)
    if not paths:
        raise ReaderError(
            f"'{dataset.name}' has no files to read",
            hint="nothing matches its source now, which `allow_empty: true` accepts",
        )
    files = identify(dataset.name, dataset.format, paths)
    reader = _choose(files, dataset.name)
    args = {**reader.args, **args}
    if isinstance(found, Path):
        return _call(reader.function, found, args, dataset)
    if reader.takes_many:
        return _call(reader.function, list(files.paths), args, dataset)
    parts = [_call(reader.function, path, args, dataset) for path in files.paths]
    return _join(parts, reader.library, dataset.name)


def _choose(files: DataFiles, name: str) -> Reader:
    """Return the preferred reader among those that are installed and undo the compression."""
    able = [reader for reader in files.format.readers if files.packings <= reader.unpacks]
    if not able:
        packings = ", ".join(sorted(files.packings))
        raise ReaderError(
            f"there is no reader for {files.format.name} compressed as {packings},"
            f" as '{name}' has it",
            hint="set `reader:` to the full name of a function that reads it",
        )
    for reader in able:
        if reader.is_installed:
            return reader
    raise MissingExtraError(
        f"reading '{name}' ({files.format.name}) needs"
        f" {' or '.join(reader.library for reader in able)}, which is not installed",
        hint=_how_to_install(able[0].library),
    )


def _join(parts: list[Any], library: str, name: str) -> Any:
    """Return one table of the parts, in their order; a list where a library has no tables.

    Columns of different but compatible types widen.
    """
    try:
        match library:
            case "polars":
                import polars as pl

                return pl.concat(parts, how="vertical_relaxed")
            case "pandas" | "geopandas":
                import pandas as pd

                return pd.concat(parts, ignore_index=True)
            case "pyarrow":
                import pyarrow as pa

                return pa.concat_tables(parts, promote_options="permissive")
            case _:
                return parts
    except Exception as exc:
        raise ReaderError(
            f"the {len(parts)} files of '{name}' do not fit together: {_in_one_line(exc)}",
            hint=f"fetch '{name}' and read its files one by one",
        ) from exc


def _call(
    name: str, target: Path | Sequence[Path], args: Mapping[str, Any], dataset: Dataset
) -> Any:
    """Call foreign code; whatever it raises becomes one sentence that names file and reader."""
    function = _locate(name, dataset.name)
    try:
        return function(target, **args)
    except Exception as exc:
        files = [target] if isinstance(target, Path) else target
        what = f"'{files[0]}'" if len(files) == 1 else f"the {len(files)} files"
        message = f"`{name}` cannot read {what} of '{dataset.name}': {_in_one_line(exc)}"
        library = name.partition(".")[0]
        if isinstance(exc, ImportError) and dataset.reader is None and library in EXTRAS:
            # The library is there, but not what its extra brings along (pandas without pyarrow).
            raise MissingExtraError(message, hint=_how_to_install(library)) from exc
        raise ReaderError(
            message, hint=f"check `reader:`, `format:` and `read_args:` of '{dataset.name}'"
        ) from exc


def _locate(full_name: str, dataset: str) -> Callable[..., Any]:
    """Return the function `package.module.function`, wherever in it modules end."""
    so_far, *parts = full_name.split(".")
    found: Any = _import(so_far, full_name, dataset)
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
    function: Callable[..., Any] = found
    return function


def _import(module: str, full_name: str, dataset: str, known: list[str] | None = None) -> Any:
    try:
        return import_module(module)
    except Exception as exc:  # a module may do anything when it is imported
        if isinstance(exc, ModuleNotFoundError) and exc.name == module:
            raise _missing(module, full_name, dataset, known) from exc
        raise ReaderError(
            f"the reader `{full_name}` of '{dataset}' cannot be imported:"
            f" {type(exc).__name__}: {exc}",
            hint=f"see `python -c 'import {module}'`",
        ) from exc


def _missing(so_far: str, full_name: str, dataset: str, known: list[str] | None) -> ReaderError:
    owner, _, part = so_far.rpartition(".")
    if not owner and part in EXTRAS:
        return MissingExtraError(
            f"the reader `{full_name}` of '{dataset}' needs {part}, which is not installed",
            hint=_how_to_install(part),
        )
    meant = nearest(part, known or EXTRAS)
    if owner:
        what = f"`{owner}` has no '{part}'"
        hint = f"correct `reader:` of '{dataset}' in the catalog"
    else:
        what = f"there is no module '{part}'"
        hint = f"install the package that has it, or correct `reader:` of '{dataset}'"
    if meant is not None:
        hint = f"did you mean `{full_name.replace(part, meant, 1)}`?"
    return ReaderError(f"the reader `{full_name}` of '{dataset}' does not exist: {what}", hint=hint)


def _how_to_install(library: str) -> str:
    return f"run `pip install 'datacachalog[{library}]'`"


def _in_one_line(exc: Exception) -> str:
    """Return what a library says, which may be whole pages."""
    text = f"{type(exc).__name__}: {' '.join(str(exc).split())}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
