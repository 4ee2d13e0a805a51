"""Pooled HTTP connections: TLS, proxies and time-outs, from the standard library.

Used by `wire`. Proxies and certificates are found where botocore finds them.
"""

import os
import re
import select
import ssl
from collections import deque
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from datacachalog.errors import StorageError

if TYPE_CHECKING:
    from http.client import HTTPConnection

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
BLOCK = 1 << 20

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

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = _tls_context(self._ca_bundle, is_verified=self._is_verified)
        return self._tls


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
