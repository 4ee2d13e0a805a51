"""Several processes on one project and one cache: all of them are right."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("link", ["hardlink", "copy"])
@pytest.mark.parametrize("locks", ["flock", "none"])
def test_runs_that_meet_are_all_right(tmp_path: Path, locks: str, link: str) -> None:
    """Together, or one overtaking the other while the source changes; with and without locks."""
    seed = random.randrange(1 << 30)
    command = [
        sys.executable,
        "-m",
        "tests.concurrency_harness",
        str(tmp_path),
        locks,
        link,
        "3",
        str(seed),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=300
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}, f"{done.stderr}\nagain with: {' '.join(command)}"
