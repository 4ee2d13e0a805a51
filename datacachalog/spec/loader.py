"""A catalog file, and all it includes, as validated values.

Reads text, replaces `${VAR}`, merges defaults, and checks everything that can be checked
without a network. Nothing half-valid leaves: either a `LoadedCatalog`, or one
`InvalidCatalogError` with every problem and its place.
"""

import os
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from datacachalog.errors import (
    CatalogNotFoundError,
    InvalidCatalogError,
    InvalidPinError,
    InvalidValueError,
    Problem,
)
from datacachalog.gc_pause import collection_paused
from datacachalog.spec import yaml as document
from datacachalog.spec.discovery import project_root
from datacachalog.spec.interpolation import interpolate_all
from datacachalog.spec.landing import claim, collisions
from datacachalog.spec.messages import invalid_value, shown, unknown_key
from datacachalog.spec.models import (
    FORMAT_VERSION,
    SECRETS,
    CacheSettings,
    CatalogSpec,
    Dataset,
    DataSettings,
    Defaults,
    FieldError,
    ItemsError,
    StorageSettings,
    check_name,
)
from datacachalog.spec.units import parse_pin
from datacachalog.spec.yaml import DocumentError, Fault, Listing, Place, Table
from datacachalog.suggest import did_you_mean

_M = TypeVar("_M", bound=BaseModel)

_MAIN_ONLY = ("data", "cache")
_EXAMPLES = {
    "data": "write `data: {dir: data}`",
    "cache": "write `cache: {max_size: 50 GB}`",
    "storages": "write `storages: {lake: {profile: analytics}}`",
    "defaults": "write `defaults: {on_stale: warn}`",
    "datasets": "write `name: s3://bucket/key` below it",
}
"""The keys of a catalog that hold keys and values."""


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
    datasets: Mapping[str, Dataset]
    storages: Mapping[str, StorageSettings]
    data: DataSettings
    cache: CacheSettings
    declared: Mapping[str, str] = field(repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the catalog's name: its file's, without the suffix."""
        return self.path.stem


def load(
    path: Path, *, environ: Mapping[str, str], filesystems: Container[str] = frozenset()
) -> LoadedCatalog:
    """Return the catalog at `path`, with what it includes.

    Storages that `filesystems` names may have sources of any scheme: the user brings their
    filesystems. Raises `CatalogNotFoundError`, or `InvalidCatalogError` with all problems at once.
    """
    with collection_paused():
        return _Loading(Path(os.path.abspath(path)), environ, filesystems).run()


@dataclass(slots=True)
class _File:
    """One catalog file as read; `shown` is how problems name it."""

    path: Path
    shown: str
    table: Table
    defaults: dict[str, object] = field(default_factory=dict)

    def section(self, key: str) -> Table | None:
        """Return a part of the file that is a table, or None (what it is else is reported)."""
        value = self.table.get(key)
        return value if isinstance(value, Table) else None


class _Entry(NamedTuple):
    """A named part of a section, such as one dataset: where its name stands, and its value."""

    name: str
    value: object
    file: _File
    place: Place


class _Section(NamedTuple):
    """A table as the user wrote it: what messages call it, and the place of what it lacks."""

    table: Table
    file: _File
    where: str
    place: Place = Place(1, 1)


class _Loading:
    """One run of `load`: gathers files, then values, and problems all along."""

    def __init__(self, path: Path, environ: Mapping[str, str], filesystems: Container[str]) -> None:
        self._path = path
        self._environ = environ
        self._filesystems = filesystems
        self._problems: list[Problem] = []
        self._unresolved: set[tuple[str, Place | None]] = set()
        self._warnings: list[str] = []
        self._files: list[_File] = []

    def run(self) -> LoadedCatalog:
        self._read_file(self._path, _read(self._path), trail=())
        if not self._files:
            raise InvalidCatalogError(self._problems)
        main, root = self._files[0], project_root(self._path)
        data = self._section(DataSettings, main, "data")
        cache = self._section(CacheSettings, main, "cache")
        if cache.dir:
            cache = cache.model_copy(update={"dir": _joined(root, cache.dir)})
        storages = self._storages()
        declared = self._declared("datasets")
        datasets = self._datasets(main, declared, storages)
        self._check_landings(datasets, data, declared)
        if self._problems:
            raise InvalidCatalogError(self._problems_in_order())
        if not datasets:
            self._warnings.append(f"{main.shown} has no datasets")
        return LoadedCatalog(
            path=self._path,
            root=root,
            datasets=datasets,
            storages={name: settings for name, settings in storages.items() if settings},
            data=data,
            cache=cache,
            declared={e.name: f"{e.file.shown}:{e.place.line}" for e in declared.values()},
            warnings=tuple(self._warnings),
        )

    # --- files ----------------------------------------------------------------------

    def _read_file(self, path: Path, data: bytes, trail: tuple[Path, ...]) -> None:
        """Add the file, then what it includes, each file once."""
        name = _shown(path)
        try:
            read = document.read(document.decode(data), is_toml=path.suffix == ".toml")
        except DocumentError as exc:
            self._add(name, *exc.fault)
            return
        for fault in read.faults:
            self._add(name, *fault)
        if not isinstance(read.value, Table):
            self._add(name, _not_a_catalog(read.value), Place(1, 1), _CATALOG_HINT)
            return
        file = _File(path, name, read.value)
        if not self._is_known_version(file):
            return
        self._files.append(file)
        self._check_secrets(file)
        for fault in interpolate_all(file.table, self._environ):
            self._add(name, *fault)
            self._unresolved.add((name, fault.place))
        self._check_keys(file)
        self._check_as_of(file)
        file.defaults = self._defaults(file)
        for place, included in self._includes(file):
            self._include(file, place, included, (*trail, path))

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
        file.table["version"] = FORMAT_VERSION  # nothing more is said of it
        return True

    def _includes(self, file: _File) -> Iterator[tuple[Place, Path]]:
        value = file.table.get("include")
        if value is None:
            return
        items: Iterable[tuple[object, Place]] = [(value, file.table.values_at["include"])]
        if isinstance(value, Listing):
            items = zip(value, value.items_at, strict=True)
        for item, at in items:
            if not isinstance(item, str) or not item or "://" in item:
                self._add(
                    file.shown,
                    f"`include` takes local files, not {shown(item)}",
                    at,
                    "write a path relative to this file: `shared/common.yaml`",
                )
            else:
                yield at, Path(os.path.abspath(file.path.parent / item))

    def _include(self, file: _File, place: Place, included: Path, trail: tuple[Path, ...]) -> None:
        if included in trail:
            self._add(
                file.shown, f"{_shown(included)} includes itself", place, "remove it from `include`"
            )
        elif all(known.path != included for known in self._files):
            try:
                data = _read(included)
            except CatalogNotFoundError as exc:
                self._add(file.shown, exc.message, place, "paths are relative to this file")
            else:
                self._read_file(included, data, trail)

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

    def _check_keys(self, file: _File) -> None:
        """Refuse keys at the top of the file that are unknown, or hold something else."""
        known = list(CatalogSpec.model_fields)
        for key, value in file.table.items():
            if key.startswith("x-"):
                continue
            if key not in known:
                message, hint = unknown_key(key, known, "in the catalog")
                self._add(file.shown, message, file.table.keys_at[key], hint)
            elif key in _EXAMPLES and value is not None and not isinstance(value, Table):
                self._add(
                    file.shown,
                    f"`{key}` must be keys and values, not {shown(value)}",
                    file.table.values_at[key],
                    _EXAMPLES[key],
                )
            elif key in _MAIN_ONLY and file is not self._files[0]:
                self._add(
                    file.shown,
                    f"`{key}` has no effect in an included file",
                    file.table.keys_at[key],
                    f"write it in {self._files[0].shown}",
                )

    def _check_as_of(self, file: _File) -> None:
        as_of = file.table.get("as_of")
        try:
            parse_pin("latest" if as_of is None else as_of)
        except InvalidPinError as exc:
            self._add(file.shown, exc.message, file.table.values_at["as_of"], exc.hint)
            file.table["as_of"] = None

    def _defaults(self, file: _File) -> dict[str, object]:
        table = file.section("defaults")
        if table is None:
            return {}
        wrong: set[object] = set()
        try:
            Defaults.model_validate(_given(table))
        except ValidationError as exc:
            self._add_errors(exc, Defaults, _Section(table, file, "in `defaults`"))
            wrong = {error["loc"][0] for error in exc.errors()}
        return {k: v for k, v in table.items() if k not in wrong and not k.startswith("x-")}

    def _section(self, model: type[_M], file: _File, key: str) -> _M:
        """Return a part of the file; its defaults where it is left out or wrong."""
        written = _Section(file.section(key) or Table(), file, f"in `{key}`")
        return self._validated(model, written.table, written) or model()

    def _storages(self) -> dict[str, StorageSettings | None]:
        """Return the storages by name; of what is wrong with one, only its name is left."""
        storages: dict[str, StorageSettings | None] = {}
        for name, value, file, place in self._declared("storages").values():
            table = Table() if value is None else value
            if not isinstance(table, Table):
                self._add(
                    file.shown,
                    f"the storage {name!r} must be keys and values, not {shown(value)}",
                    place,
                    f"write `{name}: {{endpoint_url: https://…}}`",
                )
                storages[name] = None
                continue
            written = _Section(table, file, f"in the storage {name!r}")
            settings = self._validated(StorageSettings, table, written)
            if settings and settings.ca_bundle:
                bundle = _joined(file.path.parent, settings.ca_bundle)
                settings = settings.model_copy(update={"ca_bundle": bundle})
            storages[name] = settings
        return storages

    def _declared(self, section: str) -> dict[str, _Entry]:
        """Return what the files declare in a section, by name."""
        found: dict[str, _Entry] = {}
        for file in self._files:
            table = file.section(section) or Table()
            for name, value in table.items():
                place = table.keys_at[name]
                if name.startswith("x-"):
                    self._warnings.append(
                        f"{file.shown}:{place.line}: {name!r} is left out, as keys that begin "
                        "with `x-` are free"
                    )
                    continue
                if first := found.get(name):
                    self._add(
                        file.shown,
                        f"{name!r} is declared already, in {first.file.shown}:{first.place.line}",
                        place,
                        "remove or rename one of them",
                    )
                    continue
                try:
                    check_name(name)
                except InvalidValueError as exc:
                    self._add(file.shown, exc.message, place, exc.hint)
                found[name] = _Entry(name, value, file, place)
        return found

    # --- datasets -------------------------------------------------------------------

    def _datasets(
        self, main: _File, declared: Mapping[str, _Entry], storages: Mapping[str, object]
    ) -> dict[str, Dataset]:
        datasets: dict[str, Dataset] = {}
        for file in self._files:
            self._check_storage(file, file.section("defaults") or Table(), storages)
        for entry in declared.values():
            own = _spelt_out(entry)
            if own is None:
                message, hint = _not_a_dataset(entry)
                self._add(entry.file.shown, message, entry.place, hint)
                continue
            self._check_storage(entry.file, own, storages)
            dataset = self._dataset(main, entry, own)
            if dataset is not None:
                datasets[entry.name] = dataset.with_resolved_paths(entry.file.path.parent)
        return datasets

    def _dataset(self, main: _File, entry: _Entry, own: Table) -> Dataset | None:
        file, where = entry.file, f"in the dataset {entry.name!r}"
        merged = {**main.defaults, **file.defaults, **own}
        as_of = file.table.get("as_of") or main.table.get("as_of")
        if as_of is not None and own.get("as_of") is None and own.get("version_id") is None:
            merged["as_of"] = as_of
        if "name" in own:
            message, hint = unknown_key("name", (), where)
            self._add(file.shown, message, own.keys_at["name"], hint)
        merged["name"] = entry.name
        return self._validated(Dataset, merged, _Section(own, file, where, entry.place))

    def _check_storage(self, file: _File, table: Table, storages: Mapping[str, object]) -> None:
        name = table.get("storage")
        if isinstance(name, str) and name not in storages:
            hint = did_you_mean(name, storages) or f"add `{name}:` under `storages:`"
            self._add(file.shown, f"there is no storage {name!r}", table.values_at["storage"], hint)

    def _check_landings(
        self, datasets: Mapping[str, Dataset], data: DataSettings, declared: Mapping[str, _Entry]
    ) -> None:
        """Refuse datasets of which one would stand on, or inside, the other's files."""
        claims: dict[str, str] = {}
        for name, dataset in datasets.items():
            try:
                claims[name] = claim(dataset, data)
            except FieldError as exc:
                entry = declared[name]
                self._add(entry.file.shown, exc.message, entry.place, exc.hint)
        for name, message in collisions(claims):
            entry = declared[name]
            self._add(entry.file.shown, message, entry.place, "give one of them another `path:`")

    # --- problems -------------------------------------------------------------------

    def _validated(
        self, model: type[_M], values: Mapping[str, object], written: _Section
    ) -> _M | None:
        """Return the values as `model`, or None after their problems were added."""
        try:
            return model.model_validate(_given(values), context=self._filesystems)
        except ValidationError as exc:
            self._add_errors(exc, model, written)
            return None

    def _add_errors(self, exc: ValidationError, model: type[BaseModel], written: _Section) -> None:
        errors = exc.errors(include_url=False)
        table, file, where, fallback = written
        unknown = [str(e["loc"][0]) for e in errors if e["type"] == "extra_forbidden"]
        for error in errors:
            key = str(error["loc"][0]) if error["loc"] else ""
            place = table.values_at.get(key, fallback)
            cause = error.get("ctx", {}).get("error")
            if isinstance(cause, ItemsError):
                for part, problem in cause.items:
                    self._add(
                        file.shown, problem.message, _item_place(table, key, part), problem.hint
                    )
                continue
            if error["type"] == "extra_forbidden":
                message, hint = _unknown(key, model, where)
                place = table.keys_at.get(key, fallback)
            elif error["type"] == "missing":
                if any(_unknown(k, model, where)[1] == f"did you mean `{key}`?" for k in unknown):
                    continue
                message, hint = f"`{key}` is missing {where}", f"add `{key}: s3://bucket/key`"
            else:
                message, hint = invalid_value(error, table)
                if isinstance(cause, FieldError):
                    place = table.values_at.get(cause.key, fallback)
            self._add(file.shown, message, place, hint)

    def _add(self, file: str, message: str, place: Place | None, hint: str | None) -> None:
        problem = Fault(message, place, hint).as_problem(file)
        # A value with an unset ${VAR} is wrong in other ways too: the first is the cause.
        if (file, place) not in self._unresolved and problem not in self._problems:
            self._problems.append(problem)

    def _problems_in_order(self) -> list[Problem]:
        rank = {file.shown: index for index, file in enumerate(self._files)}
        return sorted(
            self._problems, key=lambda p: (rank.get(p.file, -1), p.line or 0, p.column or 0)
        )


def _given(values: Mapping[str, object]) -> dict[str, object]:
    """Return what is not null: null means that a key is not given."""
    return {key: value for key, value in values.items() if value is not None}


def _unknown(key: str, model: type[BaseModel], where: str) -> tuple[str, str | None]:
    message, hint = unknown_key(key, [k for k in model.model_fields if k != "name"], where)
    if model is Defaults and key == "as_of":
        return message, "write it at the top of the catalog, for all datasets"
    if model is Defaults and key in Dataset.model_fields:
        return message, "it belongs to a single dataset"
    return message, hint


def _item_place(table: Table, key: str, part: str | int) -> Place:
    value = table[key]
    if isinstance(value, Listing) and isinstance(part, int):
        return value.items_at[part]
    if isinstance(value, Table) and isinstance(part, str):
        return value.values_at[part]
    return table.values_at[key]


def _spelt_out(entry: _Entry) -> Table | None:
    """Return a dataset's keys; the short form is its source. None for what is neither."""
    if isinstance(entry.value, Table):
        return entry.value
    section = entry.file.section("datasets")
    if not isinstance(entry.value, str) or section is None:
        return None
    own = Table()
    own["source"] = entry.value
    own.keys_at["source"] = own.values_at["source"] = section.values_at[entry.name]
    return own


def _not_a_dataset(entry: _Entry) -> tuple[str, str]:
    name, hint = entry.name, f"write `{entry.name}: s3://bucket/key`"
    if entry.value is None:
        return f"the dataset {name!r} is empty", hint
    return (
        f"the dataset {name!r} must be a source or keys and values, not {shown(entry.value)}",
        f"{hint}, or `source:` below the name",
    )


_CATALOG_HINT = "write `datasets:`, and `name: s3://bucket/key` below it"


def _not_a_catalog(value: object) -> str:
    if value is None:
        return "the catalog is empty"
    return f"a catalog is made of keys and values, not {shown(value)}"


def _read(path: Path) -> bytes:
    """Return what a catalog file holds, or as much of it as shows that it is too large."""
    try:
        with open(path, "rb") as file:
            return file.read(document.MAX_BYTES + 1)
    except FileNotFoundError as exc:
        raise CatalogNotFoundError(
            f"there is no file {_shown(path)}", hint="`dcl init` writes one"
        ) from exc
    except OSError as exc:
        reason = (exc.strerror or type(exc).__name__).lower()
        raise CatalogNotFoundError(
            f"{_shown(path)} cannot be read: {reason}", hint="name a file with `--catalog`"
        ) from exc


def _joined(folder: Path, path: str) -> str:
    return os.path.normpath(os.path.join(folder, os.path.expanduser(path)))


def _shown(path: Path) -> str:
    """Return the path as people expect it: relative where it lies below the current folder."""
    try:
        return str(path.relative_to(os.getcwd()))
    except ValueError:
        return str(path)
