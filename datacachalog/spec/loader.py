"""A catalog file, and all it includes, as validated values.

Reads text, replaces `${VAR}`, merges defaults, and checks everything that can be checked
without a network. Nothing half-valid leaves: either a `LoadedCatalog`, or one
`InvalidCatalogError` with every problem and its place.
"""

import gc
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datacachalog.errors import (
    CatalogNotFoundError,
    InvalidCatalogError,
    InvalidPinError,
    InvalidValueError,
    Problem,
)
from datacachalog.kept import KeptCache, KeptData, plain_dataset
from datacachalog.spec import yaml as document
from datacachalog.spec.discovery import project_root
from datacachalog.spec.interpolation import interpolate_all
from datacachalog.spec.landing import (
    CATALOG_KEYS,
    FORMAT_VERSION,
    SECRETS,
    FieldError,
    ItemsError,
    check_name,
    claim_text,
)
from datacachalog.spec.messages import invalid_value, shown, unknown_key
from datacachalog.spec.units import parse_pin
from datacachalog.spec.yaml import DocumentError, Fault, Place, Table
from datacachalog.suggest import did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from datacachalog.spec.models import CacheSettings, Dataset, DataSettings, StorageSettings

_MAIN_ONLY = ("data", "cache")


@dataclass(frozen=True, slots=True)
class LoadedCatalog:
    """A catalog that is valid as far as no network is needed.

    `datasets` are merged with all defaults, in the order of the files, and their local
    sources are absolute. `root` is the project's folder: `landing` and `cache.dir` are
    relative to it. `declared` says where each dataset stands, such as `catalog.yaml:12`.
    `warnings` are sentences for the user.
    """

    path: Path
    root: Path
    datasets: "Mapping[str, Dataset]"
    storages: "Mapping[str, StorageSettings]"
    data: "DataSettings"
    cache: "CacheSettings"
    declared: Mapping[str, str] = field(repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the catalog's name: its file's, without the suffix."""
        return self.path.stem


def read_bytes(path: Path) -> bytes:
    """Return what a catalog file holds, or as much of it as shows that it is too large."""
    with open(path, "rb") as file:
        return file.read(document.MAX_BYTES + 1)


def load(
    path: Path,
    *,
    environ: Mapping[str, str],
    read: Callable[[Path], bytes] = read_bytes,
    needs_models: bool = True,
    filesystems: Container[str] = frozenset(),
) -> LoadedCatalog:
    """Return the catalog at `path`, with what it includes.

    Storages for which `filesystems` are brought may have sources of any scheme.

    Where nobody `needs_models` of pydantic, plain parts come as their likes of `kept`, so that
    a catalog of nothing else is read without it, in half the time.

    It depends on nothing but what `environ` says and `read` returns, and on what `~` means.
    Raises `CatalogNotFoundError`, or `InvalidCatalogError` with all problems at once.
    """
    # The cyclic collector would walk tens of thousands of fresh values, over and over.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        loading = _Loading(
            Path(os.path.abspath(path)),
            environ,
            read,
            needs_models=needs_models,
            filesystems=filesystems,
        )
        return loading.run()
    finally:
        if was_enabled:
            gc.enable()


@dataclass(slots=True)
class _File:
    """One catalog file as read; `shown` is how problems name it."""

    path: Path
    folder: Path
    shown: str
    table: Table
    defaults: dict[str, object] = field(default_factory=dict)

    def section(self, key: str) -> Table | None:
        """Return a part of the file that is a table, or None (what it is else is reported)."""
        value = self.table.get(key)
        return value if isinstance(value, Table) else None


class _Loading:
    """One run of `load`: gathers files, then values, and problems all along."""

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        read: Callable[[Path], bytes],
        *,
        needs_models: bool,
        filesystems: Container[str],
    ) -> None:
        self._needs_models = needs_models
        self._filesystems = filesystems
        self._path = path
        self._environ = environ
        self._read = read
        self._problems: list[Problem] = []
        self._unresolved: set[tuple[str, Place | None]] = set()
        self._warnings: list[str] = []
        self._files: list[_File] = []

    def run(self) -> LoadedCatalog:
        self._read_files()
        main = self._files[0] if self._files else None
        if main is None:
            raise InvalidCatalogError(self._problems)
        data: DataSettings = self._section("DataSettings", KeptData, main, "data")
        cache: CacheSettings = self._section("CacheSettings", KeptCache, main, "cache")
        if cache.dir:
            folder = os.path.join(project_root(self._path), os.path.expanduser(cache.dir))
            cache = cache.model_copy(update={"dir": os.path.normpath(folder)})
        storages = self._storages()
        datasets, places = self._datasets(main, storages)
        self._check_landings(datasets, data, places)
        if self._problems:
            raise InvalidCatalogError(_in_order(self._problems, self._files))
        if not datasets:
            self._warnings.append(f"{main.shown} has no datasets")
        return LoadedCatalog(
            path=self._path,
            root=project_root(self._path),
            datasets=datasets,
            storages={name: settings for name, settings in storages.items() if settings},
            data=data,
            cache=cache,
            declared={n: f"{file.shown}:{at.line}" for n, (file, at) in places.items()},
            warnings=tuple(self._warnings),
        )

    # --- files ----------------------------------------------------------------------

    def _read_files(self) -> None:
        try:
            data = self._read(self._path)
        except OSError as exc:
            raise _unreadable(self._path, exc) from exc
        self._read_file(self._path, data, trail=())

    def _read_file(self, path: Path, data: bytes, trail: tuple[Path, ...]) -> None:
        """Add the file, then what it includes, each file once."""
        name = _shown(path)
        try:
            read = _parse(path, data)
        except DocumentError as exc:
            self._add_fault(name, exc.fault)
            return
        for fault in read.faults:
            self._add_fault(name, fault)
        if not isinstance(read.value, Table):
            self._add(name, *_not_a_catalog(read.value))
            return
        file = _File(path, path.parent, name, read.value)
        if not self._is_known_version(file):
            return
        self._files.append(file)
        self._check_secrets(file)
        for fault in interpolate_all(file.table, self._environ):
            self._add_fault(name, fault)
            self._unresolved.add((name, fault.place))
        self._check_head(file)
        for place, included in self._includes(file):
            self._include(file, place, included, (*trail, path))

    def _include(self, file: _File, place: Place, included: Path, trail: tuple[Path, ...]) -> None:
        if included in trail:
            self._add(
                file.shown, f"{_shown(included)} includes itself", place, "remove it from `include`"
            )
        elif all(known.path != included for known in self._files):
            try:
                data = self._read(included)
            except OSError as exc:
                error = _unreadable(included, exc)
                self._add(file.shown, error.message, place, "paths are relative to this file")
            else:
                self._read_file(included, data, trail)

    def _includes(self, file: _File) -> Iterator[tuple[Place, Path]]:
        value = file.table.get("include")
        if isinstance(value, str):
            value, places = [value], [file.table.values_at["include"]]
        elif isinstance(value, document.Listing):
            places = value.items_at
        elif value is not None:
            value, places = [value], [file.table.values_at["include"]]
        else:
            return
        for item, place in zip(value, places, strict=True):
            if not isinstance(item, str) or not item or "://" in item:
                self._add(
                    file.shown,
                    f"`include` takes local files, not {shown(item)}",
                    place,
                    "write a path relative to this file: `shared/common.yaml`",
                )
            else:
                yield place, Path(os.path.abspath(file.folder / item))

    def _is_known_version(self, file: _File) -> bool:
        version = file.table.get("version", FORMAT_VERSION)
        if version in (None, FORMAT_VERSION) and not isinstance(version, bool):
            return True
        place = file.table.values_at["version"]
        if isinstance(version, int) and version > FORMAT_VERSION:
            self._add(
                file.shown,
                f"the catalog is written in format {version}; this `dcl` reads format "
                f"{FORMAT_VERSION}",
                place,
                "upgrade with `pip install --upgrade datacachalog`",
            )
            return False
        self._add(
            file.shown,
            f"`version` must be {FORMAT_VERSION}, not {shown(version)}",
            place,
            f"write `version: {FORMAT_VERSION}`, or leave it out",
        )
        file.table["version"] = FORMAT_VERSION
        return True

    # --- sections -------------------------------------------------------------------

    def _check_secrets(self, file: _File) -> None:
        """Refuse keys that are written out; must come before `${VAR}` is replaced."""
        for name, settings in (file.section("storages") or Table()).items():
            if not isinstance(settings, Table):
                continue
            for key in SECRETS:
                value = settings.get(key)
                if value not in (None, "") and "${" not in str(value).replace("$${", ""):
                    variable = f"{name}_{key}".upper().replace("-", "_").replace(".", "_")
                    self._add(
                        file.shown,
                        f"`{key}` is written out, and a catalog is no place for secrets",
                        settings.values_at[key],
                        f"read it from the environment: `{key}: ${{{variable}}}`",
                    )

    def _check_head(self, file: _File) -> None:
        """Check everything at the top of the file, and remember its defaults."""
        is_main = len(self._files) == 1
        for key, value in file.table.items():
            if key.startswith("x-"):
                continue
            if key not in CATALOG_KEYS:
                message, hint = unknown_key(key, CATALOG_KEYS, "in the catalog")
                self._add(file.shown, message, file.table.keys_at[key], hint)
            elif key in _TABLES and value is not None and not isinstance(value, Table):
                self._add(
                    file.shown,
                    f"`{key}` must be keys and values, not {shown(value)}",
                    file.table.values_at[key],
                    _TABLES[key],
                )
            elif key in _MAIN_ONLY and not is_main:
                self._add(
                    file.shown,
                    f"`{key}` has no effect in an included file",
                    file.table.keys_at[key],
                    f"write it in {self._files[0].shown}",
                )
        if (as_of := file.table.get("as_of")) is not None:
            try:
                parse_pin(as_of)
            except InvalidPinError as exc:
                self._add(file.shown, exc.message, file.table.values_at["as_of"], exc.hint)
                file.table["as_of"] = None
        file.defaults = self._defaults(file)

    def _defaults(self, file: _File) -> dict[str, object]:
        table = file.section("defaults")
        if table is None:
            return {}
        wrong: set[str] = set()
        self._validated(_models().Defaults, table, file, "in `defaults`", wrong)
        return {k: v for k, v in table.items() if k not in wrong and not k.startswith("x-")}

    def _storages(self) -> "dict[str, StorageSettings | None]":
        storages: dict[str, StorageSettings | None] = {}
        places: dict[str, tuple[_File, Place]] = {}
        for file, name, place, value in self._declared("storages", places):
            settings = value if isinstance(value, Table) else None
            if value is not None and settings is None:
                self._add(
                    file.shown,
                    f"the storage {name!r} must be keys and values, not {shown(value)}",
                    place,
                    f"write `{name}: {{endpoint_url: https://…}}`",
                )
                storages[name] = None
                continue
            read: StorageSettings | None = self._validated(
                _models().StorageSettings, settings or Table(), file, f"in the storage {name!r}"
            )
            if read and read.ca_bundle:
                bundle = os.path.join(file.folder, os.path.expanduser(read.ca_bundle))
                read = read.model_copy(update={"ca_bundle": os.path.normpath(bundle)})
            storages[name] = read
        return storages

    def _declared(
        self, section: str, places: dict[str, tuple[_File, Place]]
    ) -> Iterator[tuple[_File, str, Place, object]]:
        """Yield what the files declare in a section: file, name, the name's place, value."""
        for file in self._files:
            table = file.section(section)
            if table is None:
                continue
            for name, value in table.items():
                place = table.keys_at[name]
                if name.startswith("x-"):
                    self._warnings.append(
                        f"{file.shown}:{place.line}: {name!r} is left out, as keys that begin "
                        "with `x-` are free"
                    )
                    continue
                if name in places:
                    first, at = places[name]
                    self._add(
                        file.shown,
                        f"{name!r} is declared already, in {first.shown}:{at.line}",
                        place,
                        "remove or rename one of them",
                    )
                    continue
                try:
                    check_name(name)
                except InvalidValueError as exc:
                    self._add(file.shown, exc.message, place, exc.hint)
                places[name] = (file, place)
                yield file, name, place, value

    # --- datasets -------------------------------------------------------------------

    def _datasets(
        self, main: _File, storages: Mapping[str, object]
    ) -> "tuple[dict[str, Dataset], dict[str, tuple[_File, Place]]]":
        datasets: dict[str, Dataset] = {}
        places: dict[str, tuple[_File, Place]] = {}
        for file in self._files:
            self._check_storage(file, file.section("defaults") or Table(), storages)
        for file, name, place, value in self._declared("datasets", places):
            own = _spelt_out(value, file.table["datasets"], name)
            if own is None:
                self._add(file.shown, *_not_a_dataset(name, value, place))
                continue
            self._check_storage(file, own, storages)
            dataset = self._dataset(main, file, name, own, place)
            if dataset is not None:
                datasets[name] = dataset.with_resolved_paths(file.folder)
        return datasets, places

    def _dataset(
        self, main: _File, file: _File, name: str, own: Table, place: Place
    ) -> "Dataset | None":
        merged = {**main.defaults, **file.defaults, **own}
        as_of = file.table.get("as_of") or main.table.get("as_of")
        if as_of is not None and own.get("as_of") is None and own.get("version_id") is None:
            merged["as_of"] = as_of
        merged = {key: value for key, value in merged.items() if value is not None}
        if "name" in own:
            merged.pop("name", None)
            message, hint = unknown_key("name", (), f"in the dataset {name!r}")
            self._add(file.shown, message, own.keys_at["name"], hint)
        plain = None if self._needs_models else plain_dataset(name, merged)
        if plain is not None:
            return plain
        from pydantic import ValidationError

        model = _models().Dataset
        try:
            dataset: Dataset = model.model_validate(
                {**merged, "name": name}, context=self._filesystems
            )
        except ValidationError as exc:
            where = f"in the dataset {name!r}"
            self._add_errors(exc, model, own, file, where, fallback=place)
            return None
        return dataset

    def _check_storage(self, file: _File, table: Table, storages: Mapping[str, object]) -> None:
        name = table.get("storage")
        if isinstance(name, str) and name not in storages:
            hint = did_you_mean(name, storages) or f"add `{name}:` under `storages:`"
            self._add(file.shown, f"there is no storage {name!r}", table.values_at["storage"], hint)

    def _check_landings(
        self,
        datasets: "Mapping[str, Dataset]",
        data: "DataSettings",
        places: Mapping[str, tuple[_File, Place]],
    ) -> None:
        """Refuse datasets of which one would stand on, or inside, the other's files."""
        claims: list[tuple[list[str], str, str]] = []
        for name, dataset in datasets.items():
            file, place = places[name]
            try:
                path = claim_text(dataset, data)
            except FieldError as exc:
                self._add(file.shown, exc.message, place, exc.hint)
            else:
                # Some file systems do not tell upper from lower case.
                claims.append((path.casefold().split("/"), path, name))
        order = {name: index for index, name in enumerate(datasets)}
        above: list[tuple[list[str], str, str]] = []
        for parts, path, name in sorted(claims, key=lambda c: (c[0], order[c[2]])):
            while above and parts[: len(above[-1][0])] != above[-1][0]:
                above.pop()
            if above:
                _, other_path, other = above[-1]
                file, place = places[max(name, other, key=order.__getitem__)]
                message = _collision(other, other_path, name, path)
                self._add(file.shown, message, place, "give one of them another `path:`")
            above.append((parts, path, name))

    # --- problems -------------------------------------------------------------------

    def _section(self, model: str, like: type[Any], file: _File, key: str) -> Any:
        """Return a part of the file as a model; its defaults where it is left out or wrong."""
        table = file.section(key)
        if table is None and not self._needs_models:
            return like({})
        kind = getattr(_models(), model)
        # Defaults need no validation, which would have to be built first.
        return self._validated(kind, table, file, f"in `{key}`") or kind.model_construct()

    def _validated(
        self,
        model: "type[BaseModel]",
        table: Table | None,
        file: _File,
        where: str,
        wrong: set[str] | None = None,
    ) -> Any | None:
        """Return the table as `model`, or None after its problems were added."""
        if table is None:
            return None
        from pydantic import ValidationError

        raw = {key: value for key, value in table.items() if value is not None}
        try:
            return model.model_validate(raw)
        except ValidationError as exc:
            self._add_errors(exc, model, table, file, where, fallback=Place(1, 1))
            if wrong is not None:
                wrong.update(str(error["loc"][0]) for error in exc.errors() if error["loc"])
            return None

    def _add_errors(
        self,
        exc: "ValidationError",
        model: "type[BaseModel]",
        table: Table,
        file: _File,
        where: str,
        *,
        fallback: Place,
    ) -> None:
        errors = exc.errors(include_url=False)
        unknown = [str(e["loc"][0]) for e in errors if e["type"] == "extra_forbidden"]
        for error in errors:
            key = str(error["loc"][0]) if error["loc"] else ""
            place = table.values_at.get(key, fallback)
            cause = error.get("ctx", {}).get("error")
            if error["type"] == "extra_forbidden":
                message, hint = _unknown(key, model, where)
                place = table.keys_at.get(key, fallback)
            elif error["type"] == "missing":
                if any(_unknown(k, model, where)[1] == f"did you mean `{key}`?" for k in unknown):
                    continue
                message = f"`{key}` is missing {where}"
                hint = f"add `{key}: s3://bucket/key`"
            elif isinstance(cause, ItemsError):
                for part, problem in cause.items:
                    self._add(
                        file.shown, problem.message, _item_place(table, key, part), problem.hint
                    )
                continue
            else:
                message, hint = invalid_value(error, table)
                if isinstance(cause, FieldError):
                    place = table.values_at.get(cause.key, fallback)
            self._add(file.shown, message, place, hint)

    def _add_fault(self, file: str, fault: Fault) -> None:
        self._add(file, fault.message, fault.place, fault.hint)

    def _add(self, file: str, message: str, place: Place | None, hint: str | None) -> None:
        line, column = place or (None, None)
        problem = Problem(message, file, line, column, hint)
        # A value with an unset ${VAR} is wrong in other ways too: the first is the cause.
        if (file, place) not in self._unresolved and problem not in self._problems:
            self._problems.append(problem)


_TABLES = {
    "data": "write `data: {dir: data}`",
    "cache": "write `cache: {max_size: 50 GB}`",
    "storages": "write `storages: {lake: {profile: analytics}}`",
    "defaults": "write `defaults: {on_stale: warn}`",
    "datasets": "write `name: s3://bucket/key` below it",
}


def _models() -> Any:
    """Return the models of what users write, which bring pydantic along, when they are needed."""
    return import_module("datacachalog.spec.models")


def _unknown(key: str, model: "type[BaseModel]", where: str) -> tuple[str, str | None]:
    message, hint = unknown_key(key, [k for k in model.model_fields if k != "name"], where)
    defaults = _models().Defaults
    if model is defaults and key == "as_of":
        return message, "write it at the top of the catalog, for all datasets"
    if model is defaults and key in _models().Dataset.model_fields:
        return message, "it belongs to a single dataset"
    return message, hint


def _collision(outer: str, outer_path: str, name: str, path: str) -> str:
    if path == outer_path:
        return f"the datasets {outer!r} and {name!r} would both land on {path}"
    if path.count("/") == outer_path.count("/"):
        return (
            f"the datasets {outer!r} and {name!r} would land on {outer_path} and {path}, "
            "which differ only in case"
        )
    return f"the dataset {name!r} would land on {path}, inside {outer_path} of {outer!r}"


def _item_place(table: Table, key: str, part: str | int) -> Place:
    value = table[key]
    if isinstance(value, document.Listing) and isinstance(part, int):
        return value.items_at[part]
    if isinstance(value, Table) and isinstance(part, str):
        return value.values_at[part]
    return table.values_at[key]


def _spelt_out(value: object, section: object, name: str) -> Table | None:
    """Return a dataset's keys; the short form is its source. None for what is neither."""
    if isinstance(value, Table):
        return value
    if not isinstance(value, str) or not isinstance(section, Table):
        return None
    own = Table()
    own["source"] = value
    own.keys_at["source"] = own.values_at["source"] = section.values_at[name]
    return own


def _not_a_dataset(name: str, value: object, place: Place) -> tuple[str, Place, str]:
    if value is None:
        return f"the dataset {name!r} is empty", place, f"write `{name}: s3://bucket/key`"
    return (
        f"the dataset {name!r} must be a source or keys and values, not {shown(value)}",
        place,
        f"write `{name}: s3://bucket/key`, or `source:` below the name",
    )


def _not_a_catalog(value: object) -> tuple[str, Place, str]:
    hint = "write `datasets:`, and `name: s3://bucket/key` below it"
    if value is None:
        return "the catalog is empty", Place(1, 1), hint
    return f"a catalog is made of keys and values, not {shown(value)}", Place(1, 1), hint


def _parse(path: Path, data: bytes) -> document.Document:
    text = document.decode(data)
    return document.read_toml(text) if path.suffix == ".toml" else document.read_yaml(text)


def _unreadable(path: Path, exc: OSError) -> CatalogNotFoundError:
    reason = exc.strerror or type(exc).__name__
    if isinstance(exc, FileNotFoundError):
        return CatalogNotFoundError(
            f"there is no file {_shown(path)}", hint="`dcl init` writes one"
        )
    return CatalogNotFoundError(
        f"{_shown(path)} cannot be read: {reason.lower()}", hint="name a file with `--catalog`"
    )


def _shown(path: Path) -> str:
    """Return the path as people expect it: relative where it lies below the current folder."""
    try:
        return str(path.relative_to(os.getcwd()))
    except ValueError:
        return str(path)


def _in_order(problems: Iterable[Problem], files: Iterable[_File]) -> list[Problem]:
    rank = {file.shown: index for index, file in enumerate(files)}
    return sorted(problems, key=lambda p: (rank.get(p.file, -1), p.line or 0, p.column or 0))
