"""What `--json` prints of a run: outcomes, plans, states and verdicts as plain dictionaries.

The rules are those of `documents`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from datacachalog.cli.documents import Document, error_document, instant
from datacachalog.sync.plan import Plan
from datacachalog.sync.results import DatasetStatus, Outcome, SyncReport, Verification


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
        "warnings": list(status.warnings),
        "error": error_document(status.error),
    }


def plan_document(plan: Plan) -> list[Document]:
    """Return the steps of a plan that would change something, by kind and then by path."""
    moves = [
        {"do": verb, "path": step.object.relpath, "size": step.object.size, "reason": step.reason}
        for verb, steps in (("download", plan.downloads), ("link", plan.links))
        for step in steps
    ]
    others = [
        {"do": verb, "path": step.relpath, "size": None, "reason": step.reason}
        for verb, steps in (
            ("remove", plan.drops),
            ("keep", plan.keeps),
            ("conflict", plan.conflicts),
        )
        for step in steps
    ]
    return [*moves, *others]


def outcome_document(outcome: Outcome, *, with_plan: bool = False) -> Document:
    """Return what became of one dataset; `with_plan` adds the steps of a dry run."""
    document: Document = {
        "name": outcome.name,
        "downloaded": outcome.downloaded,
        "downloaded_bytes": outcome.downloaded_bytes,
        "linked": outcome.linked,
        "up_to_date": outcome.hits,
        "removed": outcome.dropped,
        "total_bytes": outcome.total_bytes,
        "warnings": list(outcome.warnings),
        "error": error_document(outcome.error),
    }
    if with_plan:
        document["steps"] = [] if outcome.plan is None else plan_document(outcome.plan)
    return document


def report_document(report: SyncReport, *, dry_run: bool) -> Document:
    """Return a whole run."""
    return {
        "dry_run": dry_run,
        "seconds": round(report.seconds, 3),
        "datasets": [outcome_document(o, with_plan=dry_run) for o in report.outcomes],
        "lock": {
            "added": list(report.lock_news.added),
            "changed": list(report.lock_news.changed),
            "hashed": list(report.lock_news.hashed),
        },
    }


def paths_document(paths: Mapping[str, Path | list[Path]]) -> list[Document]:
    """Return each dataset's paths, always as a list."""
    return [
        {"name": name, "paths": [str(path) for path in as_list(found)]}
        for name, found in paths.items()
    ]


def verification_document(verdict: Verification) -> Document:
    """Return what re-hashing a dataset found."""
    return {
        "name": verdict.name,
        "files": verdict.files,
        "size": verdict.size,
        "bad": [{"path": bad.relpath, "reason": bad.reason} for bad in verdict.bad],
        "error": error_document(verdict.error),
    }


def as_list(paths: Path | Sequence[Path]) -> list[Path]:
    """Return one path or many as a list.

    >>> as_list(Path("a"))
    [PosixPath('a')]
    """
    return [paths] if isinstance(paths, Path) else list(paths)
