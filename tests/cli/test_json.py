"""docs/json.md is true: each kind of document has the keys of its table, and no others."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datacachalog.cli.app import Exit
from tests.cli.conftest import Dcl, Timeline

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
SOURCES = "".join(path.read_text() for path in (ROOT / "datacachalog/cli").rglob("*.py"))

SHARED = re.compile(r"(\berror|^errors|^on_disk|\bmetadata|\bchecksum|^moved\[\])(\..*|\[\].*)$")
"""Keys whose inside is told elsewhere on the page, or free."""


def keys_of(value: Any, above: str = "") -> Iterator[str]:
    """Yield the keys of a document, those within others after a dot; lists end in `[]`."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from keys_of(inner, f"{above}.{key}" if above else key)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from keys_of(inner, f"{above}[]")
    else:
        above += "[]" if isinstance(value, list) else ""
        yield SHARED.sub(r"\1", above)


def told() -> dict[str, set[str]]:
    """Return what the page tells: the keys of each kind."""
    found = {}
    for head, section in re.findall(r"^## (.*)\n((?:(?!^## ).*\n)*)", PAGE, re.MULTILINE):
        rows = re.findall(r"^\| `([^`]+)` \| (.*?) ?\|$", section, re.MULTILINE)
        for kind in re.findall(r"`(\w+)`", head):
            only = {key: re.findall(r"only in `(\w+)`", text) for key, text in rows}
            found[kind] = {key for key in only if not only[key] or kind in only[key]}
    return found


@pytest.fixture
def documents(dcl: Dcl, timeline: Timeline, tmp_path: Path) -> list[dict[str, Any]]:
    """Give documents of every kind, full and empty ones."""
    found = []

    def ask(*words: str) -> None:
        ran = dcl(*words, "--json")
        assert ran.code != Exit.USAGE or words == ("validate",), ran.err
        found.append(json.loads(ran.out))

    timeline.add('gone: {source: "gone.txt", checksum: "md5:0cc175b9c0f1b6a831c399e269772661"}')
    for words in (
        ["validate"], ["list"], ["show", "raw"], ["sync", "--dry-run"], ["sync"], ["show", "raw"],
        ["fetch", "prices"], ["path", "orders"], ["status"], ["verify"], ["doctor", "--offline"],
        ["lock"], ["lock", "--check"], ["versions", "orders"], ["cache", "dir"],
        ["cache", "stats"], ["outdated"],
    ):  # fmt: skip
        ask(*words)
    timeline.move_on()
    (timeline.root / "new.csv").write_text("new")
    (timeline.root / "data/orders/c.csv").write_text("my own")
    bad = timeline.root / "data/prices/prices.csv"
    bad.unlink()
    bad.write_text("bad")
    for words in (
        ["status", "--no-lock"], ["outdated"], ["diff"], ["lock", "--upgrade"], ["verify"],
        ["sync", "--dry-run", "--no-lock"],
    ):  # fmt: skip
        ask(*words)
    bad.unlink()
    ask("push", "prices", "new.csv")
    ask("get", "raw.txt", str(tmp_path / "got.txt"))
    ask("cache", "clear")
    timeline.add("wrong: 5")
    ask("validate")
    return found


def test_the_page_has_every_kind() -> None:
    """A command with a new document needs a table."""
    kinds = set(re.findall(r'terminal\.document\(\s*"(\w+)"', SOURCES))

    assert set(told()) == kinds


def test_the_page_has_the_keys_that_there_are(documents: list[dict[str, Any]]) -> None:
    """What is told is there, and what is there is told, kind by kind."""
    found: dict[str, set[str]] = {}
    for document in documents:
        assert document.pop("schema_version") == 1
        kind = document.pop("kind")
        # Of `datasets` the page has one, as of `dataset`.
        keys = (
            re.sub(r"^datasets\[\]\.", "", k) if kind == "datasets" else k
            for k in keys_of(document)
        )
        found.setdefault(kind, set()).update(keys)
    # A list that is empty in one document has its items in another.
    full = {
        kind: {key for key in keys if not any(other.startswith(f"{key}.") for other in keys)}
        for kind, keys in found.items()
    }

    assert full == told()


def test_what_is_printed_is_one_document(dcl: Dcl, timeline: Timeline) -> None:
    """Also where a dataset fails, and with all that is said to a person beside it."""
    (timeline.root / "raw.txt").unlink()
    ran = dcl("sync", "--json", "-v")

    assert ran.code == Exit.FAILED
    assert json.loads(ran.out)["kind"] == "sync"
    assert "error: raw: " in ran.err
