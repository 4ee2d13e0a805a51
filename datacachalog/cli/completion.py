"""Completion in a shell: the command that prints its script, and the names that it completes."""

import os
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from datacachalog.cli.app import Exit, GlobalOptions, Here, build_app
from datacachalog.errors import DatacachalogError
from datacachalog.spec.discovery import find_catalog
from datacachalog.spec.loader import load

if TYPE_CHECKING:
    from cyclopts.completion._engine import CompletionContext


def completion(
    shell: Annotated[
        Literal["bash", "zsh", "fish"], Parameter(name="SHELL", help="bash, zsh or fish")
    ],
    /,
    *,
    options: GlobalOptions = GlobalOptions(),  # noqa: ARG001  # every command has them
    terminal: Here,
) -> int:
    """Print a shell's completion script.

    It completes commands, options and the names of datasets. To have it in every shell:

        dcl completion bash > ~/.local/share/bash-completion/completions/dcl

        dcl completion zsh > "${fpath[1]}/_dcl"

        dcl completion fish > ~/.config/fish/completions/dcl.fish
    """
    script = build_app().generate_completion(prog_name="dcl", shell=shell)
    terminal.data([script.rstrip("\n")])
    return Exit.DONE


def complete_names(context: "CompletionContext") -> dict[str, str]:
    """Return dataset names and descriptions for the shell; nothing if there is no catalog."""
    try:
        typed = context.get("--catalog")
        path = find_catalog(typed.raw if typed is not None else None, environ=os.environ)
        datasets = load(path, environ=os.environ).datasets
    except DatacachalogError:
        return {}
    return {name: dataset.description or "" for name, dataset in datasets.items()}
