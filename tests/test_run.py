"""What the transfers of one run share."""

from datacachalog import events
from datacachalog.pool import Pool, Valve
from datacachalog.retry import Cancel
from datacachalog.run import Run


def run_of(width: int) -> Run:
    """Return a run that nobody takes part in yet."""
    cancel = Cancel()
    return Run(Pool(1, cancel), Pool(1, cancel), Valve(1), cancel, events.ignore, width)


def test_carriers_share_the_width() -> None:
    """However many datasets are carried at once, together they keep to the limit."""
    run = run_of(256)
    with run.carrying(2) as first:
        assert first() == 128
        with run.carrying(2) as second:
            assert (first(), second()) == (64, 64)
        assert first() == 128


def test_each_carrier_may_make_a_request() -> None:
    """A share is never nothing."""
    with run_of(1).carrying(3) as share:
        assert share() == 1
