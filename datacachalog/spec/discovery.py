"""Which catalog a command means: the one that is named, or the nearest one.

Looks at folders, opens nothing. Used by the command line and by `load_catalog`.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from datacachalog.errors import CatalogError, CatalogNotFoundError
from datacachalog.suggest import did_you_mean

SUFFIXES = (".yaml", ".yml", ".toml")
MAIN = "catalog"
"""The name of the main catalog: the stem of its file."""

CATALOGS_FOLDER = Path(".datacachalog", "catalogs")
"""Where further catalogs live, below the project root."""


def project_root(catalog: Path) -> Path:
    """Return the folder that a catalog's paths are relative to.

    >>> project_root(Path("/work/catalog.yaml"))
    PosixPath('/work')
    >>> project_root(Path("/work/.datacachalog/catalogs/core.yaml"))
    PosixPath('/work')
    """
    folder = catalog.parent
    is_further = folder.parts[-2:] == CATALOGS_FOLDER.parts
    return folder.parent.parent if is_further else folder


def find_catalog(
    given: str | os.PathLike[str] | None = None,
    *,
    start: Path | None = None,
    environ: Mapping[str, str],
) -> Path:
    """Return the catalog file that `given` means, as an absolute path.

    `given` is what `--catalog` takes: a path to a file or to its folder, or the name of one of
    the project's catalogs. Without it `DCL_CATALOG` decides, else the nearest catalog at or
    above `start` (the current folder); that search ends at the repository's root.
    """
    folder = _absolute(start)
    given = given if given is not None else environ.get("DCL_CATALOG") or None
    if given is None:
        return _nearest_catalog(folder)
    path = folder / os.path.expanduser(given)
    if path.is_file():
        return Path(os.path.abspath(path))
    if path.is_dir():
        if found := _main_catalog(path):
            return found
        raise CatalogNotFoundError(
            f"there is no catalog.yaml in {path}", hint="`dcl init` writes one"
        )
    text = os.fspath(given)
    if "/" in text or path.suffix in SUFFIXES:
        raise CatalogNotFoundError(
            f"there is no file {text}", hint="`dcl init` writes a new catalog"
        )
    known = discover_catalogs(folder)
    if text in known:
        return known[text]
    hint = did_you_mean(text, known) or (f"there are {', '.join(known)}" if known else None)
    raise CatalogNotFoundError(
        f"there is no catalog {text!r}",
        hint=hint or f"write {CATALOGS_FOLDER / text}.yaml, or name a path",
    )


def _nearest_catalog(folder: Path) -> Path:
    root = _nearest_project(folder)
    if root is None:
        raise CatalogNotFoundError(
            f"there is no catalog.yaml in {folder} or above it",
            hint="`dcl init` writes one; `--catalog PATH` names one elsewhere",
        )
    if main := _main_catalog(root):
        return main
    further = list(_further_catalogs(root))
    raise CatalogNotFoundError(
        f"there is no main catalog in {root}, only further ones: {', '.join(further)}",
        hint=f"name one: `--catalog {further[0] if further else ''}`",
    )


def discover_catalogs(start: str | os.PathLike[str] | None = None) -> dict[str, Path]:
    """Return the project's catalogs by name: the main one first, then those beside it by name.

    The project is the nearest folder at or above `start` (the current folder) that holds any.
    """
    root = _nearest_project(_absolute(start))
    if root is None:
        return {}
    main, further = _main_catalog(root), _further_catalogs(root)
    if main is not None and MAIN in further:
        raise CatalogError(
            f"two catalogs are called {MAIN!r}: {main} and {further[MAIN]}",
            hint=f"rename {further[MAIN]}",
        )
    return ({MAIN: main} if main else {}) | further


def _nearest_project(start: Path) -> Path | None:
    for folder in (start, *start.parents):
        if _catalogs_in(folder) or (folder / CATALOGS_FOLDER).is_dir():
            return folder
        if (folder / ".git").exists():
            return None
    return None


def _catalogs_in(folder: Path) -> list[Path]:
    return [path for suffix in SUFFIXES if (path := folder / f"{MAIN}{suffix}").is_file()]


def _main_catalog(folder: Path) -> Path | None:
    found = _catalogs_in(folder)
    if len(found) > 1:
        raise CatalogError(
            f"there are two catalogs in {folder}: {found[0].name} and {found[1].name}",
            hint=f"remove one, or name one: `--catalog {found[0].name}`",
        )
    return Path(os.path.abspath(found[0])) if found else None


def _further_catalogs(root: Path) -> dict[str, Path]:
    folder = root / CATALOGS_FOLDER
    catalogs: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix not in SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in catalogs:
            raise CatalogError(
                f"two catalogs are called {path.stem!r}: {catalogs[path.stem].name} and "
                f"{path.name} in {folder}",
                hint="remove or rename one of them",
            )
        catalogs[path.stem] = path
    return catalogs


def _absolute(start: str | os.PathLike[str] | None) -> Path:
    return Path(os.path.abspath(start or os.curdir))
