"""Any history of a source and its users: the folder ends exact, and nobody loses a file.

Hypothesis invents what happens between syncs; the promise is compared with a few dicts.
"""

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datacachalog import relpath
from datacachalog.errors import LocalFileConflictError
from datacachalog.spec.models import CacheSettings
from tests.projects import Project, orders

NAMES = ("a", "a/b", "a/b/c", "b", "c/d", "c/e")

remote_states = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from([b"11", b"22", b"333", b""])
)
actions = st.one_of(
    st.tuples(st.just("remote"), remote_states, st.booleans()),
    st.tuples(st.just("write"), st.sampled_from((*NAMES, "own", "c/own")), st.just(None)),
    st.tuples(st.just("edit"), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("delete"), st.integers(0, 5), st.just(None)),
    st.tuples(st.just("lose"), st.sampled_from(["state", "cache", "both", "data"]), st.just(None)),
)


class World:
    """A project, and what a person who saw everything would know about it."""

    def __init__(self, base: Path, link: Any) -> None:
        self.project = Project(base)
        self.link = link
        self.remote: dict[str, bytes] = {}
        self.ours: dict[str, bytes] = {}  # what we put there and a state explains
        self.theirs: dict[str, bytes] = {}  # what users wrote or edited: sacred
        self.orphans: dict[str, bytes] = {}  # ours, but no state explains it any more
        self.count = 0

    @property
    def folder(self) -> Path:
        return self.project.data / "orders"

    def wanted(self) -> dict[str, bytes]:
        """Return what the folder should hold, under the names that files get."""
        keys = sorted(self.remote)
        paths = relpath.disambiguate(keys)
        return {path: self.remote[key] for key, path in zip(keys, paths, strict=True)}

    # --- what happens between syncs ---------------------------------------------------

    def act(self, kind: str, what: object, how: object) -> None:
        getattr(self, f"_{kind}")(what, how)

    def _remote(self, state: dict[str, bytes], at_one_time: bool) -> None:
        at = self.project.storage.clock if at_one_time else None
        for key in self.remote.keys() - state.keys():
            self.project.delete(f"orders/{key}")
        for key, data in state.items():
            if self.remote.get(key) != data:
                self.project.put(f"orders/{key}", data, at=at)
        self.remote = dict(state)

    def _write(self, name: str, _: object) -> None:
        """Let the user write a file of their own, where nothing is."""
        path = self.folder / name
        if os.path.lexists(path) or any(p.is_file() for p in path.parents):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._own_bytes(2))
        self.theirs[name] = path.read_bytes()

    def _edit(self, i: int, in_place: bool) -> None:
        """Let the user edit a file of ours: in place, or as editors that rename do."""
        names = sorted({*self.ours, *self.orphans})
        if not names:
            return
        name = names[i % len(names)]
        path = self.folder / name
        data = self._own_bytes(path.stat().st_size)
        if in_place:
            path.chmod(0o644)
            with path.open("r+b") as file:
                file.write(data)
                file.truncate()
        else:
            path.unlink()
            path.write_bytes(data)
        self.ours.pop(name, None)
        self.orphans.pop(name, None)
        self.theirs[name] = data

    def _delete(self, i: int, _: object) -> None:
        names = sorted({*self.ours, *self.orphans, *self.theirs})
        if names:
            name = names[i % len(names)]
            (self.folder / name).unlink()
            for files in (self.ours, self.orphans, self.theirs):
                files.pop(name, None)

    def _lose(self, what: str, _: object) -> None:
        if what in ("state", "both"):
            shutil.rmtree(self.project.root / ".datacachalog", ignore_errors=True)
            self.orphans |= self.ours
            self.ours = {}
        if what in ("cache", "both"):
            shutil.rmtree(self.project.cache, ignore_errors=True)
        if what == "data":
            shutil.rmtree(self.folder, ignore_errors=True)
            self.ours, self.theirs, self.orphans = {}, {}, {}

    def _own_bytes(self, size: int) -> bytes:
        # Of a size that objects have, and never equal to one of them.
        self.count += 1
        return f"{self.count:x}~~~".encode()[: max(size, 1)].replace(b"1", b"*").replace(b"2", b"+")

    # --- the promise --------------------------------------------------------------------

    def sync_and_check(self) -> None:
        before = self._seen()
        catalog = self.project.catalog(
            orders(allow_empty=True), cache=CacheSettings(link=self.link)
        )
        try:
            catalog.sync()
        except LocalFileConflictError:
            assert self._has_reason_to_complain(), "a conflict without a cause"
            assert self._seen() == before, "a conflict changed something"
            return
        wanted = self.wanted()
        for name in wanted.keys() & self.theirs.keys():
            assert self.theirs.pop(name) == wanted[name], f"the user's {name} was overwritten"
        for files in (self.orphans, self.theirs):
            for name in wanted.keys() & files.keys():
                del files[name]
        self.ours = wanted
        assert self._seen() == {**self.orphans, **self.theirs, **wanted}
        assert self.project.debris() == []
        assert catalog.sync().outcomes[0].plan.is_noop  # type: ignore[union-attr]

    def _seen(self) -> dict[str, bytes]:
        """Return the files; an empty folder counts where no user's file ever was."""
        return {n: d for n, d in self.project.files().items() if not n.endswith("/")}

    def _has_reason_to_complain(self) -> bool:
        wanted = self.wanted()
        foreign = {**self.orphans, **self.theirs}
        return any(
            (name == path and data != wanted[path])
            or name.startswith(f"{path}/")
            or path.startswith(f"{name}/")
            for name, data in foreign.items()
            for path in wanted
        )


@pytest.mark.parametrize("link", ["hardlink", "copy"])
@settings(max_examples=60)
@given(story=st.lists(st.lists(actions, max_size=3), min_size=1, max_size=4))
def test_the_folder_ends_exact_and_nobody_loses_a_file(
    link: str, story: list[list[tuple[str, object, object]]]
) -> None:
    """Whatever happened: exact after a sync and idle after that, or a conflict that has a cause."""
    with TemporaryDirectory() as base:
        world = World(Path(base), link)
        for chapter in story:
            for kind, what, how in chapter:
                world.act(kind, what, how)
            world.sync_and_check()
