"""The servers of the benchmarks speak S3 as our own storage reads it, and end with the harness."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.servers.front import find_nginx, running
from benchmarks.servers.index import Index, Listed, write_index
from datacachalog.model import DeleteMarker
from datacachalog.spec.models import StorageSettings
from datacachalog.storage.s3 import S3Storage

KEYS = sorted(["top.bin", *(f"part/{i // 10:02d}/{i:03d}.bin" for i in range(45))])
DELETED = KEYS[7]


def _history(key: str) -> list[Listed]:
    newest = Listed(key, 1_717_200_000, None if key == DELETED else 2, f"v2.{key[-7:-4]}")
    return [newest, Listed(key, 1_704_067_200, 1, f"v1.{key[-7:-4]}", is_latest=False)]


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the indexes of one bucket, with and without its history."""
    folder = tmp_path_factory.mktemp("indexes")
    write_index(str(folder / "lake.objects"), [Listed(key, 1_704_067_200, 1) for key in KEYS])
    write_index(str(folder / "kept.objects"), [])
    history = [version for key in KEYS for version in _history(key)]
    write_index(str(folder / "kept.versions"), history)
    return folder


@pytest.fixture(scope="module")
def endpoint(indexes: Path) -> Iterator[str]:
    """Return where the lister answers for `indexes`."""
    with running("lister", str(indexes)) as port:
        yield f"http://127.0.0.1:{port}"


def _storage(endpoint: str, page_size: int | None = None) -> S3Storage:
    settings = StorageSettings(endpoint_url=endpoint, anon=True, region="us-east-1")
    return S3Storage(settings, page_size=page_size)


@pytest.mark.parametrize("page_size", [1, 7, 46, None])
def test_a_listing_is_whole_whatever_its_pages(endpoint: str, page_size: int | None) -> None:
    """Continuation tokens lead through all keys, each once."""
    found = _storage(endpoint, page_size).scan("s3://lake/**")

    assert [obj.uri.removeprefix("s3://lake/") for obj in found] == KEYS


def test_a_flat_listing_leaves_folders_out(endpoint: str) -> None:
    """With a delimiter, what lies below a folder is only named."""
    found = _storage(endpoint, 2).scan("s3://lake/*")

    assert [obj.uri for obj in found] == ["s3://lake/top.bin"]


@pytest.mark.parametrize("page_size", [1, 3, None])
def test_a_history_is_whole_whatever_its_pages(endpoint: str, page_size: int | None) -> None:
    """Key and version markers lead through all versions, newest first, markers included."""
    found = list(_storage(endpoint, page_size).versions("s3://kept/**"))

    assert [entry.version_id for entry in found] == [
        v.version_id for k in KEYS for v in _history(k)
    ]
    assert [entry.uri for entry in found if isinstance(entry, DeleteMarker)] == [
        f"s3://kept/{DELETED}"
    ]


def test_an_etag_is_that_of_nginx() -> None:
    """The listing names what nginx will: time and size in hexadecimal."""
    assert Listed("a", 1_704_067_200, 20_000).etag == "65920080-4e20"


def test_a_replaced_entry_is_seen_by_other_readers(indexes: Path, tmp_path: Path) -> None:
    """A change of the index is at once in the pages of who mapped it before."""
    path = str(tmp_path / "one.objects")
    write_index(path, [Listed("a", 1_704_067_200, 1)])

    with Index(path) as reader, Index(path) as writer:
        writer.replace(Listed("a", 1_717_200_000, 1))
        page = b"".join(bytes(piece) for piece in reader.page("", "", "", "", 10).pieces)

    assert b"2024-06-01T00:00:00.000Z" in page


# A server that outlives its harness would hold the other end of the harness's standard error:
# `communicate` returns only when all processes that have it are gone.
_ENDS_WITHIN = 30.0

_LISTER = """
import sys, time
from benchmarks.servers.front import running
with running("lister", sys.argv[1]) as port:
    print(port, flush=True)
    time.sleep(3600)
"""

_SERVE = [sys.executable, "-m", "benchmarks", "--serve", "--check", "--dcl", sys.executable]

_PARENT = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])"]


def _start(argv: list[str]) -> subprocess.Popen[str]:
    root = Path(__file__).parents[1]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, cwd=root, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def _is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_ends_when_its_harness_is_killed(indexes: Path) -> None:
    """A harness that cannot clean up leaves no server behind."""
    harness = _start([sys.executable, "-c", _LISTER, str(indexes)])
    assert harness.stdout is not None
    port = int(harness.stdout.readline())
    assert _is_listening(port)
    harness.kill()
    harness.communicate(timeout=_ENDS_WITHIN)

    assert not _is_listening(port)


@pytest.mark.skipif(find_nginx() is None, reason="nginx is missing")
@pytest.mark.parametrize(
    ("argv", "number"),
    [
        pytest.param(_SERVE, signal.SIGTERM, id="the harness gets SIGTERM"),
        pytest.param(_SERVE, signal.SIGKILL, id="the harness is killed"),
        pytest.param([*_PARENT, *_SERVE], signal.SIGKILL, id="its parent is killed"),
    ],
)
def test_all_servers_end(argv: list[str], number: signal.Signals, tmp_path: Path) -> None:
    """`--serve` leaves neither nginx nor a server of ours behind, whatever ends it."""
    harness = _start([*argv, "--cache", str(tmp_path)])
    assert harness.stdout is not None
    lines = (harness.stdout.readline() for _ in range(3))
    ports = [int(line.rpartition(":")[2]) for line in lines if "http" in line]
    assert all(_is_listening(port) for port in ports)
    os.kill(harness.pid, number)
    harness.communicate(timeout=_ENDS_WITHIN)

    assert len(ports) >= 2
    assert not any(_is_listening(port) for port in ports)
