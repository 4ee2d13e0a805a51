r"""A server that plays each connection by a script, byte for byte: what HTTP libraries never do.

def play(talk: Talk) -> None:
    talk.ask()
    talk.say(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel")

with answering(play) as server: ...
"""

import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

LONG = 20.0
"""Seconds after which a test gives up waiting for what should come at once."""


class Talk:
    """One connection as the server sees it; `number` counts them from 0."""

    def __init__(self, sock: socket.socket, number: int, asked: list[str]) -> None:
        self.number = number
        self._sock = sock
        self._asked = asked
        self._rest = b""

    def ask(self) -> str:
        """Return the path of the next request; raises EOFError if the client hung up."""
        while b"\r\n\r\n" not in self._rest:
            data = self._sock.recv(1 << 16)
            if not data:
                raise EOFError
            self._rest += data
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()
        self._asked.append(path)
        return path

    def say(self, data: bytes) -> None:
        """Send bytes."""
        self._sock.sendall(data)

    def wait(self, seconds: float) -> None:
        """Say nothing for a while; raises EOFError if the client hung up meanwhile."""
        if select.select([self._sock], [], [], seconds)[0] and not self._sock.recv(1 << 16):
            raise EOFError

    def take_little(self) -> None:
        """Let the system keep as little as it can of what is sent here and not read."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)

    def linger(self) -> None:
        """Say nothing more until the client hangs up."""
        while self._sock.recv(1 << 16):
            pass


Play = Callable[[Talk], None]


@dataclass
class AnsweringServer:
    """The running server: how many connections came, and what they asked."""

    port: int
    accepted: int = 0
    asked: list[str] = field(default_factory=list)
    _talks: list[threading.Thread] = field(default_factory=list)

    def is_deserted(self) -> bool:
        """Tell whether every connection has ended, waiting for that."""
        for talk in self._talks:
            talk.join(LONG)
        return not any(talk.is_alive() for talk in self._talks)


def answer(body: bytes, *, status: str = "200 OK", **headers: str) -> bytes:
    """Return a whole answer; `headers` have underscores for dashes, and may undo the length."""
    given = {"content-length": str(len(body))}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


def serving(answers: Mapping[str, bytes]) -> Play:
    """Return a script that answers each path with its whole answer, for as long as asked."""

    def play(talk: Talk) -> None:
        while True:
            talk.say(answers[talk.ask()])

    return play


@contextmanager
def answering(play: Play, *, tls: ssl.SSLContext | None = None) -> Iterator[AnsweringServer]:
    """Run a server on a free port of loopback whose connections are played by `play`."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        server = AnsweringServer(listener.getsockname()[1])

        def talk(sock: socket.socket, number: int) -> None:
            with suppress(OSError, EOFError), sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(LONG)
                if tls is None:
                    play(Talk(sock, number, server.asked))
                    return
                with tls.wrap_socket(sock, server_side=True) as secured:
                    play(Talk(secured, number, server.asked))

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                thread = threading.Thread(target=talk, args=(sock, server.accepted), daemon=True)
                server.accepted += 1
                thread.start()
                server._talks.append(thread)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # close() alone would not wake `accept`
    thread.join(LONG)


@contextmanager
def nobody() -> Iterator[tuple[str, int]]:
    """Give an address where nobody listens, and nobody will meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()
