"""What `--json` prints: plain dictionaries with fixed keys in a fixed order.

Sizes are bytes, instants RFC 3339 in UTC, absent values null. A key that is published
keeps its meaning; new ones may be added. Here is what a catalog says, without loading what
a run needs; what a run leaves behind is in `records`.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from datacachalog.errors import DatacachalogError, InvalidCatalogError, Problem
from datacachalog.model import Latest
from datacachalog.spec.landing import landing

if TYPE_CHECKING:
    from datacachalog.spec.loader import LoadedCatalog
    from datacachalog.spec.models import Dataset

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


def problem_document(problem: Problem) -> Document:
    """Return a problem of a catalog with its place."""
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "message": problem.message,
        "hint": problem.hint,
    }


def invalid_document(error: InvalidCatalogError) -> Document:
    """Return what `validate --json` says of a catalog that is not valid."""
    return {"valid": False, "problems": [problem_document(p) for p in error.problems]}


def dataset_document(dataset: "Dataset", catalog: "LoadedCatalog") -> Document:
    """Return a dataset as the catalog means it, defaults merged."""
    age = dataset.max_age
    return {
        "name": dataset.name,
        "description": dataset.description,
        "sources": list(dataset.sources),
        "exclude": list(dataset.exclude),
        "pin": None if isinstance(dataset.pin, Latest) else str(dataset.pin),
        "storage": dataset.storage,
        "path": str(catalog.root / landing(dataset, catalog.data)),
        "format": dataset.format,
        "reader": dataset.reader,
        "checksum": dataset.checksum,
        "owner": dataset.owner,
        "tags": list(dataset.tags),
        "push": dataset.push,
        "allow_empty": dataset.allow_empty,
        "on_stale": dataset.on_stale,
        "max_age_seconds": None if age is None else age.total_seconds(),
        "metadata": dict(dataset.metadata),
        "declared": catalog.declared.get(dataset.name),
    }
