"""What holds for other processes: runs that are killed, and runs that meet, leave nothing wrong."""

import json
import random
from pathlib import Path

import pytest

from tests.processes import run_python


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("1,0,hardlink,0", id="first-sync"),
        pytest.param("1,1,copy,0", id="first-sync-then-the-source-moves-on"),
        pytest.param("0,1,hardlink,0", id="update-then-the-source-moves-on"),
        pytest.param("0,0,copy,0", id="update-by-copies"),
        pytest.param("0,1,hardlink,1", id="the-path-changed-and-the-source-moves-on"),
        pytest.param("push", id="push"),
    ],
)
def test_what_a_kill_left_is_repaired_by_the_next_sync(tmp_path: Path, kind: str) -> None:
    """Killed before its n-th change of the disk, a run leaves nothing torn, foreign or behind.

    Every fifth n is tried, from a start that differs from run to run.
    """
    start = str(random.randint(1, 5))
    done = run_python("-m", "tests.crash_harness", str(tmp_path), kind, start, "5")
    found = json.loads(done.stdout or "{}")

    assert found.get("wrong") == {}, done.stderr
    assert found["deaths"] >= 10


@pytest.mark.parametrize("link", ["hardlink", "copy"])
@pytest.mark.parametrize("locks", ["flock", "none"])
def test_runs_that_meet_are_all_right(tmp_path: Path, locks: str, link: str) -> None:
    """Together, or one overtaking the other while the source changes; with and without locks."""
    argv = [str(tmp_path), locks, link, "3", str(random.randrange(1 << 30))]
    done = run_python("-m", "tests.concurrency_harness", *argv)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}, f"{done.stderr}\nagain with: {' '.join(argv)}"
