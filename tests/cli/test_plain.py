"""Plain lines mean the same without the parser as with it."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog.cli import app as words
from datacachalog.cli import bringing, entries, listing, plain
from datacachalog.cli.app import Call
from datacachalog.cli.command_table import COMMANDS, WITH_VALUE
from datacachalog.cli.console import Terminal

PLAIN = {command.name: command.plain for command in COMMANDS if command.plain is not None}
SHARED = ["-q", "--quiet", "-v", "--verbose", "--no-progress"]
NEAR = ["", "-", "--", "-x", "--help", "--frozen=true", "--jobs", "4", "-c", "a/b", "-qv", "ö", "0"]
"""What stands close to a plain word and may not be one."""


def terminal() -> Terminal:
    """Return a terminal that nobody looks at."""
    return Terminal(io.StringIO(), io.StringIO(), {})


def lines(near: list[str]) -> st.SearchStrategy[list[str]]:
    """Return lines of any plain command: its flags, everyone's, names, and words of `near`."""

    def of(name: str) -> st.SearchStrategy[list[str]]:
        known = [*PLAIN[name].flags, *SHARED, "one", "two", "true", "no", "1e3", "a.b-c_d"]
        return st.lists(st.sampled_from([*known, *near]), max_size=6).map(lambda w: [name, *w])

    return st.sampled_from(sorted(PLAIN)).flatmap(of)


def parsed(line: list[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Return what the parser makes of a line, whether it is plain or not."""
    with monkeypatch.context() as patch:
        patch.setattr(plain, "read", lambda *_: None)
        return words.parse(line, terminal())


def effect(call: Call, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    """Return what a call would do: the body it reaches and all it is given but the terminal."""
    reached: list[tuple[object, ...]] = []

    def note(name: str) -> object:
        return lambda *args: reached.append((name, *(a for a in args if type(a) is not Terminal)))

    with monkeypatch.context() as patch:
        for name in ("sync", "fetch"):
            patch.setattr(bringing, name, note(name))
        for module in (entries, listing):
            patch.setattr(module, "show_entries", note("list"))
        try:
            call.function(*call.args, **call.kwargs)
        except words.UsageError as exc:
            reached.append((str(exc), exc.hint))
    (found,) = reached
    return found


@given(line=lines(near=[]))
def test_the_parser_reads_plain_lines_alike(line: list[str]) -> None:
    """The same body gets the same values, and the terminal is told the same."""
    read = plain.read(line, {})
    with pytest.MonkeyPatch.context() as patch:
        if read is None:
            assert len(set(line)) < len(line) or {*SHARED} & {*line}
            return
        short, long = words.parse(line, terminal()), parsed(line, patch)

        assert short.function is not long.function
        assert effect(short, patch) == effect(long, patch)
    default = {"color": "auto", "quiet": False, "verbose": False, "progress": True}
    assert {**default, **short.told} == {**default, **long.told}


@given(line=lines(near=NEAR))
def test_what_is_not_plain_beyond_doubt_is_left_to_the_parser(line: list[str]) -> None:
    """Values, unknown options, and words that are no names."""
    if {*NEAR} & {*line[1:]} - {"4", "0"}:
        assert plain.read(line, {}) is None


@pytest.mark.parametrize(
    "line",
    [["sync", "-q", "--quiet"], ["sync", "--frozen", "--frozen"], ["push", "a"], ["cache", "dir"]],
    ids=["two-spellings", "twice", "another-command", "group"],
)
def test_so_is_what_the_table_does_not_have(line: list[str]) -> None:
    """The parser knows what to say of it."""
    assert plain.read(line, {}) is None


def test_a_twin_in_the_environment_is_the_parser_s() -> None:
    """Only the variable that stands for no option leaves a line plain."""
    assert plain.read(["sync"], {"DCL_FROZEN": "1"}) is None
    assert plain.read(["sync"], {"DCL_CACHE_DIR": "/x", "HOME": "/y"}) is not None


def test_the_flags_exclude_each_other_without_the_parser_too() -> None:
    """The same sentence, whoever read the line."""
    call = words.parse(["sync", "--frozen", "--no-lock"], terminal())
    with pytest.raises(words.UsageError, match="`--frozen` and `--no-lock` exclude each other"):
        call.function(*call.args, **call.kwargs)


def test_every_plain_flag_is_an_option_without_a_value() -> None:
    """What has a value is in `WITH_VALUE`, and never plain."""
    assert not {flag for each in PLAIN.values() for flag in each.flags} & WITH_VALUE
