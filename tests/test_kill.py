"""Kill -9 at any instant: the next run repairs, and nothing half-made is ever seen."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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
    start = random.randint(1, 5)
    command = [sys.executable, "-m", "tests.crash_harness", str(tmp_path), kind, str(start), "5"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    found = json.loads(done.stdout or "{}")

    assert found.get("wrong") == {}, done.stderr
    assert found["deaths"] >= 10
