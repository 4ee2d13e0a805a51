"""The command diff: for a person, a program, and a pull request."""

import io
import json
import re
import sys

import pytest

from datacachalog.cli.commands.diff import _code
from tests.cli.conftest import Dcl, Timeline


def lines(text: str) -> list[str]:
    """Return the lines of a stream."""
    return text.splitlines()


@pytest.fixture
def moved(dcl: Dcl, timeline: Timeline) -> Timeline:
    """Give a project whose source moved on after it was locked."""
    dcl("lock")
    timeline.move_on()
    return timeline


MOVED = [
    "orders: 1 added, 1 removed, 1 changed (+4.9 kB)",
    "  ~  a.csv  100 B  5.0 kB",
    "  -  b.csv    1 B",
    "  +  c.csv            3 B",
    "raw: 1 changed (0 B)",
    "  ~  raw.txt  3 B  3 B",
]


def test_diff_shows_files_and_sizes(dcl: Dcl, dcl_tty: Dcl, moved: Timeline) -> None:
    """From the lock to the latest; the same at a terminal of 80 columns as in a pipe."""
    ran = dcl("diff")
    tty = dcl_tty("diff", "--color", "never", columns=80)

    assert (ran.code, lines(ran.out), ran.err) == (0, MOVED, "")
    assert lines(tty.out) == MOVED
    assert "\x1b[31m" in dcl_tty("diff").out


def test_long_keys_fit_the_terminal(dcl: Dcl, dcl_tty: Dcl, moved: Timeline) -> None:
    """They go on below at a terminal, and are one word in a pipe."""
    key = f"orders/year=2026/{'long-' * 30}/part-00017.parquet"
    moved.bucket.put(key, b"x")
    relpath = key.removeprefix("orders/")
    shown = lines(dcl_tty("diff", "--color", "never", "--dataset", "orders", columns=80).out)

    assert max(len(line) for line in shown) <= 80
    assert relpath.removeprefix("year=2026/") in "".join("".join(shown).split())
    assert any(relpath in line for line in lines(dcl("diff").out))


def test_keys_can_do_a_terminal_no_harm(dcl: Dcl, moved: Timeline) -> None:
    """Escape sequences in a key are shown, not sent."""
    moved.bucket.put("orders/\x1b[31mred\u202e.csv", b"x")
    ran = dcl("diff")

    assert "\x1b" not in ran.out
    assert "~1B[31mred" in ran.out


def test_diff_stat_is_a_line_a_dataset(dcl: Dcl, moved: Timeline) -> None:
    """Counts and bytes, without files."""
    assert lines(dcl("diff", "--stat").out) == [
        "NAME    ADDED  REMOVED  CHANGED    BYTES",
        "orders      1        1        1  +4.9 kB",
        "raw         0        0        1      0 B",
    ]


@pytest.mark.parametrize(
    ("words", "code"),
    [([], 0), (["--exit-code"], 3), (["--exit-code", "--dataset", "prices"], 0)],
    ids=["unasked", "different", "equal"],
)
def test_diff_is_a_verdict_if_asked(dcl: Dcl, moved: Timeline, words: list[str], code: int) -> None:
    """`--exit-code` makes a difference 3."""
    assert dcl("diff", *words).code == code
    assert dcl("diff", *words, "--json").code == code


def test_no_difference_is_said(dcl: Dcl, timeline: Timeline) -> None:
    """On standard error: there is no data."""
    dcl("lock")
    ran = dcl("diff")

    assert (ran.code, ran.out, ran.err) == (0, "", "no difference\n")


def test_two_dates(dcl: Dcl, timeline: Timeline) -> None:
    """What happened in between; the second may be given as `--as-of`."""
    words = ("--dataset", "orders", "--dataset", "prices")
    first = dcl("diff", "2026-02-01", "2026-02-03", *words)
    second = dcl("diff", "2026-02-01", "--as-of", "2026-02-03", *words)

    assert first == second
    assert lines(first.out) == [
        "orders: 1 added (+1 B)",
        "  +  b.csv  1 B",
        "prices: 1 added (+1 B)",
        "  +  prices.csv  1 B",
    ]


def test_the_environments_instant_is_not_a_side(
    dcl: Dcl, moved: Timeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`DCL_AS_OF` is for what fetches; both sides of a comparison are said."""
    monkeypatch.setenv("DCL_AS_OF", "2026-02-01")

    assert lines(dcl("diff", "lock", "latest").out) == MOVED


def test_what_cannot_be_compared_does_not_hide_the_rest(dcl: Dcl, moved: Timeline) -> None:
    """A source without a history has no state at a date: an error, exit code 1."""
    ran = dcl("diff", "2026-02-01", "latest")
    document = json.loads(dcl("diff", "2026-02-01", "latest", "--json").out)

    assert ran.code == 1
    assert lines(ran.out)[0].startswith("orders: 1 added, 1 changed")
    assert lines(ran.err)[0].startswith("error: raw: 'file://")
    assert "keeps no history" in lines(ran.err)[0]
    (raw,) = (d for d in document["datasets"] if d["name"] == "raw")
    assert raw["error"]["type"] == "VersioningNotSupportedError"


def test_diff_as_json(dcl: Dcl, moved: Timeline) -> None:
    """Counts, bytes and each file with its sizes and versions."""
    document = json.loads(dcl("diff", "--json", "--dataset", "orders").out)
    (dataset,) = document.pop("datasets")
    files = dataset.pop("files")

    assert document == {"schema_version": 1, "kind": "diff"}
    assert dataset == {
        "name": "orders",
        "added": 1,
        "removed": 1,
        "changed": 1,
        "same": 0,
        "bytes": 4902,
        "download_bytes": 5003,
        "error": None,
    }
    assert [(f["path"], f["change"], f["size_before"], f["size_after"]) for f in files] == [
        ("a.csv", "changed", 100, 5000),
        ("b.csv", "removed", 1, None),
        ("c.csv", "added", None, 3),
    ]
    assert [(bool(f["version_before"]), bool(f["version_after"])) for f in files] == [
        (True, True),
        (True, False),
        (False, True),
    ]


# --- lock files ---------------------------------------------------------------------------------


@pytest.fixture
def old(dcl: Dcl, moved: Timeline, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Give the lock as it was before it moved; it also comes on standard input."""
    data = (moved.root / "catalog.lock").read_bytes()
    (moved.root / "old.lock").write_bytes(data)
    dcl("lock", "--upgrade")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    return data


@pytest.mark.parametrize("side", ["-", "old.lock", "./old.lock"])
def test_an_older_lock_is_a_side(dcl: Dcl, old: bytes, side: str) -> None:
    """From a file or from standard input, as `git show main:catalog.lock` gives it."""
    ran = dcl("diff", side, "lock")

    assert (ran.code, lines(ran.out)) == (0, MOVED)


def test_a_lock_on_the_right(dcl: Dcl, old: bytes) -> None:
    """Either side may be one."""
    assert lines(dcl("diff", "lock", "-").out)[0] == (
        "orders: 1 added, 1 removed, 1 changed (-4.9 kB)"
    )


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["-", "-"], "standard input can be only one of the sides", None),
        (["--exitcode"], "`dcl diff` has no option '--exitcode'", "did you mean `--exit-code`?"),
        (["lock", "--nope"], "`dcl diff` has no option '--nope'", "see `dcl diff --help`"),
        (["--json", "--markdown"], "`--json` and `--markdown` exclude each other", None),
        (
            ["lock", "latest", "--as-of", "2026"],
            "`--as-of` is the other side, and that is given already",
            None,
        ),
        (["latst"], "'latst' is no side of a comparison", "did you mean 'latest'?"),
        (["no.lock"], "there is no lock 'no.lock'", "check the path"),
        (["lock", "latest", "x"], "`dcl diff` does not take 'x'", "see `dcl diff --help`"),
        (["--dataset", "x"], "no dataset 'x'", "the catalog has 'orders', 'prices', 'raw'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_refused(
    dcl: Dcl, old: bytes, words: list[str], message: str, hint: str | None
) -> None:
    """Exit code 2, one sentence, and what to type instead."""
    ran = dcl("diff", *words)

    assert (ran.code, ran.out) == (2, "")
    expected = [f"error: {message}", *([f"hint: {hint}"] if hint else [])]
    assert lines(ran.err) == expected


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"fatal: no such path"])
def test_what_comes_in_and_is_no_lock(
    dcl: Dcl, moved: Timeline, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    """A failed `git show` before the pipe is told as what it is."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    ran = dcl("diff", "-", "lock")

    assert (ran.code, ran.out) == (2, "")
    assert lines(ran.err)[0].startswith("error: standard input:")


# --- Markdown -----------------------------------------------------------------------------------


def test_diff_as_markdown(dcl: Dcl, moved: Timeline) -> None:
    """A table of datasets, and the files of each folded away below it."""
    ran = dcl("diff", "--markdown", "--dataset", "orders")

    assert lines(ran.out) == [
        "| dataset | added | removed | changed | bytes |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| `orders` | 1 | 1 | 1 | +4.9 kB |",
        "",
        "<details><summary>orders: 1 added, 1 removed, 1 changed (+4.9 kB)</summary>",
        "",
        "| | file | before | after |",
        "| --- | --- | ---: | ---: |",
        "| ~ | `a.csv` | 100 B | 5.0 kB |",
        "| - | `b.csv` | 1 B |  |",
        "| + | `c.csv` |  | 3 B |",
        "",
        "</details>",
    ]


def test_markdown_without_files(dcl: Dcl, moved: Timeline) -> None:
    """`--stat` leaves them out; without a difference, it is a sentence."""
    assert len(lines(dcl("diff", "--markdown", "--stat").out)) == 4
    assert dcl("diff", "--markdown", "--dataset", "prices").out == "No data changed.\n"


def test_markdown_fits_a_comment(dcl: Dcl, moved: Timeline) -> None:
    """Of many files the first are listed, unless all are asked for."""
    for number in range(60):
        moved.bucket.put(f"orders/n{number:02}", b"x")
    short = lines(dcl("diff", "--markdown", "--dataset", "orders").out)
    whole = lines(dcl("diff", "--markdown", "--dataset", "orders", "-v").out)

    assert "| | … and 13 more | | |" in short
    assert sum(line.startswith("| + ") for line in whole) == 61


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("plain/a.csv", "`plain/a.csv`"),
        ("a|b", r"`a\|b`"),
        ("tick`s", "``tick`s``"),
        ("`", "`` ` ``"),
        (" edge ", "`  edge  `"),
        ("<b>@someone #1 *x* [l](u) &lt;", "`<b>@someone #1 *x* [l](u) &lt;`"),
        ("line\nbreak", r"`line\nbreak`"),
    ],
)
def test_no_key_is_a_mark(key: str, code: str) -> None:
    """Keys are code, in which nothing is a tag, a link, a mention, or the end of a cell."""
    found = _code(key)
    fence = re.match("`+", found)

    assert found == code
    assert fence is not None
    assert found.count(fence[0]) == 2
