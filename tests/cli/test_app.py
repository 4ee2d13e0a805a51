"""From words to a command: order of options, unknown words, and what usage errors say."""

import pytest

from datacachalog.cli.app import UsageError, arrange
from datacachalog.cli.command_table import COMMANDS, GLOBAL_OPTIONS, GROUPS, SECTIONS, Command
from tests.cli.conftest import Dcl


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        pytest.param(["sync", "a", "-q"], ["sync", "a", "-q"], id="after"),
        pytest.param(["-q", "sync", "a"], ["sync", "-q", "a"], id="before"),
        pytest.param(["-c", "core", "sync"], ["sync", "-c", "core"], id="with-a-value"),
        pytest.param(["--catalog=core", "sync"], ["sync", "--catalog=core"], id="with-equals"),
        pytest.param(["--jobs", "4", "sync"], ["sync", "--jobs", "4"], id="of-some-commands"),
        pytest.param(
            ["-q", "cache", "dir", "--json"], ["cache", "dir", "-q", "--json"], id="group"
        ),
        pytest.param(["help", "sync"], ["sync", "--help"], id="help-command"),
        pytest.param(["--help", "sync"], ["sync", "--help"], id="help-before"),
        pytest.param(["help"], [], id="help"),
        pytest.param(["-h"], [], id="short-help"),
        pytest.param([], [], id="nothing"),
        pytest.param(["cache"], ["cache"], id="bare-group"),
        pytest.param(["cache", "--help"], ["cache"], id="group-help"),
    ],
)
def test_puts_the_command_first(argv: list[str], words: list[str]) -> None:
    """Options may stand before the command; they are moved behind its name."""
    assert arrange(argv) == words


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        pytest.param(
            ["snyc"], "`dcl` has no command 'snyc'", "did you mean `dcl sync`?", id="typo"
        ),
        pytest.param(
            ["cache", "stat"],
            "`dcl cache` has no command 'stat'",
            "did you mean `dcl cache stats`?",
            id="typo-in-group",
        ),
        pytest.param(["zzz"], "`dcl` has no command 'zzz'", "see `dcl --help`", id="nothing-near"),
        pytest.param(
            ["-q"], "'-q' without a command does nothing", "see `dcl --help`", id="only-options"
        ),
    ],
)
def test_says_what_is_no_command(argv: list[str], message: str, hint: str) -> None:
    """A word that is no command is named, with the nearest that is."""
    with pytest.raises(UsageError) as caught:
        arrange(argv)

    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("argv", "err"),
    [
        pytest.param(
            ["list", "--jsno"],
            "error: `dcl list` has no option '--jsno'\nhint: did you mean `--json`?\n",
            id="unknown-option",
        ),
        pytest.param(
            ["list", "--colour=never"],
            "error: `dcl list` has no option '--colour'\nhint: did you mean `--color`?\n",
            id="unknown-option-with-value",
        ),
        pytest.param(
            ["add", "a"], "error: `dcl add` needs URI\nhint: see `dcl add --help`\n", id="missing"
        ),
        pytest.param(
            ["add", "a", "b", "c"],
            "error: `dcl add` does not take 'c'\nhint: see `dcl add --help`\n",
            id="too-many",
        ),
        pytest.param(
            ["list", "--catalog"],
            "error: `dcl list` needs a value after `--catalog`\nhint: see `dcl list --help`\n",
            id="option-without-value",
        ),
        pytest.param(
            ["list", "-q", "-q"],
            "error: `-q` is given more than once\nhint: see `dcl list --help`\n",
            id="twice",
        ),
        pytest.param(
            ["completion", "tcsh"],
            'error: invalid value "tcsh" for SHELL. Choose from: "bash", "zsh", "fish"\n'
            "hint: see `dcl completion --help`\n",
            id="choice",
        ),
    ],
)
def test_usage_errors_say_what_and_how(dcl: Dcl, argv: list[str], err: str) -> None:
    """Each kind of usage error exits with 2, on standard error, in one sentence with a hint."""
    ran = dcl(*argv)

    assert (ran.code, ran.out, ran.err) == (2, "", err)


def test_every_command_is_in_a_section() -> None:
    """The root help leaves no command out, and none is there twice."""
    assert {command.section for command in COMMANDS} == set(SECTIONS)
    assert len({command.name for command in COMMANDS}) == len(COMMANDS)
    assert {c.name.split(" ")[0] for c in COMMANDS if " " in c.name} == set(GROUPS)


def test_root_help_shows_all_commands_and_options(dcl: Dcl) -> None:
    """`dcl --help` is data: on standard output, exit code 0, complete."""
    ran = dcl("--help")

    assert (ran.code, ran.err) == (0, "")
    assert all(f"  {command.name} " in ran.out for command in COMMANDS)
    assert all(flag in ran.out for option in GLOBAL_OPTIONS for flag in option.flags)
    assert all(f"[env: {option.env}]" in ran.out for option in GLOBAL_OPTIONS)


def test_no_command_shows_the_help(dcl: Dcl) -> None:
    """`dcl` alone is a question."""
    assert dcl() == dcl("--help")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_of_each_command_begins_with_its_summary(dcl: Dcl, command: Command) -> None:
    """The table's line and the command's own help say the same."""
    ran = dcl(*command.name.split(" "), "--help")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Usage: dcl {command.name}")
    assert f"{command.summary}." in ran.out


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_help_fits_the_terminal(dcl_tty: Dcl, columns: int) -> None:
    """Help is wrapped to the terminal, and to 100 cells at most."""
    out = dcl_tty("fetch", "--help", "--color=never", columns=columns).out
    out = out.replace("\x1b[1m", "").replace("\x1b[36m", "").replace("\x1b[0m", "")

    assert max(len(line) for line in out.splitlines()) <= min(100, columns)
