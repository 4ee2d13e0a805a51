"""Signed HTTP requests to one S3, and their answers as they are.

Used for everything but the bulk of the bytes: HEAD, listings, uploads, keys that obstore
cannot express, and reads in a forked child. Needs only the standard library, so it starts
fast, survives a fork, and sends each key exactly as spelled. Knows no error classes but
those of the network: `faults` says what a status means.
"""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from datacachalog.storage.s3.connection import Connection
from datacachalog.storage.s3.signing import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    quote_path,
    quote_query,
    sign,
)

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
_BODY = "bytes | memoryview"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response's status and headers (names in lower case), and its whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Wire:
    """Sends signed requests over pooled connections. Thread-safe; one per process."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.regions: dict[str, str] = {}
        self._idle: deque[tuple[str, HTTPConnection]] = deque()
        self._clock_offset: timedelta | None = None

    def ask(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: "bytes | memoryview" = b"",
    ) -> Answer:
        """Return the answer to one request, read to its end."""
        with self.open(method, bucket, key, query=query, headers=headers, body=body) as response:
            return Answer(response.status, _headers(response), response.read())

    @contextmanager
    def open(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: "bytes | memoryview" = b"",
    ) -> "Iterator[HTTPResponse]":
        """Send one request and give the response, its body still to be read."""
        region = self.regions.get(bucket) or self.connection.region or "us-east-1"
        url = urlsplit(self.connection.url(bucket, region))
        path = quote_path(f"{url.path}/{key}")
        text = quote_query((query or {}).items())
        sent = {"host": url.netloc, **(headers or {})}
        if self.connection.is_requester_pays:
            sent["x-amz-request-payer"] = "requester"
        if self.connection.credentials is not None:
            sent = sign(
                method,
                path,
                text,
                sent,
                payload=UNSIGNED_PAYLOAD if body else EMPTY_SHA256,
                credentials=self.connection.credentials(),
                region=region,
                now=datetime.now(UTC),
            )
        target = f"{path}?{text}" if text else path
        origin = f"{url.scheme}://{url.netloc}"
        http = self._connect(origin)
        try:
            http.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                http.putheader(name, value)
            http.putheader("content-length", str(len(body)))
            http.endheaders(body or None)
            response = http.getresponse()
            yield response
        except BaseException:
            http.close()
            raise
        if response.isclosed() and not response.will_close:
            self._idle.append((origin, http))
        else:
            http.close()

    def _connect(self, origin: str) -> "HTTPConnection":
        import http.client

        for _ in range(len(self._idle)):
            try:
                known, pooled = self._idle.pop()
            except IndexError:
                break
            if known == origin and not _is_stale(pooled):
                return pooled
            pooled.close()
        parts = urlsplit(origin)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        fresh = kind(parts.netloc, timeout=READ_SECONDS)
        return fresh


def _is_stale(http: "HTTPConnection") -> bool:
    # Readable while nothing was asked: the server has hung up.
    poll = select.poll()
    poll.register(http.sock, select.POLLIN)
    return bool(poll.poll(0))


def _headers(response: "HTTPResponse") -> dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}
