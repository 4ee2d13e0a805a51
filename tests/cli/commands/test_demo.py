"""The demo as a person meets it: a process of its own, at a terminal and through a pipe."""

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datacachalog.cli.commands.demo import SCENES
from datacachalog.cli.demo_server import serve_bucket
from datacachalog.errors import MissingExtraError

DCL = [sys.executable, "-m", "datacachalog"]
TIMEOUT = 120

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def temp(tmp_path: Path) -> Path:
    """Give the folder that the demo takes for the system's temporary one."""
    folder = tmp_path / "temp"
    folder.mkdir()
    return folder


@pytest.fixture
def start(tmp_path: Path, temp: Path) -> Iterator[Start]:
    """Return a function that starts the demo in a process group of its own.

    The environment holds what could lead it astray. Whatever is still there at the end of the
    test is killed.
    """
    started: list[subprocess.Popen[str]] = []
    environment = os.environ | {
        "TMPDIR": str(temp),
        "AWS_PROFILE": "not-there",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "DCL_CATALOG": "/not/there.yaml",
        "DCL_JSON": "true",
    }

    def run(*options: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*DCL, "demo", *options],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT if stdout != subprocess.PIPE else subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(TIMEOUT)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def group_is_gone(process: subprocess.Popen[str]) -> bool:
    """Tell whether nothing of the demo's process group is left."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_the_whole_walk(start: Start, temp: Path, tmp_path: Path) -> None:
    """Each command stands before its output, and nothing is left, whatever the environment."""
    process = start()
    out, err = process.communicate(timeout=TIMEOUT)
    commands = re.findall(r"^\$ (.*)$", out, re.MULTILINE)

    assert (process.returncode, err) == (0, "")
    assert commands == [
        "cat catalog.yaml",
        "dcl list",
        "dcl sync",
        "dcl path orders",
        "dcl sync",
        "dcl status",
        "dcl sync --dry-run",
        "dcl sync",
        "dcl push forecast new-forecast.csv",
        "dcl push forecast new-forecast.csv",
        "dcl sync forecast",
        "dcl add prices s3://acme-lake/prices/list.csv",
        "dcl versions prices",
        "dcl sync prices --as-of 2026-02-10",
        "cat data/prices@2026-02-10/list.csv",
        "dcl lock",
        "dcl sync",
        "dcl outdated",
        "dcl diff",
        "dcl sync",
        "dcl sync --frozen",
        "cat data/prices/list.csv",
    ]
    assert re.search(r"\$ dcl sync\n(.+\n)*8 downloaded \(248 kB in ", out)
    assert re.search(r"\$ dcl sync\n(.+\n)*8 up to date \(248 kB in ", out)
    assert re.search(r"\$ dcl status\n(.+\n)*orders +stale", out)
    assert re.search(r"\$ dcl sync\n(.+\n)*2 downloaded, 6 up to date, 1 removed ", out)
    assert re.search(r"\$ dcl push .*\nforecast: uploaded to s3://acme-lake/forecast/", out)
    assert re.search(r"\$ dcl push .*\nerror: .* is not what it was", out)
    assert re.search(r"2026-02-20T17:00:00Z +deleted", out)
    assert re.search(r"\$ cat data/prices@2026-02-10/list.csv\nitem,price\ntea,4.40\n", out)
    assert re.search(r"\$ dcl outdated\n(.+\n)*orders ", out)
    assert re.search(r"\$ dcl diff\n(.+\n)*.*month=08/orders.csv", out)
    assert re.search(r"\$ dcl sync --frozen\n(.+\n)*9 downloaded ", out)
    assert re.search(r"\$ cat data/prices/list.csv\nitem,price\ntea,5.00\n", out)
    assert [title in out for title in SCENES] == [True] * len(SCENES)
    assert "dcl init" in out[out.index("Try next") :]
    assert list(temp.iterdir()) == []
    assert list(tmp_path.iterdir()) == [temp]


def test_interrupted(start: Start, temp: Path) -> None:
    """Ctrl-C in the middle of a command ends it at once and leaves neither file nor process."""
    process = start()
    assert process.stdout is not None
    for line in process.stdout:
        if line == "$ dcl sync\n":
            break
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT)

    assert process.returncode == 130
    assert "error: interrupted" in err
    assert list(temp.iterdir()) == []
    assert group_is_gone(process)


def test_a_reader_that_leaves_early(start: Start, temp: Path) -> None:
    """`dcl demo | head -1` ends without a complaint and cleans up."""
    process = start()
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=TIMEOUT)

    assert (process.returncode, err) == (0, "")
    assert list(temp.iterdir()) == []


def test_kept_through_a_pipe(start: Start, temp: Path, tmp_path: Path) -> None:
    """With `--keep` the folder stays, and the commands that it names work in it."""
    process = start("--keep")
    out, _ = process.communicate(timeout=TIMEOUT)
    (folder,) = temp.iterdir()
    shown = " ".join(out.split())
    environment = os.environ | {"HOME": str(tmp_path)}
    verified = subprocess.run(
        [*DCL, "verify"], cwd=folder / "acme", env=environment, capture_output=True, text=True
    )

    assert process.returncode == 0
    assert f"`cd {folder / 'acme'}`, then `dcl verify`" in shown
    assert f"`rm -r {folder}`" in shown
    assert verified.returncode == 0, verified.stderr


def test_kept_at_a_terminal(start: Start, temp: Path, tmp_path: Path) -> None:
    """With `--keep` at a terminal the server stays until Ctrl-C, for another terminal to use."""
    mine, theirs = pty.openpty()
    process = start("--keep", stdout=theirs)
    os.close(theirs)
    seen = b""
    while b"Ctrl-C" not in seen:
        seen += os.read(mine, 4096)
    (folder,) = temp.iterdir()
    environment = os.environ | {"HOME": str(tmp_path), "DCL_CACHE_DIR": str(tmp_path / "cache")}
    status = subprocess.run(
        [*DCL, "status", "--check"],
        cwd=folder / "acme",
        env=environment,
        capture_output=True,
        text=True,
    )
    os.killpg(process.pid, signal.SIGINT)
    returncode = process.wait(TIMEOUT)
    os.close(mine)

    assert status.returncode == 0, status.stderr
    assert returncode == 0
    assert (folder / "acme" / "catalog.yaml").exists()
    assert b"\x1b[" in seen


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where moto's server is not installed, the error names the extra."""
    monkeypatch.setitem(sys.modules, "moto.server", None)

    with pytest.raises(MissingExtraError, match="needs moto's server") as error, serve_bucket("x"):
        pass

    assert error.value.hint == "run `pip install 'datacachalog[demo]'`"
