"""Lanes: every order ends exactly once, whatever the server does, and no connection stays."""

import errno
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog.errors import ObjectChangedError
from datacachalog.storage.lane import BUFFER, Lane, UnexpectedAnswerError, Width
from datacachalog.storage.protocol import Channel, Request
from datacachalog.storage.s3.sockets import TcpSite
from tests.storage.answering import (
    Play,
    Talk,
    answer,
    answering,
    nobody,
    serving,
)
from tests.storage.carrying import Hasty, Item, Line, Sipping, carry, keep_on, site_of

KIB = 1 << 10


class Ended(BaseException):
    """What `check` raises to end a lane."""


class Changed(Item):
    """An order that finds another object."""

    def judge(self, status: int, headers: Mapping[str, str]) -> None:
        """Refuse every head, with an error that is an OSError, too."""
        raise ObjectChangedError("it changed")


class Full(Item):
    """An order that has no room."""

    def take(self, data: memoryview) -> None:
        """Refuse."""
        raise OSError(errno.ENOSPC, "no room")


class Wrong(Item):
    """An order whose bytes prove wrong at the end."""

    def complete(self) -> None:
        """Refuse."""
        raise OSError("wrong checksum")


class Abrupt(Item):
    """An order that is interrupted while it completes."""

    def complete(self) -> None:
        """Raise what nobody catches."""
        raise Ended


class Rude(Item):
    """An order whose owner cannot even take that it failed."""

    def fail(self, error: BaseException) -> None:
        """Note the end, and raise."""
        super().fail(error)
        raise RuntimeError("rude")


# --- what comes -----------------------------------------------------------------------------

SIZES = [0, 1, 255 * KIB, 300 * KIB, 5 << 20]


@pytest.mark.parametrize(
    "sips",
    [(BUFFER,), (1, 3, 70, 5, 60_000, 7), (37, BUFFER), (10_000, 65_537)],
    ids=["all there is", "odd", "split head", "larger"],
)
def test_bodies_arrive_exactly(sips: Sequence[int]) -> None:
    """In order, also where heads and bodies come in pieces that fit nothing."""
    bodies = {f"/{n}": os.urandom(size) for n, size in enumerate(SIZES)}
    with answering(serving({path: answer(body) for path, body in bodies.items()})) as server:
        site = Sipping(site_of(server), sips)
        items = [Item(site, path, len(body)) for path, body in bodies.items()]
        carry(items, most=2)

        assert [item.error for item in items] == [None] * len(SIZES)
        assert [bytes(item.data) for item in items] == list(bodies.values())
        assert server.is_deserted()


@pytest.mark.parametrize("split", [1, 9, 16, 17, 18, 19, 20, 35])
def test_a_head_may_be_split_anywhere(split: int) -> None:
    """In the status, between carriage return and line feed, and just before its end."""
    body = b"hello"
    with answering(serving({"/": answer(body)})) as server:
        item = Item(Sipping(site_of(server), (split, 1, 1, 1, 1, BUFFER)), "/", len(body))
        carry([item])

        assert item.error is None
        assert item.data == body


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
        "HTTP/1.1 200 \r\nCONTENT-LENGTH:5\r\n",
        "HTTP/1.1 206 Partial Content\r\ncontent-length:  5\r\nDate: now\r\nx-amz: a: b\r\n",
        "HTTP/1.1 200 OK\r\nx-empty:\r\ncontent-length: 5\r\nx-odd: \xe9\r\n",
        "HTTP/1.1 200 OK\r\n" + f"x-long: {'x' * 20_000}\r\n" + "content-length: 5\r\n",
    ],
    ids=["as usual", "upper case", "others around", "empty and odd", "long"],
)
def test_heads_that_are_understood(head: str) -> None:
    """Header names in any case, with others around them."""
    with answering(serving({"/": head.encode("latin-1") + b"\r\nhello"})) as server:
        item = Item(site_of(server), "/", 5)
        carry([item])

        assert item.error is None
        assert item.data == b"hello"


def test_the_head_is_judged_by_the_order() -> None:
    """It gets status and headers, names in lower case."""
    seen = []

    class Curious(Item):
        def judge(self, status: int, headers: Mapping[str, str]) -> None:
            seen.append((status, dict(headers)))

    with answering(serving({"/": answer(b"x", status="206 Part", ETag='"a"')})) as server:
        carry([Curious(site_of(server), "/", 1)])

    assert seen == [(206, {"content-length": "1", "etag": '"a"'})]


# --- connections ----------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 3])
def test_connections_are_used_again(width: int) -> None:
    """Many orders take as many connections as the lane is wide, and all of them end."""
    with answering(serving({"/": answer(b"hello")})) as server:
        site = site_of(server)
        items = [Item(site, "/", 5) for _ in range(50)]
        carry(items, most=width)

        assert [item.error for item in items] == [None] * 50
        assert server.accepted == width
        assert server.is_deserted()


@pytest.mark.parametrize("word", ["close", "Close"])
def test_a_last_answer_closes_the_connection(word: str) -> None:
    """What the server announces is done: the next order takes another connection."""
    with answering(serving({"/": answer(b"hello", connection=word)})) as server:
        site = site_of(server)
        items = [Item(site, "/", 5) for _ in range(5)]
        carry(items, most=1)

        assert [item.error for item in items] == [None] * 5
        assert server.accepted == 5
        assert server.is_deserted()


def test_orders_of_several_sites() -> None:
    """Each goes where it belongs; connections wait for the next of theirs."""
    with (
        answering(serving({"/": answer(b"one")})) as one,
        answering(serving({"/": answer(b"two")})) as two,
    ):
        sites = [site_of(one), site_of(two)]
        items = [Item(sites[n % 2], "/", 3) for n in range(20)]
        carry(items, most=1)

        assert [bytes(item.data) for item in items] == [b"one", b"two"] * 10
        assert (one.accepted, two.accepted) == (1, 1)
        assert one.is_deserted()
        assert two.is_deserted()


def hanging_up_after(answers: int) -> Play:
    """Return a script that hangs up, unannounced, when it is asked once more."""

    def play(talk: Talk) -> None:
        for _ in range(answers):
            talk.ask()
            talk.say(answer(b"hello"))
        talk.ask()

    return play


def test_a_lane_keeps_to_its_share() -> None:
    """No more connections are opened than the run allows the lane now."""
    with answering(serving({"/": answer(b"hello")})) as server:
        site = site_of(server)
        items = [Item(site, "/", 5) for _ in range(30)]
        carry(items, most=16, allowed=lambda: 3)

        assert [item.error for item in items] == [None] * 30
        assert server.accepted == 3


@pytest.mark.parametrize("width", [1, 4])
def test_a_connection_that_was_used_may_be_hung_up(width: int) -> None:
    """The order is sent again on another, and nobody notices."""
    with answering(hanging_up_after(2)) as server:
        site = site_of(server)
        items = [Item(site, "/", 5) for _ in range(30)]
        carry(items, most=width)

        assert [item.error for item in items] == [None] * 30
        assert server.is_deserted()


def test_an_idle_connection_may_be_hung_up() -> None:
    """It is closed here, too, and the next order takes another."""
    done = threading.Event()

    def play(talk: Talk) -> None:
        talk.ask()
        talk.say(answer(b"hello"))
        if talk.number:
            talk.ask()

    class Idle(Line):
        """Gives the second order when a connection has been closed for being idle."""

        def __call__(self, *, may_wait: bool) -> Item | None:
            if len(self.waiting) == 1 and not may_wait and not done.is_set():
                return None
            return super().__call__(may_wait=may_wait)

    with answering(play) as server:
        site = site_of(server)
        items = [Item(site, "/", 5) for _ in range(3)]
        Lane(Idle(list(items)), most=2, check=done.set).run()

        assert [item.error for item in items] == [None] * 3
        assert server.is_deserted()


def test_a_new_connection_that_is_hung_up_fails_its_order() -> None:
    """Once, and only its own."""
    with answering(hanging_up_after(0)) as server:
        site = site_of(server)
        items = [Item(site, "/", 5) for _ in range(40)]
        carry(items, most=4)

        assert {type(item.error) for item in items} == {ConnectionResetError}
        assert [item.asked for item in items] == [1] * 40
        assert server.is_deserted()


# --- wrong answers --------------------------------------------------------------------------


def only(data: bytes) -> Play:
    """Return a script that says the same and hangs up."""

    def play(talk: Talk) -> None:
        talk.ask()
        talk.say(data)

    return play


def and_lingers(data: bytes) -> Play:
    """Return a script that says the same and waits."""

    def play(talk: Talk) -> None:
        talk.ask()
        talk.say(data)
        talk.linger()

    return play


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"

WRONG = {
    "cut": only(answer(b"hell", content_length="5")),
    "cut head": only(b"HTTP/1.1 200 OK\r\ncontent-le"),
    "too long": and_lingers(answer(b"hello!", content_length="5")),
    "chunked": and_lingers(CHUNKED),
    "chunked with a length": and_lingers(answer(b"5\r\nhello\r\n", transfer_encoding="chunked")),
    "http 1.0": only(b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello"),
    "no length": only(answer(b"hello", content_length="")),
    "another length": and_lingers(answer(b"hello, you")),
    "less": and_lingers(answer(b"hell")),
    "odd length": and_lingers(answer(b"hello", content_length="5x")),
    "no content": and_lingers(answer(b"", status="204 No Content")),
    "other success": and_lingers(answer(b"hello", status="203 So They Say")),
    "not modified": and_lingers(answer(b"", status="304 Not Modified")),
    "redirected": and_lingers(answer(b"hello", status="307 Elsewhere", location="/")),
    "not found": and_lingers(answer(b"hello", status="404 Not Found")),
    "changed": and_lingers(answer(b"hello", status="412 Precondition Failed")),
    "no range": and_lingers(answer(b"hello", status="416 Range")),
    "error": and_lingers(answer(b"hello", status="500 Internal Server Error")),
    "busy": and_lingers(answer(b"hello", status="503 Slow Down")),
    "many": and_lingers(answer(b"hello", status="429 Too Many Requests")),
    "early": and_lingers(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"hello")),
    "noise": and_lingers(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"),
    "no end": and_lingers(b"HTTP/1.1 200 OK\r\nx: " + b"x" * (64 << 10)),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_answer_fails_its_order_alone(case: str) -> None:
    """Exactly once and unasked again; orders before, beside and after it go on."""
    fine = serving({"/": answer(b"hello")})

    def play(talk: Talk) -> None:
        if talk.number == 1:
            WRONG[case](talk)
        else:
            fine(talk)

    with answering(play) as server:
        site = site_of(server)
        items = [Item(site, "/", 5) for _ in range(20)]
        carry(items, most=2)
        failed = [item for item in items if item.error is not None]

        assert [item.asked for item in failed] == [1]
        assert isinstance(failed[0].error, UnexpectedAnswerError | ConnectionResetError)
        assert all(item.data == b"hello" for item in items if item is not failed[0])
        assert server.is_deserted()


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_answer_on_a_used_connection(case: str) -> None:
    """It is the answer that is wrong, not the connection: not sent again either."""

    def play(talk: Talk) -> None:
        talk.ask()
        talk.say(answer(b"hello"))
        WRONG[case](talk)

    with answering(play) as server:
        site = site_of(server)
        items = [Item(site, "/", 5) for _ in range(2)]
        carry(items, most=1)

        assert items[0].error is None
        assert isinstance(items[1].error, UnexpectedAnswerError | ConnectionResetError)
        assert server.accepted == 1
        assert server.is_deserted()


@pytest.mark.parametrize("kind", [Changed, Full, Wrong], ids=["head", "bytes", "end"])
@pytest.mark.parametrize("width", [1, 4])
def test_what_an_order_refuses_fails_it(kind: type[Item], width: int) -> None:
    """Once, without asking again, though the error is an OSError; the others go on."""
    with answering(serving({"/": answer(b"hello")})) as server:
        site = site_of(server)
        items = [kind(site, "/", 5) if n % 5 == 4 else Item(site, "/", 5) for n in range(40)]
        carry(items, most=width)

        assert [item.error is None for item in items] == [type(item) is Item for item in items]
        assert [item.asked for item in items] == [1] * 40
        assert server.is_deserted()


def test_orders_without_a_request_fail() -> None:
    """Before anything is sent; those around them come."""
    with answering(serving({"/": answer(b"hello")})) as server:
        site = site_of(server)
        items = [Item(None if n % 2 else site, "/", 5) for n in range(20)]
        carry(items, most=2)

        assert [item.error is None for item in items] == [True, False] * 10
        assert server.accepted <= 2
        assert server.is_deserted()


# --- slowing down ---------------------------------------------------------------------------


def test_a_server_that_is_busy_narrows_once_for_all_it_refuses_together() -> None:
    """Sixteen refusals of what was under way together are one request to slow down."""
    together = threading.Barrier(16)

    def play(talk: Talk) -> None:
        talk.ask()
        together.wait(10)
        talk.say(answer(b"", status="503 Slow Down"))
        talk.linger()

    with answering(play) as server:
        site = site_of(server)
        items = [Item(site, "/", 5) for _ in range(16)]
        lane = carry(items, most=64)

        assert all(isinstance(item.error, UnexpectedAnswerError) for item in items)
        assert lane._width.now == 8


@pytest.mark.parametrize(
    ("status", "expected"),
    [("429 Too Many", 2), ("500 Sorry", 2), ("503 Slow Down", 2), ("404 Gone", 4), ("403 No", 4)],
    ids=lambda value: str(value)[:3],
)
def test_what_narrows(status: str, expected: int) -> None:
    """Only answers that ask for it."""

    def play(talk: Talk) -> None:
        talk.ask()
        talk.say(answer(b"", status=status))
        talk.linger()

    with answering(play) as server:
        lane = carry([Item(site_of(server), "/", 5)], most=4)

        assert lane._width.now == expected


# --- connections that do not come about --------------------------------------------------------


@dataclass
class Refusing:
    """A site that makes `good` connections; others lead to a port where nobody listens."""

    site: TcpSite
    good: int
    nowhere: TcpSite
    refused: int = 0

    def connect(self) -> Channel:
        """Begin a connection."""
        if self.good:
            self.good -= 1
            return self.site.connect()
        self.refused += 1
        return self.nowhere.connect()

    def avoid(self, channel: Channel) -> bool:
        """There are no other addresses."""
        return False


@pytest.fixture
def nowhere() -> Iterator[TcpSite]:
    """Give a site where nobody listens."""
    with nobody() as (host, port):
        yield TcpSite(host, port, None)


def test_refused_connections_narrow_the_lane(nowhere: TcpSite) -> None:
    """A server that takes no more than two gets all orders over those."""
    with answering(serving({"/": answer(b"hello")})) as server:
        site = Refusing(site_of(server), 2, nowhere)
        items = [Item(site, "/", 5) for _ in range(40)]
        lane = carry(items, first=2)

        assert [item.error for item in items] == [None] * 40
        assert site.refused <= 2  # those of one turn count once
        assert lane._width.now == 2
        assert server.is_deserted()


def test_all_connections_refused(nowhere: TcpSite) -> None:
    """Every order fails, once, and the lane ends."""
    items = [Item(nowhere, "/", 5) for _ in range(40)]
    carry(items)

    assert {type(item.error) for item in items} == {ConnectionRefusedError}
    assert [item.asked for item in items] == [1] * 40


def test_a_name_that_does_not_resolve() -> None:
    """Every order fails, once, and the lane ends."""
    site = TcpSite("no-such-host.invalid", 80, None)
    items = [Item(site, "/", 5) for _ in range(5)]
    carry(items)

    assert {type(item.error) for item in items} == {socket.gaierror}


@dataclass
class Poor:
    """A site that can make so many connections: the process may open no more files."""

    site: TcpSite
    left: int

    def connect(self) -> Channel:
        """Begin a connection, or raise."""
        if not self.left:
            raise OSError(errno.EMFILE, "Too many open files")
        self.left -= 1
        return self.site.connect()

    def avoid(self, channel: Channel) -> bool:
        """Do as the site does."""
        return self.site.avoid(channel)


def test_too_many_open_files() -> None:
    """The orders go over the connections that there are."""
    with answering(serving({"/": answer(b"hello")})) as server:
        site = Poor(site_of(server), 3)
        items = [Item(site, "/", 5) for _ in range(40)]
        lane = carry(items, first=3)

        assert [item.error for item in items] == [None] * 40
        assert lane._width.now == 3
        assert server.is_deserted()


def test_no_file_can_be_opened_at_all() -> None:
    """Every order fails, once, and the lane ends."""
    items = [Item(Poor(TcpSite("127.0.0.1", 9, None), 0), "/", 5) for _ in range(5)]
    carry(items)

    assert [getattr(item.error, "errno", None) for item in items] == [errno.EMFILE] * 5


# --- silence ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200", answer(b"hel", content_length="5")], ids=["all", "head", "body"]
)
def test_a_silent_server_fails_the_order(said: bytes) -> None:
    """After a minute without a byte, and without asking again."""
    clock = Hasty()
    with answering(and_lingers(said)) as server:
        item = Item(site_of(server), "/", 5)
        carry([item], clock=clock, check=clock.tick)

        assert isinstance(item.error, TimeoutError)
        assert item.asked == 1
        assert server.is_deserted()


def test_silence_on_a_used_connection() -> None:
    """The same: whoever waited for a minute does not wait for another."""
    clock = Hasty()

    def play(talk: Talk) -> None:
        talk.ask()
        talk.say(answer(b"hello"))
        talk.ask()
        talk.linger()

    with answering(play) as server:
        site = site_of(server)
        items = [Item(site, "/", 5) for _ in range(2)]
        carry(items, most=1, clock=clock, check=clock.tick)

        assert [type(item.error) for item in items] == [type(None), TimeoutError]
        assert server.accepted == 1


@contextmanager
def deaf() -> Iterator[int]:
    """Give a port whose connections are never accepted, nor refused."""
    with socket.socket() as listener, socket.socket() as one, socket.socket() as two:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for sock in (one, two):
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_a_connection_that_never_opens() -> None:
    """The order fails after the time a connection may take."""
    clock = Hasty()
    with deaf() as port:
        item = Item(TcpSite("127.0.0.1", port, None), "/", 5)
        carry([item], clock=clock, check=clock.tick)

        assert isinstance(item.error, TimeoutError)


def test_a_feed_may_take_its_time() -> None:
    """What was waited for before an order was begun is not held against its connection."""
    clock = Hasty()

    class Slow(Line):
        def __call__(self, *, may_wait: bool) -> Item | None:
            clock.now += 1000
            return super().__call__(may_wait=may_wait)

    with answering(serving({"/": answer(b"hello")})) as server:
        site = site_of(server)
        items = [Item(site, "/", 5) for _ in range(3)]
        Lane(Slow(list(items)), most=1, check=keep_on, clock=clock).run()

        assert [item.error for item in items] == [None] * 3


# --- how it ends ------------------------------------------------------------------------------


def test_the_end_of_a_run_ends_every_order() -> None:
    """Those under way fail with what `check` raised; those not begun were never asked for."""
    asked = threading.Semaphore(0)

    def play(talk: Talk) -> None:
        talk.ask()
        asked.release()
        talk.linger()

    def check() -> None:
        if asked._value == 4:
            raise Ended

    with answering(play) as server:
        site = site_of(server)
        items = [Item(site, "/", 5) for _ in range(10)]
        with pytest.raises(Ended):
            carry(items, most=4, check=check)

        assert [len(item.ends) for item in items] == [1] * 4 + [0] * 6
        assert all(isinstance(item.error, Ended) for item in items[:4])
        assert server.is_deserted()


def test_the_end_of_a_run_ends_orders_that_wait_for_another_connection(nowhere: TcpSite) -> None:
    """An order that is to be sent again is under way, too."""
    item = Item(nowhere, "/", 5)
    lane = Lane(Line([]), most=1, check=lambda: end())
    lane._again.append(item)

    def end() -> None:
        raise Ended

    with pytest.raises(Ended):
        lane.run()

    assert isinstance(item.error, Ended)


@pytest.mark.parametrize("kind", [Abrupt, Rude], ids=["complete", "fail"])
def test_an_order_that_ends_the_lane(kind: type[Item]) -> None:
    """Whatever escapes from one order, each of those under way ends once, and it is raised."""
    status = "200 OK" if kind is Abrupt else "404 Not Found"
    both = threading.Barrier(2)

    def play(talk: Talk) -> None:
        path = talk.ask()
        both.wait(10)
        if path == "/odd":
            talk.say(answer(b"hello", status=status))
        talk.linger()

    with answering(play) as server:
        site = site_of(server)
        odd, other = kind(site, "/odd", 5), Item(site, "/", 5)
        with pytest.raises((Ended, RuntimeError)):
            carry([odd, other], most=2)

        assert [len(odd.ends), len(other.ends)] == [1, 1]
        assert server.is_deserted()


def test_a_feed_that_raises_ends_the_lane() -> None:
    """At the first order or between two: its error is raised, and what was under way fails."""

    class Broken(Line):
        def __call__(self, *, may_wait: bool) -> Item | None:
            if not self.waiting:
                raise ZeroDivisionError
            return super().__call__(may_wait=may_wait)

    with answering(serving({"/": answer(b"hello")})) as server:
        site = site_of(server)
        items = [Item(site, "/", 5) for _ in range(3)]
        with pytest.raises(ZeroDivisionError):
            Lane(Broken(list(items)), most=1, check=keep_on).run()

        assert [item.error for item in items] == [None] * 3
        assert server.is_deserted()


# --- feeds ------------------------------------------------------------------------------------


def test_a_feed_may_have_more_later() -> None:
    """A feed without orders is asked again as long as something is under way."""
    gone = threading.Event()

    def play(talk: Talk) -> None:
        path = talk.ask()
        if path == "/slow":
            gone.wait(10)
        talk.say(answer(b"hello"))
        talk.linger()

    class Later(Line):
        """Has the last order only after it was asked three times in vain."""

        def __call__(self, *, may_wait: bool) -> Item | None:
            if len(self.waiting) == 1 and len(self.asked) < 5:
                self.asked.append(may_wait)
                return None
            return super().__call__(may_wait=may_wait)

    with answering(play) as server:
        site = site_of(server)

        class Last(Item):
            def complete(self) -> None:
                super().complete()
                gone.set()

        items = [Item(site, "/slow", 5), Last(site, "/", 5)]
        feed = Later(list(items))
        Lane(feed, most=8, check=keep_on).run()

        assert [item.error for item in items] == [None] * 2
        assert feed.asked[0] is True
        assert feed.asked[-1] is True
        assert not any(feed.asked[1:-2])


def test_a_feed_may_wait_only_when_nothing_is_under_way() -> None:
    """Or what is under way would wait with it."""
    under_way: set[str] = set()
    wrong = []

    class Noting(Item):
        def request(self) -> Request:
            under_way.add(self.path)
            return super().request()

        def complete(self) -> None:
            under_way.discard(self.path)
            super().complete()

    class Strict(Line):
        def __call__(self, *, may_wait: bool) -> Item | None:
            if may_wait != (not under_way):
                wrong.append((may_wait, set(under_way)))
            return super().__call__(may_wait=may_wait)

    paths = [f"/{n}" for n in range(30)]
    with answering(serving({path: answer(b"hello") for path in paths})) as server:
        site = site_of(server)
        items = [Noting(site, path, 5) for path in paths]
        Lane(Strict(list(items)), most=3, check=keep_on).run()

        assert [item.error for item in items] == [None] * 30
        assert wrong == []


# --- the width --------------------------------------------------------------------------------


@dataclass
class Bench:
    """A width with a clock that the test turns."""

    most: int = 1024
    first: int = 16
    now: float = 0.0

    def __post_init__(self) -> None:
        self.width = Width(self.most, self.first, self.now)

    def window(self, rate: float) -> int:
        """Let as many answers come as are under way, at `rate` a second; return the width."""
        answers = self.width.now
        self.now += answers / rate
        for _ in range(answers):
            self.width.note(0, self.now, is_end=True)
        return self.width.now


def test_it_doubles_while_that_brings_more() -> None:
    """From a few up to the most, while the rate grows by more than a fifth."""
    bench = Bench(most=100)

    assert [bench.window(rate) for rate in (100, 200, 400, 800)] == [32, 64, 100, 100]


def test_it_stops_after_three_windows_in_vain() -> None:
    """What does not pay three times in a row will not be tried again."""
    bench = Bench()

    assert [bench.window(rate) for rate in (100, 110, 110, 110, 1000)] == [32] * 5


def test_it_goes_on_after_a_window_in_vain() -> None:
    """One bad moment proves nothing."""
    bench = Bench()

    assert [bench.window(rate) for rate in (100, 110, 200, 210, 210, 500)] == [
        32,
        32,
        *[64] * 3,
        128,
    ]


def test_large_answers_count_for_more() -> None:
    """A body counts by its buffers: fewer, but larger answers are no loss."""
    bench = Bench()
    bench.window(100)
    for _ in range(32):
        bench.now += 1 / 50
        bench.width.note(4 * BUFFER, bench.now, is_end=True)

    assert bench.width.now == 64


def test_long_bodies_are_measured_on_the_way() -> None:
    """What takes minutes to end does not take minutes to be widened."""
    bench = Bench(first=1)
    widths = []
    for rate in (10, 20, 40):
        for _ in range(rate):
            bench.now += 0.51 / rate
            bench.width.note(BUFFER, bench.now, is_end=False)
        widths.append(bench.width.now)

    assert widths == [2, 4, 8]


@given(
    most=st.integers(1, 600),
    first=st.integers(1, 64),
    steps=st.lists(
        st.one_of(
            st.just("narrow"),
            st.tuples(st.integers(0, 4 * BUFFER), st.floats(0, 100, allow_nan=False)),
        ),
        max_size=300,
    ),
)
def test_its_bounds(most: int, first: int, steps: list[tuple[int, float] | str]) -> None:
    """Never below one nor above the most; halved is halved for good."""
    bench = Bench(most, first)
    limit = most
    for step in steps:
        if isinstance(step, str):
            limit = max(1, bench.width.now // 2)
            bench.width.narrow()
        else:
            bench.now += step[1]
            bench.width.note(step[0], bench.now, is_end=step[1] < 50)

        assert 1 <= bench.width.now <= limit
