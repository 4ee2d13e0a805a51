#!/usr/bin/env python
"""Make terminal.svg, the picture in README.md, from a run of `dcl demo` at a terminal.

    python docs/picture.py

Needs what `pip install '.[demo]'` brings. Run it when the demo or its output changes.
"""

import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).with_name("terminal.svg")
WIDTH = 96

SHOWN = (
    ("dcl sync", 1),
    ("dcl status", 1),
    ("dcl sync --dry-run", 1),
    ("dcl sync", 3),
    ("dcl push forecast new-forecast.csv", 2),
)
"""Commands of the demo, and which time each is shown."""

_PROMPT = re.compile(r"^\x1b\[2m\$\x1b\[0m \x1b\[1;36m(.*)\x1b\[0m$", re.MULTILINE)


def main() -> None:
    """Run the demo, keep some of its commands with their output, and draw them."""
    PICTURE.write_text(draw(choose(run_at_terminal())), encoding="utf-8")


def run_at_terminal() -> str:
    """Return what the demo prints at a terminal, without the moving parts."""
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 50, WIDTH, 0, 0))
        environment = os.environ | {"TERM": "xterm-256color"}
        words = [sys.executable, "-m", "datacachalog", "demo", "--no-progress"]
        os.execve(sys.executable, [*words, "--color", "always"], environment)  # noqa: S606  # no shell
    seen = bytearray()
    while chunk := _read(terminal):
        seen += chunk
    if os.waitpid(pid, 0)[1] != 0:
        sys.exit(seen.decode())
    return seen.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        # How Linux says that the other side of a terminal was closed.
        return b""


def choose(transcript: str) -> str:
    """Return the commands of `SHOWN` with their output, of all that the demo printed."""
    prompts = list(_PROMPT.finditer(transcript))
    ends = [prompt.start() for prompt in prompts[1:]] + [len(transcript)]
    blocks: dict[tuple[str, int], str] = {}
    times: Counter[str] = Counter()
    for prompt, end in zip(prompts, ends, strict=True):
        times[prompt[1]] += 1
        # What is told between commands comes after an empty line.
        output = transcript[prompt.start() : end].split("\n\n")[0]
        blocks[prompt[1], times[prompt[1]]] = output
    return "\n\n".join(blocks[key] for key in SHOWN)


def draw(text: str) -> str:
    """Return the text, with its colours, as an SVG that loads nothing from elsewhere."""
    console = Console(width=WIDTH, record=True, file=io.StringIO())
    console.print(Text.from_ansi(text))
    svg = console.export_svg(title="dcl demo", unique_id="dcl")
    return re.sub(r"\s*@font-face \{.*?\n\s*\}", "", svg, flags=re.DOTALL) + "\n"


if __name__ == "__main__":
    main()
