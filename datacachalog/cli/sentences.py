"""What happened, in a few words: the closing line and the line of one dataset."""

from collections.abc import Iterable, Sequence

from datacachalog.cli.console import plural
from datacachalog.events import DatasetFinished
from datacachalog.lock.rules import LockNews
from datacachalog.spec.units import format_duration, format_size
from datacachalog.sync.results import Outcome, SyncReport


def tell_dataset(done: DatasetFinished | Outcome) -> str:
    """Return what became of one dataset's files.

    >>> tell_dataset(DatasetFinished("orders", downloaded=2, downloaded_bytes=2048, hits=1))
    '2 downloaded, 1 up to date (2.0 kB)'
    """
    if done.error is not None:
        return "failed"
    counts = _counts(done.downloaded, done.linked, done.hits, done.dropped)
    size = done.downloaded_bytes if done.downloaded else done.total_bytes
    return f"{', '.join(counts) or 'no files'} ({format_size(size)})"


def tell_run(report: SyncReport) -> str:
    """Return the closing line of a run, counted in files; failures count in datasets.

    >>> done = Outcome("orders", downloaded=3, downloaded_bytes=1_200_000_000, hits=12)
    >>> tell_run(SyncReport((done,), seconds=4.12))
    '3 downloaded, 12 up to date (1.2 GB in 4.1 s)'
    """
    outcomes = report.outcomes
    counts = _counts(
        sum(o.downloaded for o in outcomes),
        sum(o.linked for o in outcomes),
        sum(o.hits for o in outcomes),
        sum(o.dropped for o in outcomes),
    )
    if report.errors:
        counts.append(f"{plural(len(report.errors), 'dataset')} failed")
    size = sum(o.downloaded_bytes for o in outcomes)
    if not any(o.downloaded for o in outcomes):
        size = sum(o.total_bytes for o in outcomes)
    took = format_duration(report.seconds)
    return f"{', '.join(counts) or 'nothing to do'} ({format_size(size)} in {took})"


def tell_lock(news: LockNews) -> str:
    """Return what a run put into the lock; empty if that was nothing.

    >>> tell_lock(LockNews(added=("orders",), hashed=("a", "b")))
    "added 'orders', filled in the hashes of 2 datasets"
    """
    parts = []
    if news.added:
        parts.append(f"added {_names(news.added)}")
    if news.changed:
        parts.append(f"replaced {_names(news.changed)}, changed in the catalog")
    if news.hashed:
        parts.append(f"filled in the hashes of {plural(len(news.hashed), 'dataset')}")
    return ", ".join(parts)


def _names(names: Sequence[str]) -> str:
    if len(names) > 3:
        return plural(len(names), "dataset")
    return ", ".join(f"'{name}'" for name in names)


def _counts(downloaded: int, linked: int, hits: int, dropped: int) -> list[str]:
    pairs: Iterable[tuple[int, str]] = (
        (downloaded, "downloaded"),
        (linked, "linked from cache"),
        (hits, "up to date"),
        (dropped, "removed"),
    )
    return [f"{count:,} {word}" for count, word in pairs if count]
