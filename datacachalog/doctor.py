"""What is in effect on this machine for a catalog, and what is wrong, as values.

Floor 4, beside `catalog`: looks at settings, folders and storages, and changes nothing
but for probe files of its own. Never tells a secret. Rendered by the command line.
"""

import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import islice
from pathlib import Path

from datacachalog import __version__, uri
from datacachalog.cache import files
from datacachalog.cache.files import LinkKind
from datacachalog.catalog import Catalog, load_catalog
from datacachalog.errors import (
    CatalogNotFoundError,
    DatacachalogError,
    DatasetNotFoundError,
    InvalidCatalogError,
)
from datacachalog.settings import cache_dir
from datacachalog.spec.discovery import find_catalog
from datacachalog.spec.loader import LoadedCatalog, load
from datacachalog.spec.models import Dataset, StorageSettings
from datacachalog.spec.units import format_duration, format_size
from datacachalog.storage.object_store_settings import OBSTORE, chosen_engine, reachable_engine
from datacachalog.storage.s3 import S3Storage
from datacachalog.storage.s3.connection import Connection, connect
from datacachalog.suggest import did_you_mean

_LITTLE_SPACE = 1_000_000_000
_MUCH_SKEW = timedelta(minutes=5)  # S3 refuses requests that are 15 minutes off


class Verdict(Enum):
    """How a finding is to be taken."""

    FACT = "fact"
    GOOD = "good"
    DOUBT = "doubt"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: of what, which aspect, and what was found."""

    subject: str
    topic: str
    verdict: Verdict
    finding: str
    hint: str | None = None


def examine(
    reference: str | None = None,
    names: Sequence[str] = (),
    *,
    offline: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> list[Check]:
    """Look at everything that a sync of the catalog's datasets depends on.

    `names` are the datasets to ask for; without any, one for each storage. `offline` asks
    no storage. A catalog that is missing or broken is a finding, not an error.
    """
    checks = [
        Check("dcl", "version", Verdict.FACT, __version__),
        Check("dcl", "python", Verdict.FACT, f"{platform.python_version()} ({sys.executable})"),
    ]
    try:
        loaded = load(find_catalog(reference, environ=environ), environ=environ)
    except (CatalogNotFoundError, InvalidCatalogError) as exc:
        return [*checks, _broken(exc), *_cache(None, environ)]
    count = len(loaded.datasets)
    checks += [
        Check("catalog", "file", Verdict.GOOD, str(loaded.path)),
        Check("catalog", "datasets", Verdict.FACT, f"{count:,}"),
        *(Check("catalog", "note", Verdict.DOUBT, warning) for warning in loaded.warnings),
        *_cache(loaded, environ),
        *_data(loaded, cache_dir(loaded.cache.dir, environ)),
    ]
    catalog = load_catalog(loaded.path)
    for group in _by_storage(loaded, names):
        checks += _settings(group[0], loaded, environ)
        if not offline:
            for dataset in group if names else group[:1]:
                checks.append(_reach(dataset, catalog))
    return checks


def _broken(error: DatacachalogError) -> Check:
    if not isinstance(error, InvalidCatalogError):
        return Check("catalog", "file", Verdict.DOUBT, str(error), error.hint)
    first, *more = error.problems
    finding = f"{first} (and {len(more)} more)" if more else str(first)
    return Check("catalog", "file", Verdict.BAD, finding, "run `dcl validate`")


# --- folders ------------------------------------------------------------------------


def _cache(loaded: LoadedCatalog | None, environ: Mapping[str, str]) -> list[Check]:
    """Look at the shared cache: where, why there, whether it can be written, how full."""
    configured = None if loaded is None else loaded.cache.dir
    root = cache_dir(configured, environ)
    why = (
        "by DCL_CACHE_DIR"
        if environ.get("DCL_CACHE_DIR")
        else "by the catalog"
        if configured
        else "the default"
    )
    checks = [_writable("cache", root, f"{root} ({why})"), *_space("cache", root)]
    if loaded is not None and loaded.cache.max_size is not None:
        limit = format_size(loaded.cache.max_size)
        checks.append(Check("cache", "limit", Verdict.FACT, limit))
    return checks


def _data(loaded: LoadedCatalog, cache_root: Path) -> list[Check]:
    root = loaded.root / loaded.data.dir
    return [
        _writable("data", root, str(root)),
        *_space("data", root),
        _link(loaded, cache_root, root),
    ]


def _writable(subject: str, folder: Path, finding: str) -> Check:
    """Try to write where the folder is, or would be made."""
    existing = _existing(folder)
    probe = existing / files.temp_name()
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as exc:
        hint = f"run `ls -ld {existing}`" if subject == "data" else "set DCL_CACHE_DIR"
        return Check(
            subject, "folder", Verdict.BAD, f"{finding}: cannot be written: {exc.strerror}", hint
        )
    return Check(subject, "folder", Verdict.GOOD, finding)


def _space(subject: str, folder: Path) -> list[Check]:
    free = shutil.disk_usage(_existing(folder)).free
    verdict = Verdict.DOUBT if free < _LITTLE_SPACE else Verdict.FACT
    hint = "run `dcl cache prune --unused-for '30 days'`" if verdict is Verdict.DOUBT else None
    return [Check(subject, "free space", verdict, format_size(free), hint)]


def _link(loaded: LoadedCatalog, cache_root: Path, data_root: Path) -> Check:
    """Find out which kind of link works from the cache to the data folder, by making one."""
    wanted = loaded.cache.link
    kinds = {
        "auto": (LinkKind.REFLINK, LinkKind.HARDLINK),
        "reflink": (LinkKind.REFLINK,),
        "hardlink": (LinkKind.HARDLINK,),
    }.get(wanted, ())
    found = next((kind for kind in kinds if _works(kind, cache_root, data_root)), LinkKind.COPY)
    if found is LinkKind.COPY and wanted != "copy":
        return Check(
            "data",
            "link kind",
            Verdict.DOUBT,
            "copy: every file takes its space twice",
            "put the cache on the file system of the data, with DCL_CACHE_DIR",
        )
    return Check("data", "link kind", Verdict.GOOD, found.value)


def _works(kind: LinkKind, cache_root: Path, data_root: Path) -> bool:
    source = str(_existing(cache_root) / files.temp_name())
    target = str(_existing(data_root) / files.temp_name())
    try:
        with open(source, "xb") as file:
            file.write(b"probe")
        (files.reflink if kind is LinkKind.REFLINK else os.link)(source, target)
    except OSError:
        return False
    finally:
        files.remove(source)
        files.remove(target)
    return True


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


# --- storages -----------------------------------------------------------------------


def _by_storage(loaded: LoadedCatalog, names: Sequence[str]) -> list[list[Dataset]]:
    """Return the datasets asked for, those of one storage together."""
    groups: dict[tuple[str, str | None], list[Dataset]] = {}
    for name in names or loaded.datasets:
        if name not in loaded.datasets:
            raise DatasetNotFoundError(
                f"no dataset '{name}'", hint=did_you_mean(name, loaded.datasets)
            )
        dataset = loaded.datasets[name]
        key = (uri.scheme_of(dataset.sources[0]), dataset.storage)
        groups.setdefault(key, []).append(dataset)
    return list(groups.values())


def _subject(dataset: Dataset) -> str:
    scheme = uri.scheme_of(dataset.sources[0])
    if scheme == "file":
        return "local files"
    return f"storage '{dataset.storage}'" if dataset.storage else f"{scheme} (no storage named)"


def _settings(dataset: Dataset, loaded: LoadedCatalog, environ: Mapping[str, str]) -> list[Check]:
    """Tell endpoint, region, engine and identity that a dataset's storage is reached with."""
    if uri.scheme_of(dataset.sources[0]) == "file":
        return []
    subject = _subject(dataset)
    settings = loaded.storages.get(dataset.storage or "", StorageSettings())
    try:
        connection = connect(settings, environ)
    except DatacachalogError as exc:
        return [Check(subject, "settings", Verdict.BAD, str(exc), exc.hint)]
    endpoint = connection.endpoint_url or "Amazon S3"
    return [
        Check(subject, "endpoint", Verdict.FACT, endpoint),
        Check(subject, "region", Verdict.FACT, connection.region or "asked per bucket"),
        _engine(subject, connection, settings, environ),
        _identity(subject, connection, settings),
    ]


def _engine(
    subject: str, connection: Connection, settings: StorageSettings, environ: Mapping[str, str]
) -> Check:
    try:
        engine = chosen_engine(settings.engine, environ)
    except DatacachalogError as exc:
        return Check(subject, "engine", Verdict.BAD, str(exc), exc.hint)
    if engine == OBSTORE:
        engine = reachable_engine(connection, environ)
    return Check(subject, "engine", Verdict.FACT, str(engine))


def _identity(subject: str, connection: Connection, settings: StorageSettings) -> Check:
    try:
        keys = S3Storage(connection).credentials()
    except DatacachalogError as exc:
        return Check(subject, "identity", Verdict.BAD, str(exc), exc.hint)
    if keys is None:
        return Check(subject, "identity", Verdict.FACT, "anonymous")
    profile = f", profile {settings.profile}" if settings.profile else ""
    return Check(subject, "identity", Verdict.FACT, f"access key …{keys.key[-4:]}{profile}")


def _reach(dataset: Dataset, catalog: Catalog) -> Check:
    """Ask for the first object of a dataset's sources, and for the server's clock."""
    subject, topic = _subject(dataset), dataset.name
    source = catalog.datasets[dataset.name].sources[0]
    try:
        storage = catalog.storage_of(catalog.datasets[dataset.name])
        found = list(islice(storage.scan(source), 1))
        skew = abs(storage.now() - datetime.now(UTC))
    except DatacachalogError as exc:
        return Check(subject, topic, Verdict.BAD, str(exc), exc.hint)
    if skew > _MUCH_SKEW:
        return Check(
            subject,
            topic,
            Verdict.BAD,
            f"this machine's clock is {format_duration(skew)} off the server's",
            "set the clock, or switch on time synchronisation",
        )
    if not found and not dataset.allow_empty:
        return Check(subject, topic, Verdict.DOUBT, f"nothing matches {source}")
    return Check(subject, topic, Verdict.GOOD, "reached")
