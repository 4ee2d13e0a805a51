"""Trying again: what is worth it, when, and how a run that ends cuts it short."""

import pytest

from datacachalog import errors
from datacachalog.errors import (
    AccessDeniedError,
    ChecksumMismatchError,
    DatacachalogError,
    IntegrityError,
    SourceUnreachableError,
    ThrottledError,
)
from datacachalog.sync.retry import (
    ATTEMPTS,
    Cancel,
    Cancelled,
    delay_before,
    is_transient,
    retrying,
)


class Patience(Cancel):
    """A flag whose sleep takes no time and is remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.naps: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Note the nap; wake to a run that ended, if it did."""
        self.naps.append(seconds)
        self.check()


class Flaky:
    """Fails with the given errors, one call each, then returns 42."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    def __call__(self) -> int:
        """Fail or return."""
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return 42


def ignore(error: DatacachalogError, attempt: int, delay: float) -> None:
    """Hear of a failure."""


TRANSIENT = {"SourceUnreachableError", "ThrottledError", "IntegrityError"}


@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type)
        and issubclass(kind, DatacachalogError)
        and name not in {"InvalidCatalogError", "PartialFailureError"}
    ),
)
def test_only_trouble_that_passes_is_worth_another_try(name: str) -> None:
    """Server trouble and short bodies; each class of error is decided here."""
    assert is_transient(getattr(errors, name)("x")) is (name in TRANSIENT)


def test_a_transient_failure_is_tried_again_after_a_wait() -> None:
    """And the listener hears which attempt comes next, and when."""
    cancel, heard = Patience(), list[tuple[str, int, float]]()
    action = Flaky(SourceUnreachableError("one"), IntegrityError("two"))
    result = retrying(
        action, cancel=cancel, failed=lambda e, n, delay: heard.append((str(e), n, delay))
    )

    assert result == 42
    assert [(text, attempt) for text, attempt, _ in heard] == [("one", 2), ("two", 3)]
    assert [delay for _, _, delay in heard] == cancel.naps


@pytest.mark.parametrize("error", [AccessDeniedError("no"), ChecksumMismatchError("no")], ids=str)
def test_a_permanent_failure_is_not_tried_again(error: DatacachalogError) -> None:
    """It would only cost time."""
    action = Flaky(error)
    with pytest.raises(type(error)):
        retrying(action, cancel=Patience(), failed=ignore)

    assert action.calls == 1


def test_the_last_error_is_raised_in_the_end() -> None:
    """After so many attempts, with no wait behind the last."""
    cancel = Patience()
    action = Flaky(*(ThrottledError(str(n)) for n in range(1, 99)))
    with pytest.raises(ThrottledError, match=str(ATTEMPTS)):
        retrying(action, cancel=cancel, failed=ignore)

    assert action.calls == ATTEMPTS
    assert len(cancel.naps) == ATTEMPTS - 1


@pytest.mark.parametrize(("attempt", "longest"), [(2, 0.2), (3, 0.4), (4, 0.8), (20, 10.0)])
def test_waits_double_up_to_a_bound_and_spread(attempt: int, longest: float) -> None:
    """Many workers that failed together must not come back together."""
    assert delay_before(attempt, 0.0) == longest / 2
    assert delay_before(attempt, 0.999999) == pytest.approx(longest, rel=1e-3)


def test_waits_differ_from_run_to_run() -> None:
    """There is jitter in what is really waited."""
    naps = set()
    for _ in range(20):
        cancel = Patience()
        retrying(Flaky(ThrottledError("x")), cancel=cancel, failed=ignore)
        naps.update(cancel.naps)

    assert len(naps) > 10


@pytest.mark.parametrize(("asked", "waited"), [(0.0, 0.2), (7.0, 7.0), (9999.0, 60.0)])
def test_a_server_that_says_how_long_to_wait_is_left_alone_so_long(
    asked: float, waited: float
) -> None:
    """But not for ever."""
    cancel = Patience()
    retrying(Flaky(ThrottledError("x", retry_after=asked)), cancel=cancel, failed=ignore)

    assert cancel.naps[0] == pytest.approx(waited, rel=0.5 if asked == 0.0 else 0)


def test_a_run_that_ended_begins_nothing() -> None:
    """The flag is looked at before each attempt."""
    cancel, action = Patience(), Flaky()
    cancel.set()
    with pytest.raises(Cancelled):
        retrying(action, cancel=cancel, failed=ignore)

    assert action.calls == 0


def test_a_run_that_ends_cuts_the_wait_short() -> None:
    """Waiting is waiting for the flag, not for the clock."""
    cancel = Cancel()
    cancel.set()
    with pytest.raises(Cancelled):
        cancel.sleep(3600)


def test_the_end_of_a_run_is_no_error() -> None:
    """No `except Exception` may swallow it."""
    assert not issubclass(Cancelled, Exception)
