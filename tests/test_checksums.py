"""Checksums: several in one pass, compared exactly, told with both sides."""

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from datacachalog.checksums import ALGORITHMS, Checksum, Hashes
from datacachalog.errors import ChecksumMismatchError, InvalidValueError
from datacachalog.model import RemoteObject

OBJECT = RemoteObject("s3://lake/a", "a", 3, datetime(2026, 3, 1, tzinfo=UTC))


def digest(algorithm: str, data: bytes) -> str:
    """Return the digest by the library itself."""
    return (
        blake3(data).hexdigest()
        if algorithm == "blake3"
        else hashlib.new(algorithm, data).hexdigest()
    )


@given(st.lists(st.binary(max_size=50), max_size=5), st.sets(st.sampled_from(sorted(ALGORITHMS))))
def test_all_are_computed_in_one_pass(pieces: list[bytes], algorithms: set[str]) -> None:
    """However the bytes are cut; blake3 always."""
    data = b"".join(pieces)
    hashes = Hashes([Checksum(name, digest(name, data)) for name in algorithms])
    for piece in pieces:
        hashes.update(memoryview(piece))
    hashes.check(OBJECT)

    assert hashes.blake3 == blake3(data).hexdigest()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_wrong_one_is_told_with_both_sides(algorithm: str) -> None:
    """And who demands it."""
    wanted = Checksum(algorithm, digest(algorithm, b"abc"), "the lock")
    hashes = Hashes([wanted])
    hashes.update(b"abd")
    with pytest.raises(ChecksumMismatchError) as caught:
        hashes.check(OBJECT)

    assert str(caught.value) == (
        f"'s3://lake/a' has {algorithm}:{digest(algorithm, b'abd')}, but the lock demands {wanted}"
    )


def test_a_known_blake3_saves_the_reading() -> None:
    """Unless another algorithm is demanded."""
    known = digest("blake3", b"abc")
    plain = Hashes([Checksum("blake3", known)], known=known)
    plain.check(OBJECT)

    assert not plain.must_read
    assert Hashes([Checksum("md5", digest("md5", b"abc"))], known=known).must_read


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_files_are_read_whole_or_in_ranges(tmp_path: Path, size: int) -> None:
    """To the same end, without moving the descriptor's offset."""
    data = os.urandom(size)
    (tmp_path / "x").write_bytes(data)
    whole, parts = Hashes(()), Hashes(())
    whole.read(f"{tmp_path}/x")
    with (tmp_path / "x").open("rb") as file:
        parts.read_range(file.fileno(), 0, size // 2)
        parts.read_range(file.fileno(), size // 2, size)
        offset = file.tell()

    assert whole.blake3 == parts.blake3 == blake3(data).hexdigest()
    assert offset == 0


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("0" * 32, f"write `md5:{'0' * 32}`"),
        ("0" * 64, f"write `sha256:{'0' * 64}`"),
        ("sha256:00", "sha256 has 64 hexadecimal digits"),
        (
            "crc32:00000000",
            "write the algorithm and the digest in hex: `sha256:…`, `md5:…` or `blake3:…`",
        ),
    ],
)
def test_what_is_no_checksum_says_what_would_be(text: str, hint: str) -> None:
    """A bare digest is told by its length."""
    with pytest.raises(InvalidValueError) as caught:
        Checksum.parse(text)

    assert caught.value.hint == hint
