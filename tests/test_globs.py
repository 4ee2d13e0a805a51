"""Patterns: what they match, where their literal part ends, how names are spelled."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog import globs
from datacachalog.globs import Glob

NAMES = st.text(alphabet="ab.*?[]!-/é\n", max_size=8)
SEGMENTS = st.lists(
    st.sampled_from(["*", "**", "?", "a", "b", "[ab]", "[!a]", "[a-é]", "[*]", "[[]", ".", "-"]),
    min_size=1,
    max_size=3,
).map("".join)
PATTERNS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)


def matches_obviously(pattern: str, key: str) -> bool:
    """Match segment by segment and character by character, with nothing clever."""
    if pattern.endswith("/"):
        pattern += "**"
    return _match_segments(pattern.split("/"), key.split("/"))


def _match_segments(patterns: list[str], segments: list[str]) -> bool:
    if not patterns:
        return not segments
    if patterns == ["**"]:
        return bool("/".join(segments))
    if set(patterns[0]) == {"*"} and patterns[0] != "**" and segments[:1] == [""]:
        return False
    if patterns[0] == "**":
        return any(_match_segments(patterns[1:], segments[i:]) for i in range(len(segments)))
    return (
        bool(segments)
        and _match_name(patterns[0], segments[0])
        and _match_segments(patterns[1:], segments[1:])
    )


def _match_name(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(_match_name(pattern[1:], name[i:]) for i in range(len(name) + 1))
    if pattern[0] == "?":
        return bool(name) and _match_name(pattern[1:], name[1:])
    found = re.match(r"\[(!?)(.)([^\]]*)\]", pattern, re.DOTALL)
    if pattern[0] == "[" and found and not (found[1] == "" and found[2] == "!" and not found[3]):
        members = found[2] + found[3]
        ranges = re.findall(r"(.)-(.)|(.)", members, re.DOTALL)
        is_member = bool(name) and any(
            low <= name[0] <= high if low else name[0] == single for low, high, single in ranges
        )
        is_wanted = bool(name) and is_member != bool(found[1])
        return is_wanted and _match_name(pattern[found.end() :], name[1:])
    return bool(name) and name[0] == pattern[0] and _match_name(pattern[1:], name[1:])


@given(pattern=PATTERNS, key=st.text(alphabet="ab.*[é-/", max_size=7))
def test_matches_as_the_obvious_reference(pattern: str, key: str) -> None:
    """The compiled pattern agrees with a matcher that walks characters."""
    assert bool(Glob(pattern).matches(key)) == matches_obviously(pattern, key)


@given(pattern=PATTERNS, key=st.text(alphabet="ab.*[é-/", max_size=7))
def test_every_match_lies_under_both_prefixes(pattern: str, key: str) -> None:
    """Listing by prefix and cutting the folder off can lose no match."""
    glob = Glob(pattern)
    if glob.matches(key):
        below = key[len(glob.fixed_prefix) :]

        assert key.startswith(glob.listing_prefix)
        assert key.startswith(glob.fixed_prefix)
        assert not (glob.is_flat and "/" in below)


@given(name=NAMES.filter(lambda name: not name.endswith("/")))
def test_an_escaped_name_spells_only_itself(name: str) -> None:
    """`escape` and `unescape` are inverse, and the result is no glob."""
    spelled = globs.escape(name)

    assert not globs.is_glob(spelled)
    assert globs.unescape(spelled) == name


@pytest.mark.parametrize(
    ("pattern", "folder", "prefix"),
    [
        pytest.param("a/b/c*.csv", "a/b/", "a/b/c", id="star in the name"),
        pytest.param("a/b=?/c.csv", "a/", "a/b=", id="question mark in a folder"),
        pytest.param("*.csv", "", "", id="nothing fixed"),
        pytest.param("a/**", "a/", "a/", id="everything below"),
        pytest.param("a/b/", "a/b/", "a/b/", id="trailing slash"),
        pytest.param("a/[[]1]*.csv", "a/", "a/[1]", id="escaped bracket is literal"),
        pytest.param("s3://b/a/**/c", "s3://b/a/", "s3://b/a/", id="whole URI"),
        pytest.param("a//b*", "a//", "a//b", id="empty segment"),
    ],
)
def test_literal_parts(pattern: str, folder: str, prefix: str) -> None:
    """The fixed folder ends at a slash; the listing prefix goes as far as text is literal."""
    glob = Glob(pattern)

    assert (glob.fixed_prefix, glob.listing_prefix) == (folder, prefix)


@pytest.mark.parametrize(
    ("pattern", "is_flat"),
    [("a/*.csv", True), ("a/b", True), ("a/*/b", False), ("a/**", False), ("a/b**c", True)],
)
def test_flat_patterns_do_not_descend(pattern: str, is_flat: bool) -> None:
    """Only a pattern without folders after its literal part is flat."""
    assert Glob(pattern).is_flat is is_flat


@pytest.mark.parametrize("text", ["a[b", "a]b", "[]", "[!]", "a[b/c]d", "a/b.csv", "", "[*]"])
def test_unclosed_brackets_are_no_pattern(text: str) -> None:
    """A bracket that does not close within its segment is text."""
    assert not globs.is_glob(text)


@pytest.mark.parametrize("text", ["a*", "a?", "[ab]", "[!a]", "a/", "**/x"])
def test_metacharacters_make_a_pattern(text: str) -> None:
    """Each metacharacter, and a trailing slash, makes a glob."""
    assert globs.is_glob(text)


def test_a_backward_range_is_empty() -> None:
    """`[z-a]` matches nothing, and its negation anything but a slash."""
    assert not Glob("[z-a]").matches("b")
    assert Glob("[!z-a]").matches("b")
    assert not Glob("x[!z-a]y").matches("x/y")


@pytest.mark.parametrize(
    ("pattern", "kept", "dropped"),
    [
        pytest.param("*.tmp", "a/b.tmp.csv", "a/b.tmp", id="base name at any depth"),
        pytest.param("a/*.csv", "b/a/x.csv", "a/x.csv", id="whole path"),
        pytest.param("**/old/**", "old.csv", "old/x.csv", id="folders at any depth"),
        pytest.param("old/", "x/old/y", "old/y", id="trailing slash"),
        pytest.param("[!a]*", "b/a.csv", "a/b.csv", id="negated class"),
    ],
)
def test_exclude_patterns(pattern: str, kept: str, dropped: str) -> None:
    """A pattern with a slash sees the whole path, one without sees the base name."""
    is_excluded = globs.excluder([pattern])

    assert not is_excluded(kept)
    assert is_excluded(dropped)


def test_no_exclude_patterns_exclude_nothing() -> None:
    """An empty list of patterns keeps everything."""
    assert not globs.excluder([])("a")
