"""Connections that never block: the addresses of a name, TLS, and where a lane may not lead."""

import os
import resource
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from datacachalog.storage.lane import BUFFER, Lane
from datacachalog.storage.protocol import Channel, Site
from datacachalog.storage.s3.sockets import Pool, TcpSite
from tests.storage.answering import AnsweringServer, Talk, answer, answering, nobody, serving
from tests.storage.carrying import Hasty, Item, Line, Sipping, carry, keep_on
from tests.storage.certificates import Certificates, make_certificates
from tests.storage.s3.scripted import OneObject, scripted
from tests.storage.s3.test_reading import the_object

KIB = 1 << 10

# --- addresses --------------------------------------------------------------------------------

UNREACHABLE = ("255.255.255.255", 9)
"""What no connection can even be begun to."""


class Names:
    """Looks names up, and counts how often."""

    def __init__(self, *addresses: tuple[str, int]) -> None:
        self.addresses = addresses
        self.count = 0

    def __call__(self, host: str, port: int, **options: Any) -> list[tuple[Any, ...]]:
        """Return the addresses of every name."""
        self.count += 1
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)
            for address in self.addresses
        ]


def here(server: AnsweringServer) -> tuple[str, int]:
    """Return the server's address."""
    return "127.0.0.1", server.port


@pytest.mark.parametrize("is_refused", [True, False], ids=["refused", "unreachable"])
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "last"])
def test_an_address_that_cannot_be_reached_is_left_out(*, is_refused: bool, is_first: bool) -> None:
    """Every order comes over the others, and the lane is as wide as it would be."""
    with answering(serving({"/": answer(b"hello")})) as server, nobody() as closed:
        bad, good = closed if is_refused else UNREACHABLE, here(server)
        names = Names(*((bad, good) if is_first else (good, bad)))
        site = TcpSite("lab", 80, None, look_up=names)
        items = [Item(site, "/", 5) for _ in range(60)]
        lane = carry(items, most=16)

        assert [item.error for item in items] == [None] * 60
        assert lane._width.now == 16
        assert names.count == 1
        assert server.is_deserted()


def test_connections_take_turns_among_addresses() -> None:
    """A name with many servers is asked at all of them."""
    with (
        answering(serving({"/": answer(b"hello")})) as one,
        answering(serving({"/": answer(b"hello")})) as two,
    ):
        site = TcpSite("lab", 80, None, look_up=Names(here(one), here(two)))
        channels = [site.connect() for _ in range(6)]
        asked = [channel.address[4] for channel in channels]
        for channel in channels:
            channel.close()

    assert asked == [here(one), here(two)] * 3


def test_where_no_address_can_be_reached() -> None:
    """The order fails with the reason, and the name is looked up anew for the next."""
    names = Names(UNREACHABLE, UNREACHABLE)
    site = TcpSite("lab", 80, None, look_up=names)
    items = [Item(site, "/", 5) for _ in range(3)]
    carry(items, first=1)

    assert all(isinstance(item.error, OSError) for item in items)
    assert names.count == 3


def test_a_name_that_moved_is_looked_up_anew() -> None:
    """In a process that lives long."""
    with answering(serving({"/": answer(b"hello")})) as server, nobody() as closed:
        names = Names(closed)
        site = TcpSite("lab", 80, None, look_up=names)
        lost = Item(site, "/", 5)
        carry([lost])
        names.addresses = (here(server),)
        found = Item(site, "/", 5)
        carry([found])

    assert isinstance(lost.error, ConnectionRefusedError)
    assert found.error is None


def test_a_socket_that_cannot_be_made_blames_no_address() -> None:
    """Too many open files say nothing of where the connection would have led."""
    site = TcpSite("lab", 80, None, look_up=Names(("127.0.0.1", 9), ("127.0.0.1", 10)))
    with no_more_files(), pytest.raises(OSError, match="Too many open files"):
        site.connect()

    assert len(site._addresses) == 2


@contextmanager
def no_more_files() -> Iterator[None]:
    """Let this process open no more files."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


# --- TLS --------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["authority", "self-signed"])
def certificates(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Certificates:
    """Make certificates of an authority, or a server's own."""
    folder = tmp_path_factory.mktemp("tls")
    return make_certificates(folder, is_own=request.param == "self-signed")


def secured(server: AnsweringServer, bundle: Path | None) -> Site:
    """Return where connections to the server lead, as S3 makes them."""
    site = Pool(ca_bundle=str(bundle) if bundle else None).site(f"https://127.0.0.1:{server.port}")
    assert site is not None
    return site


@pytest.mark.parametrize("record", [1000, 16 * KIB, 1 << 20], ids=["short", "longest", "many"])
@pytest.mark.parametrize("sips", [(BUFFER,), (999, 5, 20_000)], ids=["all there is", "odd"])
def test_bodies_over_tls(certificates: Certificates, record: int, sips: Sequence[int]) -> None:
    """Exactly, whether or not records fit what is read at a time."""
    bodies = {f"/{n}": os.urandom(size) for n, size in enumerate([0, 1, 300 * KIB, 5 << 20])}

    def play(talk: Talk) -> None:
        while True:
            data = answer(bodies[talk.ask()])
            for start in range(0, len(data), record):
                talk.say(data[start : start + record])

    with answering(play, tls=certificates.context()) as server:
        site = Sipping(secured(server, certificates.authority), sips)
        items = [Item(site, path, len(body)) for path, body in bodies.items()]
        carry(items, most=2)

        assert [item.error for item in items] == [None] * 4
        assert [bytes(item.data) for item in items] == list(bodies.values())
        assert server.accepted <= 2
        assert server.is_deserted()


def test_a_last_answer_over_tls(certificates: Certificates) -> None:
    """What is closed is not read again for what TLS may hold back."""
    good = answer(b"hello", connection="close")
    with answering(serving({"/": good}), tls=certificates.context()) as server:
        site = secured(server, certificates.authority)
        items = [Item(site, "/", 5) for _ in range(6)]
        carry(items, most=2)

        assert [item.error for item in items] == [None] * 6
        assert server.accepted == 6
        assert server.is_deserted()


def test_a_used_connection_over_tls_may_be_hung_up(certificates: Certificates) -> None:
    """The order is sent again on another."""

    def play(talk: Talk) -> None:
        talk.ask()
        talk.say(answer(b"hello"))
        talk.ask()

    with answering(play, tls=certificates.context()) as server:
        site = secured(server, certificates.authority)
        items = [Item(site, "/", 5) for _ in range(10)]
        carry(items, most=2)

        assert [item.error for item in items] == [None] * 10
        assert server.is_deserted()


def test_a_connection_over_tls_that_takes_no_request(certificates: Certificates) -> None:
    """Broken at the very moment of the next request, while its last answer is still read."""

    class Breaking(Sipping):
        """Its connections refuse the second request."""

        def connect(self) -> Channel:
            channel = super().connect()
            send, sent = channel.send, []

            def refuse(data: bytes) -> None:
                sent.append(data)
                if len(sent) > 1:
                    raise BrokenPipeError
                send(data)

            channel.send = refuse  # type: ignore[method-assign]
            return channel

    with answering(serving({"/": answer(b"hello")}), tls=certificates.context()) as server:
        site = Breaking(secured(server, certificates.authority), (BUFFER,))
        items = [Item(site, "/", 5) for _ in range(6)]
        carry(items, most=2)

        assert [item.error for item in items] == [None] * 6
        assert server.is_deserted()


def test_a_certificate_that_is_not_trusted(certificates: Certificates) -> None:
    """Every order fails with the reason, once."""
    with answering(serving({"/": answer(b"hello")}), tls=certificates.context()) as server:
        items = [Item(secured(server, None), "/", 5) for _ in range(4)]
        carry(items, most=2)

        assert {type(item.error) for item in items} == {ssl.SSLCertVerificationError}
        assert [item.asked for item in items] == [1] * 4
        assert server.is_deserted()


def test_a_server_that_speaks_no_tls(certificates: Certificates) -> None:
    """The order fails."""

    def play(talk: Talk) -> None:
        talk.say(answer(b"hello"))
        talk.linger()

    with answering(play) as server:
        item = Item(secured(server, certificates.authority), "/", 5)
        carry([item])

        assert isinstance(item.error, ssl.SSLError)
        assert server.is_deserted()


def test_silence_during_the_handshake(certificates: Certificates) -> None:
    """The order fails after the time a connection may take."""
    clock = Hasty()
    with answering(Talk.linger) as server:
        item = Item(secured(server, certificates.authority), "/", 5)
        carry([item], clock=clock, check=clock.tick)

        assert isinstance(item.error, TimeoutError)
        assert server.is_deserted()


def test_the_bundle_is_not_the_only_one_trusted(certificates: Certificates) -> None:
    """Or a lab's certificate would shut Amazon out."""
    context = Pool(ca_bundle=str(certificates.authority))._context()
    system = Pool()._context()

    assert len(context.get_ca_certs()) > len(system.get_ca_certs())


# --- where lanes lead -------------------------------------------------------------------------


def test_requests_share_a_site() -> None:
    """So that they share connections, whatever the bucket."""
    source = OneObject()
    obj = the_object(source, "plain")
    with scripted(source) as server:
        storage = server.storage()
        one, two = (storage.request(obj, 0, obj.size) for _ in range(2))

    assert one is not None
    assert two is not None
    assert one.site is two.site


@pytest.mark.parametrize("key", ["plain", "odd//key", "a b/ü+&?.txt", "../up"])
@pytest.mark.parametrize("version", [None, "v/1 +"], ids=["latest", "version"])
def test_a_request_is_what_read_asks_for(key: str, version: str | None) -> None:
    """Path, query and conditions are the same; so the signature fits."""
    source = OneObject(extra={"x-amz-version-id": version} if version else {})
    obj = the_object(source, key, version_id=version)
    with scripted(source) as server:
        storage = server.storage()
        request = storage.request(obj, 5, 300)
        assert request is not None
        item = Item(request.site, "", 295)
        item.request = lambda: request  # type: ignore[method-assign]
        Lane(Line([item]), most=1, check=keep_on).run()
        read = b"".join(storage.read(obj, 5, 300))
        by_lane, by_read = server.requests

    assert item.error is None
    assert item.data == read
    assert (by_lane.path, by_lane.query) == (by_read.path, by_read.query)
    for name in ("range", "if-match", "host"):
        assert by_lane.headers[name] == by_read.headers[name]


def test_nothing_of_something_is_no_request() -> None:
    """HTTP has no way to ask for no bytes."""
    source = OneObject()
    with scripted(source) as server:
        assert server.storage().request(the_object(source, "plain"), 5, 5) is None


def test_no_lane_leads_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `read` knows how."""
    source = OneObject()
    obj = the_object(source, "plain")
    with scripted(source) as server:
        monkeypatch.setenv("http_proxy", server.url)
        monkeypatch.setenv("no_proxy", "")

        assert server.storage().request(obj, 0, obj.size) is None
