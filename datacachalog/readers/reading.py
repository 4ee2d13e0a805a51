"""Reading a fetched dataset: choose a function, call it, make one table of many files."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datacachalog.errors import MissingExtraError, ReaderError
from datacachalog.readers.formats import Batch, Reader, identify
from datacachalog.readers.functions import Function, locate
from datacachalog.readers.libraries import EXTRAS, how_to_install, is_installed, join
from datacachalog.spec.models import Dataset

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
        function = locate(dataset.reader, dataset.name)
        return _call(function, found, args=args, name=dataset.reader, dataset=dataset)
    paths = [found] if isinstance(found, Path) else list(found)
    if not paths:
        raise ReaderError(
            f"'{dataset.name}' has no files to read",
            hint="nothing matches its source now, which `allow_empty: true` accepts",
        )
    batch = identify(dataset.name, dataset.format, paths)
    reader = _choose(batch, dataset)
    call = partial(
        _call,
        locate(reader.function, dataset.name),
        args={**reader.args, **args},
        name=reader.function,
        dataset=dataset,
    )
    if isinstance(found, Path):
        return call(found)
    if reader.takes_many:
        return call(list(batch.paths))
    return _join([call(path) for path in batch.paths], reader.library, dataset)


def _choose(batch: Batch, dataset: Dataset) -> Reader:
    """Return the preferred reader among those that are installed and undo the compression."""
    able = [reader for reader in batch.format.readers if batch.packings <= reader.unpacks]
    if not able:
        packings = ", ".join(sorted(batch.packings))
        raise ReaderError(
            f"there is no reader for {batch.format.name} compressed as {packings},"
            f" as '{dataset.name}' has it",
            hint="set `reader:` to the full name of a function that reads it",
        )
    for reader in able:
        if is_installed(reader.library):
            return reader
    libraries = [reader.library for reader in able]
    raise MissingExtraError(
        f"reading '{dataset.name}' ({batch.format.name}) needs {' or '.join(libraries)},"
        " which is not installed",
        hint=f"run `{how_to_install(libraries[0])}`",
    )


def _join(parts: list[Any], library: str, dataset: Dataset) -> Any:
    try:
        return join(library, parts)
    except Exception as exc:
        raise ReaderError(
            f"the {len(parts)} files of '{dataset.name}' do not fit together: {_gist(exc)}",
            hint=f"fetch '{dataset.name}' and read its files one by one",
        ) from exc


def _call(
    function: Function,
    target: Path | Sequence[Path],
    *,
    args: Mapping[str, Any],
    name: str,
    dataset: Dataset,
) -> Any:
    """Call foreign code; whatever it raises becomes one sentence that names file and reader."""
    try:
        return function(target, **args)
    except Exception as exc:
        message = f"`{name}` cannot read {_shown(target)} of '{dataset.name}': {_gist(exc)}"
        library = name.partition(".")[0]
        if isinstance(exc, ImportError) and dataset.reader is None and library in EXTRAS:
            # The library is there, but not what its extra brings along (pandas without pyarrow).
            raise MissingExtraError(message, hint=f"run `{how_to_install(library)}`") from exc
        raise ReaderError(
            message, hint=f"check `reader:`, `format:` and `read_args:` of '{dataset.name}'"
        ) from exc


def _shown(target: Path | Sequence[Path]) -> str:
    if isinstance(target, Path):
        return f"'{target}'"
    return f"'{target[0]}'" if len(target) == 1 else f"the {len(target)} files"


def _gist(exc: Exception) -> str:
    """Return the exception as one line; libraries write whole pages."""
    text = f"{type(exc).__name__}: {' '.join(str(exc).split())}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
