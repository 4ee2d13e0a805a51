"""Commands that check: verify hashes what is here, doctor looks at what a sync depends on."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

from datacachalog import __version__, uri
from datacachalog.cache import files
from datacachalog.cache.files import LinkKind
from datacachalog.catalog import Catalog, load_catalog
from datacachalog.cli.app import Exit, GlobalOptions, Here, show_errors
from datacachalog.cli.commands.catalog import pick, read_catalog
from datacachalog.cli.console import Cell, Column, Terminal, plural, render_table, visible
from datacachalog.cli.json import verification_document
from datacachalog.cli.options import Jobs, Json, Names, Offline
from datacachalog.cli.progress import watch
from datacachalog.errors import (
    CatalogNotFoundError,
    DatacachalogError,
    InvalidCatalogError,
    NotFetchedError,
)
from datacachalog.settings import cache_dir
from datacachalog.spec.loader import LoadedCatalog
from datacachalog.spec.models import Dataset, StorageSettings
from datacachalog.spec.units import format_duration, format_size
from datacachalog.storage.object_store_settings import OBSTORE, chosen_engine, reachable_engine
from datacachalog.storage.s3 import S3Storage
from datacachalog.storage.s3.connection import Connection, connect
from datacachalog.sync.results import Verification

_MANY = 20
"""Bad files shown per dataset, unless `--verbose`."""

_LITTLE_SPACE = 1_000_000_000
_MUCH_SKEW = timedelta(minutes=5)  # S3 refuses requests that are 15 minutes off


def verify(
    *names: Names,
    jobs: Jobs = None,
    json: Json = False,
    options: GlobalOptions = GlobalOptions(),
    terminal: Here,
) -> int:
    """Hash the files here once more.

    Compares every byte on disk with what was put there, and exits with 3 if any differs.
    Asks no network.
    """
    catalog = load_catalog(options.catalog)
    with watch(terminal, len(set(names) or catalog.datasets)) as report:
        verdicts = catalog.verify(*names, jobs=jobs, report=report)
    if not names:
        # Nobody asked for those that are not here.
        verdicts = [v for v in verdicts if not isinstance(v.error, NotFetchedError)]
    if json:
        body = {"datasets": [verification_document(verdict) for verdict in verdicts]}
        terminal.document("verification", body)
    else:
        _show_verdicts(verdicts, terminal)
    if any(verdict.bad for verdict in verdicts):
        return Exit.VERDICT
    return Exit.FAILED if any(verdict.error for verdict in verdicts) else Exit.DONE


def _show_verdicts(verdicts: list[Verification], terminal: Terminal) -> None:
    for verdict in verdicts:
        shown = verdict.bad if terminal.verbose else verdict.bad[:_MANY]
        terminal.data(visible(f"{verdict.name}/{bad.relpath}: {bad.reason}") for bad in shown)
        if hidden := len(verdict.bad) - len(shown):
            terminal.note(f"{verdict.name}: {plural(hidden, 'more bad file')} (`-v` shows all)")
    show_errors({v.name: v.error for v in verdicts if v.error is not None}, terminal)
    hashed = plural(sum(verdict.files for verdict in verdicts), "file")
    count = sum(len(verdict.bad) for verdict in verdicts)
    size = format_size(sum(verdict.size for verdict in verdicts))
    terminal.note(f"{hashed} hashed, {count:,} bad ({size})")
    if bad := [verdict.name for verdict in verdicts if verdict.bad]:
        terminal.error(
            f"{plural(len(bad), 'dataset')} with bad files",
            hint=f"move the bad files away, then run `dcl sync {' '.join(bad)}`",
        )


# --- doctor -------------------------------------------------------------------------


class Verdict(Enum):
    """How a finding is to be taken."""

    FACT = "fact"
    GOOD = "good"
    DOUBT = "doubt"
    BAD = "bad"


class Check(NamedTuple):
    """One thing that was looked at: of what, which aspect, and what was found."""

    subject: str
    topic: str
    verdict: Verdict
    finding: str
    hint: str | None = None


_LABELS = {
    Verdict.FACT: Cell("  ", "dim"),
    Verdict.GOOD: Cell("ok", "green"),
    Verdict.DOUBT: Cell("??", "yellow"),
    Verdict.BAD: Cell("no", "bold red"),
}


def doctor(
    *names: Names,
    offline: Offline = False,
    json: Json = False,
    options: GlobalOptions = GlobalOptions(),
    terminal: Here,
) -> int:
    """Say what is in effect, and what is wrong.

    Endpoint, identity and region of each storage, cache folder, link kind and free space.
    Asks each storage for one listing, unless `--offline`. Shows no secrets; exits with 3 if
    something is wrong.
    """
    checks = list(_examine(options.catalog, names, offline=offline))
    if json:
        found = [check._asdict() | {"verdict": check.verdict.value} for check in checks]
        terminal.document("diagnosis", {"checks": found})
    else:
        _show_checks(checks, terminal)
    return Exit.VERDICT if any(c.verdict is Verdict.BAD for c in checks) else Exit.DONE


def _show_checks(checks: Sequence[Check], terminal: Terminal) -> None:
    rows: list[tuple[str | Cell, ...]] = []
    for check in checks:
        rows.append((_LABELS[check.verdict], check.topic, check.finding))
        rows.append(("", "", f"hint: {check.hint}" if check.hint else ""))
    columns = Column(""), Column(""), Column("", least=20)
    lines = iter(render_table(terminal.out, columns, rows, has_head=False, indent=2))
    for subject, group in groupby(checks, key=lambda check: check.subject):
        terminal.data([terminal.out.paint(visible(subject), "bold")])
        for check in group:
            row, hint = next(lines), next(lines)
            terminal.data([row, hint] if check.hint else [row])


def _examine(reference: str | None, names: Sequence[str], *, offline: bool) -> Iterator[Check]:
    """Look at everything that a sync of the catalog's datasets depends on; change nothing.

    `names` are the datasets to ask for; without any, one for each storage. A catalog that is
    missing or broken is a finding, not an error. Never tells a secret.
    """
    yield Check("dcl", "version", Verdict.FACT, __version__)
    yield Check("dcl", "python", Verdict.FACT, f"{platform.python_version()} ({sys.executable})")
    try:
        loaded = read_catalog(reference)
    except (CatalogNotFoundError, InvalidCatalogError) as exc:
        yield _broken(exc)
        yield from _cache(None)
        return
    yield Check("catalog", "file", Verdict.GOOD, str(loaded.path))
    yield Check("catalog", "datasets", Verdict.FACT, f"{len(loaded.datasets):,}")
    yield from (Check("catalog", "note", Verdict.DOUBT, warning) for warning in loaded.warnings)
    yield from _cache(loaded)
    yield from _data(loaded)
    catalog = load_catalog(loaded.path)
    groups: dict[tuple[str, str | None], list[Dataset]] = {}
    for dataset in pick(loaded, names):
        key = uri.scheme_of(dataset.sources[0]), dataset.storage
        groups.setdefault(key, []).append(dataset)
    for (scheme, storage), group in groups.items():
        subject = f"storage '{storage}'" if storage else f"{scheme} (no storage named)"
        if scheme == "file":
            subject = "local files"
        else:
            yield from _settings(subject, loaded.storages.get(storage or "", StorageSettings()))
        if not offline:
            for dataset in group if names else group[:1]:
                yield _reach(subject, dataset, catalog)


def _broken(error: DatacachalogError) -> Check:
    if not isinstance(error, InvalidCatalogError):
        return Check("catalog", "file", Verdict.DOUBT, str(error), error.hint)
    first, *more = error.problems
    finding = f"{first} (and {len(more)} more)" if more else str(first)
    return Check("catalog", "file", Verdict.BAD, finding, "run `dcl validate`")


def _cache(loaded: LoadedCatalog | None) -> Iterator[Check]:
    """Look at the shared cache: where, why there, whether it can be written, how full."""
    configured = None if loaded is None else loaded.cache.dir
    root = cache_dir(configured, os.environ)
    why = "by the catalog" if configured else "the default"
    if os.environ.get("DCL_CACHE_DIR"):
        why = "by DCL_CACHE_DIR"
    yield _writable("cache", root, f"{root} ({why})", "set DCL_CACHE_DIR")
    yield _space("cache", root)
    if loaded is not None and loaded.cache.max_size is not None:
        yield Check("cache", "limit", Verdict.FACT, format_size(loaded.cache.max_size))


def _data(loaded: LoadedCatalog) -> Iterator[Check]:
    root = loaded.root / loaded.data.dir
    yield _writable("data", root, str(root), f"run `ls -ld {_existing(root)}`")
    yield _space("data", root)
    yield _link(loaded.cache.link, cache_dir(loaded.cache.dir, os.environ), root)


def _writable(subject: str, folder: Path, finding: str, hint: str) -> Check:
    """Try to write where the folder is, or would be made."""
    probe = _existing(folder) / files.temp_name()
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as exc:
        finding = f"{finding}: cannot be written: {exc.strerror}"
        return Check(subject, "folder", Verdict.BAD, finding, hint)
    return Check(subject, "folder", Verdict.GOOD, finding)


def _space(subject: str, folder: Path) -> Check:
    free = shutil.disk_usage(_existing(folder)).free
    if free >= _LITTLE_SPACE:
        return Check(subject, "free space", Verdict.FACT, format_size(free))
    hint = "run `dcl cache prune --unused-for '30 days'`"
    return Check(subject, "free space", Verdict.DOUBT, format_size(free), hint)


def _link(wanted: str, cache_root: Path, data_root: Path) -> Check:
    """Find out which kind of link works from the cache to the data folder, by making one."""
    makers: dict[LinkKind, Callable[[str, str], None]] = {
        LinkKind.REFLINK: files.reflink,
        LinkKind.HARDLINK: os.link,
    }
    allowed = (kind for kind in makers if wanted in ("auto", kind.value))
    works = (kind for kind in allowed if _makes_link(makers[kind], cache_root, data_root))
    found = next(works, LinkKind.COPY)
    if found is LinkKind.COPY and wanted != "copy":
        return Check(
            "data",
            "link kind",
            Verdict.DOUBT,
            "copy: every file takes its space twice",
            "put the cache on the file system of the data, with DCL_CACHE_DIR",
        )
    return Check("data", "link kind", Verdict.GOOD, found.value)


def _makes_link(make: Callable[[str, str], None], cache_root: Path, data_root: Path) -> bool:
    source = str(_existing(cache_root) / files.temp_name())
    target = str(_existing(data_root) / files.temp_name())
    try:
        with open(source, "xb") as file:
            file.write(b"probe")
        make(source, target)
    except OSError:
        return False
    finally:
        files.remove(source)
        files.remove(target)
    return True


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _settings(subject: str, settings: StorageSettings) -> Iterator[Check]:
    """Tell endpoint, region, engine and identity that a storage is reached with."""
    try:
        connection = connect(settings, os.environ)
    except DatacachalogError as exc:
        yield Check(subject, "settings", Verdict.BAD, str(exc), exc.hint)
        return
    yield Check(subject, "endpoint", Verdict.FACT, connection.endpoint_url or "Amazon S3")
    yield Check(subject, "region", Verdict.FACT, connection.region or "asked per bucket")
    for topic, find in (("engine", _engine), ("identity", _identity)):
        try:
            yield Check(subject, topic, Verdict.FACT, find(connection, settings))
        except DatacachalogError as exc:
            yield Check(subject, topic, Verdict.BAD, str(exc), exc.hint)


def _engine(connection: Connection, settings: StorageSettings) -> str:
    engine = chosen_engine(settings.engine)
    return str(reachable_engine(connection) if engine == OBSTORE else engine)


def _identity(connection: Connection, settings: StorageSettings) -> str:
    keys = S3Storage(connection).credentials()
    if keys is None:
        return "anonymous"
    profile = f", profile {settings.profile}" if settings.profile else ""
    return f"access key …{keys.key[-4:]}{profile}"


def _reach(subject: str, dataset: Dataset, catalog: Catalog) -> Check:
    """Ask for the first object of a dataset's sources, and for the server's clock."""
    source = catalog.datasets[dataset.name].sources[0]
    try:
        storage = catalog.storage_of(catalog.datasets[dataset.name])
        found = list(islice(storage.scan(source), 1))
        skew = abs(storage.now() - datetime.now(UTC))
    except DatacachalogError as exc:
        return Check(subject, dataset.name, Verdict.BAD, str(exc), exc.hint)
    if skew > _MUCH_SKEW:
        finding = f"this machine's clock is {format_duration(skew)} off the server's"
        hint = "set the clock, or switch on time synchronisation"
        return Check(subject, dataset.name, Verdict.BAD, finding, hint)
    if not found and not dataset.allow_empty:
        return Check(subject, dataset.name, Verdict.DOUBT, f"nothing matches {source}")
    return Check(subject, dataset.name, Verdict.GOOD, "reached")
