"""Kill -9 at any instant: the next run repairs, and nothing half-made is ever seen."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("first", "moved", "link", "path"),
    [
        pytest.param(True, False, "hardlink", False, id="first-sync"),
        pytest.param(True, True, "copy", False, id="first-sync-then-the-source-moves-on"),
        pytest.param(False, True, "hardlink", False, id="update-then-the-source-moves-on"),
        pytest.param(False, False, "copy", False, id="update-by-copies"),
        pytest.param(False, True, "hardlink", True, id="the-path-changed-and-the-source-moves-on"),
    ],
)
def test_a_killed_sync_is_repaired_by_the_next(
    tmp_path: Path, first: bool, moved: bool, link: str, path: bool
) -> None:
    """Killed before its n-th change of the disk, a sync leaves nothing torn, foreign or behind.

    Every fifth n is tried, from a start that differs from run to run.
    """
    start = random.randint(1, 5)
    flags = [str(int(first)), str(int(moved)), link, str(int(path))]
    command = [sys.executable, "-m", "tests.killing", str(tmp_path), *flags, str(start), "5"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    found = json.loads(done.stdout or "{}")

    assert found.get("wrong") == {}, done.stderr
    assert found["deaths"] > 10
