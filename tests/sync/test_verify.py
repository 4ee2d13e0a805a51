"""Verifying: what size and time cannot tell."""

import os
import shutil
from pathlib import Path

import pytest

from datacachalog.errors import NotFetchedError
from datacachalog.spec.models import CacheSettings
from datacachalog.sync.results import BadFile
from tests.projects import Project, orders


def rot(path: Path, data: bytes) -> None:
    """Change bytes behind everyone's back: size and times stay."""
    st = path.stat()
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(st.st_mode)
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def test_good_files_pass(project: Project) -> None:
    """All of them, counted."""
    project.put_all({"orders/a": b"123", "orders/b": b""})
    catalog = project.catalog()
    catalog.sync()
    (verdict,) = catalog.verify()

    assert (verdict.name, verdict.files, verdict.size, verdict.bad) == ("orders", 2, 3, ())


@pytest.mark.parametrize("link", ["hardlink", "copy"])
def test_each_kind_of_bad_file_is_told(project: Project, link: str) -> None:
    """With its reason, sorted by path."""
    project.put_all({f"orders/{name}": name.encode() * 3 for name in "abcde"})
    catalog = project.catalog(cache=CacheSettings.model_validate({"link": link}))
    catalog.sync()
    folder = project.data / "orders"
    rot(folder / "b", b"xxx")
    (folder / "c").unlink()
    (folder / "d").unlink()
    (folder / "d").mkdir()
    (folder / "e").unlink()
    (folder / "e").write_bytes(b"longer")
    (verdict,) = catalog.verify()

    assert verdict.bad == (
        BadFile("b", "other bytes than were put there"),
        BadFile("c", "missing"),
        BadFile("d", "not a file"),
        BadFile("e", "6 bytes instead of 3"),
    )


def test_files_in_place_are_left_alone(project: Project) -> None:
    """A verdict is not a repair."""
    project.put("orders/a", b"123")
    catalog = project.catalog()
    catalog.sync()
    rot(project.data / "orders" / "a", b"xxx")
    catalog.verify()

    assert project.files() == {"a": b"xxx"}


def test_a_rotten_object_is_not_linked_again(project: Project) -> None:
    """It is removed from the cache; what was invalidated is fetched and good."""
    project.put("orders/a", b"123")
    catalog = project.catalog(cache=CacheSettings(link="hardlink"))
    catalog.sync()
    rot(project.data / "orders" / "a", b"xxx")
    catalog.verify()
    stored = project.stored()
    catalog.invalidate("orders")
    catalog.sync()

    assert stored == []
    assert project.files() == {"a": b"123"}
    assert catalog.verify()[0].bad == ()


def test_a_good_object_survives_a_bad_copy(project: Project) -> None:
    """Only what is wrong goes."""
    project.put("orders/a", b"123")
    catalog = project.catalog(cache=CacheSettings(link="copy"))
    catalog.sync()
    rot(project.data / "orders" / "a", b"xxx")
    catalog.verify()

    assert [path.read_bytes() for path in project.stored()] == [b"123"]


def test_an_invalidated_file_has_nothing_to_be_compared_with(project: Project) -> None:
    """It is not called bad for that; a missing one still is."""
    project.put_all({"orders/a": b"123", "orders/b": b"4"})
    catalog = project.catalog()
    catalog.sync()
    catalog.invalidate("orders")
    (project.data / "orders" / "b").unlink()
    (verdict,) = catalog.verify()

    assert verdict.bad == (BadFile("b", "missing"),)


def test_what_was_never_fetched_cannot_be_verified(project: Project) -> None:
    """That is said of this dataset, not of all."""
    project.put("orders/a", b"1")
    catalog = project.catalog(orders(), orders(name="other"))
    catalog.sync("orders")
    first, second = catalog.verify()

    assert first.error is None
    assert isinstance(second.error, NotFetchedError)


def test_verifying_asks_no_network_and_needs_no_cache(project: Project) -> None:
    """What was recorded is enough."""
    project.put("orders/a", b"1")
    catalog = project.catalog()
    catalog.sync()
    shutil.rmtree(project.cache)
    project.storage.calls.clear()

    assert catalog.verify()[0].bad == ()
    assert project.storage.calls == []
