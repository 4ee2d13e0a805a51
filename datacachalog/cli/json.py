"""What `--json` prints: plain dictionaries with fixed keys in a fixed order.

Sizes are bytes, instants RFC 3339 in UTC, absent values null. A key that is published
keeps its meaning; new ones may be added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datacachalog.errors import DatacachalogError, InvalidCatalogError
from datacachalog.model import Latest
from datacachalog.spec.landing import landing

if TYPE_CHECKING:  # what only reads the catalog loads no sync
    from datacachalog.spec.loader import LoadedCatalog
    from datacachalog.spec.models import Dataset
    from datacachalog.sync.plan import Plan
    from datacachalog.sync.results import DatasetStatus, Outcome, SyncReport, Verification

Document = dict[str, Any]


def instant(moment: datetime | None) -> str | None:
    """Return the moment as RFC 3339 in UTC.

    >>> instant(datetime(2026, 3, 1, 12, tzinfo=UTC))
    '2026-03-01T12:00:00Z'
    """
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def error_document(error: DatacachalogError | None) -> Document | None:
    """Return an error as its class, sentence and hint."""
    if error is None:
        return None
    return {"type": type(error).__name__, "message": str(error), "hint": error.hint}


def invalid_document(error: InvalidCatalogError) -> Document:
    """Return what `validate --json` says of a catalog that is not valid."""
    keys = ("file", "line", "column", "message", "hint")
    problems = [{key: getattr(problem, key) for key in keys} for problem in error.problems]
    return {"valid": False, "problems": problems}


def dataset_document(dataset: Dataset, catalog: LoadedCatalog) -> Document:
    """Return a dataset as the catalog means it, defaults merged."""
    age = dataset.max_age
    return {
        "name": dataset.name,
        "description": dataset.description,
        "sources": dataset.sources,
        "exclude": dataset.exclude,
        "pin": None if isinstance(dataset.pin, Latest) else str(dataset.pin),
        "storage": dataset.storage,
        "path": str(catalog.root / landing(dataset, catalog.data)),
        "format": dataset.format,
        "reader": dataset.reader,
        "checksum": dataset.checksum,
        "owner": dataset.owner,
        "tags": dataset.tags,
        "push": dataset.push,
        "allow_empty": dataset.allow_empty,
        "on_stale": dataset.on_stale,
        "max_age_seconds": None if age is None else age.total_seconds(),
        "metadata": dict(dataset.metadata),
        "declared": catalog.declared.get(dataset.name),
    }


def status_document(status: DatasetStatus) -> Document:
    """Return one dataset's status; `changes` counts what a sync would do."""
    return {
        "name": status.name,
        "status": status.freshness.value,
        "pin": status.pin,
        "locked": status.is_locked,
        "files": status.files,
        "size": status.size,
        "changes": {
            "downloads": status.downloads,
            "download_bytes": status.download_bytes,
            "links": status.links,
            "drops": status.drops,
        },
        "conflicts": [{"path": c.relpath, "reason": c.reason} for c in status.conflicts],
        "checked": instant(status.checked),
        "warnings": status.warnings,
        "error": error_document(status.error),
    }


def report_document(report: SyncReport, *, dry_run: bool) -> Document:
    """Return a whole run; that of a dry run has the steps of its plans."""
    return {
        "dry_run": dry_run,
        "seconds": round(report.seconds, 3),
        "datasets": [_outcome_document(o, with_plan=dry_run) for o in report.outcomes],
        "lock": {
            "added": report.lock_news.added,
            "changed": report.lock_news.changed,
            "hashed": report.lock_news.hashed,
        },
    }


def _outcome_document(outcome: Outcome, *, with_plan: bool) -> Document:
    document: Document = {
        "name": outcome.name,
        "downloaded": outcome.downloaded,
        "downloaded_bytes": outcome.downloaded_bytes,
        "linked": outcome.linked,
        "up_to_date": outcome.hits,
        "removed": outcome.dropped,
        "total_bytes": outcome.total_bytes,
        "warnings": outcome.warnings,
        "error": error_document(outcome.error),
    }
    if with_plan:
        document["steps"] = [] if outcome.plan is None else _steps(outcome.plan)
    return document


def _steps(plan: Plan) -> list[Document]:
    """Return the steps of a plan that would change something, by kind and then by path."""
    steps = (
        *(("download", s.object.relpath, s.object.size, s.reason) for s in plan.downloads),
        *(("link", s.object.relpath, s.object.size, s.reason) for s in plan.links),
        *(("remove", s.relpath, None, s.reason) for s in plan.drops),
        *(("keep", s.relpath, None, s.reason) for s in plan.keeps),
        *(("conflict", s.relpath, None, s.reason) for s in plan.conflicts),
    )
    return [dict(zip(("do", "path", "size", "reason"), step, strict=True)) for step in steps]


def verification_document(verdict: Verification) -> Document:
    """Return what re-hashing a dataset found."""
    return {
        "name": verdict.name,
        "files": verdict.files,
        "size": verdict.size,
        "bad": [{"path": bad.relpath, "reason": bad.reason} for bad in verdict.bad],
        "error": error_document(verdict.error),
    }


def paths_document(paths: Mapping[str, Path | list[Path]]) -> list[Document]:
    """Return each dataset's paths, always as a list."""
    return [
        {"name": name, "paths": [str(path) for path in as_list(found)]}
        for name, found in paths.items()
    ]


def as_list(paths: Path | Sequence[Path]) -> list[Path]:
    """Return one path or many as a list.

    >>> as_list(Path("a"))
    [PosixPath('a')]
    """
    return [paths] if isinstance(paths, Path) else list(paths)
