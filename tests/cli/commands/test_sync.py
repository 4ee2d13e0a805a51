"""Commands that bring data here, on local sources: sync, fetch, path, get."""

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import Dcl


def _lines(text: str) -> list[str]:
    return text.splitlines()


def test_sync_says_what_it_did(dcl: Dcl, project: Path) -> None:
    """A line per dataset and one for the run, on standard error; nothing is data."""
    ran = dcl("sync")

    assert (ran.code, ran.out) == (0, "")
    assert sorted(_lines(ran.err)[:2]) == ["one: 1 downloaded (4 B)", "parts: 2 downloaded (12 B)"]
    assert _lines(ran.err)[2].startswith("3 downloaded (16 B in ")
    assert (project / "data/one/one.txt").read_text() == "one\n"


def test_sync_again_has_nothing_to_do(dcl: Dcl, project: Path) -> None:
    """The second run tells that all is up to date."""
    dcl("sync")

    assert _lines(dcl("sync").err)[-1].startswith("3 up to date (16 B in ")


def test_sync_links_what_the_cache_has(dcl: Dcl, project: Path) -> None:
    """Files that vanished here come from the cache."""
    dcl("sync")
    (project / "data/one/one.txt").unlink()

    assert _lines(dcl("sync", "one").err)[-1].startswith("1 linked from cache (4 B in ")


def test_sync_removes_what_vanished(dcl: Dcl, project: Path) -> None:
    """Files gone at the source are counted as removed."""
    dcl("sync")
    (project / "raw/parts/2.csv").unlink()

    assert _lines(dcl("sync", "parts").err)[-1].startswith("1 up to date, 1 removed (8 B in ")


def test_one_failure_leaves_the_others_done(dcl: Dcl, project: Path) -> None:
    """The run goes on, names what failed, and exits with 1."""
    (project / "raw/one.txt").unlink()
    ran = dcl("sync")

    assert (ran.code, ran.out) == (1, "")
    assert any(line.startswith("error: one: there is no file") for line in _lines(ran.err))
    assert _lines(ran.err)[-1].startswith("2 downloaded, 1 dataset failed (12 B in ")
    assert (project / "data/parts/2.csv").is_file()


def test_quiet_says_only_what_failed(dcl: Dcl, project: Path) -> None:
    """`-q` leaves errors and the exit code."""
    assert dcl("sync", "-q").err == ""
    (project / "raw/one.txt").unlink()
    ran = dcl("sync", "-q", "--refresh")

    assert ran.code == 1
    assert all(line.startswith(("error: one: ", "hint: ")) for line in _lines(ran.err))


def test_a_users_own_file_is_an_error_that_names_it(dcl: Dcl, project: Path) -> None:
    """A file that is not ours is left alone, and the run says so."""
    (project / "data/one").mkdir(parents=True)
    (project / "data/one/one.txt").write_text("mine, and longer")
    ran = dcl("sync", "one")

    assert ran.code == 1
    assert "one.txt" in ran.err
    assert (project / "data/one/one.txt").read_text() == "mine, and longer"


def test_dry_run_tells_what_and_why(dcl: Dcl, project: Path) -> None:
    """Each file has a line with its reason; nothing is done."""
    ran = dcl("sync", "--dry-run")

    assert ran.code == 0
    assert _lines(ran.out) == [
        "one: 1 to download (4 B)",
        "  download  one.txt  4 B  new",
        "parts: 2 to download (12 B)",
        "  download  2.csv    4 B  new",
        "  download  a/1.csv  8 B  new",
    ]
    assert ran.err == "dry run: 3 to download (16 B); nothing was done\n"
    assert not (project / "data").exists()


def test_dry_run_shows_few_of_many_files(dcl: Dcl, project: Path) -> None:
    """Twenty files are enough to see what is going on; `-v` shows all."""
    for i in range(30):
        (project / f"raw/parts/p{i:02}.csv").write_text("x")

    assert _lines(dcl("sync", "parts", "--dry-run").out)[-1] == "  … and 12 more; `-v` shows all"
    assert len(_lines(dcl("sync", "parts", "--dry-run", "-v").out)) == 33


def test_dry_run_as_json(dcl: Dcl, project: Path) -> None:
    """The steps are data: what, to which file, how large, why."""
    dcl("sync", "parts")
    (project / "raw/parts/2.csv").write_text("changed")
    (project / "raw/parts/a/1.csv").unlink()
    document = json.loads(dcl("sync", "parts", "--dry-run", "--json").out)
    dataset = document["datasets"][0]

    assert (document["kind"], document["dry_run"], dataset["name"]) == ("plan", True, "parts")
    assert [(s["do"], s["path"], s["size"]) for s in dataset["steps"]] == [
        ("download", "2.csv", 7),
        ("remove", "a/1.csv", None),
    ]
    assert dataset["steps"][1]["reason"] == "gone at the source"


def test_sync_as_json(dcl: Dcl, project: Path) -> None:
    """The report holds counts, bytes and errors by dataset, in the catalog's order."""
    (project / "raw/one.txt").unlink()
    ran = dcl("sync", "--json")
    one, parts = json.loads(ran.out)["datasets"]

    assert ran.code == 1
    assert one["error"]["type"] == "ObjectNotFoundError"
    assert (parts["name"], parts["downloaded"], parts["downloaded_bytes"]) == ("parts", 2, 12)


def test_fetch_prints_paths_and_nothing_else(dcl: Dcl, project: Path) -> None:
    """Standard output is one path a line, in the order asked for."""
    ran = dcl("fetch", "parts", "one")

    assert ran.code == 0
    assert _lines(ran.out) == [
        str(project / "data/parts/2.csv"),
        str(project / "data/parts/a/1.csv"),
        str(project / "data/one/one.txt"),
    ]


def test_fetch_prints_what_it_could_get(dcl: Dcl, project: Path) -> None:
    """Paths of the datasets that are done are printed, though another failed."""
    (project / "raw/one.txt").unlink()
    ran = dcl("fetch", "--all")

    assert ran.code == 1
    assert len(_lines(ran.out)) == 2


@pytest.mark.parametrize("argv", [[], ["one", "--all"]], ids=["neither", "both"])
def test_fetch_needs_names_or_all(dcl: Dcl, project: Path, argv: list[str]) -> None:
    """`dcl fetch` alone is too likely a mistake to fetch everything."""
    ran = dcl("fetch", *argv)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: `dcl fetch` needs the names of datasets, or `--all`\n")


def test_fetch_as_json(dcl: Dcl, project: Path) -> None:
    """Paths come as lists by dataset."""
    document = json.loads(dcl("fetch", "one", "--json").out)

    assert document["paths"] == [{"name": "one", "paths": [str(project / "data/one/one.txt")]}]


def test_fetch_as_of_prints_where_that_state_lies(dcl: Dcl, project: Path) -> None:
    """An ad-hoc pin lands beside the dataset, and that is what is printed."""
    os.utime(project / "raw/one.txt", (1_600_000_000, 1_600_000_000))
    ran = dcl("fetch", "one", "--as-of", "2024-12-10")

    assert (ran.code, ran.out) == (0, f"{project}/data/one@2024-12-10/one.txt\n")


def test_one_version_is_of_one_dataset(dcl: Dcl, project: Path) -> None:
    """`--version-id` with several datasets is a usage error."""
    assert dcl("sync", "--version-id", "abc").code == 2


@pytest.mark.parametrize("value", ["0", "257", "many"])
def test_jobs_are_a_number_in_bounds(dcl: Dcl, project: Path, value: str) -> None:
    """A wrong number of jobs is a usage error that names the option."""
    ran = dcl("sync", "--jobs", value)

    assert (ran.code, ran.out) == (2, "")
    assert "--jobs" in ran.err


def test_jobs_have_a_twin(dcl: Dcl, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong `DCL_JOBS` is told by that name."""
    monkeypatch.setenv("DCL_JOBS", "many")

    assert "DCL_JOBS" in dcl("sync").err
    assert dcl("list").code == 0


def test_path_prints_without_looking(dcl: Dcl, project: Path) -> None:
    """`dcl path` answers from the last sync, also when the source is gone."""
    dcl("sync", "one")
    (project / "raw/one.txt").unlink()
    ran = dcl("path", "one")

    assert (ran.code, ran.out, ran.err) == (0, f"{project}/data/one/one.txt\n", "")


def test_path_of_what_was_not_fetched(dcl: Dcl, project: Path) -> None:
    """Without a sync there is no path: exit code 1, and the command to run."""
    ran = dcl("path", "one")

    assert (ran.code, ran.out) == (1, "")
    assert "hint: run `dcl sync one`" in ran.err


def test_get_needs_no_catalog(dcl: Dcl, project: Path) -> None:
    """`dcl get` copies what a URI names and prints where it is."""
    (project / "catalog.yaml").unlink()
    ran = dcl("get", f"file://{project}/raw/one.txt", "copy.txt")

    assert ran.code == 0
    assert (project / "copy.txt").read_text() == "one\n"
    assert Path(ran.out.rstrip("\n")).resolve() == project / "copy.txt"


def test_get_of_a_scheme_that_is_none(dcl: Dcl, project: Path) -> None:
    """A scheme that is not spoken is a usage error."""
    ran = dcl("get", "ftp://x/y")

    assert ran.code == 2
    assert "ftp" in ran.err


def test_progress_on_a_terminal_leaves_no_trace(dcl_tty: Dcl, project: Path) -> None:
    """What was drawn is erased; the closing line stands alone."""
    err = dcl_tty("sync", "--color=never").err

    assert _lines(err)[-1].rpartition("\x1b[2K")[2].startswith("3 downloaded (16 B in ")
    assert "one: 1 downloaded" not in err


def test_no_progress_gives_plain_lines(dcl_tty: Dcl, project: Path) -> None:
    """`--no-progress` on a terminal is as in a pipe."""
    assert "one: 1 downloaded (4 B)\n" in dcl_tty("sync", "--no-progress", "--color=never").err


def test_options_of_the_lock_exclude_each_other(dcl: Dcl, project: Path) -> None:
    """A run can mean only one thing by the lock."""
    ran = dcl("sync", "--frozen", "--no-lock")

    assert ran.code == 2
    assert ran.err == "error: `--frozen` and `--no-lock` exclude each other\n"


def test_secrets_of_a_catalog_stay_in_the_environment(
    dcl: Dcl, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No byte of them gets into the cache or the state."""
    monkeypatch.setenv("LAB_KEY", "AKIA-s3cr3t")
    path = project / "catalog.yaml"
    path.write_text(
        path.read_text() + 'storages: {lab: {key: "${LAB_KEY}", secret: "${LAB_KEY}"}}\n'
    )
    dcl("sync", "-q")
    written = [p.read_bytes() for p in project.parent.rglob("*") if p.is_file()]

    assert not any(b"s3cr3t" in data for data in written)
