"""Folders that may not be written to: what is there still serves, and the rest is a clear error.

Runs as an ordinary user, also where the tests run as root.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.projects import Project, orders

ROOT = Path(__file__).parents[1]
NOBODY = 65534

SCRIPT = """
import json, os, sys, tempfile
from pathlib import Path

from datacachalog.errors import DatacachalogError
from tests.projects import Project

if os.geteuid() == 0:
    # Python itself may be out of nobody's reach: let everything be imported before.
    with tempfile.TemporaryDirectory() as warm:
        project = Project(Path(warm))
        project.put("orders/a", b"1")
        project.catalog().sync()
    os.setgid({nobody})
    os.setuid({nobody})
project = Project(Path(sys.argv[1]))
project.put("orders/a", b"1")
project.put("orders/b", b"22")
for key in sys.argv[2:]:
    project.put(key, b"new")
try:
    (outcome,) = project.catalog().sync().outcomes
except DatacachalogError as exc:
    print(json.dumps({{"error": str(exc), "hint": exc.hint, "kind": type(exc).__name__}}))
else:
    counts = {{"hits": outcome.hits, "linked": outcome.linked, "downloaded": outcome.downloaded}}
    print(json.dumps(counts))
"""


@pytest.fixture
def shared() -> Iterator[Project]:
    """Give a project with two files in place, in a folder that everyone can reach."""
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o777)
        project = Project(Path(base))
        project.put("orders/a", b"1")
        project.put("orders/b", b"22")
        project.catalog(orders()).sync()
        yield project
        allow(project.base, 0o700)


def allow(folder: Path, mode: int) -> None:
    """Give every folder below `folder` these permissions."""
    for path in (folder, *(p for p in folder.rglob("*") if p.is_dir() and not p.is_symlink())):
        path.chmod(mode)


def sync_as_nobody(project: Project, *new: str) -> dict[str, Any]:
    """Sync as a user who owns nothing here, with these new objects at the source."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(nobody=NOBODY), str(project.base), *new],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_everything_read_only_is_still_up_to_date(shared: Project) -> None:
    """A checkout that somebody else keeps can be asked."""
    allow(shared.base, 0o555)

    assert sync_as_nobody(shared) == {"hits": 2, "linked": 0, "downloaded": 0}


def test_a_read_only_cache_still_gives_what_it_has(shared: Project) -> None:
    """To another user's project, as copies where the system forbids links."""
    allow(shared.cache, 0o555)
    other = Project(shared.base / "other")
    other.base.mkdir()
    other.base.chmod(0o777)
    (other.base / "cache").symlink_to(shared.cache)

    assert sync_as_nobody(other) == {"hits": 0, "linked": 2, "downloaded": 0}
    assert other.files() == {"a": b"1", "b": b"22"}


def test_a_read_only_cache_that_lacks_something_is_a_clear_error(shared: Project) -> None:
    """Where it is, why, and what to do."""
    allow(shared.cache, 0o555)
    allow(shared.root, 0o777)
    found = sync_as_nobody(shared, "orders/c")

    assert found == {
        "kind": "CacheError",
        "error": f"the cache cannot take the file: Permission denied ('{shared.cache}/v1/tmp')",
        "hint": "make room (`dcl cache prune`), or set DCL_CACHE_DIR to a larger disk",
    }
    assert shared.files() == {"a": b"1", "b": b"22"}


def test_a_read_only_data_folder_is_a_clear_error(shared: Project) -> None:
    """Nothing is placed, and nothing is left."""
    allow(shared.base, 0o777)
    allow(shared.data, 0o555)
    found = sync_as_nobody(shared, "orders/c")

    assert found["kind"] == "CacheError"
    assert found["error"] == (f"'{shared.data}/orders/c' cannot be put in place: Permission denied")
    assert shared.files() == {"a": b"1", "b": b"22"}
    assert shared.debris() == []


def test_a_read_only_state_folder_is_a_clear_error(shared: Project) -> None:
    """Before anything visible changes."""
    allow(shared.base, 0o777)
    allow(shared.root / ".datacachalog", 0o555)
    found = sync_as_nobody(shared, "orders/c")

    assert found["kind"] == "CacheError"
    assert found["error"].startswith(f"'{shared.root}/.datacachalog/state/orders.coming' cannot")
    assert shared.files() == {"a": b"1", "b": b"22"}
    assert shared.debris() == []
