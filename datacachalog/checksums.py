"""Checksums of bytes: which algorithms there are, computing several in one pass, comparing.

blake3 is always computed: it is what states and locks record. Others only where the
catalog demands one.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from datacachalog.errors import ChecksumMismatchError
from datacachalog.model import RemoteObject

ALGORITHMS = {"blake3": 64, "md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
"""The algorithms a checksum may name, and the hex digits of each."""

_CHUNK = 256 << 10  # fits into the processor's cache

CATALOG, LOCK = "the catalog", "the lock"
"""Who demands a checksum."""

_REMEDIES = {
    CATALOG: "correct the checksum in the catalog",
    LOCK: "take them with `dcl lock --upgrade`",
}


@dataclass(frozen=True, slots=True)
class Checksum:
    """A demanded checksum: algorithm and lower-case hex digest; `origin` says who demands it."""

    algorithm: str
    digest: str
    origin: str = CATALOG

    @classmethod
    def parse(cls, text: str, origin: str = CATALOG) -> "Checksum":
        """Read `algorithm:hex`; raises ValueError with a sentence a person can act on.

        >>> Checksum.parse("md5:D41D8CD98F00B204E9800998ECF8427E")
        Checksum(algorithm='md5', digest='d41d8cd98f00b204e9800998ecf8427e', origin='the catalog')
        """
        algorithm, colon, digest = text.strip().partition(":")
        algorithm, digest = algorithm.lower(), digest.lower()
        if not colon or algorithm not in ALGORITHMS:
            known = ", ".join(f"{name}:…" for name in ALGORITHMS)
            raise ValueError(f"a checksum is one of {known}; got '{text}'")
        if len(digest) != ALGORITHMS[algorithm] or not set(digest) <= set("0123456789abcdef"):
            raise ValueError(
                f"a {algorithm} checksum has {ALGORITHMS[algorithm]} hex digits; got '{digest}'"
            )
        return cls(algorithm, digest, origin)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digest}"


class Hashes:
    """Computes blake3 and the demanded checksums of one object in one pass over its bytes.

    Bytes must come in order. `known` is a blake3 computed before, of the same object;
    with it, only other demanded algorithms need the bytes.
    """

    def __init__(self, demanded: Sequence[Checksum], *, known: str | None = None) -> None:
        self._demanded = demanded
        self._known = known
        # blake3's and hashlib's objects share an interface, but no type.
        self._hashers: dict[str, Any] = {
            c.algorithm: hashlib.new(c.algorithm, usedforsecurity=False)
            for c in demanded
            if c.algorithm != "blake3"
        }
        if known is None:
            self._hashers["blake3"] = blake3()

    @property
    def must_read(self) -> bool:
        """Tell whether the bytes are needed at all."""
        return bool(self._hashers)

    @property
    def blake3(self) -> str:
        """Return the blake3 of the bytes, 64 hex digits."""
        return self._known or str(self._hashers["blake3"].hexdigest())

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        for hasher in self._hashers.values():
            hasher.update(data)

    def read(self, path: str) -> None:
        """Take the whole file at `path`."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while data := os.read(fd, _CHUNK):
                self.update(data)
        finally:
            os.close(fd)

    def check(self, obj: RemoteObject) -> None:
        """Raise `ChecksumMismatchError` if a demanded checksum does not fit."""
        for wanted in self._demanded:
            name = wanted.algorithm
            found = self.blake3 if name == "blake3" else self._hashers[name].hexdigest()
            if found != wanted.digest:
                raise ChecksumMismatchError(
                    f"'{obj.uri}' has {name}:{found}, but {wanted.origin} demands {wanted}",
                    hint="the source's bytes are not the expected ones: ask its owner, or "
                    + _REMEDIES[wanted.origin],
                )


def blake3_of(path: str) -> str:
    """Return the blake3 of the file at `path`, 64 hex digits; raises plain OSError."""
    hashes = Hashes(())
    hashes.read(path)
    return hashes.blake3
