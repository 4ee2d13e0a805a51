#!/usr/bin/env python
"""A catalog made in Python: no file, no server, the same line from source to bytes.

    python examples/python_api.py

Reading the table at the end needs polars or pandas.
"""

import tempfile
from pathlib import Path

from datacachalog import Catalog, Dataset, NotFetchedError
from datacachalog.events import DatasetFinished, Event


def main() -> None:
    """Fetch, let the source change, look, sync, and read."""
    with tempfile.TemporaryDirectory() as folder:
        walk(Path(folder))


def walk(folder: Path) -> None:
    """Do it in a folder of its own; with S3, only the source would differ."""
    incoming = folder / "incoming"
    incoming.mkdir()
    (incoming / "2026-01.csv").write_text("day,amount\n2026-01-03,120\n")
    (incoming / "2026-02.csv").write_text("day,amount\n2026-02-11,80\n")

    catalog = Catalog(
        [Dataset(name="orders", source="incoming/*.csv", description="Orders, one file a month")],
        root=folder,
        cache_dir=folder / "cache",
    )
    try:
        catalog.path("orders")
    except NotFetchedError as error:
        print(f"{error} ({error.hint})")

    for path in catalog.fetch("orders"):
        print(path.relative_to(folder))

    (incoming / "2026-02.csv").write_text("day,amount\n2026-02-11,85\n")
    (incoming / "2026-03.csv").write_text("day,amount\n2026-03-02,40\n")
    print("stale:", catalog.is_stale("orders"))
    catalog.sync(report=show)

    table = catalog.load("orders")
    print("rows:", len(table), "total:", sum(table["amount"]))


def show(event: Event) -> None:
    """Say what became of each dataset; events come from worker threads."""
    if isinstance(event, DatasetFinished):
        print(f"{event.dataset}: {event.downloaded} new, {event.hits} kept")


if __name__ == "__main__":
    main()
