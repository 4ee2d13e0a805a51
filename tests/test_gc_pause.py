"""The pause of the cyclic collector: as long as anyone needs it, and no longer."""

import gc
from collections.abc import Iterator

import pytest

from datacachalog.gc_pause import collection_paused


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Leave the collector on, however a test ends."""
    yield
    gc.enable()


def test_the_last_of_overlapping_pauses_ends_them_all() -> None:
    """In whatever order they end: threads do not wait for one another."""
    first, second = collection_paused(), collection_paused()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)

    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    """Whoever turned it off had a reason."""
    gc.disable()
    with collection_paused():
        pass

    assert not gc.isenabled()


def test_a_pause_ends_with_an_error() -> None:
    """And the error goes on."""
    with pytest.raises(ZeroDivisionError), collection_paused():
        raise ZeroDivisionError

    assert gc.isenabled()
