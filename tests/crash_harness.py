"""Kills a sync at one system call after the other: `python -m tests.crash_harness`.

One process forks a child for each run, so that a thousand deaths take seconds. The child
counts its calls that change the disk and is killed right before the n-th. Prints one JSON
document: how many deaths there were, and what was wrong after them.
"""

import builtins
import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datacachalog.catalog import Catalog
from datacachalog.spec.models import CacheSettings, Dataset
from datacachalog.sync import download
from tests.processes import in_child
from tests.projects import Project, contents, orders

CHANGING = (
    "chmod", "close", "ftruncate", "link", "mkdir", "open", "posix_fallocate", "pwrite",
    "rename", "replace", "rmdir", "unlink", "utime", "write",
)  # fmt: skip

BEFORE = {
    "a": b"a1",
    "b": b"b1",
    "gone": b"x",
    "old/er/gone": b"y",
    "deep/er/c": b"c1",
    "big": b"B1" * 3000,
}
AFTER = {"a/sub": b"a2", "b": b"b2", "deep/er/c": b"c1", "new/d": b"d", "big": b"B2" * 3500}
LATER = {"a": b"a3", "b": b"b3 longer", "deep/f": b"f3", "big": b"B3" * 2000}
OWN = {"notes.txt": b"mine", "deep/mine": b"mine too"}


def _die_at(n: int) -> None:
    """Let this process be killed right before its n-th call that changes the disk."""
    counter = itertools.count(1)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **options: Any) -> Any:
            if next(counter) == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **options)

        return counting

    for name in CHANGING:
        setattr(os, name, counted(getattr(os, name)))
    builtins.open = counted(builtins.open)


def _move_on(project: Project, objects: dict[str, bytes]) -> None:
    for uri in project.storage.uris():
        project.storage.delete(uri)
    project.put_all({f"orders/{key}": data for key, data in objects.items()})


class Scenario:
    """A sync to kill: what was there before, what is new, and where it lands."""

    def __init__(self, base: Path, *, first: bool, moved: bool, link: Any, path: bool) -> None:
        self.base = base
        self.first, self.moved, self.link, self.path = first, moved, link, path
        self.folder = "elsewhere" if path else "orders"

    def wrongs_after_death_at(self, n: int) -> list[str] | None:
        """Return what is wrong after a death at call n and a repair; None if nobody died."""
        shutil.rmtree(self.base, ignore_errors=True)
        self.base.mkdir()
        project = Project(self.base)
        own = {} if self.first else OWN
        if not self.first:
            _move_on(project, BEFORE)
            assert in_child(lambda: self._sync(project, moved=False)) == 0
            for name, data in OWN.items():
                path = project.data / "orders" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        _move_on(project, AFTER)

        def doomed() -> None:
            _die_at(n)
            self._sync(project)

        status = in_child(doomed)
        if not os.WIFSIGNALED(status):
            return None if status == 0 else ["the run failed by itself"]
        wrongs = self._wrong_in_between(project)
        if self.moved:
            _move_on(project, LATER)
        if in_child(lambda: self._sync(project)) != 0:
            return [*wrongs, "the repair failed"]
        wrongs += self._wrong_at_the_end(project, LATER if self.moved else AFTER, own)
        if in_child(lambda: self._sync_for_nothing(project)) != 0:
            wrongs.append("the sync after the repair had something to do")
        return wrongs

    def _sync(self, project: Project, *, moved: bool | None = None) -> Any:
        path = f"data/{self.folder}" if self.path and moved is None else None
        catalog = project.catalog(orders(path=path), cache=CacheSettings(link=self.link))
        return catalog.sync(jobs=4)

    def _sync_for_nothing(self, project: Project) -> None:
        project.storage.calls.clear()
        (outcome,) = self._sync(project).outcomes
        assert outcome.plan.is_noop
        assert [call.verb for call in project.storage.calls] == ["scan"]

    def _wrong_in_between(self, project: Project) -> list[str]:
        """Return what a reader must never see, not even while a sync runs."""
        known = [OWN, AFTER] if self.first else [OWN, BEFORE, AFTER]
        wrongs = []
        for folder in ("orders", "elsewhere"):
            for name, data in contents(project.data / folder).items():
                if name.startswith(".dcl-tmp") or name.endswith("/"):
                    continue
                if all(objects.get(name) != data for objects in known):
                    wrongs.append(f"{folder}/{name} holds {data[:20]!r} in between")
        return wrongs

    def _wrong_at_the_end(
        self, project: Project, wanted: dict[str, bytes], own: dict[str, bytes]
    ) -> list[str]:
        expected = {f"{self.folder}/{name}": data for name, data in wanted.items()}
        expected |= {f"orders/{name}": data for name, data in own.items()}
        found = contents(project.data)
        wrongs = [f"{name} is missing" for name in expected.keys() - found.keys()]
        wrongs += [f"{name} should not be there" for name in found.keys() - expected.keys()]
        both = expected.keys() & found.keys()
        wrongs += [f"{name} has wrong bytes" for name in both if expected[name] != found[name]]
        return [*wrongs, *(f"debris: {name}" for name in project.debris())]


class Push:
    """A push to kill: from a file of the user's, to a local source."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.source = base / "source" / "one.csv"
        self.own = base / "new.csv"

    def wrongs_after_death_at(self, n: int) -> list[str] | None:
        """Return what is wrong after a death at call n and a sync; None if nobody died."""
        shutil.rmtree(self.base, ignore_errors=True)
        self.source.parent.mkdir(parents=True)
        self.source.write_bytes(b"old")
        os.utime(self.source, (5, 5))
        self.own.write_bytes(b"new bytes")
        assert in_child(lambda: self._catalog().sync()) == 0

        def doomed() -> None:
            _die_at(n)
            self._catalog().push("one", self.own)

        status = in_child(doomed)
        if not os.WIFSIGNALED(status):
            return None if status == 0 else ["the push failed by itself"]
        now = self.source.read_bytes()
        wrongs = [] if now in (b"old", b"new bytes") else ["the source is torn"]
        if in_child(lambda: self._catalog().sync()) != 0:
            return [*wrongs, "the repair failed"]
        if contents(self.base / "data") != {"one/one.csv": now}:
            wrongs.append("the folder is not exact")
        if self.own.read_bytes() != b"new bytes":
            wrongs.append("the user's file changed")
        left = (*(self.base / "cache" / "v1" / "tmp").iterdir(), *self.base.rglob("*.coming"))
        return [*wrongs, *(f"debris: {path}" for path in left)]

    def _catalog(self) -> Catalog:
        dataset = Dataset(name="one", source=f"file://{self.source}", push=True)
        return Catalog([dataset], root=self.base, cache_dir=self.base / "cache")


def main(base: str, kind: str, start: str, step: str) -> None:
    """Run one kind of death at calls `start`, `start + step`, ... to its end.

    `kind` is `push`, or a sync as `first,moved,link,path`, such as `0,1,copy,0`.
    """
    download.RANGE = download.WHOLE = 2048  # so that `big` comes in ranges
    folder = Path(base, "kill")
    scenario: Scenario | Push = Push(folder)
    if kind != "push":
        first, moved, link, path = kind.split(",")
        scenario = Scenario(
            folder, first=first == "1", moved=moved == "1", link=link, path=path == "1"
        )
    wrong: dict[int, list[str]] = {}
    deaths = 0
    for n in itertools.count(int(start), int(step)):
        found = scenario.wrongs_after_death_at(n)
        if found is None:
            break
        deaths += 1
        if found:
            wrong[n] = found
    sys.stdout.write(json.dumps({"deaths": deaths, "wrong": wrong}))


if __name__ == "__main__":
    main(*sys.argv[1:])
