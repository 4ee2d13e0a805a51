"""Lets several processes work on one project and cache: `python -m tests.concurrency_harness`.

Prints one JSON document: what was wrong, round by round.
"""

import fcntl
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

from datacachalog import events
from datacachalog.catalog import Catalog
from datacachalog.spec.models import CacheSettings, Dataset
from datacachalog.sync import download
from tests.processes import fork
from tests.projects import contents

NAMES = ("a", "b", "c/d", "c/e", "f/g/h", "big")


class Place:
    """A local source, a cache, and a project or two."""

    def __init__(self, base: Path, link: str, dice: random.Random) -> None:
        self.base, self.link, self.dice = base, link, dice
        self.source = base / "source"
        self.source.mkdir()
        self.time = 1_700_000_000

    def move_on(self) -> None:
        """Change, add and remove some files, each at once."""
        for name in NAMES:
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            what = self.dice.choice(["write", "write", "keep", "remove"])
            if what == "write" or (name == "a" and not path.exists()):  # never without any file
                self.time += 1
                temp = self.base / "temp"
                temp.write_bytes(self.dice.randbytes(5000 if name == "big" else 5))
                os.utime(temp, (self.time, self.time))
                temp.replace(path)
            elif what == "remove" and name != "a":
                path.unlink(missing_ok=True)

    def sync(self, project: str, report: events.Report = events.ignore) -> None:
        """Sync one project."""
        catalog = Catalog(
            [Dataset(name="set", source=f"file://{self.source}/**")],
            root=self.base / project,
            cache_dir=self.base / "cache",
            cache=CacheSettings.model_validate({"link": self.link}),
        )
        catalog.sync(jobs=4, report=report)

    def wrong_with(self, project: str) -> list[str]:
        """Return where a project's data differs from the source, and what lies about."""
        wanted = {n: d for n, d in contents(self.source).items() if not n.endswith("/")}
        found = contents(self.base / project / "data" / "set")
        wrongs = [] if found == wanted else [f"{project}: {sorted(found)} for {sorted(wanted)}"]
        places = (*(self.base / "cache" / "v1" / "tmp").iterdir(), *self.base.rglob(".dcl-tmp"))
        return [*wrongs, *(f"debris: {path}" for path in places)]


def failed(pids: list[int]) -> list[str]:
    """Wait for children and return which failed."""
    return [f"run {i} failed" for i, pid in enumerate(pids) if os.waitpid(pid, 0)[1]]


def all_at_once(place: Place, projects: list[str]) -> list[str]:
    """Let all runs start together."""
    place.move_on()
    ready, go = os.pipe()

    def run(project: str) -> None:
        os.close(go)
        os.read(ready, 1)  # until the parent lets go
        place.sync(project)

    pids = [fork(lambda project=project: run(project)) for project in projects]  # type: ignore[misc] # mypy wants a def
    os.close(ready)
    os.close(go)
    return [*failed(pids), *(w for project in set(projects) for w in place.wrong_with(project))]


def overtaken(place: Place, projects: list[str]) -> list[str]:
    """Let a run plan, then the source move on and another run pass, then the first go on."""
    place.move_on()
    planned, tell = os.pipe()
    wait, go = os.pipe()

    def slow() -> None:
        def report(event: events.Event) -> None:
            if isinstance(event, events.Planned):
                os.write(tell, b"x")
                os.read(wait, 1)

        os.close(go)
        place.sync(projects[0], report)
        os.write(tell, b"x")

    pid = fork(slow)
    os.read(planned, 1)
    place.move_on()
    wrongs = failed([fork(lambda: place.sync(projects[-1]))])
    for fd in (go, wait, planned, tell):
        os.close(fd)
    wrongs += failed([pid])
    # Each run was right for what it saw; the next one must find nothing in its way.
    for project in set(projects):
        wrongs += failed([fork(lambda project=project: place.sync(project))])  # type: ignore[misc] # mypy wants a def
        wrongs += place.wrong_with(project)
    return wrongs


def main(base: str, locks: str, link: str, rounds: str, seed: str) -> None:
    """Run so many rounds of each kind, with locks that work or do nothing."""
    download.RANGE = download.WHOLE = 2048
    if locks == "none":
        lie: Any = lambda fd, operation: None  # noqa: E731 - as some file systems do
        fcntl.flock = lie
    place = Place(Path(base), link, random.Random(int(seed)))
    wrong: dict[str, list[str]] = {}
    for n in range(int(rounds)):
        for kind in (all_at_once, overtaken):
            for projects in (["p", "p", "p"], ["p", "q"]):
                found = kind(place, projects)
                if found:
                    wrong[f"{n} {kind.__name__} {projects}"] = found
    sys.stdout.write(json.dumps(wrong))


if __name__ == "__main__":
    main(*sys.argv[1:])
