"""The command that prints a shell's completion script."""

from typing import Annotated, Literal

from cyclopts import Parameter

from datacachalog.cli import exits
from datacachalog.cli.app import build_app
from datacachalog.cli.options import DEFAULTS, Here, Options


def completion(
    shell: Annotated[
        Literal["bash", "zsh", "fish"], Parameter(name="SHELL", help="bash, zsh or fish")
    ],
    /,
    *,
    options: Options = DEFAULTS,  # noqa: ARG001  # every command has them
    terminal: Here,
) -> int:
    """Print a shell's completion script.

    It completes commands, options and the names of datasets. To have it in every shell:

        dcl completion bash > ~/.local/share/bash-completion/completions/dcl

        dcl completion zsh > "${fpath[1]}/_dcl"

        dcl completion fish > ~/.config/fish/completions/dcl.fish
    """
    app = build_app(terminal)
    script = app.generate_completion(prog_name="dcl", shell=shell)
    terminal.data([script.rstrip("\n")])
    return exits.DONE
