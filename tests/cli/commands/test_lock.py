"""Commands on the lock and on time: lock, outdated, versions, and the lock's modes."""

import json
from pathlib import Path

import pytest

from datacachalog.catalog import load_catalog
from datacachalog.lock.file import read
from tests.cli.conftest import Dcl, Timeline


def lines(text: str) -> list[str]:
    """Return the lines of a stream."""
    return text.splitlines()


# --- lock ---------------------------------------------------------------------------------------


def test_lock_says_what_it_did(dcl: Dcl, timeline: Timeline) -> None:
    """Once it adds, then it keeps; nothing is data."""
    first, second = dcl("lock"), dcl("lock")

    assert (first.code, first.out, first.err) == (0, "", "catalog.lock written: 3 added\n")
    assert (second.code, second.out, second.err) == (0, "", "catalog.lock is as it was: 3 kept\n")


def test_lock_upgrade_shows_what_moved(dcl: Dcl, timeline: Timeline) -> None:
    """A line for each dataset that moved, and the sum."""
    dcl("lock")
    timeline.move_on()
    ran = dcl("lock", "--upgrade", "orders")
    rest = dcl("lock", "--upgrade")

    assert (ran.code, ran.err) == (0, "catalog.lock written: 1 moved, 2 kept\n")
    assert lines(ran.out) == [
        "NAME    ADDED  REMOVED  CHANGED    BYTES",
        "orders      1        1        1  +4.9 kB",
    ]
    assert (rest.code, rest.err) == (0, "catalog.lock written: 1 moved, 2 kept\n")
    assert "raw " in rest.out


def test_lock_counts_what_left_and_what_failed(dcl: Dcl, timeline: Timeline) -> None:
    """One failing dataset does not stop the others; its error names it."""
    dcl("lock")
    catalog = timeline.root / "catalog.yaml"
    catalog.write_text(catalog.read_text().replace("raw: raw.txt", "new: new.txt"))
    timeline.add("more: catalog.yaml")
    ran = dcl("lock")

    assert ran.code == 1
    assert lines(ran.err)[0] == "catalog.lock written: 1 added, 1 removed, 2 kept, 1 failed"
    assert lines(ran.err)[1].startswith("error: new: there is no file at file:///")


def test_lock_check_asks_no_network(dcl: Dcl, timeline: Timeline) -> None:
    """It says where catalog and lock disagree, on standard output, and exits with 3."""
    missing = dcl("lock", "--check")
    dcl("lock")
    good = dcl("lock", "--check")
    timeline.bucket.client.delete_objects(
        Bucket=timeline.bucket.name, Delete={"Objects": [{"Key": "prices.csv"}]}
    )
    timeline.add("more: raw.txt")
    bad = dcl("lock", "--check")
    other = dcl("lock", "--check", "orders")

    assert (missing.code, missing.out) == (3, "there is no 'catalog.lock'\n")
    assert (good.code, good.out, good.err) == (0, "", "catalog.lock fits the catalog\n")
    assert (bad.code, bad.out) == (3, "'more' is in the catalog, but not in the lock\n")
    assert bad.err == "catalog.lock does not fit the catalog; run `dcl lock`\n"
    assert other.code == 0


def test_lock_check_and_upgrade_exclude_each_other(dcl: Dcl, timeline: Timeline) -> None:
    """One looks, the other changes."""
    ran = dcl("lock", "--check", "--upgrade")

    assert (ran.code, ran.err) == (2, "error: `--check` and `--upgrade` exclude each other\n")


def test_lock_as_json(dcl: Dcl, timeline: Timeline) -> None:
    """Names by what became of them, differences of what moved, errors by name."""
    added = json.loads(dcl("lock", "--json").out)
    timeline.move_on()
    (timeline.root / "raw.txt").unlink()
    ran = dcl("lock", "--upgrade", "--json")
    moved = json.loads(ran.out)
    check = json.loads(dcl("lock", "--check", "--json").out)

    assert added == {
        "schema_version": 1,
        "kind": "lock",
        "changed": True,
        "added": ["orders", "prices", "raw"],
        "kept": [],
        "moved": [],
        "removed": [],
        "errors": {},
    }
    assert (ran.code, moved["kept"], list(moved["errors"])) == (1, ["prices", "raw"], ["raw"])
    assert moved["errors"]["raw"]["type"] == "ObjectNotFoundError"
    assert [dataset["name"] for dataset in moved["moved"]] == ["orders"]
    assert check == {
        "schema_version": 1,
        "kind": "lock_check",
        "agrees": True,
        "disagreements": [],
    }


def test_a_damaged_lock_is_a_usage_error(dcl: Dcl, timeline: Timeline) -> None:
    """After a merge the error says how to resolve it, wherever the command runs."""
    dcl("lock")
    path = timeline.root / "catalog.lock"
    text = path.read_text()
    path.write_text(text.replace('{"dataset":"prices"', '<<<<<<< HEAD\n{"dataset":"prices"'))
    ran = dcl("sync")
    ignoring = dcl("sync", "--no-lock")

    assert ran.code == 2
    assert lines(ran.err) == [
        "error: catalog.lock:5: the file holds an unresolved merge",
        "hint: `git checkout --ours catalog.lock` (or --theirs), then `dcl lock`, then"
        " `git add catalog.lock`",
    ]
    assert ignoring.code == 0


# --- obeying it ---------------------------------------------------------------------------------


def test_sync_says_what_the_lock_got(dcl: Dcl, timeline: Timeline) -> None:
    """In one line, after the one that says what was done; the next sync has nothing to say."""
    dcl("lock")
    timeline.add("more: raw.txt")
    catalog = timeline.root / "catalog.yaml"
    catalog.write_text(catalog.read_text().replace("orders/**", "orders/*"))
    first, second = dcl("sync"), dcl("sync")

    assert lines(first.err)[-1] == (
        "catalog.lock: added 'more', replaced 'orders', changed in the catalog, filled in the"
        " hashes of 1 dataset"
    )
    assert lines(second.err)[-1].startswith("5 up to date")


def test_sync_tells_programs_what_the_lock_got(dcl: Dcl, timeline: Timeline) -> None:
    """The document has the names."""
    dcl("lock")
    timeline.add("more: raw.txt")
    document = json.loads(dcl("sync", "--json").out)

    assert document["lock"] == {"added": ["more"], "changed": [], "hashed": ["orders", "prices"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--locked", "--frozen"], "`--locked` and `--frozen` exclude each other"),
        (["--frozen", "--no-lock"], "`--frozen` and `--no-lock` exclude each other"),
        (
            ["--frozen", "--as-of", "2026-02-03"],
            "`--frozen` takes what the lock has, and 2026-02-03 is another state",
        ),
        (["--locked"], "the lock does not fit the catalog: 'more' is in the catalog, but not in"
                       " the lock"),
        (["--frozen"], "'more' is not in the lock"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["sync", "fetch", "status"])
def test_a_lock_that_cannot_be_used_stops_before_anything_is_done(
    dcl: Dcl, timeline: Timeline, command: str, options: list[str], message: str
) -> None:
    """The call or the lock is wrong: exit code 2, one sentence, nothing on disk."""
    dcl("lock")
    timeline.add("more: raw.txt")
    ran = dcl(command, *options, *(["--all"] if command == "fetch" else []))

    assert (ran.code, ran.out) == (2, "")
    assert lines(ran.err)[0] == f"error: {message}"
    assert not (timeline.root / "data").exists()


def test_frozen_gets_the_old_bytes(dcl: Dcl, timeline: Timeline) -> None:
    """After the source moved on, and in every command that takes it."""
    dcl("lock")
    timeline.bucket.put("prices.csv", b"moved on")
    fetched = dcl("fetch", "prices", "--frozen")
    status = dcl("status", "prices", "--frozen", "--check")

    assert Path(fetched.out.strip()).read_bytes() == b"22"
    assert status.code == 0


def test_status_shows_what_is_locked(dcl: Dcl, dcl_tty: Dcl, timeline: Timeline) -> None:
    """In a column with the pin, and in the document."""
    timeline.add('then: {source: "raw.txt", as_of: 2099-01-01}')
    dcl("lock", "orders", "then")
    dcl("sync", "orders", "then")
    table = dcl_tty("status", "orders", "then", "raw").out
    document = json.loads(dcl("status", "--json").out)

    assert [line.split()[-4:] for line in lines(table)[1:]] == [
        ["2", "101", "B", "locked"],
        ["3", "B", "2099-01-01,", "locked"],
        lines(table)[3].split()[-4:],
    ]
    assert "locked" not in lines(table)[3]
    assert {d["name"]: d["locked"] for d in document["datasets"]} == {
        "orders": True,
        "prices": False,
        "raw": False,
        "then": True,
    }


def test_show_says_what_is_locked(dcl: Dcl, timeline: Timeline) -> None:
    """Asking nobody, before and after a sync."""
    dcl("lock")
    before = lines(dcl("show", "prices").out)[-1]
    dcl("sync", "prices")

    assert before.endswith("locked; not fetched")
    assert lines(dcl("show", "prices").out)[-1].endswith("locked; 1 file, 2 B")


def test_push_moves_the_lock(dcl: Dcl, timeline: Timeline) -> None:
    """And says so; the next sync moves nothing."""
    dcl("sync")
    dcl("lock")
    (timeline.root / "new.csv").write_bytes(b"333")
    ran = dcl("push", "prices", "new.csv")

    assert ran.code == 0
    assert lines(ran.err)[-1] == "catalog.lock: moved 'prices' to what was uploaded"
    assert lines(dcl("sync", "prices").err)[0] == "prices: 1 up to date (3 B)"
    assert dcl("outdated", "prices").code == 0


# --- outdated -----------------------------------------------------------------------------------


def test_outdated_is_a_verdict(dcl: Dcl, dcl_tty: Dcl, timeline: Timeline) -> None:
    """Exit code 3 if something would move; a table at a terminal and in a pipe."""
    dcl("lock")
    before = dcl("outdated")
    timeline.move_on()
    after, tty = dcl("outdated"), dcl_tty("outdated", "orders", columns=80)

    assert (before.code, before.out) == (0, "")
    assert before.err == "nothing moved since catalog.lock was written\n"
    assert after.code == 3
    assert lines(after.out) == [
        "NAME    ADDED  REMOVED  CHANGED    BYTES",
        "orders      1        1        1  +4.9 kB",
        "raw         0        0        1      0 B",
    ]
    assert after.err == "2 datasets would move with `dcl lock --upgrade`\n"
    assert (tty.code, len(lines(tty.out))) == (3, 2)
    assert all(len(line) <= 80 for line in lines(tty.out))


def test_outdated_shows_what_it_can(dcl: Dcl, timeline: Timeline) -> None:
    """A dataset whose source is gone is an error, exit code 1; the rest is shown."""
    dcl("lock")
    timeline.move_on()
    (timeline.root / "raw.txt").unlink()
    ran = dcl("outdated")
    document = json.loads(dcl("outdated", "--json").out)

    assert ran.code == 1
    assert [line.split()[0] for line in lines(ran.out)] == ["NAME", "orders"]
    assert lines(ran.err)[0].startswith("error: raw: there is no file at file://")
    assert [(d["name"], d["error"] is None) for d in document["datasets"]] == [
        ("orders", True),
        ("raw", False),
    ]


def test_outdated_needs_a_lock(dcl: Dcl, timeline: Timeline) -> None:
    """Without one there is nothing to compare."""
    ran = dcl("outdated")

    assert (ran.code, ran.out) == (2, "")
    assert lines(ran.err) == ["error: there is no 'catalog.lock'", "hint: run `dcl lock`"]


# --- versions -----------------------------------------------------------------------------------


def test_versions_of_a_single_object(dcl: Dcl, timeline: Timeline) -> None:
    """Times that can be pasted, sizes, what happened; ids only when asked."""
    timeline.bucket.delete("prices.csv")
    ran = dcl("versions", "prices", "--limit", "3")
    rows = lines(ran.out)

    assert (ran.code, ran.err) == (0, "")
    assert rows[0] == "TIME                  SIZE  CHANGE"
    assert rows[1].endswith("deleted, latest")
    assert rows[2:] == [
        "2026-02-04T09:30:05Z   2 B  written",
        "2026-02-03T09:30:05Z   1 B  written",
    ]
    assert len(lines(dcl("versions", "prices", "--ids").out)[2].split()) == 5


def test_version_ids_are_whole(dcl: Dcl, dcl_tty: Dcl, timeline: Timeline) -> None:
    """An id that was cut is of no use: at a narrow terminal, other columns give way."""
    rows = json.loads(dcl("versions", "orders", "--json").out)["versions"]
    shown = lines(dcl_tty("versions", "orders", "--ids", columns=60).out)

    assert [line.rpartition(" ")[2] for line in shown[2::2]] == [v["version_id"] for v in rows]
    assert all(len(line) <= 60 for line in shown)


def test_a_time_of_versions_fits_as_of(dcl: Dcl, timeline: Timeline) -> None:
    """What is shown is what brings that version here."""
    dcl("sync", "prices")
    time = lines(dcl("versions", "prices").out)[2].split()[0]
    ran = dcl("fetch", "prices", "--as-of", time)

    assert ran.out == f"{timeline.root}/data/prices@2026-02-03T093005Z/prices.csv\n"
    assert Path(ran.out.strip()).read_bytes() == b"1"
    assert (timeline.root / "data/prices/prices.csv").read_bytes() == b"22"


def test_sync_says_where_another_state_landed(dcl: Dcl, timeline: Timeline) -> None:
    """Beside what is in place; a plain sync needs no such line."""
    ran = dcl("sync", "prices", "--as-of", "2026-02-03")
    plain = dcl("sync", "prices")

    assert lines(ran.err)[1] == "prices: in data/prices@2026-02-03"
    assert not any(": in " in line for line in lines(plain.err))


def test_versions_of_many_files(dcl: Dcl, dcl_tty: Dcl, timeline: Timeline) -> None:
    """One table with each file's name above its rows."""
    timeline.bucket.put("orders/b.csv", b"bb")
    expected = [
        "  TIME                   SIZE  CHANGE",
        "a.csv",
        "  2026-02-01T09:30:05Z  100 B  written, latest",
    ]

    assert lines(dcl("versions", "orders", "--as-of", "2026-02-01").out) == expected
    assert lines(dcl_tty("versions", "orders", "--color", "never").out)[:3] == expected
    assert lines(dcl("versions", "orders", "--key", "b*", "--limit", "1").out)[1:2] == ["b.csv"]


def test_versions_as_json(dcl: Dcl, timeline: Timeline) -> None:
    """Everything, the ids too."""
    document = json.loads(dcl("versions", "prices", "--json", "--limit", "1").out)
    (version,) = document.pop("versions")
    version_id = version.pop("version_id")

    assert document == {"schema_version": 1, "kind": "versions", "dataset": "prices"}
    assert version == {
        "path": "prices.csv",
        "uri": timeline.bucket.uri("prices.csv"),
        "time": "2026-02-04T09:30:05Z",
        "etag": "b6d767d2f8ed5d21a44b0e5886680cb9",
        "size": 2,
        "is_latest": True,
        "is_delete_marker": False,
    }
    assert dcl("fetch", "prices", "--version-id", version_id).code == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["prices", "--as-of", "2026-01-01"], 0, "'prices' has no versions as of 2026-01-01"),
        (["orders", "--key", "z"], 0, "'orders' has no versions of 'z'"),
        (["raw"], 1, "error: file://{root}/raw.txt is a local file: a disk keeps no history"),
        (["prices", "--as-of", "2026-02-01T10:00"], 2, "error: '2026-02-01T10:00' has no time"
                                                       " zone"),
        (["prices", "--limit", "-1"], 2, "error: "),
    ],
    ids=["nothing then", "no such file", "no history", "naive", "negative"],
)  # fmt: skip
def test_versions_that_are_not_there(
    dcl: Dcl, timeline: Timeline, words: list[str], code: int, message: str
) -> None:
    """Each in one sentence."""
    ran = dcl("versions", *words)

    assert (ran.code, ran.out) == (code, "")
    assert lines(ran.err)[0].startswith(message.format(root=timeline.root))


# --- a file that others read too ----------------------------------------------------------------


def test_the_catalogs_name_is_the_locks(dcl: Dcl, timeline: Timeline) -> None:
    """`core.yaml` has `core.lock`; git sees no other new file."""
    (timeline.root / "catalog.yaml").rename(timeline.root / "core.yaml")
    ran = dcl("-c", "core.yaml", "lock")
    dcl("-c", "core.yaml", "sync")

    assert ran.err == "core.lock written: 3 added\n"
    assert sorted(path.name for path in timeline.root.iterdir()) == [
        ".datacachalog", "core.lock", "core.yaml", "data", "raw.txt",
    ]  # fmt: skip
    assert [path.name for path in (timeline.root / ".datacachalog").iterdir()] == ["state"]


def test_what_the_command_line_wrote_python_reads(dcl: Dcl, timeline: Timeline) -> None:
    """The same lock, whoever made it."""
    dcl("lock")
    before = read(timeline.root / "catalog.lock")
    (timeline.root / "catalog.lock").unlink()
    load_catalog().lock()

    assert read(timeline.root / "catalog.lock") == before
