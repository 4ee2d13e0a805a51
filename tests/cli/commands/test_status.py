"""Commands on what is here: status, show."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Dcl


def _cells(line: str) -> list[str]:
    return [cell for cell in line.split("  ") if cell]


def test_status_before_any_sync(dcl: Dcl, project: Path) -> None:
    """Datasets that were never fetched say so, and what a sync would bring."""
    ran = dcl("status")
    head, one, parts = ran.out.splitlines()

    assert ran.code == 0
    assert head.split() == ["NAME", "STATUS", "FILES", "SIZE", "CHANGES", "CHECKED"]
    assert [cell.strip() for cell in _cells(one)][:2] == ["one", "not fetched"]
    assert "2 to download (12 B)" in parts
    assert ran.err == "2 datasets: 2 not fetched\n"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        pytest.param(lambda root: None, "up to date", id="up-to-date"),
        pytest.param(
            lambda root: (root / "raw/one.txt").write_text("changed"), "stale", id="stale"
        ),
        pytest.param(
            lambda root: (root / "data/one/one.txt").unlink(), "incomplete", id="incomplete"
        ),
        pytest.param(lambda root: (root / "raw/one.txt").unlink(), "error", id="error"),
    ],
)
def test_status_has_one_word_for_each_state(
    dcl: Dcl, project: Path, change: object, word: str
) -> None:
    """Meaning is in words, never in colour."""
    dcl("sync")
    change(project)  # type: ignore[operator]  # one of the functions above

    assert json.loads(dcl("status", "one", "--json").out)["datasets"][0]["status"] == word


def test_an_edited_file_is_shown_and_kept(dcl: Dcl, project: Path) -> None:
    """A file that was replaced here is named in the table."""
    dcl("sync")
    (project / "data/one/one.txt").unlink()
    (project / "data/one/one.txt").write_text("my own text")
    out = dcl("status", "one").out

    assert "edited" in out
    assert "one.txt: edited since it was put there" in out


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        pytest.param(["status"], 0, id="without-check"),
        pytest.param(["status", "--check"], 3, id="check"),
        pytest.param(["status", "--check", "--json"], 3, id="check-json"),
        pytest.param(["status", "parts", "--check"], 0, id="check-another"),
    ],
)
def test_check_is_a_verdict(dcl: Dcl, project: Path, argv: list[str], code: int) -> None:
    """`--check` exits with 3 if something is not up to date; `status` alone never does."""
    dcl("sync")
    (project / "raw/one.txt").write_text("changed")

    assert dcl(*argv).code == code


def test_a_source_that_fails_is_no_verdict(dcl: Dcl, project: Path) -> None:
    """What could not be compared exits with 1 and is explained on standard error."""
    (project / "raw/one.txt").unlink()
    ran = dcl("status", "--check")

    assert ran.code == 1
    assert "error: one: there is no file" in ran.err


def test_list_with_status_is_the_status(dcl: Dcl, project: Path) -> None:
    """`dcl list --status` compares, too."""
    dcl("sync")

    assert dcl("list", "--status").out == dcl("status").out


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_status_fits_its_terminal(dcl_tty: Dcl, project: Path, columns: int) -> None:
    """On a terminal no line of the table wraps."""
    out = dcl_tty("status", "--color=never", columns=columns).out

    assert max(len(line) for line in out.splitlines()) <= columns


def test_show_tells_all_that_is_said(dcl: Dcl, project: Path) -> None:
    """Each key of the catalog that is set is a line, and what is on disk."""
    (project / "catalog.yaml").write_text(
        "datasets:\n  one: {source: raw/one.txt, owner: me, max_age: 10 minutes, push: true,\n"
        "    metadata: {ticket: DATA-1}, tags: [a, b], path: in/one}\n"
    )
    dcl("sync")
    lines = dcl("show", "one").out.splitlines()

    assert [line.split("  ")[0] for line in lines] == [
        "name",
        "owner",
        "tags",
        "source",
        "lands in",
        "push",
        "trusted for",
        "metadata",
        "declared in",
        "on disk",
    ]
    assert lines[-1].split(maxsplit=2)[2] == "1 file, 4 B, checked just now"


def test_show_of_what_is_not_here(dcl: Dcl, project: Path) -> None:
    """A dataset that was never fetched is shown all the same."""
    ran = dcl("show", "parts")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[-1].split(maxsplit=2)[2] == "not fetched"


def test_show_as_json(dcl: Dcl, project: Path) -> None:
    """The document holds the dataset, and its state if there is one."""
    assert json.loads(dcl("show", "one", "--json").out)["on_disk"] is None
    dcl("sync")

    assert json.loads(dcl("show", "one", "--json").out)["on_disk"]["files"] == 1
