r"""A server that plays each connection by a script, byte for byte: what HTTP libraries never do.

def play(talk: Talk) -> None:
    talk.ask()
    talk.say(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel")

with answering(play) as server: ...
"""

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

LONG = 20.0
"""Seconds after which a test gives up waiting for what should come at once."""


class Talk:
    """One connection as the server sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest = b""

    def ask(self) -> str:
        """Return the path of the next request; raises EOFError if the client hung up."""
        while b"\r\n\r\n" not in self._rest:
            data = self._sock.recv(1 << 16)
            if not data:
                raise EOFError
            self._rest += data
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        return head.split(b" ")[1].decode()

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


@dataclass(frozen=True)
class AnsweringServer:
    """The running server."""

    port: int


@contextmanager
def answering(play: Play) -> Iterator[AnsweringServer]:
    """Run a server on a free port of loopback whose connections are played by `play`."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:

        def talk(sock: socket.socket) -> None:
            with suppress(OSError, EOFError), sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(LONG)
                play(Talk(sock))

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(sock,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield AnsweringServer(listener.getsockname()[1])
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # close() alone would not wake `accept`
    thread.join(LONG)
