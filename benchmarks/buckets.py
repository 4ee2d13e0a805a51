"""What the benchmarks' buckets hold: bodies on disk and the indexes that list them.

    <data>/bodies/current/BUCKET/KEY     served by nginx; BUCKET.shared for keys without a file
    <data>/bodies/v1|v2/…                earlier and later versions
    <data>/indexes/BUCKET.objects        what is listed

A bucket is made at first use and kept: its sizes are part of its name.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers.index import Index, Listed, write_index

WRITTEN = 1_704_067_200
"""When all objects were last written: 2024-01-01T00:00:00Z."""

REWRITTEN = 1_717_200_000
"""When those with a history were written again: 2024-06-01T00:00:00Z."""

BETWEEN = "2024-03-01T00:00:00Z"

SHARED_SIZE = 100
"""Bytes of an object of which only the number matters."""

ODD_KEY = "odd//key"
"""A key with an empty segment, which not every client can list or ask for."""

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket's name, how many objects it has now, and their bytes in sum."""

    name: str
    count: int
    size: int


class Buckets:
    """Makes buckets below `root`, and keeps them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("bodies/current", "bodies/v1", "bodies/v2", "indexes"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        self._block = random.Random(0).randbytes(_BLOCK)  # noqa: S311 - only incompressible

    def bodies(self, count: int, size: int) -> Bucket:
        """Return a bucket of `count` objects of `size` bytes each, a hundred to a folder."""
        bucket = Bucket(f"bodies-{count}-{size}", count, count * size)

        def make() -> Iterator[Listed]:
            for i in range(count):
                key = f"part/{i // 100:04d}/{i:06d}.bin"
                self._write(f"current/{bucket.name}/{key}", size, WRITTEN, i)
                yield Listed(key, WRITTEN, size)

        return self._made(bucket, make)

    def listed(self, count: int, size: int = SHARED_SIZE) -> Bucket:
        """Return a bucket of `count` small objects, which all have the same bytes."""
        bucket = Bucket(f"listed-{count}-{size}", count, count * size)

        def make() -> Iterator[Listed]:
            self._write(f"current/{bucket.name}.shared", size, WRITTEN, 0)
            return (
                Listed(f"part/{i // 1000:04d}/{i:07d}.bin", WRITTEN, size) for i in range(count)
            )

        return self._made(bucket, make)

    def listed_odd(self, count: int, size: int = SHARED_SIZE) -> Bucket:
        """Return the same with `ODD_KEY` in place of the first key."""
        bucket = Bucket(f"odd-{count}-{size}", count, count * size)

        def make() -> Iterator[Listed]:
            self._write(f"current/{bucket.name}.shared", size, WRITTEN, 0)
            keys = [ODD_KEY, *(f"part/{i // 1000:04d}/{i:07d}.bin" for i in range(1, count))]
            return (Listed(key, WRITTEN, size) for key in keys)

        return self._made(bucket, make)

    def versioned(self, keys: int) -> Bucket:
        """Return a bucket of `keys` objects that were all rewritten once, one in 50 deleted.

        It says what was there at `BETWEEN`, when all were.
        """
        size = SHARED_SIZE
        bucket = Bucket(f"versioned-{keys}", keys, keys * size)

        def make() -> Iterator[Listed]:
            self._write(f"v1/{bucket.name}.shared", size, WRITTEN, 1)
            self._write(f"v2/{bucket.name}.shared", size, REWRITTEN, 2)
            shutil.copy2(
                self.root / f"bodies/v2/{bucket.name}.shared",
                self.root / f"bodies/current/{bucket.name}.shared",
            )
            names = [f"part/{i // 1000:04d}/{i:07d}.bin" for i in range(keys)]
            latest = [Listed(k, REWRITTEN, size) for i, k in enumerate(names) if i % 50]
            write_index(str(self.root / f"indexes/{bucket.name}.objects"), latest)
            for i, key in enumerate(names):
                is_deleted = i % 50 == 0
                new, old = f"v2.{i:029d}", f"v1.{i:029d}"
                yield Listed(key, REWRITTEN, None if is_deleted else size, new)
                yield Listed(key, WRITTEN, size, old, is_latest=False)

        return self._made(bucket, make, kind="versions")

    def change_one(self, bucket: Bucket, now: int) -> None:
        """Rewrite one object of a `listed` bucket with other bytes of the same size.

        `now` is its new time, in seconds since the epoch.
        """
        count, size = bucket.count, bucket.size // bucket.count
        i = count // 2
        key = f"part/{i // 1000:04d}/{i:07d}.bin"
        self._write(f"current/{bucket.name}/{key}", size, now, now)
        with Index(str(self.root / f"indexes/{bucket.name}.objects")) as index:
            index.replace(Listed(key, now, size))

    def file(self, size: int) -> Path:
        """Return a local file of `size` bytes, to be uploaded."""
        path = self.root / f"upload-{size}.bin"
        if not path.exists():
            self._write(f"../{path.name}", size, WRITTEN, 0)
        return path

    def _made(
        self, bucket: Bucket, make: Callable[[], Iterable[Listed]], kind: str = "objects"
    ) -> Bucket:
        path = self.root / "indexes" / f"{bucket.name}.{kind}"
        if not path.exists():
            write_index(f"{path}.new", make())
            os.replace(f"{path}.new.starts", f"{path}.starts")
            os.replace(f"{path}.new", path)
        return bucket

    def _write(self, place: str, size: int, modified: int, number: int) -> None:
        """Write a body by way of a new file, since nginx keeps the old one open."""
        path = self.root / "bodies" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        temp = path.with_name(f".{path.name}.new")
        turn = number * 997 % _BLOCK
        block = self._block[turn:] + self._block[:turn]
        with open(temp, "wb", buffering=0) as file:
            file.writelines(block[: size - start] for start in range(0, size, _BLOCK))
        os.utime(temp, (modified, modified))
        os.replace(temp, path)
