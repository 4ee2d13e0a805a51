"""What a sync asks of the network and of the disk, counted: how its cost grows is a promise."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from datacachalog.catalog import Catalog
from datacachalog.spec.models import Dataset
from datacachalog.storage.object_store import ObjectStoreStorage
from tests.fake_s3 import FakeS3

PAGE = 10


@dataclass
class Site:
    """A catalog of one glob over a bucket, and what was asked since the last look."""

    root: Path
    server: FakeS3
    is_fast: bool
    _seen: int = field(default=0)

    def sync(self) -> None:
        """Sync as a new process would."""
        complete = self.server.storage(page_size=PAGE)
        storage = ObjectStoreStorage(complete) if self.is_fast else complete
        catalog = Catalog(
            [Dataset(name="all", source="s3://lake/in/**")],
            root=self.root,
            cache_dir=self.root / ".cache",
            open_storage=lambda source, settings: storage,
        )
        assert catalog.sync().errors == {}

    def asked(self) -> dict[str, int]:
        """Return how often each kind of request came since this was last called."""
        new = self.server.requests[self._seen :]
        self._seen += len(new)
        kinds = ("list" if r.is_listing else r.method for r in new)
        return dict(Counter(kinds))

    def listing(self, pages: int) -> int:
        """Return how many requests list so many pages; obstore's need one more as a proof."""
        return pages + self.is_fast


def keys(count: int) -> dict[str, bytes]:
    """Return that many objects in folders of three."""
    return {f"in/{i // 3}/{i}.bin": f"{i}".encode() for i in range(count)}


@pytest.fixture(params=[True, False], ids=["obstore", "fsspec"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[int], Site]]:
    """Give a function that makes a site with so many objects, reached by each engine."""
    with FakeS3(page_size=PAGE) as server:

        def made(count: int) -> Site:
            server.objects = keys(count)
            return Site(tmp_path, server, request.param)

        yield made


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> "Counter[str]":
    """Count how often each path is looked at, by any call that does."""
    counts: Counter[str] = Counter()

    def counting(name: str) -> Callable[..., Any]:
        original = getattr(os, name)

        def counted(path: Any, *args: Any, **options: Any) -> Any:
            if not isinstance(path, int):
                counts[os.fspath(path)] += 1
            return original(path, *args, **options)

        return counted

    for name in ("stat", "lstat", "access", "open", "scandir", "listdir"):
        monkeypatch.setattr(os, name, counting(name))
    return counts


@pytest.mark.parametrize(
    ("count", "pages"), [(1, 1), (PAGE, 1), (PAGE + 1, 2), (2 * PAGE, 2), (25, 3)]
)
def test_a_first_sync_asks_for_each_page_and_each_object_once(
    site: Callable[[int], Site], count: int, pages: int
) -> None:
    """No HEAD, no listing on the way, nothing twice."""
    here = site(count)
    here.sync()

    assert here.asked() == {"list": here.listing(pages), "GET": count}


@pytest.mark.parametrize(("count", "pages"), [(1, 1), (PAGE, 1), (PAGE + 1, 2), (25, 3)])
def test_a_sync_with_nothing_to_do_asks_for_the_pages_alone(
    site: Callable[[int], Site], count: int, pages: int
) -> None:
    """What is there is known by its listing."""
    here = site(count)
    here.sync()
    here.asked()
    here.sync()

    assert here.asked() == {"list": here.listing(pages)}


def test_a_sync_with_one_change_asks_for_that_object_only(site: Callable[[int], Site]) -> None:
    """One that is gone is believed when the complete way lists it no more either."""
    here = site(25)
    here.sync()
    here.asked()
    here.server.objects["in/4/12.bin"] = b"other"
    del here.server.objects["in/0/0.bin"]
    here.sync()
    complete = 3

    assert here.asked() == {"list": here.listing(3) + complete, "GET": 1}


def test_a_sync_with_nothing_to_do_looks_once_at_each_file(
    site: Callable[[int], Site], looks: "Counter[str]"
) -> None:
    """At none of the stored objects, and at no folder."""
    here = site(25)
    here.sync()
    looks.clear()
    here.sync()
    data, stored = f"{here.root}/data/all/", f"{here.root}/.cache/v1/objects/"

    assert {path: n for path, n in looks.items() if path.startswith((data, stored))} == {
        **{f"{data}{key.removeprefix('in/')}": 1 for key in here.server.objects},
        f"{data}.dcl-tmp": 1,
    }


def test_a_file_that_is_missing_costs_the_others_no_second_look(
    site: Callable[[int], Site], looks: "Counter[str]"
) -> None:
    """What stays is not looked at again when the new file comes into place."""
    here = site(25)
    here.sync()
    (here.root / "data/all/4/12.bin").unlink()
    looks.clear()
    here.sync()
    data = f"{here.root}/data/all/"
    untouched = [f"{data}{key.removeprefix('in/')}" for key in here.server.objects]
    untouched.remove(f"{data}4/12.bin")

    assert {looks[path] for path in untouched} == {1}
