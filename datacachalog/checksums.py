"""Checksums of bytes: which algorithms there are, computing several in one pass, comparing.

blake3 is always computed: it is what states and locks record. Others only where the
catalog demands one. Used by `spec` (to read `checksum:`) and `transfer`.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from datacachalog.errors import ChecksumMismatchError, InvalidValueError
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
    def parse(cls, text: object) -> "Checksum":
        """Return the checksum that a person wrote as `algorithm:hex`.

        >>> str(Checksum.parse("SHA-1:A9993E364706816ABA3E25717850C26C9CD0D89D"))
        'sha1:a9993e364706816aba3e25717850c26c9cd0d89d'
        """
        hint = "write the algorithm and the digest in hex: `sha256:…`, `md5:…` or `blake3:…`"
        if not isinstance(text, str):
            raise InvalidValueError(f"`{text}` is not a checksum", hint=hint)
        written = text.strip().lower()
        algorithm, colon, digest = written.replace("sha-", "sha", 1).partition(":")
        digits = ALGORITHMS.get(algorithm)
        if colon and digits and re.fullmatch(f"[0-9a-f]{{{digits}}}", digest):
            return cls(algorithm, digest)
        if colon and digits:
            hint = f"{algorithm} has {digits} hexadecimal digits"
        elif re.fullmatch("[0-9a-f]+", written):
            likely = {digits: name for name, digits in ALGORITHMS.items()}.get(len(written))
            hint = f"write `{likely}:{written}`" if likely else hint
        raise InvalidValueError(f"{text!r} is not a checksum", hint=hint)

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

    def read_range(self, fd: int, start: int, stop: int) -> None:
        """Take bytes `start` to `stop` of an open file, without moving its offset."""
        buffer = memoryview(bytearray(min(_CHUNK, stop - start)))
        while start < stop:
            count = os.preadv(fd, [buffer[: stop - start]], start)
            if not count:
                return
            self.update(buffer[:count])
            start += count

    def check(self, obj: RemoteObject) -> None:
        """Raise `ChecksumMismatchError` if a demanded checksum does not fit."""
        for wanted in self._demanded:
            if wanted.algorithm == "blake3":
                found = self.blake3
            else:
                found = self._hashers[wanted.algorithm].hexdigest()
            if found != wanted.digest:
                raise ChecksumMismatchError(
                    f"'{obj.uri}' has {wanted.algorithm}:{found},"
                    f" but {wanted.origin} demands {wanted}",
                    hint="the source's bytes are not the expected ones: ask its owner, or "
                    + _REMEDIES[wanted.origin],
                )
