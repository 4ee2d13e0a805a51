"""HTTP connections: pooled ones that block, and those of `lane`, which never do.

Used by `wire`. From the standard library; proxies and certificates are found where botocore
finds them.
"""

import errno
import itertools
import os
import re
import select
import selectors
import socket
import ssl
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from datacachalog.errors import StorageError

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
from typing import Protocol as Channel

if TYPE_CHECKING:
    from http.client import HTTPConnection

BLOCK = 1 << 20

_UNDER_WAY = frozenset({0, errno.EINPROGRESS, errno.EINTR})
"""What a connection that never blocks says at first; anything else is an error."""

_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Line:
    """A connection to `origin`; a plain HTTP proxy must be sent whole URLs."""

    origin: str
    http: "HTTPConnection"
    is_used: bool = False
    wants_whole_url: bool = False


class Pool:
    """Connections that wait for their next request. Thread-safe; for one process."""

    def __init__(self, *, ca_bundle: str | None = None, is_verified: bool = True) -> None:
        self._ca_bundle = ca_bundle
        self._is_verified = is_verified
        self._idle: deque[Line] = deque()
        self._tls: ssl.SSLContext | None = None

    def __del__(self) -> None:
        for line in self._idle:
            line.http.close()

    def take(self, origin: str) -> Line:
        """Return a waiting connection to `origin`, else a new one."""
        for _ in range(len(self._idle)):
            try:
                line = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if line.origin != origin:
                self._idle.appendleft(line)
            elif _is_hung_up(line):
                line.http.close()
            else:
                return line
        return self.open(origin)

    def give_back(self, line: Line) -> None:
        """Keep a connection whose last answer was read to its end."""
        if line.http.sock is not None:
            self._idle.append(Line(line.origin, line.http, True, line.wants_whole_url))

    def open(self, origin: str) -> Line:
        """Return a new connection, through a proxy where the environment names one."""
        from http.client import HTTPConnection, HTTPSConnection

        parts = urlsplit(origin)
        host, port = parts.hostname or "", parts.port
        proxy = proxy_for(parts.scheme, host)
        address = urlsplit(proxy) if proxy else parts
        is_tls = parts.scheme == "https"
        http: HTTPConnection
        if is_tls:
            http = HTTPSConnection(address.hostname or "", address.port, context=self._context())
        else:
            http = HTTPConnection(address.hostname or "", address.port)
        http.timeout = CONNECT_SECONDS
        http.blocksize = BLOCK
        if proxy and is_tls:
            http.set_tunnel(host, port, headers=proxy_headers(proxy))
        http.connect()
        http.sock.settimeout(READ_SECONDS)
        return Line(origin, http, False, bool(proxy) and not is_tls)

    def site(self, origin: str) -> "TcpSite | None":
        """Return where a lane's connections lead; None where a proxy is in between."""
        parts = urlsplit(origin)
        host, is_tls = parts.hostname or "", parts.scheme == "https"
        if proxy_for(parts.scheme, host):
            return None
        port = parts.port or (443 if is_tls else 80)
        return TcpSite(host, port, self._context() if is_tls else None)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = _tls_context(self._ca_bundle, is_verified=self._is_verified)
        return self._tls


_Address = tuple[Any, ...]
"""As `getaddrinfo` gives it: the family first, what to connect to last."""


class TcpSite:
    """A host and port; connections take turns among its addresses. Thread-safe.

    An address that cannot be reached is left out until none is left, and all are looked up
    anew: a name may have IPv6 addresses where the network has none.
    """

    def __init__(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        *,
        look_up: Callable[..., Sequence[_Address]] = socket.getaddrinfo,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._ask = look_up
        self._turns = itertools.count()
        self._addresses: tuple[_Address, ...] = ()

    def connect(self) -> "TcpChannel":
        """Begin a connection; only the look-up of the host's name may block."""
        while True:
            addresses = self._addresses or self._look_up()
            address = addresses[next(self._turns) % len(addresses)]
            sock = socket.socket(*address[:3])
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                error = sock.connect_ex(address[4])
                if error not in _UNDER_WAY:
                    raise OSError(error, os.strerror(error))
            except BaseException as exc:
                sock.close()
                if isinstance(exc, OSError) and self._leave_out(address):
                    continue
                raise
            if self._tls is None:
                return TcpChannel(sock, address)
            return TlsChannel(sock, address, self._tls, self._host)

    def avoid(self, channel: Channel) -> bool:
        """Avoid the address that `channel` did not get through to; return if there are others."""
        assert isinstance(channel, TcpChannel)
        return self._leave_out(channel.address)

    def _look_up(self) -> tuple[_Address, ...]:
        found = tuple(self._ask(self._host, self._port, type=socket.SOCK_STREAM))
        self._addresses = found
        return found

    def _leave_out(self, address: _Address) -> bool:
        self._addresses = others = tuple(a for a in self._addresses if a != address)
        return bool(others)


class TcpChannel:
    """A plain connection that never blocks."""

    holds_back = False

    def __init__(self, sock: socket.socket, address: _Address) -> None:
        self.address = address
        self.fileno = sock.fileno()
        self._sock = sock

    def open(self) -> int:
        """Return 0: it is open, unless that failed."""
        error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        return 0

    def send(self, data: bytes) -> None:
        """Send all of a request's head: far less than the kernel takes at once."""
        if self._sock.send(data) != len(data):
            raise ConnectionError("the connection takes no request")

    def receive(self, buffer: memoryview) -> int | None:
        """Return how many bytes came into `buffer`: 0 at the end, None if none came yet."""
        try:
            return self._sock.recv_into(buffer)
        except BlockingIOError:
            return None

    def close(self) -> None:
        """Hang up."""
        self._sock.close()


class TlsChannel(TcpChannel):
    """A connection through TLS that never blocks."""

    holds_back = True  # a record that was decrypted, but not wholly taken

    def __init__(
        self, sock: socket.socket, address: _Address, tls: ssl.SSLContext, host: str
    ) -> None:
        super().__init__(sock, address)
        self._tls = tls
        self._host = host
        self._secured: ssl.SSLSocket | None = None

    def open(self) -> int:
        """Go on with the handshake; return 0 when done, else the event to wait for."""
        if self._secured is None:
            super().open()
            self._sock = self._secured = self._tls.wrap_socket(
                self._sock, server_hostname=self._host, do_handshake_on_connect=False
            )
        try:
            self._secured.do_handshake()
        except ssl.SSLWantReadError:
            return selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            return selectors.EVENT_WRITE
        return 0

    def receive(self, buffer: memoryview) -> int | None:
        """Return how many bytes came into `buffer`: 0 at the end, None if none came yet."""
        try:
            return self._sock.recv_into(buffer)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None


def _is_hung_up(line: Line) -> bool:
    # Readable although nothing was asked: the server has closed it.
    poll = select.poll()
    poll.register(line.http.sock, select.POLLIN)
    return bool(poll.poll(0))


def _tls_context(ca_bundle: str | None, *, is_verified: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    paths = ssl.get_default_verify_paths()
    if not paths.cafile and not (paths.capath and os.listdir(paths.capath)):
        _trust_botocores(context)
    if ca_bundle:
        context.load_verify_locations(cadata=read_bundle(ca_bundle))
    return context


def _trust_botocores(context: ssl.SSLContext) -> None:
    """Trust the authorities that come with botocore, where the system has none (slim images)."""
    spec = find_spec("botocore")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = os.path.join(folder, "cacert.pem")
        if os.path.isfile(path):
            context.load_verify_locations(cafile=path)


def read_bundle(path: str) -> str:
    """Return the certificates in PEM that a file, or the files of a folder, hold."""
    try:
        is_folder = os.path.isdir(path)
        names = [entry.path for entry in os.scandir(path)] if is_folder else [path]
        texts = [Path(name).read_text("ascii", "replace") for name in sorted(names)]
    except OSError as exc:
        raise StorageError(
            f"the CA bundle {path!r} cannot be read: {exc.strerror}",
            hint="name a PEM file with `ca_bundle:` or `AWS_CA_BUNDLE`",
        ) from exc
    found = _CERTIFICATE.findall("\n".join(texts))
    if not found:
        raise StorageError(
            f"the CA bundle {path!r} holds no certificate in PEM format",
            hint="name a PEM file with `ca_bundle:` or `AWS_CA_BUNDLE`",
        )
    return "\n".join(found)


def proxy_for(scheme: str, host: str) -> str | None:
    """Return the proxy's URL that the environment names for `host`, or None."""
    # Elsewhere the system's settings count, too. Importing urllib.request takes 13 ms.
    if sys.platform == "linux" and not any(v[-6:].lower() == "_proxy" for v in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass

    found = getproxies().get(scheme)
    if not found or proxy_bypass(host):
        return None
    return found if "://" in found else f"http://{found.lstrip('/')}"


def proxy_headers(proxy: str) -> dict[str, str]:
    """Return the header that logs in at a proxy whose URL holds a user."""
    from base64 import b64encode

    parts = urlsplit(proxy)
    if not parts.username:
        return {}
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"proxy-authorization": f"Basic {b64encode(login.encode()).decode()}"}
