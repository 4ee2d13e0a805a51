"""How many requests are under way, and how many bytes of them memory holds."""

import threading

import pytest

from datacachalog.sync.concurrency import ByteBudget, Concurrency

LONG = 10.0


class Server:
    """A clock, and a limit that is told of rounds of answers that come at some rate."""

    def __init__(self, most: int = 256) -> None:
        self.now = 0.0
        self.limit = Concurrency(most, first=4, clock=lambda: self.now)

    def round(self, rate: float) -> int:
        """Let as many answers come as are under way, `rate` a second; return the limit then."""
        answers = max(self.limit.limit, int(rate * 0.06))
        self.now += answers / rate
        self.limit.note(answers, 0)
        return self.limit.limit

    def window(self, rate: float) -> int:
        """Let a limit take effect, and a window pass at `rate` answers a second under it."""
        self.round(rate)
        return self.round(rate)


def test_it_doubles_while_that_brings_more() -> None:
    """Far from the server every doubling doubles the rate, up to the most."""
    server = Server(most=100)
    limits = [server.round(30.0 * server.limit.limit) for _ in range(12)]

    assert limits == [8, 8, 16, 16, 32, 32, 64, 64, 100, 100, 100, 100]


def test_what_brings_nothing_is_taken_back_and_tried_twice() -> None:
    """Next to the server four are enough, whatever is tried."""
    server = Server()
    limits = [server.round(20_000.0) for _ in range(16)]

    assert limits == [8, 8, 4, 4, 8, 8, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4]


def test_a_little_more_is_not_worth_it() -> None:
    """Less than a fifth is noise."""
    server = Server()
    server.round(1000.0)

    assert server.window(1190.0) == 4


def test_a_slow_moment_does_not_make_the_next_look_fast() -> None:
    """What a limit brings is compared with the best that was seen."""
    server = Server()
    server.round(1000.0)
    server.window(1000.0)
    server.window(500.0)

    assert server.limit.limit == 8
    assert server.window(1000.0) == 4


def test_a_window_needs_as_many_answers_as_are_under_way() -> None:
    """The first answers of a burst tell nothing yet."""
    server = Server()
    server.now += 0.06
    server.limit.note(3, 0)
    before = server.limit.limit
    server.limit.note(1, 0)

    assert (before, server.limit.limit) == (4, 8)


def test_long_bodies_are_measured_on_the_way() -> None:
    """What takes minutes to end does not take minutes to be judged."""
    server = Server()
    server.now += 0.6
    server.limit.note(0, 50 << 20)

    assert server.limit.limit == 8


def test_throttling_halves_it_once_for_all_that_was_refused_together() -> None:
    """Down to one, never to none."""
    limit = Server().limit
    under_way = limit.refusals
    for _ in range(16):
        limit.lower(under_way)
    once = limit.limit
    for _ in range(10):
        limit.lower(limit.refusals)

    assert (once, limit.limit) == (2, 1)


def test_after_throttling_it_is_opened_again_slowly() -> None:
    """One more for each round of answers, and never above the most."""
    limit = Concurrency(6, first=4)
    limit.lower(limit.refusals)
    limits = []
    for _ in range(8):
        limit.note(limit.limit, 0)
        limits.append(limit.limit)

    assert limits == [3, 4, 5, 6, 6, 6, 6, 6]


@pytest.mark.parametrize("most", [1, 3])
def test_it_never_exceeds_what_is_allowed(most: int) -> None:
    """`--jobs 1` means one."""
    server = Server(most)
    limits = {server.round(50.0 * server.limit.limit) for _ in range(6)}

    assert limits == {most}


# --- bytes --------------------------------------------------------------------------------------


def test_bytes_are_bounded_together() -> None:
    """What does not fit waits until something is given back."""
    budget = ByteBudget(100)
    budget.take(60)
    fits = budget.take(41), budget.take(40), budget.take(1)
    thread = threading.Thread(target=lambda: budget.wait(50, LONG), daemon=True)
    thread.start()
    budget.give_back(60)
    thread.join(LONG / 2)

    assert fits == (False, True, False)
    assert not thread.is_alive()
    assert budget.take(50)


def test_what_is_larger_than_all_room_passes_alone() -> None:
    """Or it would never move."""
    budget = ByteBudget(100)

    assert budget.take(1000)
    assert not budget.take(1)
