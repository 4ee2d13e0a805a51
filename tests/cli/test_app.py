"""The command line itself: how words are read, what help shows, and how each ending looks."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from datacachalog import errors
from datacachalog.cli.app import (
    COMMANDS,
    GROUPS,
    Command,
    GlobalOptions,
    Here,
    arrange,
    run,
)
from datacachalog.cli.commands import catalog
from tests.cli.conftest import Dcl, global_options


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
        pytest.param(["help"], ["--help"], id="help"),
        pytest.param(["-c", "core"], ["-c", "core"], id="no-command"),
        pytest.param(["-q", "sync", "--", "-a"], ["sync", "-q", "--", "-a"], id="end-of-options"),
    ],
)
def test_puts_the_command_first(argv: list[str], words: list[str]) -> None:
    """Options may stand before the command; they are moved behind its name."""
    assert arrange(argv) == words


@pytest.mark.parametrize(
    ("argv", "err"),
    [
        pytest.param(
            ["snyc"],
            "error: `dcl` has no command 'snyc'\nhint: did you mean `dcl sync`?\n",
            id="typo",
        ),
        pytest.param(
            ["cache", "stat", "--help"],
            "error: `dcl cache` has no command 'stat'\nhint: did you mean `dcl cache stats`?\n",
            id="typo-in-group",
        ),
        pytest.param(
            ["zzz"],
            "error: `dcl` has no command 'zzz'\nhint: see `dcl --help`\n",
            id="nothing-near",
        ),
        pytest.param(
            ["-q"],
            "error: '-q' without a command does nothing\nhint: see `dcl --help`\n",
            id="only-options",
        ),
        pytest.param(
            ["cache", "-q"],
            "error: '-q' without a command does nothing\nhint: see `dcl cache --help`\n",
            id="only-options-of-a-group",
        ),
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


def test_root_help_shows_all_commands_and_options(dcl: Dcl) -> None:
    """`dcl --help` is data: on standard output, exit code 0, complete."""
    ran = dcl("--help")

    assert (ran.code, ran.err) == (0, "")
    assert all(f"  {command.name} " in ran.out for command in COMMANDS)
    assert all(", ".join(names) in ran.out for names in global_options().values())
    assert all(f"[env: {variable}]" in ran.out for variable in global_options())


@pytest.mark.parametrize("argv", [[], ["-h"], ["help"]], ids=["nothing", "short", "word"])
def test_no_command_shows_the_help(dcl: Dcl, argv: list[str]) -> None:
    """`dcl` alone is a question."""
    assert dcl(*argv) == dcl("--help")


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_shows_its_commands(dcl: Dcl, group: str) -> None:
    """A group alone is one, too."""
    ran = dcl(group)

    assert ran == dcl(group, "--help")
    assert ran.out.startswith(f"Usage: dcl {group} COMMAND")
    assert {line.split("  ")[1] for line in ran.out.splitlines() if line.startswith("  cache")} == {
        command.name for command in COMMANDS if command.name.startswith(f"{group} ")
    }


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_of_each_command_begins_with_its_summary(dcl: Dcl, command: Command) -> None:
    """The table's line and the command's own help say the same."""
    ran = dcl(*command.name.split(" "), "--help")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Usage: dcl {command.name}")
    assert f"{command.summary}." in ran.out


@pytest.mark.parametrize(
    "usage",
    [
        "dcl sync [OPTIONS] [NAME...]",
        "dcl push [OPTIONS] NAME FILE",
        "dcl diff [OPTIONS] [A] [B]",
        "dcl schema [OPTIONS]",
    ],
)
def test_usage_names_the_arguments(dcl: Dcl, usage: str) -> None:
    """One line says what the command takes."""
    out = dcl(usage.split(" ")[1], "--help").out

    assert out.splitlines()[0] == f"Usage: {usage}"
    assert out.count("Usage") == 1


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_help_fits_the_terminal(dcl_tty: Dcl, columns: int) -> None:
    """Help is wrapped to the terminal, and to 100 cells at most."""
    out = dcl_tty("fetch", "--help", "--color=never", columns=columns).out
    out = out.replace("\x1b[1m", "").replace("\x1b[36m", "").replace("\x1b[0m", "")

    assert max(len(line) for line in out.splitlines()) <= min(100, columns)


# --- how commands end ---------------------------------------------------------------


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException | int], None]:
    """Return a function that lets every command end as told."""

    def end_with(how: BaseException | int) -> None:
        def command(*, options: GlobalOptions = GlobalOptions(), terminal: Here) -> int:
            if isinstance(how, BaseException):
                raise how
            return how

        monkeypatch.setattr(catalog, "schema", command)

    return end_with


@pytest.mark.parametrize(
    ("how", "code", "err"),
    [
        pytest.param(0, 0, "", id="done"),
        pytest.param(3, 3, "", id="verdict"),
        pytest.param(
            errors.StorageError("it is broken", hint="mend it"),
            1,
            "error: it is broken\nhint: mend it\n",
            id="failed",
        ),
        pytest.param(errors.PushConflictError("changed"), 1, "error: changed\n", id="conflict"),
        pytest.param(errors.DatasetNotFoundError("no x"), 2, "error: no x\n", id="no-dataset"),
        pytest.param(errors.CatalogNotFoundError("none"), 2, "error: none\n", id="no-catalog"),
        pytest.param(errors.InvalidPinError("when?"), 2, "error: when?\n", id="pin"),
        pytest.param(errors.LockError("torn"), 2, "error: torn\n", id="lock"),
        pytest.param(errors.UnsupportedSchemeError("ftp"), 2, "error: ftp\n", id="scheme"),
        pytest.param(
            errors.InvalidCatalogError(
                [
                    errors.Problem("one", "catalog.yaml", 1, 2, "try"),
                    errors.Problem("two", "b.yaml", 3),
                ]
            ),
            2,
            "catalog.yaml:1:2: one\n  hint: try\nb.yaml:3: two\n",
            id="invalid-catalog",
        ),
        pytest.param(
            errors.PartialFailureError("some", {"a": errors.StorageError("bad", hint="h")}),
            1,
            "error: a: bad\nhint: h\n",
            id="partial",
        ),
        pytest.param(
            PermissionError(13, "Permission denied", "/x"),
            1,
            "error: Permission denied: '/x'\n",
            id="system",
        ),
        pytest.param(KeyboardInterrupt(), 130, "error: interrupted\n", id="interrupted"),
        pytest.param(BrokenPipeError(), 0, "", id="broken-pipe"),
    ],
)
def test_each_ending_has_its_code_and_words(
    dcl: Dcl,
    ending: Callable[[BaseException | int], None],
    how: BaseException | int,
    code: int,
    err: str,
) -> None:
    """Exit code and standard error follow from how the command ended; no traceback, ever."""
    ending(how)
    ran = dcl("schema")

    assert (ran.code, ran.out, ran.err) == (code, "", err)


def test_a_defect_is_one_line(dcl: Dcl, ending: Callable[[BaseException | int], None]) -> None:
    """What nobody foresaw is told in one line, with where to go from there."""
    ending(ZeroDivisionError("division by zero"))
    ran = dcl("schema")

    assert ran.code == 1
    assert ran.err.splitlines() == [
        "error: internal error: ZeroDivisionError: division by zero",
        "hint: run it again with `-v` for the traceback, and please report it",
    ]


def test_a_defect_shows_its_traceback_when_asked(
    dcl: Dcl, ending: Callable[[BaseException | int], None]
) -> None:
    """With `-v` the traceback stands above the line."""
    ending(ZeroDivisionError("division by zero"))

    assert dcl("schema", "-v").err.startswith("Traceback (most recent call last):\n")


# --- real processes -----------------------------------------------------------------


def _command(*argv: str) -> list[str]:
    return [sys.executable, "-m", "datacachalog", *argv]


def test_runs_as_a_module(project: Path) -> None:
    """`python -m datacachalog` is `dcl`."""
    ran = subprocess.run(_command("list", "--json"), capture_output=True, check=False)

    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout.startswith(b'{\n  "schema_version": 1,\n')


def test_says_nothing_when_its_reader_leaves(project: Path) -> None:
    """`dcl schema | head -1` ends quietly, though its output is larger than a pipe holds."""
    lines = "".join(f"  d{i}: s3://lake/{'x' * 200}/{i}\n" for i in range(2000))
    (project / "catalog.yaml").write_text(f"datasets:\n{lines}")
    with subprocess.Popen(
        _command("list"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        err = process.stderr.read() if process.stderr else b""
        code = process.wait(30)

    assert (code, err) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_told(project: Path) -> None:
    """Output that cannot be written is an error in one line, not a lost listing."""
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(_command("list"), stdout=full, stderr=subprocess.PIPE, check=False)

    assert (ran.returncode, ran.stderr) == (1, b"error: No space left on device\n")


def test_what_was_written_before_an_error_arrives(project: Path) -> None:
    """Data and the error after it both leave the process."""
    subprocess.run(_command("sync", "-q"), check=True)
    (project / "raw/one.txt").unlink()
    ran = subprocess.run(_command("status"), capture_output=True, check=False)

    assert ran.returncode == 1
    assert b"up to date" in ran.stdout
    assert ran.stderr.startswith(b"error: one: ")


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, id="C"),
        pytest.param({"PYTHONIOENCODING": "ascii"}, id="ascii"),
        pytest.param({"PYTHONIOENCODING": "utf-8"}, id="utf-8"),
    ],
)
def test_odd_names_print_in_any_locale(project: Path, environ: dict[str, str]) -> None:
    """A description of any script and a lone surrogate never crash a command."""
    text = 'datasets:\n  a: {source: x.csv, description: "数据 \\u202e \\uD800 é"}\n'
    (project / "catalog.yaml").write_text(text)
    ran = subprocess.run(
        _command("list"), capture_output=True, check=False, env={**os.environ, **environ}
    )

    assert b"Traceback" not in ran.stderr
    assert b"internal error" not in ran.stderr


def test_interrupt_ends_a_real_run(project: Path) -> None:
    """SIGINT while a server keeps us waiting exits with 130 within two seconds and says so."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        (project / "catalog.yaml").write_text(
            f"storages: {{lab: {{endpoint_url: 'http://127.0.0.1:{server.getsockname()[1]}', "
            "anon: true, region: us-east-1}}\n"
            "datasets: {a: {storage: lab, source: 's3://lake/a.csv'}}\n"
        )
        with subprocess.Popen(
            _command("sync"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            server.settimeout(30)
            connection, _ = server.accept()
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
            took = time.monotonic() - began
            connection.close()

    assert (process.returncode, err) == (130, b"error: interrupted\n")
    assert took < 2


def test_a_stream_without_a_descriptor_is_enough(project: Path) -> None:
    """A program may run a command line with streams of its own."""
    out, err = io.StringIO(), io.StringIO()

    assert run(["list"], out, err) == 0
    assert out.getvalue().startswith("NAME ")
